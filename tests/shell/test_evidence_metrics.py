"""The curve of an alert without tensors, from CloudWatch and from the job's record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.jobs import a_job
from watcher.alerts.evidence import MAX_CURVE_POINTS, Gatherer
from watcher.aws.accounts import Accounts
from watcher.config.settings import Rules
from watcher.model import (
    AlertEvidence,
    FinalMetric,
    Finding,
    FindingKind,
    HookConfiguration,
    JobSnapshot,
    Judge,
    Outcome,
    Reading,
    RuleConfiguration,
    RuleFamily,
    Severity,
    finding_id,
    incident_id,
)
from watcher.sandbox.process import Sandbox

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
STARTED_AT = NOW - timedelta(minutes=60)
CURVE_SOURCE = "From the job's metrics in CloudWatch: a step is a minute of training"
DEBUGGER = RuleConfiguration("LossNotDecreasing", RuleFamily.DEBUGGER, {"collection_names": "metrics"})
ATTACHED = Rules.model_validate({"local": "attach", "attach": [{"rule": "LossNotDecreasing"}]})


def job(**changes: Any) -> JobSnapshot:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:training-job/bare"
    values = {"arn": arn, "started_at": STARTED_AT, "metrics": ("train:loss", "train:accuracy"), **changes}
    return a_job("bare", **values)


def finding(of: JobSnapshot, judge: Judge, step: int) -> Finding:
    kind, rule = FindingKind.RULE_ISSUE, "LossNotDecreasing"
    return Finding(
        id=finding_id(of.run, kind, rule, RuleFamily.DEBUGGER),
        kind=kind,
        run=of.run,
        job=of.name,
        status="IssuesFound",
        opened_at=NOW,
        incident=incident_id(of.run),
        severity=Severity.CRITICAL,
        rule=rule,
        family=RuleFamily.DEBUGGER,
        judge=judge,
        step=step,
    )


def gather(of: JobSnapshot, judge: Judge, step: int, rules: Rules | None = None) -> AlertEvidence:
    return Gatherer(Accounts(), rules or Rules(), lambda: NOW).gather(finding(of, judge, step), of)


def final(minute: float, value: float, name: str = "train:loss") -> FinalMetric:
    return FinalMetric(name, value, STARTED_AT + timedelta(minutes=minute))


@pytest.fixture
def bare(aws_environment: Sandbox) -> Sandbox:
    """A job that logged metrics for 50 minutes, and whose hook saved nothing."""
    control = aws_environment.control
    rows = [((STARTED_AT + timedelta(minutes=minute)).timestamp(), 1.0 + minute) for minute in range(50)]
    control.put_training_job("bare")
    control.put_metrics("bare", {"train:loss": rows, "train:accuracy": rows[:2]})
    aws_environment.client("s3").create_bucket(Bucket="team")
    return aws_environment


def test_a_rule_that_ran_on_metrics_shows_its_deciding_values(bare: Sandbox):
    evidence = gather(job(), Judge.WATCHER, 10, ATTACHED)
    assert evidence.explanation == (
        "train:loss rose 1000 % between step 0 and step 10; the rule wants a fall of 0.1 %"
    )
    assert evidence.deciding == (Reading("train:loss", 0, 1.0), Reading("train:loss", 10, 11.0))
    assert evidence.needed == (Reading("train:loss", 10, 0.999),)
    assert evidence.curve == tuple(Reading("train:loss", step, 1.0 + step) for step in range(11))
    assert evidence.curve_from.startswith(CURVE_SOURCE)
    assert evidence.missing == ()


@pytest.mark.usefixtures("bare")
def test_debuggers_finding_shows_the_newest_metrics_when_its_tensors_are_gone():
    outcome = Outcome("LossNotDecreasing", RuleFamily.DEBUGGER, Judge.DEBUGGER, "IssuesFound")
    of = job(
        rules=(DEBUGGER,), outcomes=(outcome,), hook=HookConfiguration("s3://team/debug"),
        final_metrics=(final(59.5, 60.0), final(0.5, 3.0, "train:accuracy")),
    )  # fmt: skip
    evidence = gather(of, Judge.DEBUGGER, 140)
    losses = [reading for reading in evidence.curve if reading.tensor == "train:loss"]
    assert len(losses) == MAX_CURVE_POINTS
    assert losses[-2:] == [Reading("train:loss", 49, 50.0), Reading("train:loss", 59, 60.0)]
    assert [one.step for one in evidence.curve if one.tensor == "train:accuracy"] == [0, 1]
    assert evidence.curve_from.startswith(CURVE_SOURCE)
    assert evidence.deciding == ()
    assert "values: nothing is saved in s3://team/debug/bare/debug-output" in evidence.missing


def test_a_missing_permission_is_named_and_the_last_value_comes_from_the_job_record(bare: Sandbox):
    bare.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not you", status=403)
    of = job(rules=(DEBUGGER,), final_metrics=(final(59, 60.0),))
    evidence = gather(of, Judge.DEBUGGER, 140)
    assert evidence.curve == (Reading("train:loss", 59, 60.0),)
    assert any("no permission for cloudwatch:GetMetricData" in said for said in evidence.missing)
    assert evidence.curve_from


def test_a_job_without_metrics_has_no_curve_and_says_so(bare: Sandbox):
    evidence = gather(job(rules=(DEBUGGER,), metrics=()), Judge.DEBUGGER, 140)
    assert evidence.curve == ()
    assert "values: the job saves no tensors, and it has no metrics" in evidence.missing
    assert "cloudwatch:GetMetricData" not in bare.control.calls()


@pytest.mark.usefixtures("bare")
def test_metrics_without_values_yet_are_reported_as_such():
    evidence = gather(job(rules=(DEBUGGER,), metrics=("other:loss",)), Judge.DEBUGGER, 140)
    assert "values: CloudWatch has no metrics of the job yet" in evidence.missing


@pytest.mark.usefixtures("bare")
def test_a_rule_about_time_shows_the_curve_it_was_waiting_for():
    attached = Rules.model_validate({"local": "attach", "attach": [{"rule": "StalledTrainingRule"}]})
    of = job()
    stalled = Gatherer(Accounts(), attached, lambda: NOW).gather(
        Finding(
            id="stalled",
            kind=FindingKind.RULE_ISSUE,
            run=of.run,
            job=of.name,
            status="IssuesFound",
            opened_at=NOW,
            incident=incident_id(of.run),
            severity=Severity.CRITICAL,
            rule="StalledTrainingRule",
            family=RuleFamily.DEBUGGER,
            judge=Judge.WATCHER,
            step=49,
        ),
        of,
    )
    assert stalled.curve[-1] == Reading("train:loss", 49, 50.0)
    assert stalled.missing == ()
