"""One look at how a job uses its instances: what follows for the stored evaluation of its profiler rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

from rules.profiler import Batch, Verdict
from watcher.evaluation.look import STATUSES
from watcher.evaluation.pace import next_look
from watcher.evaluation.profile_run import ProfileRun
from watcher.logs import rule_log
from watcher.model import IN_PROGRESS, Evaluation, Judge, Outcome, RuleFamily


class Profile(Protocol):
    """Where a look reads, continuing at the cursor of an earlier one."""

    place: str
    """Where the data are, for people."""

    @property
    def ended(self) -> bool:
        """Whether nothing will follow what `read` returns."""
        ...

    @property
    def cursor(self) -> str:
        """Where the next look continues, after `read`."""
        ...

    def read(self) -> Iterable[Batch]:
        """What is new, in the order of time."""
        ...


def look(before: Evaluation, run: ProfileRun, profile: Profile, now: datetime) -> Evaluation:
    """Show the rules what is new, and return how far the evaluation is.

    Raises `WatcherError` if the profile cannot be read.
    """
    for batch in profile.read():
        run.observe(batch)
    states = {} if profile.ended else run.states()
    judged = {name: _outcome(name, run.verdict(name, ended=profile.ended), now) for name in run.rules}
    earlier = {outcome.rule: outcome for outcome in before.outcomes}
    interval, due_at = next_look(before, run.batches, now)
    return Evaluation(
        due_at=due_at if states else None,
        reads=before.reads,
        interval=interval,
        cursor=profile.cursor,
        states=states,
        outcomes=tuple({**earlier, **judged}.values()),
    )


def log_records(
    before: Evaluation, run: ProfileRun, profile: Profile
) -> Iterator[tuple[str, list[rule_log.Record]]]:
    """What the log of each rule says about the look, after it; rules without news are left out."""
    for name, rule in run.rules.items():
        records = [] if before.cursor else [rule_log.loading(profile.place)]
        records += rule_log.profile_judged(rule, name, run.verdict(name, ended=profile.ended))
        if records:
            yield name, records


def details(verdict: Verdict) -> str:
    """The explanation, with how the rule read its input."""
    notes = "; ".join(verdict.notes)
    return f"{verdict.explanation} ({notes})" if notes and verdict.explanation else verdict.explanation


def _outcome(name: str, verdict: Verdict, now: datetime) -> Outcome:
    status = STATUSES.get(verdict.status, IN_PROGRESS)
    if status == IN_PROGRESS:
        return Outcome(name, RuleFamily.PROFILER, Judge.WATCHER, status)
    return Outcome(name, RuleFamily.PROFILER, Judge.WATCHER, status, details(verdict), updated_at=now)
