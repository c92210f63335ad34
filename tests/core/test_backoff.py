"""What does not answer is asked by one job at a time, less and less often."""

from __future__ import annotations

from datetime import timedelta

from tests.doubles.clock import Clock
from watcher.aws.backoff import ATTEMPT_S, FIRST_DELAY_S, MAX_DELAY_S, Backoff

BUCKET, OTHER = "s3://gone", "s3://there"


def test_what_answers_is_asked_at_any_time():
    backoff = Backoff(Clock())
    assert [backoff.wait_until([BUCKET]) for _ in range(3)] == [None] * 3


def test_what_does_not_answer_is_asked_less_and_less_often():
    clock = Clock()
    backoff, delays = Backoff(clock), []
    for _ in range(8):
        backoff.refused(BUCKET)
        until = backoff.wait_until([OTHER, BUCKET])
        assert until
        delays.append((until - clock.now).total_seconds())
        clock.now = until
        assert backoff.wait_until([BUCKET]) is None
    assert delays == [FIRST_DELAY_S * 2**n for n in range(6)] + [MAX_DELAY_S] * 2
    assert backoff.wait_until([OTHER]) is None


def test_only_one_job_tries_what_did_not_answer():
    clock = Clock()
    backoff = Backoff(clock)
    backoff.refused(BUCKET)
    clock.turn(FIRST_DELAY_S)
    assert backoff.wait_until([BUCKET]) is None
    assert backoff.wait_until([BUCKET]) == clock.now + timedelta(seconds=ATTEMPT_S)
    backoff.answered([BUCKET])
    assert backoff.wait_until([BUCKET]) is None
