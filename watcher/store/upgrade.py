"""What a store of the previous version holds, as incidents: old rows in, a new case out. Pure.

The previous version sent an alert for each finding, and knew a job by its ARN alone. Now a run's findings
are one incident, with one alert for each destination. What was told is not told again: an alert is due only
if something of the run was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from watcher.arn import run_id
from watcher.model import (
    STOP_DESTINATION,
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Door,
    Finding,
    FindingKind,
    Incident,
    IncidentState,
    JobSnapshot,
    Judge,
    RuleFamily,
    RuleSource,
    RunStop,
    Says,
    Severity,
    StopPhase,
    delivery_id,
    edits_lane,
    finding_id,
    incident_id,
    refused_lane,
    stop_lane,
)

DEAD_LETTER_MAX_AGE = timedelta(days=7)
"""A younger dead letter is tried again."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A finding that is older than its job by more than this is about an earlier job of the same name."""


@dataclass(frozen=True, slots=True)
class OldFinding:
    """A finding as the previous version stored it."""

    id: str
    kind: FindingKind
    job_arn: str
    job: str
    status: str
    opened_at: datetime
    rule: str | None = None
    source: RuleSource | None = None
    step: int | None = None
    reason: str = ""

    @property
    def family(self) -> RuleFamily | None:
        return _family(self.source) if self.source else None

    @property
    def judge(self) -> Judge | None:
        return _judge(self.source) if self.source else None


@dataclass(frozen=True, slots=True)
class OldDelivery:
    """A delivery as the previous version stored it: one finding for one destination."""

    id: str
    finding_id: str
    kind: str
    """`alert`, `stop`, `update` or `plot`."""
    to: str
    lane: str
    created_at: datetime
    due_at: datetime
    state: str
    """`pending`, `in_flight`, `delivered`, `dead`, `skipped` or `cancelled`."""
    attempts: int = 0
    uncertain: bool = False
    receipt: str = ""
    error: str = ""
    delivered_at: datetime | None = None
    text: str = ""
    """For a stop, who asked for it."""
    follows: str = ""

    @property
    def open(self) -> bool:
        return self.state in ("pending", "in_flight")

    @property
    def may_have_arrived(self) -> bool:
        return self.uncertain or self.state == "in_flight"


@dataclass(frozen=True, slots=True)
class OldStop:
    """A stop that Watcher requested."""

    job_arn: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OldJob:
    """Everything that was stored of one ARN. Findings and deliveries are in the order in which they were
    stored."""

    snapshot: JobSnapshot
    watching: bool
    findings: tuple[OldFinding, ...] = ()
    deliveries: tuple[OldDelivery, ...] = ()
    stop: OldStop | None = None


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What becomes of an `OldJob`. A case's `changes` are its whole history."""

    cases: tuple[Case, ...]
    """The incident of the run, if it has findings; and before it that of an earlier job of the same name."""
    stopped_run: str = ""
    """The run that `OldJob.stop` is about; empty without one."""


def current_document(document: bytes | str) -> bytes:
    """A snapshot or an evaluation of the previous version as this version stores it: an outcome has a family
    and a judge instead of a source, and a rule of the job a family."""
    content = json.loads(document)
    for outcome in content.get("outcomes", ()):
        source = RuleSource(outcome.pop("source"))
        outcome |= {"family": _family(source), "judge": _judge(source)}
    for rule in content.get("rules", ()):
        rule["family"] = _family(RuleSource(rule.pop("source")))
    return json.dumps(content).encode()


