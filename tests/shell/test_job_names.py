"""How commands name jobs: by name, ARN, the beginning of a name, or `latest`; with a store and without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.contract.samples import look, snapshot
from tests.shell.conftest import CommandResult
from watcher.aws.accounts import Accounts
from watcher.cli.job_names import described_job, whole_name
from watcher.config.settings import Config
from watcher.errors import UsageError
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]
ARN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/"


@pytest.fixture
def jobs(aws_environment: Sandbox) -> Sandbox:
    """Four jobs at SageMaker; `sales-1` is the newest."""
    for hour, name in enumerate(("churn", "churn-1", "churn-2", "sales-1")):
        created = f"2026-11-20T1{hour}:00:00Z"
        aws_environment.control.put_training_job(
            name, TrainingJobStatus="Completed", CreationTime=datetime.fromisoformat(created).timestamp()
        )
    return aws_environment


def store_with(*names: str) -> None:
    with closing(open_store("sqlite:///watcher.db")) as store:
        store.commit([look(name, snapshot=snapshot(name, arn=ARN + name)) for name in names])


@pytest.mark.parametrize("word", ["sales-1", ARN + "sales-1", "sal", "latest"])
@pytest.mark.parametrize("stored", [(), ("churn-1",)], ids=["no store", "a store"])
def test_sagemaker_is_asked_for_what_the_store_does_not_know(
    watcher: Watcher, jobs: Sandbox, word: str, stored: tuple[str, ...]
):
    if stored:
        store_with(*stored)
    found = described_job(word, Config(), Accounts())

    # Of the jobs that the store knows, one is the latest.
    name = "churn-1" if stored and word == "latest" else "sales-1"
    assert (found.snapshot.name, found.record["TrainingJobName"]) == (name, name)
    assert whole_name(word, Config(), Accounts()) in (name, ARN + name)


def test_a_whole_name_comes_before_the_beginning_of_another(watcher: Watcher, jobs: Sandbox):
    assert described_job("churn", Config(), Accounts()).snapshot.name == "churn"


def test_a_beginning_of_several_names_is_refused_with_the_names(watcher: Watcher, jobs: Sandbox):
    with pytest.raises(UsageError, match=r"^2 jobs begin with churn-: churn-1, churn-2; write more"):
        described_job("churn-", Config(), Accounts())


def test_a_beginning_of_several_stored_names_is_refused_by_show_and_by_stop(watcher: Watcher, jobs: Sandbox):
    store_with("churn-1", "churn-2")

    for command in (["show", "churn-"], ["stop", "churn-", "--yes"]):
        ran = watcher(*command)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("watcher: 2 jobs begin with churn-: churn-1, churn-2; write more")


def test_several_stored_jobs_of_one_name_have_to_be_told_apart_by_their_arn(watcher: Watcher, jobs: Sandbox):
    elsewhere = ARN.replace("us-east-1", "eu-west-1") + "sales-1"
    with closing(open_store("sqlite:///watcher.db")) as store:
        both = [snapshot("sales-1", arn=arn) for arn in (ARN + "sales-1", elsewhere)]
        store.commit([look("sales-1", snapshot=each) for each in both])

    for command in (["show"], ["ack"], ["stop", "--cancel"]):
        ran = watcher(*command, "sales-1")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("watcher: there are 2 jobs named sales-1; name one by its ARN:")


def test_many_jobs_of_one_beginning_are_not_all_fetched(watcher: Watcher, jobs: Sandbox):
    for number in range(8):
        jobs.control.put_training_job(f"nightly-{number}")

    with pytest.raises(UsageError, match=r"^more than 5 jobs begin with nightly: nightly-\d, .*, …; write"):
        whole_name("nightly", Config(), Accounts())


def test_the_latest_job_without_a_store_costs_one_request(watcher: Watcher, jobs: Sandbox):
    before = jobs.control.calls()
    assert whole_name("latest", Config(), Accounts()) == ARN + "sales-1"

    after = jobs.control.calls()
    assert {call: after[call] - before.get(call, 0) for call in after if call.startswith("sagemaker:")} == {
        "sagemaker:ListTrainingJobs": 1
    }


def test_without_the_permission_to_search_a_beginning_names_nothing(watcher: Watcher, jobs: Sandbox):
    jobs.control.inject_fault("sagemaker:Search", "AccessDeniedException", "not authorized", times=1)

    with pytest.raises(UsageError, match=r"^there is no training job sal in us-east-1"):
        described_job("sal", Config(), Accounts())


def test_a_folder_is_a_place_and_no_beginning_of_a_job(watcher: Watcher, jobs: Sandbox):
    Path("sal").mkdir()

    assert whole_name("sal", Config(), Accounts()) == "sal"
    assert whole_name("s3://bucket/sal", Config(), Accounts()) == "s3://bucket/sal"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("logs --training sal", "sales-1 has no log stream"),
        ("logs --training latest", "sales-1 has no log stream"),
        ("logs sal", "sales-1 has no rules"),
        ("tensors sal", "sales-1 saves no tensors"),
        ("evaluate latest --rule Overfit", "sales-1 saves no tensors"),
        ("stop sal --yes", "sales-1 is not running: it is Completed"),
        ("show latest", "sales-1"),
        ("show sal", "sales-1"),
    ],
)
def test_every_command_that_takes_a_job_takes_each_form_of_its_name(
    watcher: Watcher, jobs: Sandbox, command: str, said: str
):
    ran = watcher(*command.split())

    assert said in (ran.out + ran.err).replace(ARN, "")


def test_run_watches_the_job_that_a_beginning_names(watcher: Watcher, jobs: Sandbox):
    assert watcher("run", "sal", "--once").code == 0
    assert [job["job"] for job in watcher("jobs", "--json").json] == ["sales-1"]


@pytest.mark.parametrize("command", ["ack", "snooze", "unsnooze", "redeliver"])
def test_a_job_that_only_sagemaker_knows_has_no_incident(watcher: Watcher, jobs: Sandbox, command: str):
    store_with("churn-1")

    assert watcher(command, "sales-1") == CommandResult(
        1, "", "watcher: sales-1 has no incident: Watcher has not seen this job\n"
    )
    assert watcher(command, "slaes-1").code == 2


def test_no_stop_of_a_job_waits_that_only_sagemaker_knows(watcher: Watcher, jobs: Sandbox):
    store_with("churn-1")

    ran = watcher("stop", "sales-1", "--cancel")

    assert (ran.code, ran.out) == (1, "No stop of sales-1 is waiting: nothing to cancel.\n")
