"""`watcher stop`, on the sandbox."""

from __future__ import annotations

import getpass
import io
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.samples import NOON, after, arn, delivery, finding, look
from tests.shell.conftest import CommandResult
from watcher.cli import manual_stop
from watcher.model import DeliveryKind
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]


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
    assert all("would be stopped now" in each["sentence"] for each in ran.json)
    assert sandbox_jobs.control.calls().get("sagemaker:StopTrainingJob", 0) == 0


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
    "name", ["", "churn 1", "churn-", "arn:aws:sagemaker:us-east-1:123456789012", "x" * 64]
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


# -- cancelling -----------------------------------------------------------------------------------


@pytest.fixture
def waiting_stop(tmp_path: Path) -> None:
    issue = finding("churn-1")
    stop = delivery(issue, "stop", kind=DeliveryKind.STOP, due_at=after(1e9))
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        store.commit([look("churn-1", [issue], [delivery(issue, "console"), stop])])


def test_a_stop_in_its_grace_period_can_be_cancelled_once(watcher: Watcher, waiting_stop: None):
    first, second = watcher("stop", "churn-1", "--cancel"), watcher("stop", "churn-1", "--cancel")

    assert (first.code, first.out) == (0, "The stop of churn-1 is cancelled: the job continues.\n")
    assert (second.code, second.out) == (1, "No stop of churn-1 is waiting: nothing to cancel.\n")
    assert [d["state"] for d in watcher("findings", "--json").json[0]["deliveries"]] == [
        "pending",
        "cancelled",
    ]


def test_a_cancelled_stop_and_who_cancelled_it_are_reported_where_the_alert_was(
    watcher: Watcher, waiting_stop: None, tmp_path: Path
):
    watcher("stop", "churn-1", "--cancel")

    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        [update] = [row for row in store.deliveries() if row.kind is DeliveryKind.UPDATE]
    assert update.to == "console"
    assert update.text == f"Not stopped: {getpass.getuser()} cancelled it. The job continues."


def test_a_stop_already_requested_from_sagemaker_cannot_be_cancelled(
    watcher: Watcher, waiting_stop: None, tmp_path: Path
):
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        store.permit_stop(arn("churn-1"), "route job churn-*", NOON, 10)  # recorded before SageMaker is asked

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
    assert watcher("findings", "--json").json[0]["deliveries"][1]["state"] == "pending"
