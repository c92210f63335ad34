"""What one look makes of the stored evaluation: rules fire, recover and fire again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from tests.jobs import NOON, a_job
from watcher.aws.metrics import Average, MetricSeries
from watcher.evaluation.look import log_records, look, unfinished
from watcher.evaluation.metric_window import METRICS_SETTLE_TIME
from watcher.evaluation.rule_run import RuleRun
from watcher.evaluation.steps import MetricSteps
from watcher.model import IN_PROGRESS, Evaluation, JobSnapshot, Judge, Outcome, Reads, RuleFamily

MINUTE = timedelta(minutes=1)
BEGAN = NOON
LOSS = {"loss falls": ("LossNotDecreasing", {"num_steps": "1", "diff_percent": "5"})}

Configured = Mapping[str, tuple[str, Mapping[str, str]]]


class Evaluated:
    """The evaluation of a job that has one value of `validation:loss` a minute, from its stored state."""

    def __init__(self, configured: Configured, values: Sequence[float], *, ends: bool = False) -> None:
        self.configured, self.values, self.ends = configured, values, ends
        self.job: JobSnapshot = a_job(metrics=("validation:loss",), started_at=BEGAN)
        self.evaluation = Evaluation(due_at=BEGAN, reads=Reads.METRICS)
        self.log: list[str] = []

    def look(self, minutes: int) -> Evaluation:
        """Look once, when so many minutes can be read, and again as long as it is due at once."""
        now = BEGAN + minutes * MINUTE + METRICS_SETTLE_TIME
        self.look_once(now)
        while self.evaluation.due_at == now:
            self.look_once(now)
        return self.evaluation

    def look_once(self, now: datetime) -> Evaluation:
        before, job = self.evaluation, self.job
        if self.ends and now >= BEGAN + len(self.values) * MINUTE + METRICS_SETTLE_TIME:
            ended_at = BEGAN + (len(self.values) - 1) * MINUTE
            job = replace(job, status="Completed", ended_at=ended_at, modified_at=ended_at)
        live = {
            name: rules.load(rule, parameters)
            for name, (rule, parameters) in self.configured.items()
            if unfinished(name, before)
        }
        steps = MetricSteps(job, before.cursor, now)
        run = RuleRun(live, steps, before.states, lambda name: None)
        run.learn(steps.collections())
        steps.take({query: self.answer(query) for query in steps.queries(lambda name: True)})
        self.evaluation = look(job, before, run, steps, now)
        self.log += [record.text for _, records in log_records(before, run, steps) for record in records]
        return self.evaluation

    def answer(self, query: Any) -> MetricSeries:
        series = [Average(BEGAN + number * MINUTE, value) for number, value in enumerate(self.values)]
        return MetricSeries([one for one in series if query.since <= one.at < query.until])

    def outcome(self) -> Outcome:
        (outcome,) = self.evaluation.outcomes
        return outcome


def statuses(evaluated: Evaluated) -> list[tuple[str, int | None]]:
    """Status and step after each minute."""
    seen = []
    for minutes in range(1, len(evaluated.values) + 1):
        evaluated.look(minutes)
        seen.append((evaluated.outcome().status, evaluated.outcome().step))
    return seen


def test_a_rule_fires_recovers_and_fires_again():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 1.0, 0.5, 0.25, 0.25, 0.1])
    assert statuses(evaluated) == [
        (IN_PROGRESS, None),
        ("IssuesFound", 1),
        ("IssuesFound", 1),
        ("Recovered", 3),
        ("Recovered", 3),
        ("IssuesFound", 5),
        ("Recovered", 6),
    ]
    assert evaluated.outcome().details.startswith(
        "The loss falls again: validation:loss 0.25 at step 5, 0.1 at step 6; "
    )


def test_an_outcome_without_news_keeps_its_time():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 1.0, 1.0])
    evaluated.look(2)
    fired = evaluated.outcome()
    evaluated.look(4)
    assert evaluated.outcome() == fired


def test_the_evaluation_of_a_fired_rule_goes_on_until_the_job_ends():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 1.0, 1.0], ends=True)
    assert evaluated.look(2).due_at is not None
    assert evaluated.look(3).due_at is not None
    after = evaluated.look(4)
    assert (after.due_at, after.states) == (None, {})
    assert evaluated.outcome().status == "IssuesFound"


class Final(rules.RULES["AllZero"]):  # type: ignore[misc]
    """Does not say how it recovers, like a rule of another distribution."""

    name = "Final"
    checks_to_recover = None


def test_the_evaluation_of_a_rule_that_cannot_recover_ends_when_it_fires(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules, "RULES", {**rules.RULES, "Final": Final})
    evaluated = Evaluated({"zero": ("Final", {"tensor_regex": "loss"})}, [0.0, 1.0, 1.0, 1.0])
    assert evaluated.look(1).due_at is None
    assert evaluated.outcome().status == "IssuesFound"
    assert not unfinished("zero", evaluated.evaluation)


def test_an_issue_that_came_and_went_between_two_looks_is_reported_first():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 0.5])
    now = BEGAN + 3 * MINUTE + METRICS_SETTLE_TIME

    first = evaluated.look_once(now)
    assert (evaluated.outcome().status, evaluated.outcome().step, first.due_at) == ("IssuesFound", 1, now)
    second = evaluated.look_once(now)
    assert (evaluated.outcome().status, evaluated.outcome().step) == ("Recovered", 2)
    assert second.due_at is not None
    assert second.due_at > now


def test_that_holds_for_a_job_that_has_ended_too():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 0.5], ends=True)
    now = BEGAN + 3 * MINUTE + METRICS_SETTLE_TIME

    assert evaluated.look_once(now).due_at == now
    assert evaluated.outcome().status == "IssuesFound"
    assert evaluated.look_once(now).due_at is None
    assert evaluated.outcome().status == "Recovered"
    assert evaluated.evaluation.states == {}


def test_the_log_says_that_the_rule_recovers_and_fires_again():
    evaluated = Evaluated(LOSS, [1.0, 1.0, 0.5, 0.5, 0.5])
    for minutes in range(1, 6):
        evaluated.look(minutes)
    place, started, complaint, met, recovered, again, *fired = evaluated.log
    assert place.startswith("Loading trial")
    assert started == "Started execution of rule LossNotDecreasing at step 0"
    assert complaint.startswith("Loss is not decreasing over the last 1 steps at step 1. ")
    assert "at step 1 resulted in the condition being met" in met
    assert recovered == (
        "The rule LossNotDecreasing has recovered at step 2. "
        "The loss falls again: validation:loss 1 at step 1, 0.5 at step 2"
    )
    assert again == "The rule LossNotDecreasing fires again"
    assert len(fired) == 2
    assert "at step 3 resulted in the condition being met" in fired[1]


class Fragile(rules.RULES["AllZero"]):  # type: ignore[misc]
    """Fires at 0, and fails at any value above 1."""

    name = "Fragile"

    def _judge_tensor(self, step: int, tensor: str, value: Any) -> Any:
        if value > 1:
            raise ZeroDivisionError("an unexpected fault")
        return super()._judge_tensor(step, tensor, value)


def test_a_rule_that_fails_after_it_fired_stands_as_it_did(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rules, "RULES", {**rules.RULES, "Fragile": Fragile})
    evaluated = Evaluated({"fragile": ("Fragile", {"tensor_regex": "loss"})}, [0.0, 2.0, 1.0])
    after = evaluated.look(2)
    assert (evaluated.outcome().status, evaluated.outcome().step) == ("IssuesFound", 0)
    assert not unfinished("fragile", after)


def test_an_evaluation_stored_before_rules_could_recover_stays_as_it_was():
    fired = Outcome("loss falls", RuleFamily.DEBUGGER, Judge.WATCHER, "IssuesFound", "it fired", step=1)
    assert not unfinished("loss falls", Evaluation(due_at=None, outcomes=(fired,)))


EVERY: Configured = {
    "falls": ("LossNotDecreasing", {"num_steps": "2", "diff_percent": "5"}),
    "each": ("LossNotDecreasing", {"num_steps": "1"}),
    "trains too long": ("Overtraining", {"patience_validation": "2"}),
    "is stuck": ("UnchangedTensor", {"tensor_regex": "loss", "num_steps": "2"}),
    "is zero": ("AllZero", {"tensor_regex": "loss"}),
    "explodes": ("ExplodingTensor", {}),
}
LOSSES = st.lists(st.sampled_from([1.0, 0.9, 0.5, 0.5, 2.0, 0.0, 0.0, float("nan")]), min_size=1, max_size=25)


@given(values=LOSSES, data=st.data())
def test_the_outcomes_do_not_depend_on_when_the_job_is_looked_at(values: list[float], data: st.DataObject):
    ends = data.draw(st.booleans())
    cuts = data.draw(st.sets(st.integers(1, len(values))))

    at_once, cut = Evaluated(EVERY, values, ends=ends), Evaluated(EVERY, values, ends=ends)
    for minutes in sorted({*cuts, len(values)}):
        cut.look(minutes)
    at_once.look(len(values))

    def of(evaluated: Evaluated) -> list[Outcome]:
        outcomes = (replace(outcome, updated_at=None) for outcome in evaluated.evaluation.outcomes)
        return sorted(outcomes, key=lambda outcome: outcome.rule)

    assert of(cut) == of(at_once)
    assert (cut.evaluation.due_at is None) == (at_once.evaluation.due_at is None)
    assert cut.evaluation.states == at_once.evaluation.states
