"""Evaluating rules of jobs that save no tensors, on the sandbox's CloudWatch, with a controlled clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

import rules
from tests.doubles.cloudwatch import CloudWatchDouble
from tests.jobs import a_job
from watcher.aws.accounts import Accounts
from watcher.config.settings import Rules
from watcher.errors import AccessDenied
from watcher.evaluation.evaluator import METRIC_VALUES_PER_LOOK, Evaluator
from watcher.model import (
    Evaluation,
    HookConfiguration,
    JobSnapshot,
    Outcome,
    Reads,
    RuleConfiguration,
    RuleFamily,
)
from watcher.policy import evaluated_rules
from watcher.sandbox.process import Sandbox
from watcher.store.base import JobRecord
from watcher.store.documents import EVALUATION

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
STARTED_AT = NOW - timedelta(minutes=60)
MINUTE = timedelta(minutes=1)
STALLED = [1 / (minute + 1) if minute < 20 else 0.05 for minute in range(60)]
"""A loss that falls for twenty minutes."""


def at(minute: float) -> float:
    return (STARTED_AT + minute * MINUTE).timestamp()


def put(sandbox: Sandbox, metrics: Mapping[str, Sequence[float]], job: str = "bare") -> None:
    """Write one value per minute from the start of training."""
    sandbox.control.put_training_job(job)
    sandbox.control.put_metrics(
        job, {name: [(at(minute), value) for minute, value in enumerate(of)] for name, of in metrics.items()}
    )


def job(name: str = "bare", **changes: Any) -> JobSnapshot:
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
    values = {"arn": arn, "started_at": STARTED_AT, "metrics": ("train:loss", "validation:loss"), **changes}
    return a_job(name, **values)


class Watched:
    """Jobs as the store has them, evaluated when the test calls `look`."""

    def __init__(self, *attached: str | dict[str, Any], now: datetime = NOW) -> None:
        attach = [{"rule": one} if isinstance(one, str) else one for one in attached]
        self.now = now
        self.settings = Rules.model_validate({"local": "attach", "attach": attach})
        self.accounts = Accounts()
        self.evaluator = Evaluator(self.accounts, self.settings, lambda: self.now)
        self.records: dict[str, JobRecord] = {}

    def know(self, *jobs: JobSnapshot) -> None:
        for one in jobs:
            known = self.records.get(one.name)
            first = evaluated_rules.first_reads(one, self.settings)
            begin = tuple(Evaluation(due_at=self.now, reads=reads) for reads in first)
            evaluations = known.evaluations if known else begin
            self.records[one.name] = JobRecord(one, NOW, NOW, watching=True, evaluations=evaluations)

    def look(self) -> Evaluation:
        """Advance all evaluations once, through JSON as in a store. Returns that of the last job."""
        stored = [(record, each) for record in self.records.values() for each in record.evaluations]
        for record, evaluation in self.evaluator.advance_together(self.accounts.home, stored):
            kept = EVALUATION.validate_json(EVALUATION.dump_json(evaluation))
            self.records[record.snapshot.name] = record.with_evaluations([kept])
        return kept

    def restart(self) -> None:
        self.evaluator = Evaluator(self.accounts, self.settings, lambda: self.now)


def evaluation_of(record: JobRecord) -> Evaluation:
    return record.evaluation(RuleFamily.DEBUGGER) or Evaluation(None)


@pytest.fixture
def watched(aws_environment: Sandbox) -> Callable[..., Watched]:
    return Watched


def outcome(evaluation: Evaluation) -> Outcome:
    (one,) = evaluation.outcomes
    return one


def test_a_loss_that_stalls_is_found_and_the_verdict_says_what_a_step_is(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": STALLED})
    jobs = watched("LossNotDecreasing")
    jobs.know(job())
    evaluation = jobs.look()
    found = outcome(evaluation)
    assert evaluation.due_at is not None, "it goes on, because the rule may recover"
    assert (found.status, found.source, found.step) == ("IssuesFound", "local", 30)
    assert found.details == (
        "train:loss did not change between step 20 and step 30; the rule wants a fall of 0.1 %; "
        "a step is a minute of training, its value CloudWatch's average over 60 s"
    )


def test_an_evaluation_continues_in_another_process_and_sees_each_minute_once(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": STALLED})
    at_once, in_pieces = watched("LossNotDecreasing"), watched("LossNotDecreasing", now=STARTED_AT)
    at_once.know(job())
    in_pieces.know(job())
    looks = 0
    while outcome(in_pieces.look()).status == "InProgress":
        in_pieces.restart()
        in_pieces.now += timedelta(seconds=100)
        looks += 1
    expected, found = outcome(at_once.look()), outcome(in_pieces.look())
    assert (found.step, found.details) == (expected.step, expected.details)
    assert looks > 15


def test_a_value_that_a_rule_has_seen_no_longer_changes(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"train:loss": [1.0] * 11})
    jobs = watched("LossNotDecreasing", now=STARTED_AT + timedelta(minutes=12, seconds=59))
    jobs.know(job())
    assert outcome(jobs.look()).status == "InProgress"  # the eleventh minute has not settled yet
    sandbox.control.put_metrics("bare", {"train:loss": [(at(10.5), 0.0)]})
    jobs.now += 5 * MINUTE
    assert outcome(jobs.look()).status == "InProgress"  # it fell to 0.5


def test_all_jobs_are_evaluated_in_the_same_minute_and_quiet_ones_less_often(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": [1.0] * 5})
    jobs = watched("LossNotDecreasing", now=STARTED_AT + timedelta(minutes=6, seconds=17))
    jobs.know(job())
    assert jobs.look().due_at == STARTED_AT + 7 * MINUTE
    jobs.now = STARTED_AT + 7 * MINUTE
    jobs.look()
    jobs.now = STARTED_AT + 30 * MINUTE
    quiet = jobs.look()
    assert quiet.interval == 120
    assert quiet.due_at
    assert quiet.due_at.timestamp() % 120 == 0


def test_a_long_running_job_is_read_in_several_consecutive_passes(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    hours = [1 / (minute + 1) for minute in range(METRIC_VALUES_PER_LOOK + 50)]
    sandbox.control.put_training_job("bare")
    began = NOW - len(hours) * MINUTE
    rows = [((began + minute * MINUTE).timestamp(), loss) for minute, loss in enumerate(hours)]
    sandbox.control.put_metrics("bare", {"train:loss": rows})
    jobs = watched("LossNotDecreasing")
    jobs.know(job(started_at=began))
    behind = jobs.look()
    assert behind.due_at == NOW
    assert f'"newest": {METRIC_VALUES_PER_LOOK - 1}' in behind.states["LossNotDecreasing"]
    after = jobs.look()
    assert after.due_at == NOW + MINUTE
    assert f'"newest": {len(hours) - 3}' in after.states["LossNotDecreasing"]


def test_overfitting_is_found_from_training_and_validation_of_the_same_metric(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": [1.0, 0.1, 0.1], "validation:loss": [1.0, 1.0, 1.0]})
    jobs = watched("Overfit")
    jobs.know(job())
    found = outcome(jobs.look())
    assert found.status == "IssuesFound"
    assert "the mean validation loss validation:loss is 1" in found.details


def test_a_rule_that_needs_tensors_is_not_evaluated_and_says_why(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": [1.0]})
    jobs = watched("VanishingGradient", "Overtraining")
    jobs.know(job())
    vanishing, overtraining = jobs.look().outcomes
    assert (vanishing.rule, vanishing.status) == ("VanishingGradient", "NotEvaluated")
    assert "needs tensors, and the job saves none" in vanishing.details
    assert overtraining.status == "InProgress"
    assert [one.rule for one in jobs.look().outcomes] == ["VanishingGradient", "Overtraining"]


def test_with_only_tensor_rules_the_evaluation_ends_without_a_request(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    jobs = watched("VanishingGradient")
    jobs.know(job())
    sandbox.control.forget_calls()
    assert jobs.look().due_at is None
    assert sandbox.control.calls() == {}


def test_an_ended_job_is_judged_once_its_last_minute_has_settled(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": [1 / (minute + 1) for minute in range(30)]})
    ended = job(status="Completed", secondary_status="Completed", ended_at=STARTED_AT + 30 * MINUTE)
    jobs = watched("LossNotDecreasing", now=STARTED_AT + 31 * MINUTE)
    jobs.know(ended)
    waits = jobs.look()
    assert (outcome(waits).status, waits.due_at) == ("InProgress", STARTED_AT + 32 * MINUTE)
    jobs.now = STARTED_AT + 34 * MINUTE
    over = jobs.look()
    assert (outcome(over).status, over.due_at) == ("NoIssuesFound", None)
    assert outcome(over).details.startswith("a step is a minute")


def test_a_short_job_says_why_it_was_not_judged(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"train:loss": [1.0, 1.0]})
    jobs = watched("LossNotDecreasing")
    jobs.know(job(status="Completed", secondary_status="Completed", ended_at=STARTED_AT + 2 * MINUTE))
    found = outcome(jobs.look())
    assert (found.status, found.details.partition(";")[0]) == (
        "NotEvaluated",
        "no loss has saved steps that are 10 apart (num_steps)",
    )


def test_a_stall_counts_only_minutes_that_are_known(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"throughput": [9.0] * 10})
    rule = {"rule": "StalledTrainingRule", "parameters": {"threshold": "60"}}
    jobs = watched(rule, now=STARTED_AT + timedelta(seconds=30))
    jobs.know(job(metrics=("throughput",)))
    for _ in range(10):
        assert outcome(jobs.look()).status == "InProgress"
        jobs.now += MINUTE
    jobs.now += 3 * MINUTE
    assert outcome(jobs.look()).status == "InProgress"
    jobs.now += 2 * MINUTE
    found = outcome(jobs.look())
    assert found.status == "IssuesFound"
    assert "nothing was saved after step 9" in found.details


def test_a_job_that_has_not_started_training_waits(watched: Callable[..., Watched], sandbox: Sandbox):
    jobs = watched("LossNotDecreasing", "StalledTrainingRule")
    jobs.know(job(started_at=None, secondary_status="Downloading"))
    sandbox.control.forget_calls()
    assert jobs.look().due_at == NOW + MINUTE
    assert sandbox.control.calls() == {}
    put(sandbox, {"train:loss": STALLED})
    jobs.know(job())
    assert {one.status for one in jobs.look().outcomes if one.rule == "LossNotDecreasing"} == {"IssuesFound"}


def test_many_jobs_share_one_request_and_each_gets_its_own_verdict(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": STALLED}, "stalls")
    put(sandbox, {"train:loss": [1 / (minute + 1) for minute in range(60)]}, "learns")
    jobs = watched("LossNotDecreasing")
    jobs.know(job("stalls"), job("learns"))
    sandbox.control.forget_calls()
    jobs.look()
    assert sandbox.control.calls() == {"cloudwatch:GetMetricData": 1}
    verdicts = {name: outcome(evaluation_of(record)) for name, record in jobs.records.items()}
    assert {name: one.status for name, one in verdicts.items()} == {
        "stalls": "IssuesFound",
        "learns": "InProgress",
    }


class FailsToChoose(rules.Rule):
    """A third-party rule that fails when it is asked which metrics it wants."""

    name = "FailsToChoose"
    complaint = "It broke"
    judges_metrics = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)

    def wants(self, tensor: str) -> bool:
        raise ZeroDivisionError(f"cannot choose {tensor}")

    def _judge(self, step: rules.Step, tensors: Mapping[str, rules.Value]) -> Sequence[rules.Breach]:
        return ()


class FailsToLearn(FailsToChoose):
    name = "FailsToLearn"

    def learn(self, collections: Mapping[str, rules.Collection]) -> None:
        raise ZeroDivisionError("cannot learn")


@pytest.mark.parametrize(
    ("broken", "why"), [(FailsToChoose, "cannot choose train:loss"), (FailsToLearn, "cannot learn")]
)
def test_a_rule_that_fails_before_its_metrics_are_queried_does_not_affect_others(
    watched: Callable[..., Watched],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    broken: type[rules.Rule],
    why: str,
):
    monkeypatch.setattr(rules, "RULES", {**rules.RULES, broken.name: broken})
    put(sandbox, {"train:loss": STALLED}, "first")
    put(sandbox, {"train:loss": STALLED}, "second")
    jobs = watched({"rule": broken.name, "job": "first"}, "LossNotDecreasing")
    jobs.know(job("first"), job("second"))
    jobs.look()
    found = {name: evaluation_of(record).outcomes for name, record in jobs.records.items()}
    assert [(one.rule, one.status) for one in found["first"]] == [
        (broken.name, "Error"),
        ("LossNotDecreasing", "IssuesFound"),
    ]
    assert why in found["first"][0].details
    assert [(one.rule, one.status) for one in found["second"]] == [("LossNotDecreasing", "IssuesFound")]


def test_a_metric_name_that_cloudwatch_refuses_does_not_block_the_others(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": STALLED, "größe:loss": STALLED})
    jobs = watched("LossNotDecreasing")
    jobs.know(job(metrics=("größe:loss", "train:loss")))
    assert outcome(jobs.look()).details.startswith("train:loss did not change")


def test_a_refusal_does_not_change_the_stored_state(watched: Callable[..., Watched], sandbox: Sandbox):
    put(sandbox, {"train:loss": STALLED})
    jobs = watched("LossNotDecreasing", now=STARTED_AT + 20 * MINUTE)
    jobs.know(job())
    before = jobs.look()
    sandbox.control.inject_fault("cloudwatch:GetMetricData", "AccessDenied", "not you", status=403, times=1)
    jobs.now = NOW
    with pytest.raises(AccessDenied, match="cloudwatch:GetMetricData"):
        jobs.look()
    assert evaluation_of(jobs.records["bare"]) == before
    assert outcome(jobs.look()).step == 30


def test_an_incomplete_series_is_queried_again_and_logged(
    watched: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
):
    results = [
        {"Id": "q0", "Timestamps": [at(0)], "Values": [1.0], "StatusCode": "PartialData"},
        {"Id": "q1", "Timestamps": [], "Values": [], "StatusCode": "Complete"},
    ]
    with CloudWatchDouble() as cloudwatch:
        cloudwatch.answers = [{"MetricDataResults": results}]
        monkeypatch.setenv("AWS_ENDPOINT_URL", cloudwatch.url)
        jobs = watched("LossNotDecreasing")
        jobs.know(job())
        with capture_logs() as logs:
            after = jobs.look()
        assert (after.cursor, after.outcomes, after.due_at) == ("", (), NOW + MINUTE)
        assert [(entry["event"], entry["job"]) for entry in logs] == [("metrics_incomplete", "bare")]
        results[0]["StatusCode"] = "Complete"
        assert outcome(jobs.look()).status == "InProgress"


# -- hooks that save nothing ----------------------------------------------------------------------

HOOK = HookConfiguration("s3://team/debug")
OWN = RuleConfiguration("LossNotDecreasing", RuleFamily.DEBUGGER)


@pytest.fixture
def bucket(sandbox: Sandbox) -> None:
    sandbox.client("s3").create_bucket(Bucket="team")


def advanced(jobs: Watched, snapshot: JobSnapshot) -> Evaluation:
    jobs.know(snapshot)
    record = jobs.records[snapshot.name]
    return jobs.evaluator.advance(record, evaluation_of(record))


@pytest.mark.usefixtures("bucket")
def test_the_evaluation_switches_to_metrics_when_the_hook_saves_nothing_for_too_long(
    watched: Callable[..., Watched], sandbox: Sandbox
):
    put(sandbox, {"train:loss": STALLED})
    jobs = watched("LossNotDecreasing", now=STARTED_AT + 5 * MINUTE)
    assert advanced(jobs, job(hook=HOOK)).reads is Reads.TENSORS
    jobs.now = STARTED_AT + 11 * MINUTE
    switched = advanced(jobs, job(hook=HOOK))
    assert (switched.reads, switched.due_at) == (Reads.METRICS, jobs.now)
    jobs.records["bare"] = jobs.records["bare"].with_evaluations([switched])
    jobs.now = NOW
    assert outcome(jobs.look()).step == 30


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("changes", [{"metrics": ()}, {"rules": (OWN,)}])
def test_a_job_without_metrics_or_with_its_own_rule_waits_for_tensors(
    watched: Callable[..., Watched], changes: dict[str, Any]
):
    jobs = watched("LossNotDecreasing")
    assert advanced(jobs, job(hook=HOOK, **changes)).reads is Reads.TENSORS
