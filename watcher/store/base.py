"""What Watcher stores, and the promises that every store keeps.

- One write is atomic: a look at a run is stored with everything that follows from it, or not at all.
- An incident is changed by a pure function, an `Amend`: the store shows it the case as it is now, and writes
  what it returns, all in one. So nothing that another process changed meanwhile is lost.
- The deliveries of a lane are handed out one at a time, oldest first. Each has one owner until it is settled
  or its lease ends.
- Several processes may use one store at the same time. Their clocks need not agree: a lease of another
  process has ended once this process has seen it unchanged for its length, on its own clock.
- Every method raises `StoreError` if the store cannot be read or written, and has then changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from watcher.arn import run_arn
from watcher.model import (
    Case,
    Change,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Evaluation,
    Finding,
    Incident,
    JobSnapshot,
    Outcome,
    RuleFamily,
)

Amend = Callable[[Case | None], Case | None]
"""Takes an incident's case as it is stored (without its history), or None if there is none yet. Returns the
case as it is to be, with the changes that it makes in `changes`; or None if there is nothing to change.

It is pure, because a store may call it again when another process has changed the case meanwhile. It may
return new findings and deliveries, and change those that there are, but not remove any.
"""


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that one look at a run leads to, to be stored at once."""

    snapshot: JobSnapshot
    fingerprint: str
    """Changes when anything in the snapshot does."""
    seen_at: datetime
    watching: bool
    """False when nothing more will happen to the run."""
    describe_at: datetime | None = None
    """When `DescribeTrainingJob` is due next; None if it is due only after a change."""
    amend: Amend | None = None
    """What the look changes in the run's incident; None if it changes nothing."""
    evaluations: tuple[Evaluation, ...] = ()
    """Those that have changed, at most one of each family. The run's others stay as they are."""
    news: tuple[Outcome, ...] = ()
    """Outcomes whose status is new. They are counted in the metrics once the rest is stored."""


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """What a pass over all jobs needs to know of one run."""

    run: str
    name: str
    status: str
    fingerprint: str
    describe_at: datetime | None

    @property
    def arn(self) -> str:
        return run_arn(self.run)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One run as it is stored."""

    snapshot: JobSnapshot
    first_seen_at: datetime
    changed_at: datetime
    """When a look last found a change."""
    watching: bool
    describe_at: datetime | None = None
    evaluations: tuple[Evaluation, ...] = ()
    """At most one of each family, in the order of the families' names; empty if Watcher evaluates no rules of
    this run."""

    def evaluation(self, family: RuleFamily) -> Evaluation | None:
        return next((each for each in self.evaluations if each.family is family), None)

    def with_evaluations(self, changed: Iterable[Evaluation]) -> JobRecord:
        after = {each.family: each for each in (*self.evaluations, *changed)}
        return replace(self, evaluations=tuple(after[family] for family in sorted(after)))


@dataclass(frozen=True, slots=True)
class KnownRun:
    """One run in short: what does not need its snapshot, which takes a hundred times as long to read."""

    run: str
    name: str
    status: str
    watching: bool
    changed_at: datetime

    @classmethod
    def of(cls, record: JobRecord) -> KnownRun:
        job = record.snapshot
        return cls(job.run, job.name, job.status, record.watching, record.changed_at)


@dataclass(frozen=True, slots=True)
class DueEvaluation:
    """A run's evaluation of its rules of one family."""

    run: str
    family: RuleFamily


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of `claim`."""

    deliveries: list[Delivery]
    next_due: datetime | None
    """What `next_due` returns after the claim."""


def claimed(held: Delivery) -> Delivery:
    """The stored delivery after `claim`. An attempt that may have arrived is repeated as it was."""
    uncertain = held.uncertain or held.state is DeliveryState.IN_FLIGHT
    return replace(
        held,
        state=DeliveryState.IN_FLIGHT,
        attempts=held.attempts + 1,
        uncertain=uncertain,
        trying=held.trying if uncertain else held.wanted,
    )


def settled(held: Delivery, attempt: Delivery) -> Delivery:
    """The stored delivery after `settle`. Only what an attempt may change is taken from `attempt`.

    An alert whose incident has changed since it was claimed is due again, at the attempt's `due_at`.
    """
    after = replace(
        held,
        lane=attempt.lane,
        state=attempt.state,
        due_at=attempt.due_at,
        uncertain=attempt.uncertain,
        receipt=attempt.receipt,
        error=attempt.error,
        delivered_at=attempt.delivered_at,
        told=attempt.told,
        failures=attempt.failures,
        refused_at=attempt.refused_at,
        form=attempt.form,
    )
    behind = after.kind is DeliveryKind.ALERT and after.told < after.wanted
    if after.state is DeliveryState.DELIVERED and behind:
        return replace(after, state=DeliveryState.PENDING)
    return after


def waits_beyond(delivery: Delivery, until: datetime) -> bool:
    """Whether this is a stop that nobody is to attempt before `until`."""
    is_waiting = delivery.kind is DeliveryKind.STOP and delivery.state is DeliveryState.PENDING
    return is_waiting and not delivery.attempts and delivery.due_at > until


JOB_TAKEN_OVER = "another process has taken this job over"
"""The message of `LeaseLost`."""


@dataclass(frozen=True, slots=True)
class StopRecord:
    """A stop that Watcher requests from SageMaker; stored before the request."""

    run: str
    actor: str
    """`route job prod-*`, or `watcher stop by USER`."""
    at: datetime


class Store(Protocol):
    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        """Which of these `owner` may handle for `lease` seconds from now: those that no other owner holds.

        The names are ARNs of training jobs, because a look at a job begins before its run is known; or names
        of other work that only one process may do at a time. The leases that `owner` has are extended.
        """
        ...

    def release(self, names: Sequence[str], owner: str) -> None:
        """Release those that `owner` holds."""
        ...

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        """Store these looks in one atomic write. Returns the cases that changed, as they are now, each with
        the changes that were made.

        With a `holder`, each job's ARN must still be held by it, and is released in the same write; raises
        `LeaseLost` if another owner has taken one over.
        """
        ...

    def watching(self) -> list[WatchedJob]:
        """Every run that is still watched."""
        ...

    def fingerprints(self, runs: Sequence[str]) -> Mapping[str, str]:
        """The fingerprints of those runs that are stored, watched or not."""
        ...

    def job(self, run: str) -> JobRecord | None: ...

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        """All runs, or those of jobs with exactly this name; the most recently created first."""
        ...

    def runs(self) -> list[KnownRun]:
        """All runs, in the order of `jobs`."""
        ...

    def has_earlier_run(self, run: str) -> bool:
        """Whether a run of the same job is stored that was created before this one.

        Cheap, because it is asked before each alert and each evaluation: a store that is asked over the
        network remembers the answer with the run, and needs no request for a run that this process has just
        read or committed.
        """
        ...

    def unwatch(self, arn: str, amend: Amend, before: str = "") -> Mapping[str, Case | None]:
        """Stop watching the runs of this job, or only those that were created before the run `before`,
        because they no longer exist in SageMaker or no longer match the settings. Keeps what is stored, and
        changes the runs' incidents by `amend`: each run with its incident in one write.

        Returns the runs that were watched until now, each with its case if that has changed (see `amend`).
        """
        ...

    def claim_evaluations(
        self, now: datetime, lease: float, limit: int, *, together: bool
    ) -> list[DueEvaluation]:
        """At most `limit` evaluations that are due; longest waiting first. Either those that read many jobs
        in one request, or those that read one job (see `Reads.together`).

        Makes them due again `lease` seconds from now, so that no other process evaluates them until then. The
        commit of the evaluation sets another time. Where clocks differ, one may be evaluated twice, which
        leads to the same outcome.
        """
        ...

    def next_evaluation(self) -> datetime | None:
        """When the next evaluation is due, whatever it reads."""
        ...

    # -- incidents --------------------------------------------------------------------------------

    def amend(self, incident: str, amend: Amend) -> Case | None:
        """Change an incident. Returns its case as it is now, with the changes that were made; None if nothing
        was changed."""
        ...

    def case(self, incident: str, after: int = 0) -> Case | None:
        """An incident with its findings, its deliveries and its history after this revision."""
        ...

    def incidents(self) -> list[Incident]:
        """All incidents; the most recently opened first."""
        ...

    def findings(self, run: str | None = None) -> list[Finding]:
        """All findings, or those of one run; the most recently opened first."""
        ...

    def record(self, change: Change) -> None:
        """Store an action that concerns no incident, such as a stop of a healthy job."""
        ...

    def history(self, since: datetime | None = None) -> Iterator[Change]:
        """The changes of all incidents, and those of `record`; oldest first."""
        ...

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        """Take what is due: of each lane the delivery that has been open longest, at most `limit` in all.

        Pending, refused and snoozed deliveries are due at their `due_at`. A claimed one is `IN_FLIGHT` for
        `lease` seconds; if it is not settled by then, because its owner died, it is handed out again,
        `uncertain`. See `claimed`.
        """
        ...

    def settle(self, owner: str, delivery: Delivery, amend: Amend | None = None) -> bool:
        """Store how an attempt ended (see `settled`), together with what follows from it in the incident:
        `amend` is shown the case with the settled delivery.

        False, and nothing is written, if `owner` no longer holds it, or holds it for a later attempt.
        """
        ...

    def next_due(self) -> datetime | None:
        """When `claim` can next return something; refused and snoozed deliveries included."""
        ...

    def has_open(self, until: datetime | None = None) -> bool:
        """Whether a delivery is pending or in flight. Refused and snoozed ones do not count. With `until`, a
        stop whose first attempt is due only later does not count either.
        """
        ...

    def refused(self) -> list[Delivery]:
        """The deliveries that are refused now, the first refused first."""
        ...

    def deliveries(self, incident: str | None = None) -> list[Delivery]:
        """All deliveries, or those of one incident; in the order in which they were created."""
        ...

    # -- turns and marks --------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        """Whether the caller is to do this periodic work. Each turn is given to exactly one caller, and none
        is given after a later one. Turns are numbers that grow with time.
        """
        ...

    def mark(self, place: str) -> datetime | None:
        """The start of the last pass over an account and region that succeeded; None before the first."""
        ...

    def set_mark(self, place: str, at: datetime) -> None:
        """A mark never goes back: an earlier one than the stored is ignored."""
        ...

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, run: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        """Record that this run is being stopped, unless `max_per_hour` runs were in the last hour.

        True, and nothing new is recorded, if this run's stop is recorded already.
        """
        ...

    def retract_stop(self, run: str) -> None:
        """Forget the stop of this run, because SageMaker certainly refused it."""
        ...

    def stop_of(self, run: str) -> StopRecord | None: ...

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Write something and read it back. Returns a short description of the store."""
        ...

    def close(self) -> None: ...
