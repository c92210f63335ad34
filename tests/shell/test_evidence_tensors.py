"""The curve of an alert from the tensors that a job saved on S3."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob
from tests.jobs import a_job
from watcher.alerts.evidence import Gatherer
from watcher.aws.accounts import Accounts
from watcher.config.settings import Rules
from watcher.model import (
    Closing,
    Finding,
    FindingKind,
    HookConfiguration,
    JobSnapshot,
    Judge,
    RuleConfiguration,
    RuleFamily,
    Severity,
    incident_id,
)
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

NOW = datetime.now(UTC)
LOSSES = (1.0, 0.5, 0.49, 0.48, 0.1, 0.05)
"""Every ten steps. From step 10 to 20 the loss hardly falls."""


@pytest.fixture
def job(aws_environment: Sandbox, tmp_path: Path) -> JobSnapshot:
    saved = SavedJob(tmp_path)
    saved.collections()
    for number, loss in enumerate(LOSSES):
        saved.step(10 * number, {"loss": np.array([loss])})
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket="team")
    job = a_job(
        "recovering",
        hook=HookConfiguration("s3://team"),
        rules=(
            RuleConfiguration(
                "LossNotDecreasing", RuleFamily.DEBUGGER, {"num_steps": "10", "diff_percent": "10"}
            ),
        ),
    )
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        s3.upload_file(str(file), "team", f"recovering/debug-output/{file.relative_to(tmp_path)}")
    return job


def a_finding(job: JobSnapshot) -> Finding:
    return Finding(
        id="1",
        kind=FindingKind.RULE_ISSUE,
        run=job.run,
        job=job.name,
        status="IssuesFound",
        opened_at=NOW,
        incident=incident_id(job.run),
        severity=Severity.CRITICAL,
        rule="LossNotDecreasing",
        family=RuleFamily.DEBUGGER,
        judge=Judge.DEBUGGER,
        step=20,
    )


def steps(gatherer: Gatherer, finding: Finding, job: JobSnapshot) -> list[int]:
    return [reading.step for reading in gatherer.gather(finding, job).curve]


def test_the_curve_ends_where_the_rule_fired_until_the_finding_has_recovered(job: JobSnapshot) -> None:
    gatherer = Gatherer(Accounts(), Rules(), lambda: NOW)
    finding = a_finding(job)

    assert steps(gatherer, finding, job) == [0, 10, 20]
    recovered = replace(finding, closed_at=NOW, closing=Closing.RECOVERED)
    assert steps(gatherer, recovered, job) == [0, 10, 20, 30, 40, 50]
    ended = replace(finding, closed_at=NOW, closing=Closing.RUN_ENDED)
    assert steps(gatherer, ended, job) == [0, 10, 20]


def test_complete_evidence_is_read_once_for_each_episode(job: JobSnapshot) -> None:
    gatherer = Gatherer(Accounts(), Rules(), lambda: NOW)
    finding = a_finding(job)
    first = gatherer.gather(finding, job)
    assert first.missing == ()
    assert gatherer.gather(finding, job) is first
    again = gatherer.gather(replace(finding, episode=2), job)
    assert again is not first
    assert again == first