def upgraded(job: OldJob, now: datetime) -> Upgraded:
    created = job.snapshot.created_at - CLOCK_TOLERANCE
    earlier = tuple(each for each in job.findings if each.opened_at < created)
    cases = []
    stop_is_earlier = job.stop is not None and job.stop.at < created
    earlier_run = ""
    if earlier:
        # Only the ARN of the earlier job is known, so its run gets a time before which it was created.
        earlier_run = run_id(job.snapshot.arn, earlier[0].opened_at)
        part = replace(job, findings=earlier, watching=False, stop=job.stop if stop_is_earlier else None)
        cases.append(_Run(earlier_run, part, now, replaced=True).case())
    findings = tuple(each for each in job.findings if each.opened_at >= created)
    if findings:
        part = replace(job, findings=findings, stop=None if stop_is_earlier else job.stop)
        cases.append(_Run(job.snapshot.run, part, now).case())
    stopped_run = ""
    if job.stop:
        stopped_run = (earlier_run or job.snapshot.arn) if stop_is_earlier else job.snapshot.run
    return Upgraded(tuple(cases), stopped_run)


@dataclass(slots=True)
class _Run:
    """Builds the case of one run."""

    run: str
    job: OldJob
    now: datetime
    replaced: bool = False
    """Another job has the run's name now."""
    changes: list[Change] = field(default_factory=list)
    """Without revisions until they are in order."""

    @property
    def incident(self) -> str:
        return incident_id(self.run)

    def case(self) -> Case:
        findings = tuple(self._findings())
        stop, stop_rows = self._stop()
        still_open = [finding for finding in findings if finding.open]
        resolved_at = None
        if not still_open:
            resolved_at = max(finding.closed_at or finding.opened_at for finding in findings)
            self._note(resolved_at, ChangeKind.RESOLVED, "Nothing of this incident is open any more.")
        history = self._history(findings[0].opened_at)
        incident = Incident(
            id=self.incident,
            run=self.run,
            job=findings[0].job,
            state=IncidentState.OPEN if still_open else IncidentState.RESOLVED,
            severity=max((each.severity for each in still_open or findings), key=lambda one: one.rank),
            revision=len(history),
            opened_at=findings[0].opened_at,
            telling_revision=max(change.revision for change in history if change.telling),
            resolved_at=resolved_at,
            stop=stop,
        )
        return Case(incident, findings, (*self._alerts(history), *stop_rows), history)

    # -- findings ---------------------------------------------------------------------------------

    def _id(self, old: OldFinding) -> str:
        return finding_id(self.run, old.kind, old.rule, old.family)

    def _findings(self) -> Iterator[Finding]:
        same: dict[str, list[OldFinding]] = {}
        for old in sorted(self.job.findings, key=lambda each: each.opened_at):
            same.setdefault(self._id(old), []).append(old)
        for number, (id_, olds) in enumerate(same.items()):
            first, *others = olds
            kind = ChangeKind.WORSE if number else ChangeKind.OPENED
            self._note(first.opened_at, kind, _opening(first), finding=id_)
            for other in others:
                self._note(other.opened_at, ChangeKind.AGREED, _agreeing(other), finding=id_)
            closing = self._closing(first)
            if closing:
                self._note(closing[1], ChangeKind.CLOSED, f"{_subject(first)}: {closing[2]}", finding=id_)
            yield Finding(
                id=id_,
                kind=first.kind,
                run=self.run,
                job=first.job,
                status=first.status,
                opened_at=first.opened_at,
                incident=self.incident,
                severity=_severity(first),
                rule=first.rule,
                family=first.family,
                judge=first.judge,
                step=first.step,
                reason=first.reason,
                says=tuple(_says(olds)),
                closing=closing[0] if closing else None,
                closed_at=closing[1] if closing else None,
                closing_reason=closing[2] if closing else "",
            )

    def _closing(self, old: OldFinding) -> tuple[Closing, datetime, str] | None:
        """Why, when, and in words; None if it is open."""
        snapshot = self.job.snapshot
        if self.replaced:
            at = max(old.opened_at, snapshot.created_at)
            return Closing.RUN_ENDED, at, "Another job has this name now."
        if _closed_by(old.kind, snapshot.status):
            at = max(old.opened_at, snapshot.ended_at or snapshot.modified_at)
            return Closing.RUN_ENDED, at, f"the job is {snapshot.status}"
        if not self.job.watching and not snapshot.ended:
            at = max(old.opened_at, snapshot.modified_at)
            return Closing.UNWATCHED, at, "The job is no longer watched."
        return None

    # -- the history ------------------------------------------------------------------------------

    def _note(
        self,
        at: datetime,
        kind: ChangeKind,
        text: str,
        *,
        actor: str = "",
        door: Door = Door.WATCHER,
        finding: str = "",
    ) -> None:
        self.changes.append(Change(0, at, kind, text, actor, door, self.incident, self.run, finding))

    def _history(self, opened_at: datetime) -> tuple[Change, ...]:
        """The changes in order, numbered. Nothing comes before the incident was opened."""
        changes = [replace(change, at=max(change.at, opened_at)) for change in self.changes]
        changes.sort(key=lambda change: (change.at, _ORDER.index(change.kind)))
        return tuple(replace(change, revision=n) for n, change in enumerate(changes, start=1))

    # -- the stop ---------------------------------------------------------------------------------

    def _stop(self) -> tuple[RunStop | None, list[Delivery]]:
        """What became of the stop, and its row of the outbox."""
        rows = [row for row in self._rows() if row.kind == "stop"]
        asked = self.job.stop
        if not rows and not asked:
            return None, []
        waiting = min((row for row in rows if row.open), key=lambda row: row.due_at, default=None)
        row = waiting or next((row for row in reversed(rows) if row.state == "delivered"), None)
        row = row or (rows[-1] if rows else None)
        actor = asked.actor if asked else row.text if row else ""
        if row:
            text = f"{row.text} asks to stop the job"
            self._note(row.created_at, ChangeKind.STOP_ASKED, text, actor=row.text, door=Door.ROUTE)
        if asked:
            text = f"SageMaker was asked to stop the job ({asked.actor})"
            self._note(asked.at, ChangeKind.STOPPING, text, actor=asked.actor)
        stop = self._run_stop(row, asked, actor)
        kind = _ENDS.get(stop.phase)
        if kind:
            self._note(stop.at, kind, stop.reason, actor=stop.actor)
        return stop, [self._stop_row(row)] if row else []

    def _run_stop(self, row: OldDelivery | None, asked: OldStop | None, actor: str) -> RunStop:
        snapshot = self.job.snapshot
        if row and row.open:  # its next attempt finds out how it ended, and reports it
            if asked:
                return RunStop(StopPhase.STOPPING, actor, asked.at)
            waiting = row.due_at > self.now
            phase, due_at = (StopPhase.WAITING, row.due_at) if waiting else (StopPhase.ASKED, None)
            return RunStop(phase, actor, row.created_at, due_at)
        reported = self._reported(row) if row else ""
        if row and row.state == "cancelled":
            reason = reported or "Not stopped: it was cancelled."
            return RunStop(StopPhase.CANCELLED, actor, row.created_at, reason=reason)
        if row and row.state != "delivered":
            at = max(row.created_at, row.due_at)
            return RunStop(StopPhase.NOT_STOPPED, actor, at, reason=reported or f"Not stopped: {row.error}.")
        began = asked.at if asked else self.now
        if row and row.delivered_at and snapshot.status != "Stopped":
            ended_at = row.delivered_at
        else:
            ended_at = began if self.replaced else max(snapshot.ended_at or snapshot.modified_at, began)
        if row or (snapshot.status == "Stopped" and not self.replaced):
            stopped = f"Stopped by Watcher ({actor}) at {ended_at:%H:%M:%S} UTC; SageMaker confirms it."
            return RunStop(StopPhase.STOPPED, actor, ended_at, reason=reported or stopped)
        if snapshot.ended or self.replaced:
            reason = "Not stopped: the job ended before the stop took effect."
            return RunStop(StopPhase.NOT_STOPPED, actor, ended_at, reason=reason)
        return RunStop(StopPhase.STOPPING, actor, began)

    def _reported(self, stop: OldDelivery) -> str:
        """What the alerts were told of how the stop ended."""
        updates = [row for row in self._rows() if row.kind == "update" and row.finding_id == stop.finding_id]
        return updates[-1].text if updates else ""

    def _stop_row(self, row: OldDelivery) -> Delivery:
        return Delivery(
            id=delivery_id(self.incident, DeliveryKind.STOP, self.run),
            incident=self.incident,
            kind=DeliveryKind.STOP,
            to=STOP_DESTINATION,
            lane=stop_lane(self.run),
            created_at=row.created_at,
            due_at=row.due_at,
            state=DeliveryState.PENDING if row.open else DeliveryState(row.state),
            attempts=row.attempts,
            uncertain=row.may_have_arrived and row.open,
            error=row.error,
            delivered_at=row.delivered_at,
            run=self.run,
            finding=self._new_ids()[row.finding_id],
            actor=row.text,
        )

    # -- alerts -----------------------------------------------------------------------------------

    def _rows(self) -> list[OldDelivery]:
        ids = self._new_ids()
        return [row for row in self.job.deliveries if row.finding_id in ids]

    def _new_ids(self) -> Mapping[str, str]:
        return {old.id: self._id(old) for old in self.job.findings}

    def _alerts(self, history: Sequence[Change]) -> Iterator[Delivery]:
        """One row for each destination, in the order in which the first one was created."""
        messages = [row for row in self._rows() if row.kind in ("alert", "update")]
        for to in dict.fromkeys(row.to for row in messages if row.kind == "alert"):
            yield self._alert([row for row in messages if row.to == to], history)

    def _alert(self, rows: Sequence[OldDelivery], history: Sequence[Change]) -> Delivery:
        alerts = [row for row in rows if row.kind == "alert"]
        kept = min(alerts, key=_usefulness)  # of several that are as useful, the oldest
        told_once = any(row.state == "delivered" for row in alerts)
        missing = _after_the_last_delivered(rows)
        revision = len(history)
        told = revision
        if missing:
            told = max(min(self._revision(row, history) for row in missing) - 1, 1) if told_once else 0
        state = self._state(missing, told_once=told_once)
        if state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            told = revision if told_once else 0
        open_rows = [row for row in missing if row.open]
        uncertain = any(row.may_have_arrived for row in open_rows)
        failed = next((row for row in reversed(missing) if row.error), None)
        due_at = kept.due_at
        if state is DeliveryState.PENDING:
            due_at = min(row.due_at for row in open_rows)
        elif state is DeliveryState.REFUSED:
            due_at = self.now
        return Delivery(
            id=kept.id,
            incident=self.incident,
            kind=DeliveryKind.ALERT,
            to=kept.to,
            lane=_lane(kept, state, told),
            created_at=kept.created_at,
            due_at=due_at,
            state=state,
            attempts=kept.attempts,
            uncertain=uncertain,
            receipt=kept.receipt,
            error=failed.error if failed else "",
            delivered_at=max((row.delivered_at for row in rows if row.delivered_at), default=None),
            told=told,
            wanted=revision,
            # An attempt that may have arrived is repeated as it was.
            trying=revision if uncertain or told else 0,
            failures=1 if state is DeliveryState.REFUSED else 0,
            refused_at=missing[0].created_at if state is DeliveryState.REFUSED else None,
        )

    def _state(self, missing: Sequence[OldDelivery], *, told_once: bool) -> DeliveryState:
        if any(row.open for row in missing):
            return DeliveryState.PENDING
        dead = [row for row in missing if row.state == "dead"]
        if any(self.now - row.created_at < DEAD_LETTER_MAX_AGE for row in dead):
            return DeliveryState.REFUSED
        return DeliveryState.DELIVERED if told_once else DeliveryState.DEAD

    def _revision(self, row: OldDelivery, history: Sequence[Change]) -> int:
        """The revision at which the destination is to learn what this row was about."""
        if row.kind == "alert":
            new_id = self._new_ids()[row.finding_id]
            for change in history:
                if change.finding == new_id and change.kind in (ChangeKind.OPENED, ChangeKind.WORSE):
                    return change.revision
        return len(history)


