"""An evaluation that fails is tried again later and less often, and ends with the status Error."""

from __future__ import annotations

from datetime import timedelta

from tests.jobs import NOON
from watcher.evaluation.failing import MAX_FAILURES, MAX_RETRY_DELAY_S, failed, later
from watcher.model import Evaluation, Judge, Outcome, RuleFamily
from watcher.store.documents import EVALUATION


def outcome(rule: str, status: str) -> Outcome:
    return Outcome(rule, RuleFamily.DEBUGGER, Judge.WATCHER, status)


def stored(evaluation: Evaluation) -> Evaluation:
    """As another process reads it, after a restart."""
    return EVALUATION.validate_json(EVALUATION.dump_json(evaluation))


def test_what_aws_refuses_is_tried_again_less_and_less_often_and_never_given_up():
    evaluation, delays = Evaluation(due_at=NOON, cursor="7"), []
    for _ in range(10):
        evaluation = stored(later(evaluation, NOON))
        assert evaluation.due_at
        delays.append((evaluation.due_at - NOON).total_seconds())
    assert delays == [15, 30, 60, 120, 240, 480, *[MAX_RETRY_DELAY_S] * 4]
    assert evaluation.cursor == "7"


def test_what_cannot_be_judged_ends_with_an_error_of_each_rule_without_a_verdict():
    before = Evaluation(
        due_at=NOON,
        states={"Fired": "{}", "Overfit": "{}"},
        outcomes=(outcome("Fired", "IssuesFound"), outcome("Overfit", "InProgress")),
    )
    evaluation, rules = before, ["Fired", "Overfit", "AllZero"]
    for _ in range(MAX_FAILURES - 1):
        evaluation = stored(failed(evaluation, rules, "MemoryError", NOON))
        assert evaluation.due_at and evaluation.due_at > NOON
        assert evaluation.outcomes == before.outcomes
    evaluation = failed(evaluation, rules, "MemoryError", NOON + timedelta(minutes=1))
    assert evaluation.due_at is None
    assert {one.rule: one.status for one in evaluation.outcomes} == {
        "Fired": "IssuesFound",
        "Overfit": "Error",
        "AllZero": "Error",
    }
    assert "MemoryError" in evaluation.outcomes[-1].details


def test_what_another_attempt_cannot_change_ends_at_once():
    assert failed(Evaluation(due_at=NOON), ["Overfit"], "not on S3", NOON, for_good=True).due_at is None


def test_an_evaluation_of_an_earlier_version_has_not_failed():
    assert EVALUATION.validate_json('{"due_at": null}').failures == 0
