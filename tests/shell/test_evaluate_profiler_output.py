"""Evaluating profiler rules on what the profiler saved, on the sandbox's S3, with a controlled clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.evaluated_jobs import Watched
from tests.jobs import a_job
from tests.profiler_files import system_file
from watcher.model import (
    Evaluation,
    JobSnapshot,
    Judge,
    Outcome,
    Reads,
    RuleConfiguration,
    RuleFamily,
)
from watcher.sandbox.process import Sandbox

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
STARTED_AT = NOW - timedelta(minutes=20)
MINUTE = timedelta(minutes=1)
BUCKET = "profiled"
QUICK = {"patience": "100", "window": "100"}


def job(**changes: Any) -> JobSnapshot:
    rule = RuleConfiguration(
        "idle gpus", RuleFamily.PROFILER, {"rule_to_invoke": "LowGPUUtilization", **QUICK}
    )
    values = {
        "created_at": STARTED_AT - MINUTE,
        "started_at": STARTED_AT,
        "instance_type": "ml.p3.2xlarge",
        "profiler_path": f"s3://{BUCKET}/profile",
        "rules": (rule,),
        **changes,
    }
    return a_job("deep", **values)


def put(sandbox: Sandbox, minutes: Iterable[int], gpu: float, *, broken: bool = False) -> None:
    """The files of these minutes of training."""
    for minute in minutes:
        key, text = system_file(STARTED_AT + minute * MINUTE, gpu)
        sandbox.client("s3").put_object(
            Bucket=BUCKET,
            Key=f"profile/deep/profiler-output/{key}",
            Body="{\n" + text if broken else text,
        )


@pytest.fixture
def profiled(aws_environment: Sandbox) -> Sandbox:
    aws_environment.client("s3").create_bucket(Bucket=BUCKET)
    return aws_environment


mirroring: Callable[..., Watched] = partial(Watched, now=NOW, local="mirror")
attaching: Callable[..., Watched] = partial(
    Watched, {"rule": "LowGPUUtilization", "parameters": QUICK}, now=NOW
)


def outcome(evaluation: Evaluation) -> Outcome:
    [one] = evaluation.outcomes
    return one


def test_a_jobs_own_profiler_rule_is_mirrored_on_what_the_profiler_saved(profiled: Sandbox):
    put(profiled, range(10), gpu=12.0)
    jobs = mirroring()
    jobs.know(job())
    [evaluation] = jobs.look().values()
    found = outcome(evaluation)
    assert (found.rule, found.family, found.judge) == ("idle gpus", RuleFamily.PROFILER, Judge.WATCHER)
    assert found.status == "IssuesFound"
    assert "gpu0 of algo-1" in found.details
    assert (evaluation.reads, evaluation.due_at) == (Reads.PROFILER_OUTPUT, None)


def test_an_evaluation_continues_in_another_process_and_reads_each_file_once(profiled: Sandbox):
    put(profiled, range(2), gpu=95.0)
    jobs = mirroring(now=STARTED_AT + 3 * MINUTE)
    jobs.know(job())
    profiled.control.forget_calls()
    for minute in range(2, 8):
        put(profiled, [minute], gpu=95.0 if minute < 5 else 3.0)
        jobs.restart()
        jobs.now += MINUTE
        evaluation = jobs.look()["deep"]
    assert outcome(evaluation).status == "IssuesFound"
    listings = 2 * 6
    assert profiled.control.calls()["s3:GET"] <= listings + 8


def test_an_idle_look_is_two_listings(profiled: Sandbox):
    put(profiled, range(4), gpu=95.0)
    jobs = mirroring()
    jobs.know(job())
    jobs.look()
    profiled.control.forget_calls()
    jobs.look()
    assert profiled.control.calls() == {"s3:GET": 2}


def test_a_file_that_cannot_be_read_is_left_out(profiled: Sandbox):
    put(profiled, [0], gpu=95.0, broken=True)
    put(profiled, range(1, 10), gpu=12.0)
    jobs = mirroring()
    jobs.know(job())
    with capture_logs() as logs:
        [evaluation] = jobs.look().values()
    assert outcome(evaluation).status == "IssuesFound"
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "unreadable_profiler_file"
    ]


def test_an_attached_rule_reads_the_profilers_output_where_there_is_some(profiled: Sandbox):
    put(profiled, range(10), gpu=12.0)
    jobs = attaching()
    jobs.know(job(rules=()))
    [evaluation] = jobs.look().values()
    assert (evaluation.reads, outcome(evaluation).status) == (Reads.PROFILER_OUTPUT, "IssuesFound")


def test_an_attached_rule_goes_on_with_instance_metrics_if_the_profiler_saves_nothing(profiled: Sandbox):
    jobs = attaching(now=STARTED_AT + 5 * MINUTE)
    jobs.know(job(rules=()))
    assert jobs.look()["deep"].reads is Reads.PROFILER_OUTPUT
    jobs.now = STARTED_AT + 11 * MINUTE
    switched = jobs.look()["deep"]
    assert (switched.reads, switched.due_at) == (Reads.INSTANCE_METRICS, jobs.now)
    assert outcome(jobs.look()["deep"]).status == "InProgress"


def test_a_jobs_own_rule_without_any_profiler_output_ends_unevaluated(profiled: Sandbox):
    jobs = mirroring()
    jobs.know(job(status="Completed", secondary_status="Completed", ended_at=NOW))
    [evaluation] = jobs.look().values()
    assert (outcome(evaluation).status, evaluation.due_at) == ("NotEvaluated", None)
    assert evaluation.reads is Reads.PROFILER_OUTPUT


def test_the_report_judges_the_run_at_its_end(profiled: Sandbox):
    put(profiled, range(10), gpu=12.0)
    report = RuleConfiguration(
        "ProfilerReport",
        RuleFamily.PROFILER,
        {"LowGPUUtilization_patience": "100", "LowGPUUtilization_window": "100"},
    )
    jobs = mirroring()
    jobs.know(job(rules=(report,)))
    assert outcome(jobs.look()["deep"]).status == "InProgress"
    jobs.know(job(rules=(report,), status="Completed", secondary_status="Completed", ended_at=NOW))
    assert outcome(jobs.look()["deep"]).status == "IssuesFound"
    assert "LowGPUUtilization" in outcome(jobs.look()["deep"]).details


def test_what_an_earlier_run_of_the_name_has_left_is_not_read(profiled: Sandbox):
    put(profiled, range(10), gpu=12.0)
    jobs = mirroring()
    later = job(created_at=datetime.now(UTC) + timedelta(hours=1))
    jobs.evaluator._since = lambda of: of.created_at
    jobs.know(later)
    assert outcome(jobs.look()["deep"]).status == "InProgress"