def _after_the_last_delivered(rows: Sequence[OldDelivery]) -> list[OldDelivery]:
    """What the destination was not told. A dead letter does not count if a later message has arrived: it is
    about the same incident."""
    missing: list[OldDelivery] = []
    for row in rows:
        if row.state == "delivered":
            missing = [each for each in missing if each.open]
        elif row.open or row.state == "dead":
            missing.append(row)
    return missing


def _usefulness(row: OldDelivery) -> int:
    """0 is the most: an alert that arrived can be edited, and one that may have arrived can be found, by the
    id that was sent with it."""
    if row.state == "delivered":
        return 0
    if row.may_have_arrived:
        return 1
    return 2 if row.open else 3


def _lane(row: OldDelivery, state: DeliveryState, told: int) -> str:
    if state is DeliveryState.REFUSED:
        return refused_lane(row.id)
    return edits_lane(row.to) if told else row.to


_ENDS = {
    StopPhase.STOPPED: ChangeKind.STOPPED,
    StopPhase.NOT_STOPPED: ChangeKind.NOT_STOPPED,
    StopPhase.CANCELLED: ChangeKind.CANCELLED,
}

_ORDER = (
    ChangeKind.OPENED,
    ChangeKind.WORSE,
    ChangeKind.AGREED,
    ChangeKind.STOP_ASKED,
    ChangeKind.STOPPING,
    ChangeKind.STOPPED,
    ChangeKind.NOT_STOPPED,
    ChangeKind.CANCELLED,
    ChangeKind.CLOSED,
    ChangeKind.RESOLVED,
)
"""Of changes at the same time."""

