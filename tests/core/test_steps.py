"""Which minutes of a job's metrics are read, and when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import NOON, a_job, an_ended_job
from watcher.aws.metrics import Average, MetricSeries, Query, period
from watcher.evaluation.metric_window import Incomplete
from watcher.evaluation.steps import MetricSteps
from watcher.model import JobSnapshot

STARTED_AT = NOON - timedelta(minutes=40)
MINUTE = timedelta(minutes=1)


def everything(_: str) -> bool:
    return True


def queried_span(job: JobSnapshot, now: datetime, cursor: str = "") -> tuple[datetime, datetime, int]:
    (query,) = MetricSteps(job, cursor, now).queries(everything)
    return query.since, query.until, query.period


def answers(queries: Sequence[Query], values: dict[datetime, float]) -> dict[Query, MetricSeries]:
    """CloudWatch's answer when it has these values."""
    return {
        query: MetricSeries(
            [Average(at, values[at]) for at in sorted(values) if query.since <= at < query.until]
        )
        for query in queries
    }


@pytest.mark.parametrize(
    ("age", "seconds"),
    [(0, 60), (14, 60), (15, 300), (62, 300), (63, 3600), (400, 3600)],
)
def test_the_period_is_the_finest_that_cloudwatch_still_keeps(age: int, seconds: int):
    assert period(timedelta(days=age)) == seconds


def test_a_minute_is_read_two_minutes_after_it_ends():
    job = a_job(metrics=("loss",))
    assert queried_span(job, NOON) == (STARTED_AT, NOON - 2 * MINUTE, 60)
    assert queried_span(job, NOON + timedelta(seconds=59)) == (STARTED_AT, NOON - 2 * MINUTE, 60)
    assert queried_span(job, NOON + MINUTE) == (STARTED_AT, NOON - MINUTE, 60)


def test_reading_continues_from_the_cursor():
    job = a_job(metrics=("loss",))
    cursor = MetricSteps(job, "", NOON).cursor
    assert queried_span(job, NOON + 5 * MINUTE, cursor) == (NOON - 2 * MINUTE, NOON + 3 * MINUTE, 60)


def test_nothing_is_queried_twice_in_a_minute_or_before_training_starts():
    job = a_job(metrics=("loss",))
    steps = MetricSteps(job, MetricSteps(job, "", NOON).cursor, NOON + timedelta(seconds=30))
    assert steps.queries(everything) == []
    assert MetricSteps(a_job(metrics=("loss",), started_at=None), "", NOON).queries(everything) == []


def test_step_numbers_continue_when_an_interrupted_job_restarts():
    job = a_job(metrics=("loss",))
    cursor = MetricSteps(job, "", NOON).cursor
    again = MetricSteps(a_job(metrics=("loss",), started_at=NOON + MINUTE), cursor, NOON + 9 * MINUTE)
    again.take(answers(again.queries(everything), {NOON + 5 * MINUTE: 0.5}))
    assert [one.step for one in again.read(everything)] == [45]


def test_the_last_minute_of_an_ended_job_is_read_when_it_has_settled():
    job = an_ended_job(metrics=("loss",), ended_at=NOON + timedelta(seconds=10))
    early = MetricSteps(job, "", NOON + MINUTE)
    assert (early.ended, early.queries(everything)[0].until) == (False, NOON - MINUTE)
    late = MetricSteps(job, early.cursor, NOON + 4 * MINUTE)
    assert late.ended
    assert queried_span(job, NOON + 4 * MINUTE, early.cursor) == (NOON - MINUTE, NOON + 2 * MINUTE, 60)
    assert queried_span(job, NOON + timedelta(hours=2), early.cursor) == (
        NOON - MINUTE,
        NOON + 2 * MINUTE,
        60,
    )


def test_an_old_job_is_read_in_longer_periods_from_its_first_one():
    job = an_ended_job(metrics=("loss",), started_at=STARTED_AT + 3 * MINUTE)
    since, until, seconds = queried_span(job, NOON + timedelta(days=30))
    assert (since, until, seconds) == (STARTED_AT, NOON + 5 * MINUTE, 300)


def test_a_backlog_is_read_in_pieces_and_ends_with_the_last_one():
    job, pieces, cursor = an_ended_job(metrics=("loss",), started_at=STARTED_AT), [], ""
    behind = True
    while behind:
        steps = MetricSteps(job, cursor, NOON + timedelta(hours=1), max_periods=30)
        (query,) = steps.queries(everything)
        pieces.append(((query.until - query.since) // MINUTE, steps.ended))
        cursor, behind = steps.cursor, steps.behind
    assert pieces == [(30, False), (11, True)]


@given(st.lists(st.floats(0, 600), min_size=1, max_size=20), st.sampled_from([None, 7]))
def test_every_minute_is_queried_exactly_once(pauses: list[float], most: int | None):
    job, cursor, now, spans = a_job(metrics=("loss",)), "", NOON, []
    for pause in pauses:
        steps = MetricSteps(job, cursor, now, most)
        spans += [(query.since, query.until) for query in steps.queries(everything)]
        cursor, now = steps.cursor, now + timedelta(seconds=pause)
    assert spans[0][0] == STARTED_AT
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(since < until <= now - 2 * MINUTE for since, until in spans)


def test_only_wanted_metrics_are_queried():
    job = a_job(metrics=("train:loss", "train:accuracy", "validation:loss"))
    queries = MetricSteps(job, "", NOON).queries(lambda name: name.endswith("loss"))
    assert [query.metric for query in queries] == ["train:loss", "validation:loss"]


def test_an_incomplete_series_is_not_given_to_a_rule():
    steps = MetricSteps(a_job(metrics=("loss",)), "", NOON)
    (query,) = steps.queries(everything)
    with pytest.raises(Incomplete, match=r"a part of loss of churn.* \(InternalError\)"):
        steps.take({query: MetricSeries([], problem="InternalError")})
