"""The evidence of alerts about profiler rules, from the sandbox's CloudWatch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.jobs import a_job
from watcher.alerts.evidence import Gatherer
from watcher.aws.accounts import Accounts
from watcher.config.settings import Rules
from watcher.model import (
    AlertEvidence,
    Finding,
    FindingKind,
    JobSnapshot,
    Judge,
    RuleConfiguration,
    RuleFamily,
    Severity,
    finding_id,
    incident_id,
)
from watcher.sandbox.process import Sandbox

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
STARTED_AT = NOW - timedelta(hours=2)


def job(invokes: str) -> JobSnapshot:
    return a_job(
        "deep",
        started_at=STARTED_AT,
        instance_type="ml.g5.xlarge",
        rules=(RuleConfiguration("mine", RuleFamily.PROFILER, {"rule_to_invoke": invokes}),),
    )


def gather(of: JobSnapshot, hours: float = 2) -> AlertEvidence:
    finding = Finding(
        id=finding_id(of.run, FindingKind.RULE_ISSUE, "mine", RuleFamily.PROFILER),
        kind=FindingKind.RULE_ISSUE,
        run=of.run,
        job=of.name,
        status="IssuesFound",
        opened_at=STARTED_AT + timedelta(hours=hours),
        incident=incident_id(of.run),
        severity=Severity.WARNING,
        rule="mine",
        family=RuleFamily.PROFILER,
        judge=Judge.DEBUGGER,
    )
    return Gatherer(Accounts(), Rules(), lambda: NOW).gather(finding, of)


@pytest.fixture
def measured(aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """An hour in which a GPU was used more and more."""
    monkeypatch.setattr("watcher.alerts.evidence.EVIDENCE_TIMEOUT_S", 60.0)
    aws_environment.client("cloudwatch").put_metric_data(
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricData=[
            {
                "MetricName": "GPUUtilization",
                "Value": float(minute),
                "Timestamp": STARTED_AT + timedelta(minutes=minute),
                "Dimensions": [{"Name": "Host", "Value": "deep/algo-1"}],
            }
            for minute in range(60)
        ],
    )
    return aws_environment


def test_the_curve_is_of_what_the_rule_reads_up_to_when_it_was_found(measured: Sandbox):
    evidence = gather(job("LowGPUUtilization"), hours=0.5)
    assert {reading.tensor for reading in evidence.curve} == {"GPUUtilization of algo-1"}
    assert [(evidence.curve[0].step, evidence.curve[0].value)] == [(0, 0.0)]
    assert [(evidence.curve[-1].step, evidence.curve[-1].value)] == [(29, 29.0)]
    assert "CloudWatch" in evidence.curve_from


def test_a_long_run_has_the_last_minutes_only(measured: Sandbox):
    steps = [reading.step for reading in gather(job("LowGPUUtilization"), hours=1).curve]
    assert steps == list(range(22, 60))


@pytest.mark.parametrize("invokes", ["StepOutlier", "OfTheFuture"])
def test_a_rule_on_something_else_has_no_curve_and_misses_nothing(measured: Sandbox, invokes: str):
    evidence = gather(job(invokes))
    assert evidence.curve == ()
    assert not [sentence for sentence in evidence.missing if sentence.startswith("values")]


def test_metrics_that_may_not_be_read_are_not_missed(measured: Sandbox):
    measured.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", status=403)
    evidence = gather(job("LowGPUUtilization"))
    assert (evidence.curve, evidence.curve_from) == ((), "")
    assert not [sentence for sentence in evidence.missing if sentence.startswith("values")]
