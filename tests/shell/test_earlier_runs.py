"""An earlier run of the same name has saved and logged in the same places. It is not taken for this one.

Both runs are the sandbox's, and what they save is written by smdebug's own writers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob
from tests.jobs import a_job
from tests.trials import upload
from tests.waiting import WAIT_LIMIT_S, next_second
from watcher.alerts.evidence import Gatherer
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Rules
from watcher.evaluation.evaluator import Evaluator
from watcher.jobs.earlier_runs import EarlierRuns
from watcher.model import (
    Evaluation,
    Finding,
    FindingKind,
    JobSnapshot,
    Judge,
    RuleFamily,
    Severity,
    incident_id,
)
from watcher.sandbox.process import Sandbox
from watcher.store.base import JobRecord, Look
from watcher.store.memory import MemoryStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

NOW = datetime.now(UTC)
PARAMETERS = {"rule_to_invoke": "LossNotDecreasing", "num_steps": "2", "diff_percent": "5"}
FLAT = (0.9, 0.9, 0.9, 0.9, 0.9, 0.9)
FALLING = (0.9, 0.5, 0.2)
PLACE = "s3://team/debug/churn/debug-output"


class Runs:
    """The runs of the job `churn`, one after the other."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox, self._folder, self._count = sandbox, folder, 0

    def begin(self, **members: Any) -> JobSnapshot:
        control = self._sandbox.control
        if self._count:
            control.delete_training_job("churn")
            next_second()
        self._count += 1
        rule = {
            "RuleConfigurationName": "LossNotDecreasing",
            "RuleEvaluatorImage": "debugger-rules",
            "RuleParameters": PARAMETERS | members.pop("parameters", {}),
        }
        control.put_training_job(
            "churn",
            DebugHookConfig={"S3OutputPath": "s3://team/debug"},
            DebugRuleConfigurations=[rule],
            **members,
        )
        return TrainingJobs(Aws()).describe("churn")

    def save(self, losses: Sequence[float], interval: int = 1, **collections: Any) -> None:
        """Save a loss at every `interval`-th step. Overwrites what an earlier run saved at these steps."""
        job = SavedJob(self._folder / f"run-{self._count}")
        job.collections(**collections)
        for number, loss in enumerate(losses):
            job.step(number * interval, {"loss": np.array(loss)})
        with closing(self._sandbox.client("s3")) as s3:
            upload(job.folder, s3, "team", "churn")

    def log(self, line: str) -> str:
        return self._sandbox.control.write_logs("churn", [line])


@pytest.fixture
def runs(aws_environment: Sandbox, tmp_path: Path) -> Runs:
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket="team")
    return Runs(aws_environment, tmp_path)


@pytest.fixture
def second(runs: Runs) -> JobSnapshot:
    """The second run, which has neither saved nor logged anything. The loss of the first was flat."""
    runs.begin()
    runs.save(FLAT)
    runs.log("the loss of the first run is flat")
    return runs.begin()


def evaluated(evaluator: Evaluator, job: JobSnapshot) -> tuple[str, str]:
    """Status and details of the rule after a first look."""
    record = JobRecord(job, NOW, NOW, watching=True, evaluations=(Evaluation(due_at=NOW),))
    [outcome] = evaluator.advance(record, record.evaluations[0]).outcomes
    return outcome.status, outcome.details


def an_evaluator() -> Evaluator:
    """One that knows of an earlier run of each job."""
    return Evaluator(Accounts(), Rules(), lambda: datetime.now(UTC), since=lambda job: job.created_at)


def a_finding(job: JobSnapshot, kind: FindingKind = FindingKind.RULE_ISSUE) -> Finding:
    return Finding(
        id="1",
        kind=kind,
        run=job.run,
        job=job.name,
        status="IssuesFound",
        opened_at=NOW,
        incident=incident_id(job.run),
        severity=Severity.CRITICAL,
        rule="LossNotDecreasing",
        family=RuleFamily.DEBUGGER,
        judge=Judge.DEBUGGER,
        step=2,
    )


def steps(document: Any) -> list[int]:
    return list(document["loss"]["GLOBAL"]["worker_0"]["steps"]) if document else []


# -- Watcher's own evaluation ----------------------------------------------------------------------