_ENDED = frozenset({"Completed", "Failed", "Stopped"})


def _closed_by(kind: FindingKind, status: str) -> bool:
    match kind:
        case FindingKind.JOB_FAILED:
            return False
        case FindingKind.RULE_ISSUE:
            return status == "Stopped"
        case _:
            return status in _ENDED


def _severity(old: OldFinding) -> Severity:
    match old.kind:
        case FindingKind.RULE_ISSUE if old.family is not RuleFamily.PROFILER:
            return Severity.CRITICAL
        case FindingKind.JOB_FAILED:
            return Severity.CRITICAL
        case FindingKind.JOB_COMPLETED:
            return Severity.INFO
        case _:
            return Severity.WARNING


def _says(olds: Iterable[OldFinding]) -> Iterator[Says]:
    for old in olds:
        if old.judge:
            yield Says(old.judge, old.status, old.opened_at, old.step, old.reason)


def _family(source: RuleSource) -> RuleFamily:
    """The previous version evaluated no profiler rules itself."""
    return RuleFamily.PROFILER if source is RuleSource.PROFILER else RuleFamily.DEBUGGER


def _judge(source: RuleSource) -> Judge:
    return Judge.WATCHER if source is RuleSource.LOCAL else Judge.DEBUGGER


def _subject(old: OldFinding) -> str:
    return old.rule or old.job


def _opening(old: OldFinding) -> str:
    step = f" at step {old.step}" if old.step is not None else ""
    return f"{_subject(old)}: {old.kind.replace('_', ' ')}{step}"


def _agreeing(old: OldFinding) -> str:
    who = "Watcher's own evaluation" if old.judge is Judge.WATCHER else "Debugger's own rule job"
    step = f" at step {old.step}" if old.step is not None else ""
    return f"{who} found the same{step}."
