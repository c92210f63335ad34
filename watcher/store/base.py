"""What Watcher stores, and the promises that every store keeps.

- One `commit` is atomic: a look at a job is stored with everything that it found, or not at all.
- A finding is stored once, by its id, together with its deliveries: committing it again changes nothing.
- The deliveries of a lane are handed out one at a time, oldest first. Each has one owner until it is settled
  or its lease ends.
- Several processes may use one store at the same time.
- Every method raises `StoreError` if the store cannot be read or written, and has then changed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from watcher.model import Delivery, Evaluation, Finding, JobSnapshot, Outcome, Reads


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that one look at a job leads to, to be stored at once."""

    snapshot: JobSnapshot
    fingerprint: str
    """Changes when anything in the snapshot does."""
    seen_at: datetime
    watching: bool
    """False when nothing more will happen to the job."""
    describe_at: datetime | None = None
    """When `DescribeTrainingJob` is due next; None if it is due only after a change."""
    findings: tuple[Finding, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    evaluation: Evaluation | None = None
    """None if it has not changed."""
    news: tuple[Outcome, ...] = ()
    """Outcomes whose status is new. They are counted in the metrics once the rest is stored."""


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
    """One job as it is stored."""

    snapshot: JobSnapshot
    first_seen_at: datetime
    changed_at: datetime
    """When a look last found a change."""
    watching: bool
    describe_at: datetime | None = None
    evaluation: Evaluation | None = None
    """None if Watcher does not evaluate rules of this job."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The result of `claim`."""

    deliveries: list[Delivery]
    next_due: datetime | None
    """What `next_due` returns after the claim."""


def settled(held: Delivery, attempt: Delivery) -> Delivery:
    """The stored delivery after `settle`. Only what an attempt may change is taken from `attempt`."""
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
"""The message of `LeaseLost`."""


@dataclass(frozen=True, slots=True)
class StopRecord:
    """A stop that Watcher requests from SageMaker; stored before the request."""

    job_arn: str
    actor: str
    """`route job prod-*`, or `watcher stop by USER`."""
    at: datetime


class Store(Protocol):
    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        """The jobs that `owner` may handle for `lease` seconds from now: those that no other owner holds.

        The leases that `owner` has already are extended. Other work that only one process may do at a time is
        held in the same way, by a name that is not an ARN.
        """
        ...

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        """Release those of these jobs that `owner` holds."""
        ...

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        """Store these looks in one atomic write. Returns the findings that are new.

        The deliveries of a finding that is known already are not stored, because it has been reported. With a
        `holder`, each job must still be held by it, and is released in the same write; raises `LeaseLost` if
        another owner has taken one over.
        """
        ...

    def watching(self) -> list[WatchedJob]:
        """Every job that is still watched."""
        ...

    def job(self, arn: str) -> JobRecord | None: ...

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        """All jobs, or those with exactly this name; the most recently created first."""
        ...

    def unwatch(self, arn: str) -> None:
        """Stop watching this job, because it no longer exists in SageMaker or no longer matches the settings.
        Keeps what is stored."""
        ...

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        """At most `limit` ARNs of jobs that read `reads` and whose evaluation is due; longest waiting first.

        Makes them due again `lease` seconds from now, so that no other process evaluates them until then. The
        commit of the evaluation sets another time.
        """
        ...

    def next_evaluation(self) -> datetime | None:
        """When the next evaluation is due, of tensors or of metrics."""
        ...

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None: ...

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        """All findings, or those of one job; newest first."""
        ...

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        """Take what is due: the oldest open delivery of each lane, at most `limit` in all.

        A claimed delivery is `IN_FLIGHT` for `lease` seconds, and its attempt is counted. If its lease ends
        before it is settled, because its owner died, it is handed out again with `uncertain` set.
        """
        ...

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        """Store how an attempt ended, together with the deliveries that follow from it.

        The delivery's state, due_at, uncertain, receipt, error and delivered_at are taken from the
        argument. False, and nothing is written, if `owner` no longer holds it.
        """
        ...

    def next_due(self) -> datetime | None:
        """When `claim` can next return something: the earliest due time or end of a lease among the oldest
        open delivery of each lane."""
        ...

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        """All deliveries, or those of one finding; in the order in which they were added."""
        ...

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        """Cancel a delivery that is still `PENDING`, together with the deliveries that follow from it.

        False, and nothing is written, if it is not.
        """
        ...

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        """Whether the caller is to do this periodic work. Each turn is given to exactly one caller, and none
        is given after a later one. Turns are numbers that grow with time.
        """
        ...

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        """Record that this job is being stopped, unless `max_per_hour` jobs were in the last hour.

        True, and nothing new is recorded, if this job's stop is recorded already.
        """
        ...

    def stop_of(self, job_arn: str) -> StopRecord | None: ...

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Write something and read it back. Returns a short description of the store."""
        ...

    def close(self) -> None: ...
