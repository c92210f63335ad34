"""`watcher stop`, on the sandbox."""

from __future__ import annotations

import getpass
import io
import json
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import after, case, delivery, finding, incident, look, opens, snapshot
from tests.shell.conftest import CommandResult
from watcher.cli import manual_stop
from watcher.model import (
    Case,
    DeliveryKind,
    DeliveryState,
    JobSnapshot,
    RunStop,
    StopPhase,
    incident_id,
)
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]
USER = getpass.getuser()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check for the stop without the usual 3 seconds, because sandbox jobs stop quickly."""
    monkeypatch.setattr(manual_stop, "VERIFY_INTERVAL_S", 0.05)


@pytest.fixture
def sandbox_jobs(aws_environment: Sandbox) -> Sandbox:
    for name in ("churn-1", "churn-2", "sales-1"):
        aws_environment.control.put_training_job(name, TrainingJobStatus="InProgress")
    aws_environment.control.put_training_job("done-1", TrainingJobStatus="Completed")
    return aws_environment


def statuses(sandbox: Sandbox) -> dict[str, str]:
    return {job["TrainingJobName"]: job["TrainingJobStatus"] for job in sandbox.control.training_jobs()}


def test_a_named_job_is_stopped_and_the_stop_is_confirmed(watcher: Watcher, sandbox_jobs: Sandbox):
    ran = watcher("stop", "churn-1", "--yes", "--json")

    assert ran.code == 0
    [stopped] = ran.json
    assert (stopped["job"], stopped["state"]) == ("churn-1", "stopped")
    assert "SageMaker confirms it" in stopped["sentence"]
    assert "watcher stop by " in stopped["sentence"]
    assert statuses(sandbox_jobs)["churn-1"] == "Stopped"
    assert statuses(sandbox_jobs)["churn-2"] == "InProgress"


def test_a_user_without_a_name_as_in_a_container_can_stop_jobs(
    watcher: Watcher, sandbox_jobs: Sandbox, monkeypatch
):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # raises KeyError, as pwd does for an unknown uid

    ran = watcher("stop", "churn-1", "--yes", "--json")

    assert ran.code == 0
    assert f"watcher stop by user {os.getuid()}" in ran.json[0]["sentence"]


def test_stop_all_stops_exactly_the_watched_jobs_in_progress(watcher: Watcher, sandbox_jobs: Sandbox):
    Path("watcher.toml").write_text('[watch]\njobs = ["churn-*"]')

    ran = watcher("stop", "--all-in-progress", "--yes")

    assert ran.code == 0
    assert ran.out.count("stopped") >= 2
    assert statuses(sandbox_jobs) == {
        "churn-1": "Stopped",
        "churn-2": "Stopped",
        "sales-1": "InProgress",
        "done-1": "Completed",
    }


def test_the_jobs_are_listed_with_age_instances_and_findings_before_anything_happens(
    watcher: Watcher, sandbox_jobs
):
    ran = watcher("stop", "churn-1", "--dry-run")

    header = ran.err.splitlines()[0]
    assert header.split() == ["JOB", "STATUS", "STARTED", "INSTANCES", "FINDINGS"]
    assert "churn-1" in ran.err


def test_a_dry_run_stops_nothing_and_asks_nothing(watcher: Watcher, sandbox_jobs: Sandbox):
    ran = watcher("stop", "--all-in-progress", "--dry-run", "--json")

    assert ran.code == 0
    assert [each["state"] for each in ran.json] == ["refused"] * 3
    assert {each["sentence"] for each in ran.json} == {
        f"Dry run: {name} would be stopped now" for name in ("churn-1", "churn-2", "sales-1")
    }
    assert watcher("audit").out == ""
    assert sandbox_jobs.control.calls().get("sagemaker:StopTrainingJob", 0) == 0


def test_a_dry_run_that_the_settings_ask_for_says_so(watcher: Watcher, sandbox_jobs: Sandbox):
    Path("watcher.toml").write_text("[stop]\ndry_run = true")

    for options in (["--yes"], ["--dry-run"]):
        [stopped] = watcher("stop", "churn-1", "--json", *options).json
        assert stopped["sentence"] == "Dry run: churn-1 would be stopped now (stop.dry_run is true)"


def test_a_refusing_guard_is_named_with_exit_code_1(watcher: Watcher, sandbox_jobs: Sandbox):
    Path("watcher.toml").write_text("[stop]\nmax_per_hour = 1")

    ran = watcher("stop", "churn-1", "churn-2", "--yes", "--json")

    assert ran.code == 1
    assert {each["job"]: each["state"] for each in ran.json} == {"churn-1": "stopped", "churn-2": "refused"}
    assert statuses(sandbox_jobs)["churn-2"] == "InProgress"


def test_a_job_that_is_not_running_is_refused(watcher: Watcher, sandbox_jobs: Sandbox):
    ran = watcher("stop", "done-1", "--yes")

    assert ran.code == 1
    assert "done-1 is not running: it is Completed" in ran.out


def test_a_job_that_aws_refuses_to_stop_does_not_block_the_others(watcher: Watcher, sandbox_jobs: Sandbox):
    sandbox_jobs.control.inject_fault(
        "sagemaker:StopTrainingJob", "AccessDeniedException", "not authorized", times=1
    )

    ran = watcher("stop", "churn-1", "churn-2", "--yes", "--json")

    assert ran.code == 1
    assert {each["job"]: each["state"] for each in ran.json} == {"churn-1": "failed", "churn-2": "stopped"}


def test_an_unknown_name_stops_nothing_at_all(watcher: Watcher, sandbox_jobs: Sandbox):
    ran = watcher("stop", "churn-1", "chrun-2", "--yes")

    assert ran.code == 2
    assert ran.err.startswith("watcher: there is no training job chrun-2")
    assert statuses(sandbox_jobs)["churn-1"] == "InProgress"


@pytest.mark.parametrize(
    "name", ["", "churn 1", "churn-x", "arn:aws:sagemaker:us-east-1:123456789012", "x" * 64]
)
def test_an_invalid_job_name_is_a_usage_error(watcher: Watcher, sandbox_jobs: Sandbox, name):
    ran = watcher("stop", "--yes", name)

    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("watcher: there is no training job")


def test_an_arn_of_another_account_stops_nothing(watcher: Watcher, sandbox_jobs: Sandbox):
    ran = watcher("stop", "arn:aws:sagemaker:us-east-1:999999999999:training-job/churn-1", "--yes")

    assert ran.code == 2
    assert "is not in this account and region" in ran.err


def test_with_no_job_in_progress_it_asks_nothing(watcher: Watcher, aws_environment: Sandbox):
    ran = watcher("stop", "--all-in-progress", "--yes")

    assert (ran.code, ran.out) == (0, "No watched job is in progress.\n")


# -- asking ---------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal with typed input."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "status", "code"), [("y\n", "Stopped", 0), ("n\n", "InProgress", 1), ("", "InProgress", 1)]
)
def test_on_a_terminal_it_asks_first(
    watcher: Watcher, sandbox_jobs: Sandbox, monkeypatch, answer, status, code
):
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    ran = watcher("stop", "churn-1")

    assert "Stop this job? [y/N]" in ran.err
    assert ran.code == code
    assert statuses(sandbox_jobs)["churn-1"] == status


def test_the_question_says_how_many_jobs_it_is_about(watcher: Watcher, sandbox_jobs: Sandbox, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))

    ran = watcher("stop", "--all-in-progress")

    assert "Stop these 3 jobs? [y/N]" in ran.err
    assert ran.err.endswith("watcher: nothing was done\n")


# -- which job is meant ----------------------------------------------------------------------------


def seen(sandbox: Sandbox, name: str) -> JobSnapshot:
    """The job as Watcher would see it."""
    [job] = [job for job in sandbox.control.training_jobs() if job["TrainingJobName"] == name]
    return snapshot(name, arn=job["TrainingJobArn"], created_at=as_time(job["CreationTime"]))


def as_time(value: object) -> datetime:
    return (
        datetime.fromtimestamp(value, UTC) if isinstance(value, float) else datetime.fromisoformat(str(value))
    )


def store_look(job: JobSnapshot, opened: Case | None = None) -> None:
    with closing(open_store("sqlite:///watcher.db")) as store:
        store.commit([look(job.name, opens(opened) if opened else None, snapshot=job)])


@pytest.mark.parametrize("word", ["sal", "latest"])
def test_a_job_that_the_store_knows_may_be_named_by_its_beginning_or_as_the_latest(
    watcher: Watcher, sandbox_jobs: Sandbox, word: str
):
    store_look(seen(sandbox_jobs, "sales-1"))

    assert watcher("stop", word, "--yes").code == 0
    assert statuses(sandbox_jobs)["sales-1"] == "Stopped"


def test_a_whole_name_is_never_taken_for_the_beginning_of_another(watcher: Watcher, sandbox_jobs: Sandbox):
    sandbox_jobs.control.put_training_job("churn", TrainingJobStatus="InProgress")
    store_look(seen(sandbox_jobs, "churn-1"))  # the store does not know `churn`

    watcher("stop", "churn", "--yes")

    assert (statuses(sandbox_jobs)["churn"], statuses(sandbox_jobs)["churn-1"]) == ("Stopped", "InProgress")


# -- what is recorded ------------------------------------------------------------------------------


def opened(job: JobSnapshot, **changes: Any) -> Case:
    """An incident of the run, told on the console."""
    id_ = incident_id(job.run)
    told = delivery(
        job.name, "console", id="told", incident=id_, state=DeliveryState.DELIVERED, told=1, wanted=1
    )
    return case(
        job.name,
        told,
        incident=incident(job.name, id=id_, run=job.run, **changes),
        findings=(finding(job.name, run=job.run, incident=id_),),
        changes=(),
    )


def the_case(job: JobSnapshot) -> Case:
    with closing(open_store("sqlite:///watcher.db")) as store:
        found = store.case(incident_id(job.run))
    assert found is not None
    return found


def test_a_stop_by_a_person_is_in_the_incident_and_told_where_the_alert_is(
    watcher: Watcher, sandbox_jobs: Sandbox
):
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, opened(job))

    watcher("stop", "churn-1", "--yes")

    after_it = the_case(job)
    assert [(each.kind, each.actor, each.door) for each in after_it.changes] == [
        ("stop_asked", USER, "cli"),
        ("stopping", USER, "watcher"),
        ("stopped", USER, "watcher"),
        ("closed", "", "watcher"),
        ("resolved", "", "watcher"),
    ]
    stop = after_it.incident.stop
    assert stop is not None
    assert (stop.phase, stop.actor) == (StopPhase.STOPPED, USER)
    assert "SageMaker confirms it" in stop.reason
    told, carried_out = after_it.deliveries
    assert carried_out.state is DeliveryState.DELIVERED
    assert (told.state, told.wanted) == (DeliveryState.PENDING, after_it.incident.telling_revision)


def test_a_stop_by_a_person_that_a_guard_refuses_is_told_with_the_reason(
    watcher: Watcher, sandbox_jobs: Sandbox
):
    Path("watcher.toml").write_text("[stop]\nmax_per_hour = 0")
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, opened(job))

    assert watcher("stop", "churn-1", "--yes").code == 1

    stop = the_case(job).incident.stop
    assert stop is not None
    assert stop.phase is StopPhase.NOT_STOPPED
    assert stop.reason.startswith("Not stopped: ")
    assert "stop.max_per_hour" in stop.reason


def test_a_stop_that_aws_refuses_is_told_with_the_reason(watcher: Watcher, sandbox_jobs: Sandbox):
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, opened(job))
    sandbox_jobs.control.inject_fault(
        "sagemaker:StopTrainingJob", "AccessDeniedException", "not authorized", times=1
    )

    watcher("stop", "churn-1", "--yes")

    stop = the_case(job).incident.stop
    assert stop is not None
    assert stop.phase is StopPhase.NOT_STOPPED
    assert "sagemaker:StopTrainingJob" in stop.reason


def test_a_stop_by_a_person_does_not_wait_for_the_grace_of_a_route(watcher: Watcher, sandbox_jobs: Sandbox):
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, waiting(job))

    watcher("stop", "churn-1", "--yes")

    now = the_case(job)
    assert now.incident.stop is not None
    assert now.incident.stop.phase is StopPhase.STOPPED
    assert now.deliveries[-1].state is DeliveryState.DELIVERED


def test_a_waiting_stop_of_a_route_is_kept_when_a_guard_refuses_the_persons(
    watcher: Watcher, sandbox_jobs: Sandbox
):
    Path("watcher.toml").write_text("[stop]\nmin_runtime = 999999999")
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, waiting(job))

    ran = watcher("stop", "churn-1", "--yes")

    assert ran.code == 1
    assert "stop.min_runtime" in ran.out
    assert the_case(job) == waiting(job)


def test_a_dry_run_changes_nothing_of_an_incident(watcher: Watcher, sandbox_jobs: Sandbox):
    job = seen(sandbox_jobs, "churn-1")
    store_look(job, opened(job))

    watcher("stop", "churn-1", "--dry-run")

    assert the_case(job) == opened(job)


def test_a_job_that_has_ended_is_not_said_to_have_been_asked_to_stop(watcher: Watcher, sandbox_jobs: Sandbox):
    job = seen(sandbox_jobs, "done-1")
    store_look(job, opened(job))

    watcher("stop", "done-1", "--yes")

    assert the_case(job) == opened(job)


def test_the_stop_of_a_healthy_job_is_in_the_history(watcher: Watcher, sandbox_jobs: Sandbox):
    watcher("stop", "churn-1", "--yes")

    asked, stopped = (json.loads(line) for line in watcher("audit").out.splitlines())
    assert (asked["job"], asked["kind"], asked["actor"], asked["door"]) == (
        "churn-1",
        "stop_asked",
        USER,
        "cli",
    )
    assert (stopped["kind"], stopped["incident"], stopped["run"]) == (
        "stopped",
        None,
        seen(sandbox_jobs, "churn-1").run,
    )
    assert "SageMaker confirms it" in stopped["text"]


# -- cancelling -----------------------------------------------------------------------------------


def waiting(job: JobSnapshot) -> Case:
    """An incident of the run whose stop waits for the end of its grace."""
    of = opened(job, stop=RunStop(StopPhase.WAITING, "route job churn-*", after(1), after(1e9)))
    stop = delivery(
        job.name,
        "stop",
        id="stop",
        incident=of.incident.id,
        kind=DeliveryKind.STOP,
        lane=f"stop:{job.run}",
        due_at=after(1e9),
        run=job.run,
        finding=of.findings[0].id,
        actor="route job churn-*",
    )
    return replace(of, deliveries=(*of.deliveries, stop))


@pytest.fixture
def waiting_stop(watcher: Watcher) -> None:
    store_look(snapshot("churn-1"), waiting(snapshot("churn-1")))


def test_a_stop_in_its_grace_period_can_be_cancelled_once(watcher: Watcher, waiting_stop: None):
    first, second = watcher("stop", "churn-1", "--cancel"), watcher("stop", "churn-1", "--cancel")

    assert (first.code, first.out) == (0, "The stop of churn-1 is cancelled: the job continues.\n")
    assert (second.code, second.out) == (1, "No stop of churn-1 is waiting: nothing to cancel.\n")
    assert watcher("incidents", "--json").json[0]["deliveries"][1]["state"] == "cancelled"


def test_a_cancelled_stop_and_who_cancelled_it_are_reported_where_the_alert_was(
    watcher: Watcher, waiting_stop: None
):
    watcher("stop", "churn-1", "--cancel")

    now = the_case(snapshot("churn-1"))
    assert now.incident.stop is not None
    assert now.incident.stop.phase is StopPhase.CANCELLED
    assert (now.changes[-1].actor, now.changes[-1].door) == (USER, "cli")
    assert USER in now.changes[-1].text
    assert now.deliveries[0].state is DeliveryState.PENDING


def test_a_stop_already_requested_from_sagemaker_cannot_be_cancelled(watcher: Watcher):
    job = snapshot("churn-1")
    under_way = RunStop(StopPhase.STOPPING, "route job churn-*", after(1))
    store_look(job, opened(job, stop=under_way))

    ran = watcher("stop", "churn-1", "--cancel")

    assert (ran.code, ran.out) == (1, "No stop of churn-1 is waiting: nothing to cancel.\n")


def test_cancelled_stops_are_printed_as_json_on_request(watcher: Watcher, waiting_stop: None):
    first, second = (watcher("stop", "churn-1", "--cancel", "--json") for _ in range(2))

    assert [(ran.code, ran.json[0]["job"], ran.json[0]["cancelled"]) for ran in (first, second)] == [
        (0, "churn-1", True),
        (1, "churn-1", False),
    ]


def test_an_unknown_name_cancels_nothing_at_all(watcher: Watcher, waiting_stop: None):
    assert watcher("stop", "churn-1", "chrun-2", "--cancel").code == 2
    assert watcher("incidents", "--json").json[0]["deliveries"][1]["state"] == "pending"
