"""Decides what becomes of an evaluation that could not be continued. Pure.

It is tried again later, and less and less often. How often it has failed is part of the stored evaluation, so
a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from watcher.model import IN_PROGRESS, RULE_ERROR, Evaluation, Judge, Outcome

FIRST_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 15.0, 600.0
"""The delay doubles with each failure."""
MAX_FAILURES = 4
"""An evaluation that has failed so often in a row for another reason than a refusal of AWS has ended: what
the job has saved does not get better."""


def later(before: Evaluation, now: datetime) -> Evaluation:
    """The evaluation, to be tried again."""
    failures = before.failures + 1
    delay = min(FIRST_RETRY_DELAY_S * 2.0 ** min(failures - 1, 20), MAX_RETRY_DELAY_S)
    return replace(before, due_at=now + timedelta(seconds=delay), failures=failures)


def failed(
    before: Evaluation, rules: Iterable[str], why: str, now: datetime, *, for_good: bool = False
) -> Evaluation:
    """The evaluation after a failure that is not a refusal of AWS. `rules`: the names of the rules that are
    evaluated. `for_good`: another attempt would fail as well.

    When it has ended, each rule without a verdict has the status Error, for the reason `why`.
    """
    if before.failures + 1 < MAX_FAILURES and not for_good:
        return later(before, now)
    concluded = tuple(outcome for outcome in before.outcomes if outcome.status != IN_PROGRESS)
    names = {outcome.rule for outcome in concluded}
    details = f"Watcher's own evaluation was stopped: {why}"
    stopped = (
        Outcome(name, before.family, Judge.WATCHER, RULE_ERROR, details, updated_at=now)
        for name in rules
        if name not in names
    )
    return replace(
        before,
        due_at=None,
        cursor="",
        states={},
        outcomes=(*concluded, *stopped),
        failures=before.failures + 1,
    )