def test_a_rule_does_not_fire_on_what_an_earlier_run_saved(runs: Runs, second: JobSnapshot) -> None:
    assert evaluated(an_evaluator(), second) == ("InProgress", "")

    runs.save(FALLING)

    assert evaluated(an_evaluator(), second) == ("InProgress", "")


def test_a_rule_fires_on_what_its_own_run_saved(runs: Runs, second: JobSnapshot) -> None:
    runs.save((0.9, 0.8, 0.8), interval=2)

    status, details = evaluated(an_evaluator(), second)

    assert status == "IssuesFound"
    assert "between step 2 and step 4" in details


def test_the_collections_of_an_earlier_run_are_not_remembered_for_this_one(runs: Runs) -> None:
    evaluator = an_evaluator()
    parameters = {"collection_names": "metrics", "use_losses_collection": "False"}
    first = runs.begin(parameters=parameters)
    runs.save(FALLING, metrics={"include_regex": ["loss"]})
    assert evaluated(evaluator, first) == ("InProgress", "")

    second = runs.begin(parameters=parameters)
    runs.save(FLAT, metrics={"include_regex": ["accuracy"]})

    assert evaluated(evaluator, second) == ("InProgress", "")


def test_a_comparison_with_another_job_is_with_its_present_run(runs: Runs, second: JobSnapshot) -> None:
    other = an_evaluator()._other_trial("churn", second)
    assert other
    assert list(other.steps()) == []

    runs.save(FALLING)

    assert [saved.step for saved in other.steps()] == [0, 1, 2]


# -- the evidence of an alert ----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is read however busy the machine is."""
    monkeypatch.setattr("watcher.alerts.evidence.EVIDENCE_TIMEOUT_S", WAIT_LIMIT_S)


def gather(job: JobSnapshot, kind: FindingKind = FindingKind.RULE_ISSUE) -> Any:
    gatherer = Gatherer(Accounts(), Rules(), lambda: NOW, since=lambda job: job.created_at)
    return gatherer.gather(a_finding(job, kind), job)


def test_the_values_in_an_alert_are_of_its_own_run(runs: Runs, second: JobSnapshot) -> None:
    evidence = gather(second)
    assert evidence.curve == ()
    assert f"values: nothing is saved in {PLACE}, and it has no metrics" in evidence.missing

    runs.save((0.8, 0.8), interval=2)

    curve = gather(second).curve
    assert [(reading.step, reading.value) for reading in curve] == [(0, 0.8), (2, 0.8)]


def test_the_training_log_in_an_alert_is_of_its_own_run(runs: Runs, second: JobSnapshot) -> None:
    evidence = gather(second, FindingKind.JOB_FAILED)
    assert (evidence.log_stream, evidence.log_lines) == ("", ())
    assert any("no stream in /aws/sagemaker/TrainingJobs yet" in sentence for sentence in evidence.missing)

    stream = runs.log("AlgorithmError in the second run")

    evidence = gather(second, FindingKind.JOB_FAILED)
    assert evidence.log_stream == stream
    assert evidence.log_lines == ("AlgorithmError in the second run",)


# -- what is known of earlier runs -----------------------------------------------------------------


def test_only_a_run_with_an_earlier_one_leaves_out_what_was_there_before_it() -> None:
    store = MemoryStore()
    first = a_job("churn")
    second = a_job("churn", created_at=first.created_at + timedelta(hours=1))
    other = a_job("other", created_at=first.created_at + timedelta(hours=1))
    for job in (second, first, other):
        store.commit([Look(job, "1", NOW, watching=True)])
    earlier_runs = EarlierRuns(store)

    assert earlier_runs.since(first) is None
    assert earlier_runs.since(other) is None
    assert earlier_runs.since(second) == second.created_at


def test_what_was_put_there_before_a_job_counts_if_the_job_has_no_earlier_run(runs: Runs) -> None:
    runs.save((0.9, 0.8, 0.8), interval=2)
    next_second()
    job = runs.begin()

    evaluator = Evaluator(
        Accounts(), Rules(), lambda: datetime.now(UTC), since=EarlierRuns(MemoryStore()).since
    )

    assert evaluated(evaluator, job)[0] == "IssuesFound"
