"""What Watcher remembers, and the promises every store keeps.

- One `commit` is atomic: a look at a job is remembered with all that it yields, or not at all.
- A finding is stored once, by id, and its deliveries with it: committing it again changes nothing.
- Deliveries of one lane are handed out one at a time, oldest first, to one owner, until a lease ends.
- Several processes may use one store at the same time.
- Every method raises `StoreError` where the store cannot be read or written, and has then changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from watcher.model import Delivery, Evaluation, Finding, JobSnapshot, Outcome, Reads


@dataclass(frozen=True, slots=True)
class Look:
    """All that one look at a job yields."""

    snapshot: JobSnapshot
    fingerprint: str
    """Changes when anything in the snapshot does."""
    seen_at: datetime
    watching: bool
    """False when nothing more can be learnt from the job."""
    describe_at: datetime | None = None
    """When `DescribeTrainingJob` is due next; None: not before something changes."""
    findings: tuple[Finding, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    evaluation: Evaluation | None = None
    """None: as it was."""
    news: tuple[Outcome, ...] = ()
    """Those whose status was not known before: counted, once the rest is stored."""


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """What a pass over all jobs needs to know of one of them."""

    arn: str
    name: str
    status: str
    fingerprint: str
    describe_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job as the store knows it, for people to read."""

    snapshot: JobSnapshot
    first_seen_at: datetime
    changed_at: datetime
    """When a look last found something new."""
    watching: bool
    describe_at: datetime | None = None
    evaluation: Evaluation | None = None
    """None where Watcher evaluates no rule of this job."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What `claim` took."""

    deliveries: list[Delivery]
    next_due: datetime | None
    """When there may be more: as `next_due` tells."""


def settled(held: Delivery, attempt: Delivery) -> Delivery:
    """What was held, as `settle` leaves it: what an attempt may not change stays as it was."""
    return replace(
        held,
        state=attempt.state,
        due_at=attempt.due_at,
        uncertain=attempt.uncertain,
        receipt=attempt.receipt,
        error=attempt.error,
        delivered_at=attempt.delivered_at,
    )


JOB_TAKEN_OVER = "another process has taken this job over"
"""What `LeaseLost` says."""


@dataclass(frozen=True, slots=True)
class StopRecord:
    """A stop that Watcher asked SageMaker for; written before it asks."""

    job_arn: str
    actor: str
    """`route job prod-*`, or `watcher stop by USER`."""
    at: datetime


class Store(Protocol):
    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        """Which of these jobs `owner` may handle for `lease` seconds from now: those that nobody else holds.

        What `owner` holds already, it holds for longer. What only one process is to do at a time has a name
        that is no ARN, and is held in the same way.
        """
        ...

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        """Let go of those that `owner` holds."""
        ...

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        """Remember these looks in one atomic write; returns the findings that were not known before.

        The deliveries of a finding that was known before are not stored: it has been told already. With a
        `holder`, every job must still be held by it, and is let go of in the same write: `LeaseLost` where
        another took one over.
        """
        ...

    def watching(self) -> list[WatchedJob]:
        """Every job of which more may be learnt."""
        ...

    def job(self, arn: str) -> JobRecord | None: ...

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        """All jobs, newest (by creation) first; or those of exactly this name."""
        ...

    def unwatch(self, arn: str) -> None:
        """The job is gone at SageMaker: keep what is known, look no more."""
        ...

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        """The ARNs of jobs whose evaluation is due, of those that read `reads`; longest waiting first.

        They are due again `lease` seconds from now, unless a commit says otherwise: what another process
        would do meanwhile would only be done twice.
        """
        ...

    def next_evaluation(self) -> datetime | None:
        """When `claim_evaluations` next has something, whatever it reads."""
        ...

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None: ...

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        """Newest first."""
        ...

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        """Take what is due: of each lane the oldest open delivery, at most `limit` in all.

        It is `IN_FLIGHT` for `lease` seconds and its attempt is counted. One whose lease has ended
        (its owner died) is handed out again with `uncertain` set.
        """
        ...

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        """Write down how an attempt ended, together with the deliveries that follow from it.

        The delivery's state, due_at, uncertain, receipt, error and delivered_at are taken from the
        argument. False, and nothing written, where `owner` no longer holds it.
        """
        ...

    def next_due(self) -> datetime | None:
        """When `claim` may next hand something out: the earliest due time or lease end of any lane's
        oldest open delivery."""
        ...

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        """In the order in which they came."""
        ...

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        """Cancel a delivery that is still `PENDING`, together with the deliveries that follow from it.

        False, and nothing written, where it is not.
        """
        ...

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        """Whether the caller is the one to do this periodic work: exactly one is told so of each turn, and
        nobody of a turn that is past. Turns are counted upwards, by time.
        """
        ...

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        """Record that this job is being stopped, unless `max_per_hour` others were in the last hour.

        True, and nothing new recorded, where this job's stop is recorded already.
        """
        ...

    def stop_of(self, job_arn: str) -> StopRecord | None: ...

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Write and read back; returns what the store is in a few words, or raises `StoreError`."""
        ...

    def close(self) -> None: ...
