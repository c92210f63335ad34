"""When a rule's processing job counts as stuck."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.jobs import NOON, a_job, an_ended_job, an_outcome
from watcher.logs.rule_log import RuleLog
from watcher.logs.stuck_rules import MAX_STATUS_DELAY, RuleActivity, why_stuck
from watcher.model import JobSnapshot, Judge, Outcome, RuleFamily

STUCK_AFTER_S = 1800.0
PROCESSING_JOB = "arn:aws:sagemaker:us-east-1:111122223333:processing-job/churn-lossnotdecreasing-0a1b2c3d"
INFO = "[2026-11-20 12:00:00.345 ip-10-0-1-7:1 INFO loss_decrease.py:305] "
"""The beginning of a record that is not an error."""


def minutes(number: float) -> datetime:
    """The time this many minutes after NOON, when training starts."""
    return NOON + timedelta(minutes=number)


def log(*lines: tuple[float, str]) -> RuleLog:
    """A log with these lines, each given with its minutes after NOON."""
    rule_log = RuleLog()
    for at, line in lines:
        rule_log = rule_log.after(minutes(at), line)
    return rule_log


def activity(rule_log: RuleLog, **changes: Any) -> RuleActivity:
    """The activity of a rule whose job has been training since NOON."""
    return RuleActivity(**{"training_since": NOON, "log": rule_log, "has_stream": True, **changes})


def judged(
    at: float,
    rule_log: RuleLog | None = None,
    rule: Outcome | None = None,
    job: JobSnapshot | None = None,
    **changes: Any,
) -> str | None:
    """The reason at this many minutes after NOON; a log, if there is one, has been read up to then."""
    given: dict[str, Any] = {
        "activity": activity(rule_log or RuleLog(), has_stream=rule_log is not None, read_until=minutes(at)),
        "rule": rule or an_outcome(evaluation_job_arn=PROCESSING_JOB),
        "job": job or a_job(),
        "now": minutes(at),
        "stuck_after": STUCK_AFTER_S,
    }
    return why_stuck(**{**given, **changes})


WORKING = log((2, "Started execution of rule LossNotDecreasing at step 0"))


def test_a_rule_that_writes_nothing_for_too_long_is_stuck_and_the_reason_has_its_last_line():
    assert judged(31.9, WORKING) is None
    assert judged(33, WORKING) == (
        "Its processing job has written nothing in 31 min of training; its last line, at 12:02:00 UTC: "
        "Started execution of rule LossNotDecreasing at step 0"
    )


def test_a_line_from_another_day_is_shown_with_its_date():
    reason = judged(24 * 60, WORKING)

    assert reason
    assert "at 2026-11-20 12:02:00 UTC" in reason


def test_silence_before_training_does_not_count():
    early = log((-50, "Loading trial base_trial"))

    assert judged(29, early) is None
    reason = judged(31, early)
    assert reason
    assert reason.startswith("Its processing job has written nothing in 31 min of training")


@pytest.mark.parametrize("secondary", ["Starting", "Downloading", "Interrupted", "Uploading"])
def test_a_rule_is_not_stuck_while_its_job_is_not_training(secondary):
    unknown = activity(WORKING, training_since=None, read_until=minutes(600))

    assert judged(600, activity=unknown, job=a_job(secondary_status=secondary)) is None


def test_a_rule_whose_processing_job_never_starts_is_stuck():
    waiting = an_outcome()

    assert judged(30, rule=waiting) is None
    assert judged(31, rule=waiting) == "It has no processing job after 31 min of training"


def test_a_missing_log_stream_and_an_empty_one_have_different_reasons():
    assert judged(31) == "Its processing job has no log stream after 31 min of training"
    assert judged(31, RuleLog()) == "Its processing job has written nothing after 31 min of training"


def test_an_unreadable_log_never_makes_a_rule_stuck():
    assert judged(600, activity=activity(RuleLog(), has_stream=False)) is None
    assert judged(600, activity=activity(WORKING, read_until=minutes(3))) is None


def test_an_error_counts_after_a_minute_without_a_new_line_or_status():
    failing = log((2, "Traceback (most recent call last):"), (2, "KeyError: 'loss'"))
    limit = 2 + MAX_STATUS_DELAY.total_seconds() / 60

    assert judged(limit, failing) is None
    assert judged(limit + 0.1, failing) == (
        "The log of its processing job ends with an error, at 12:02:00 UTC, and the rule's status is still "
        "InProgress: KeyError: 'loss'"
    )


def test_an_error_after_which_the_rule_continues_does_not_count():
    recovered = log(
        (2, "Traceback (most recent call last):"), (2, "KeyError: 'loss'"), (2.5, INFO + "step 3")
    )

    assert judged(20, recovered) is None


def test_an_error_counts_before_training_too():
    failing = log((-5, "ERROR:root:no such collection"))

    assert judged(0, activity=activity(failing, training_since=None, read_until=NOON))


@pytest.mark.parametrize("status", ["IssuesFound", "NoIssuesFound", "Error", "Stopping", "Stopped"])
def test_a_rule_with_a_final_status_is_not_stuck(status):
    failing = log((2, "ERROR:root:no such collection"))

    assert judged(600, failing, rule=an_outcome(status, evaluation_job_arn=PROCESSING_JOB)) is None


def test_the_rules_of_an_ended_job_are_not_stuck():
    assert judged(600, WORKING, job=an_ended_job()) is None


def test_a_profiler_rule_is_judged_only_by_its_errors():
    profiler = an_outcome(family=RuleFamily.PROFILER, judge=Judge.DEBUGGER, evaluation_job_arn=PROCESSING_JOB)

    assert judged(600, WORKING, rule=profiler) is None
    assert judged(600, rule=an_outcome(family=RuleFamily.PROFILER, judge=Judge.DEBUGGER)) is None
    assert judged(600, log((2, "ERROR:root:no such file")), rule=profiler)


GAPS = st.lists(st.floats(0, STUCK_AFTER_S), min_size=1, max_size=30)
LOOKS = st.lists(st.floats(0, STUCK_AFTER_S), min_size=1, max_size=30)


@given(gaps=GAPS, looks=LOOKS, errors=st.sets(st.integers(0, 29)), lag=st.floats(0, 600))
def test_a_rule_that_writes_in_time_and_continues_after_errors_is_never_stuck(gaps, looks, errors, lag):
    """For any times of checks and any duration of a check."""
    lines, at = [], NOON
    for number, gap in enumerate(gaps):
        at += timedelta(seconds=gap)
        if number in errors:
            lines.append((at, "ERROR:root:trying again"))
        lines.append((at, f"{INFO}Looking at step {number}"))
    end, now = at + timedelta(seconds=STUCK_AFTER_S), NOON
    for gap in looks:
        now += timedelta(seconds=gap)
        assume(now <= end)
        rule_log = RuleLog()
        for when, line in lines:
            if when <= now:
                rule_log = rule_log.after(when, line)
        known = activity(rule_log, has_stream=bool(rule_log.last_at), read_until=now)
        rule = an_outcome(evaluation_job_arn=PROCESSING_JOB)
        assert why_stuck(known, rule, a_job(), now + timedelta(seconds=lag), STUCK_AFTER_S) is None


@given(silence=st.floats(STUCK_AFTER_S + 0.001, 10**6), lines=GAPS)
def test_a_rule_that_is_silent_for_longer_is_always_stuck(silence, lines):
    rule_log, at = RuleLog(), NOON
    for number, gap in enumerate(lines):
        at += timedelta(seconds=gap)
        rule_log = rule_log.after(at, f"{INFO}Looking at step {number}")
    now = at + timedelta(seconds=silence)
    assume(now - at > timedelta(seconds=STUCK_AFTER_S))

    rule = an_outcome(evaluation_job_arn=PROCESSING_JOB)

    assert why_stuck(activity(rule_log, read_until=now), rule, a_job(), now, STUCK_AFTER_S)
