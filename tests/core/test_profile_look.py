"""Evaluating the profiler rules of a job, look by look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from rules import profiler
from rules.profiler import Batch, ProfilerRule, Series, SeriesKey
from tests.jobs import NOON
from watcher.evaluation import rule_states
from watcher.evaluation.profile_look import log_records, look
from watcher.evaluation.profile_run import ProfileRun
from watcher.model import Evaluation, Reads

BEFORE = Evaluation(due_at=NOON, reads=Reads.PROFILER_OUTPUT)
GPU = SeriesKey("algo-1", "gpu", "gpu0", "GPUUtilization")
QUICK = {"patience": "100", "window": "100"}


class Profile:
    place = "s3://bucket/profile"
    cursor = "read"

    def __init__(self, batches: Iterable[Batch], *, ended: bool = False) -> None:
        self._batches, self.ended = batches, ended

    def read(self) -> Iterable[Batch]:
        return self._batches


def minute(number: int, gpu: float) -> Batch:
    times = NOON.timestamp() // 60 * 60 + 60 * number + np.arange(120) / 2
    return Batch(float(times[0]) + 60, {GPU: Series(times, np.full(120, gpu))})


def idles(**parameters: str) -> ProfilerRule:
    return profiler.load("LowGPUUtilization", {**QUICK, **parameters})


class Broken(type(idles())):  # type: ignore[misc]
    def _judge(self, piece: Any) -> Any:
        raise ZeroDivisionError("of a fault in the rule")


def looked(
    rules: Mapping[str, ProfilerRule], batches: Iterable[Batch], before: Evaluation = BEFORE, **ended: bool
) -> Evaluation:
    return look(before, ProfileRun(rules, before.states), Profile(batches, **ended), NOON)


def statuses(evaluation: Evaluation) -> dict[str, str]:
    return {outcome.rule: outcome.status for outcome in evaluation.outcomes}


def test_a_rule_that_fires_is_over_and_the_others_go_on():
    after = looked(
        {"low": idles(), "lower": idles(threshold_p95="5", threshold_p5="1")},
        [minute(0, 9.0), minute(1, 9.0)],
    )
    assert statuses(after) == {"low": "IssuesFound", "lower": "InProgress"}
    assert after.states.keys() == {"lower"}
    assert after.due_at == NOON + timedelta(minutes=1)
    assert after.cursor == "read"


def test_a_rule_goes_on_where_the_look_before_ended():
    first = looked({"low": idles()}, [minute(0, 95.0)])
    assert statuses(first) == {"low": "InProgress"}
    second = looked({"low": idles()}, [minute(1, 9.0), minute(2, 9.0)], first)
    assert statuses(second) == {"low": "IssuesFound"}
    assert second.due_at is None


def test_a_rule_that_raises_ends_alone():
    after = looked({"broken": Broken(QUICK), "low": idles()}, [minute(0, 95.0)])
    assert statuses(after) == {"broken": "Error", "low": "InProgress"}
    [broken, _] = after.outcomes
    assert "ZeroDivisionError: of a fault in the rule" in broken.details
    assert after.states.keys() == {"low"}


def test_a_state_that_cannot_be_restored_ends_its_rule_alone():
    before = Evaluation(NOON, Reads.PROFILER_OUTPUT, states={"low": "{}"})
    after = looked({"low": idles(), "other": idles()}, [], before)
    assert statuses(after) == {"low": "Error", "other": "InProgress"}


def test_the_rule_that_would_have_to_remember_most_ends_while_all_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
):
    small = looked({"low": idles()}, [minute(0, 95.0)])
    monkeypatch.setattr(rule_states, "MAX_CHARS", len(small.states["low"]) - 1)
    after = looked({"low": idles()}, [minute(0, 95.0)])
    assert statuses(after) == {"low": "Error"}
    assert after.states == {}
    assert "smaller window" in after.outcomes[0].details


def test_everything_is_judged_once_the_job_has_ended():
    after = looked({"low": idles(), "patient": idles(patience="9999")}, [minute(0, 95.0)], ended=True)
    assert statuses(after) == {"low": "NoIssuesFound", "patient": "NotEvaluated"}
    assert (after.due_at, after.states) == (None, {})


def test_a_job_that_saves_nothing_is_looked_at_less_often():
    first = looked({"low": idles()}, [])
    second = looked({"low": idles()}, [], first)
    assert (first.interval, second.interval) == (60, 120)


def test_the_log_says_what_is_read_and_how_it_ends():
    run = ProfileRun({"low": idles()}, {})
    profile = Profile([minute(0, 9.0), minute(1, 9.0)])
    look(BEFORE, run, profile, NOON)
    [(name, records)] = log_records(BEFORE, run, profile)
    assert name == "low"
    assert "s3://bucket/profile" in records[0].text
    assert records[1].text.startswith("GPU is used little. of the last 100 values of gpu0")
    assert "RuleEvaluationConditionMet" in records[2].text
