"""Turns what is seen of a run, and what people do, into changes of its incident. Pure.

Each function takes a case and returns the case as it is to be, with the changes that it made; or None if
nothing changes. `store.base.Amend` says how a store applies them.

    state       open ──acknowledge──► acknowledged        resolved: none of the findings is open;
                  ▲────────worse───────────┘              a finding that opens later opens it again
    finding     open ──recovered, run ended, unwatched──► closed ──breaks again──► open, next episode
    stop        waiting (grace) ──► asked ──► stopping ──► stopped, or not stopped
                   └──cancel──► cancelled
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from watcher.config.destination import Destination, DestinationKind, shown
from watcher.config.settings import Config, Stop
from watcher.errors import ConfigError
from watcher.model import (
    STOP_DESTINATION,
    Case,
    Change,
    ChangeKind,
    Closing,
    Decision,
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
    Report,
    RuleFamily,
    RunStop,
    Says,
    Severity,
    StopChoice,
    StopPhase,
    alert_to,
    delivery_id,
    edits_lane,
    finding_id,
    incident_id,
    stop_lane,
)
from watcher.policy import kinds, routing
from watcher.text import duration

MAX_RECOVERIES = 3
"""What has recovered so often and broken again is not believed any more: it stays open until the run ends,
because a rule whose values lie near its threshold would be told again and again."""

EDIT_DELAY_S = 2.0
"""An edit waits so long for further changes, so that a burst of them is one edit."""

HANDED_OVER_AFTER_S = 10.0
"""When the outbox attempts a stop that a person asked for. The command attempts it at once."""

_EDITABLE = frozenset({DestinationKind.SLACK})
_OVER = frozenset({StopPhase.STOPPED, StopPhase.CANCELLED})
_OPENINGS = frozenset({ChangeKind.OPENED, ChangeKind.WORSE, ChangeKind.ADDED})
_UNDER_WAY = frozenset({StopPhase.WAITING, StopPhase.ASKED, StopPhase.STOPPING})
_RULE_JOBS = {
    RuleFamily.DEBUGGER: "Debugger's own rule job",
    RuleFamily.PROFILER: "Debugger's profiler",
}


def can_edit(to: str) -> bool:
    """Whether a destination keeps one message current. Any other is sent a message for each change that is
    worth telling."""
    try:
        return Destination.parse(to).kind in _EDITABLE
    except ConfigError:  # stored by a version that has another kind of destination
        return False


def alert_id(incident: str, to: str) -> str:
    return delivery_id(incident, DeliveryKind.ALERT, to)


# -- a case that is being changed ------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """Collects changes, and brings the deliveries up to date at the end."""

    incident: Incident
    now: datetime
    findings: dict[str, Finding] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    @classmethod
    def of(cls, case: Case, now: datetime) -> _Draft:
        return cls(
            case.incident,
            now,
            {finding.id: finding for finding in case.findings},
            {delivery.id: delivery for delivery in case.deliveries},
        )

    @classmethod
    def new(cls, job: JobSnapshot, now: datetime) -> _Draft:
        incident = Incident(
            id=incident_id(job.run),
            run=job.run,
            job=job.name,
            state=IncidentState.OPEN,
            severity=Severity.INFO,
            revision=0,
            opened_at=now,
        )
        return cls(incident, now)

    def note(
        self, kind: ChangeKind, text: str, *, actor: str = "", door: Door = Door.WATCHER, finding: str = ""
    ) -> None:
        revision = self.incident.revision + 1
        change = Change(
            revision, self.now, kind, text, actor, door, self.incident.id, self.incident.run, finding
        )
        self.changes.append(change)
        telling = revision if change.telling else self.incident.telling_revision
        self.incident = replace(self.incident, revision=revision, telling_revision=telling)

    def opened(self, finding: str) -> bool:
        """Whether one of these changes opened the finding."""
        return any(change.finding == finding and change.kind in _OPENINGS for change in self.changes)

    def set_stop(
        self, phase: StopPhase, actor: str, reason: str = "", due_at: datetime | None = None
    ) -> None:
        self.incident = replace(self.incident, stop=RunStop(phase, actor, self.now, due_at, reason))

    def case(self) -> Case | None:
        """None if nothing changed."""
        if not self.changes:
            return None
        self._assess()
        self._open_alerts()
        return Case(
            self.incident,
            tuple(self.findings.values()),
            tuple(self.deliveries.values()),
            tuple(self.changes),
        )

    def _assess(self) -> None:
        """Sets state and severity by what is open."""
        open_findings = [finding for finding in self.findings.values() if finding.open]
        if open_findings:
            worst = max((finding.severity for finding in open_findings), key=lambda one: one.rank)
            self.incident = replace(self.incident, severity=worst)
            return
        # What is over keeps the severity that it had.
        worst = max(
            (finding.severity for finding in self.findings.values()),
            key=lambda one: one.rank,
            default=self.incident.severity,
        )
        if self.incident.state is IncidentState.RESOLVED:
            return
        self.incident = replace(
            self.incident,
            severity=worst,
            state=IncidentState.RESOLVED,
            resolved_at=self.now,
            snoozed_until=None,
            snoozed_by="",
        )
        for row in list(self.deliveries.values()):
            if row.state is DeliveryState.SNOOZED:
                self.deliveries[row.id] = _woken(row, self.incident, self.now)
        # What opened and closed in one look is told as that, not as two things.
        if not any(change.kind in _OPENINGS for change in self.changes):
            self.note(ChangeKind.RESOLVED, "Nothing of this incident is open any more.")

    def _open_alerts(self) -> None:
        for delivery in list(self.deliveries.values()):
            if delivery.kind is DeliveryKind.ALERT:
                self.deliveries[delivery.id] = _brought_up_to(delivery, self.incident, self.now)


def _brought_up_to(alert: Delivery, incident: Incident, now: datetime) -> Delivery:
    """The alert, due again if its destination is to see a change."""
    wanted = _latest_for(alert.to, incident)
    if wanted <= alert.wanted:
        return alert
    alert = replace(alert, wanted=wanted)
    if alert.open or alert.state is DeliveryState.REFUSED:
        return alert  # it is on its way, or waits: what it says is composed when it is sent
    if alert.told and can_edit(alert.to):
        return _due_again(alert, now + timedelta(seconds=EDIT_DELAY_S))
    if alert.told and incident.snoozed_until and incident.snoozed_until > now:
        return _snoozed(alert, incident.snoozed_until)
    return _due_again(alert, now)


def _latest_for(to: str, incident: Incident) -> int:
    """The revision that the destination is to know."""
    return incident.revision if can_edit(to) else incident.telling_revision


def _snoozed(alert: Delivery, until: datetime) -> Delivery:
    """It has a lane of its own, because it would hold back the others of its lane for hours."""
    return replace(alert, state=DeliveryState.SNOOZED, lane=f"snoozed:{alert.id}", due_at=until)


def _woken(alert: Delivery, incident: Incident, now: datetime) -> Delivery:
    """The alert when its snooze ends early: due now if something was held back."""
    if alert.told < _latest_for(alert.to, incident):
        return _due_again(alert, now)
    return replace(alert, state=DeliveryState.DELIVERED, lane=edits_lane(alert.to), told=alert.wanted)


def _due_again(alert: Delivery, due_at: datetime) -> Delivery:
    return replace(
        alert,
        state=DeliveryState.PENDING,
        lane=edits_lane(alert.to) if alert.told else alert.to,
        due_at=due_at,
    )


# -- what is seen of a run -------------------------------------------------------------------------


def seen(
    case: Case | None,
    job: JobSnapshot,
    reports: Sequence[Report],
    config: Config,
    now: datetime,
    *,
    stop_asked_by: str = "",
    just_ended: bool = False,
) -> Case | None:
    """The case after a look at the run, which found `reports`.

    `stop_asked_by`: who asked Watcher to stop the run, if somebody did. `just_ended`: this look is the first
    one after the end of the run.
    """
    reports = [report for report in reports if report.closing or routing.wanted(report.kind, config)]
    if case is None and not any(report.closing is None for report in reports):
        return None
    draft = _Draft.of(case, now) if case else _Draft.new(job, now)
    if job.ended:
        _end_stop(draft, job, stop_asked_by)
    quiet = _is_over(draft, job)
    for report in reports:
        if report.closing is None:
            _open(draft, report, job, config, quiet=quiet)
        else:
            _close(draft, _id_of(report, job), report.closing, report.reason)
    _reconsider_stop(draft, job, config)
    if job.ended:
        _close_with_run(draft, job.status)
    if just_ended and not draft.changes and any(finding.open for finding in draft.findings.values()):
        # No news, but an alert that can be edited must not say that the job continues.
        draft.note(ChangeKind.RUN_ENDED, f"The job has ended: it is {job.status}.")
    return draft.case()


def _id_of(report: Report, job: JobSnapshot) -> str:
    return finding_id(job.run, report.kind, report.rule, report.family)


def _is_over(draft: _Draft, job: JobSnapshot) -> bool:
    """Whether the run failed or was stopped, and that was told: what its rules find then is no news."""
    ended = {FindingKind.JOB_FAILED, FindingKind.JOB_STOPPED}
    told = any(finding.kind in ended for finding in draft.findings.values())
    stopped = draft.incident.stop is not None and draft.incident.stop.phase is StopPhase.STOPPED
    return job.ended and (told or stopped)


def _open(draft: _Draft, report: Report, job: JobSnapshot, config: Config, *, quiet: bool) -> None:
    known = draft.findings.get(_id_of(report, job))
    if known is None:
        finding = _new(draft, report, job)
    elif report.judge and _joins(known, report.judge):
        _agree(draft, known, report)
        return
    elif known.open or not _can_recur(report):
        return
    else:
        finding = _again(known, report, draft.now)
    draft.findings[finding.id] = finding
    further = ChangeKind.ADDED if quiet else ChangeKind.WORSE
    kind = further if draft.incident.revision else ChangeKind.OPENED
    _reopen(draft, finding, quiet=quiet)
    draft.note(kind, _opening(finding), finding=finding.id)
    decision = routing.decide(finding, job, config)
    _address(draft, decision)
    if decision.stop is StopChoice.STOP:
        _ask_route_to_stop(draft, finding, decision, config.stop)


def _new(draft: _Draft, report: Report, job: JobSnapshot) -> Finding:
    configured = job.rule(report.rule or "", report.family) if report.family else None
    invokes = configured.invokes if configured else report.rule or ""
    return Finding(
        id=_id_of(report, job),
        kind=report.kind,
        run=job.run,
        job=job.name,
        status=report.status,
        opened_at=draft.now,
        incident=draft.incident.id,
        severity=kinds.severity(report.kind, report.family, invokes),
        rule=report.rule,
        family=report.family,
        judge=report.judge,
        step=report.step,
        reason=report.reason,
        says=(_says(report, draft.now),) if report.judge else (),
    )


def _joins(known: Finding, judge: Judge) -> bool:
    """Whether a judge agrees with what the other one found. What Debugger finds may be older than the
    recovery that Watcher has seen, but what Watcher finds after a recovery is new."""
    if judge is Judge.WATCHER and known.closing is Closing.RECOVERED:
        return False
    return judge not in {says.judge for says in known.says}


def _can_recur(report: Report) -> bool:
    """Whether what is over can come back. SageMaker ends a job and a rule only once, so an end that is
    reported again is an old answer."""
    return report.judge is Judge.WATCHER or report.kind is FindingKind.RULE_STUCK


def _again(finding: Finding, report: Report, now: datetime) -> Finding:
    """What had recovered has broken again."""
    kept = [says for says in finding.says if says.judge is not report.judge]
    return replace(
        finding,
        status=report.status,
        step=report.step,
        reason=report.reason,
        says=(*kept, _says(report, now)) if report.judge else (),
        opened_at=now,
        episode=finding.episode + 1,
        closed_at=None,
        closing=None,
        closing_reason="",
    )


def _says(report: Report, now: datetime) -> Says:
    assert report.judge is not None  # noqa: S101 - the callers have checked it
    return Says(report.judge, report.status, now, report.step, report.reason)


def _agree(draft: _Draft, finding: Finding, report: Report) -> None:
    """The other evaluator found the same. It judged what the present episode, or the last one, is about."""
    says = _says(report, draft.now)
    draft.findings[finding.id] = replace(finding, says=(*finding.says, says))
    step = f" at step {report.step}" if report.step is not None else ""
    draft.note(ChangeKind.AGREED, f"{_name(says, finding)} found the same{step}.", finding=finding.id)


def _name(says: Says, finding: Finding) -> str:
    if says.judge is Judge.WATCHER or finding.family is None:
        return "Watcher's own evaluation"
    return _RULE_JOBS[finding.family]


def _reopen(draft: _Draft, finding: Finding, *, quiet: bool) -> None:
    """A resolved incident opens again. One that a person has stays theirs, unless it got worse."""
    incident = draft.incident
    worse = finding.severity.rank > incident.severity.rank
    if incident.state is IncidentState.RESOLVED or (worse and not quiet):
        draft.incident = replace(
            incident,
            state=IncidentState.OPEN,
            resolved_at=None,
            acknowledged_by="",
            acknowledged_at=None,
        )


def _close(draft: _Draft, finding_id: str, closing: Closing, reason: str) -> None:
    finding = draft.findings.get(finding_id)
    recovered = closing is Closing.RECOVERED
    if finding is None or not finding.open or (recovered and finding.episode > MAX_RECOVERIES):
        return
    draft.findings[finding_id] = replace(finding, closed_at=draft.now, closing=closing, closing_reason=reason)
    kind = ChangeKind.RECOVERED if recovered else ChangeKind.CLOSED
    if draft.opened(finding_id) and not recovered:
        return  # it was found after what it is about had ended, which its own change says
    draft.note(kind, f"{_subject(finding)}: {reason}", finding=finding_id)


def _close_as_unwatched(draft: _Draft, reason: str) -> None:
    """Closes what is open, because nothing more will be known of it."""
    for id_ in draft.findings:
        _close(draft, id_, Closing.UNWATCHED, reason)


def _opening(finding: Finding) -> str:
    again = f" (for the {_ordinal(finding.episode)} time)" if finding.episode > 1 else ""
    return f"{kinds.phrase(finding)}{again}"


def _subject(finding: Finding) -> str:
    return finding.rule or finding.job


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


# -- destinations ----------------------------------------------------------------------------------


def _address(draft: _Draft, decision: Decision) -> None:
    for to in decision.to:
        _add_alert(draft, to)


def _add_alert(draft: _Draft, to: str) -> bool:
    """Whether the destination is new to the incident."""
    if alert_to(to, draft.deliveries.values()):
        return False
    id_ = alert_id(draft.incident.id, to)
    draft.deliveries[id_] = Delivery(
        id=id_,
        incident=draft.incident.id,
        kind=DeliveryKind.ALERT,
        to=to,
        lane=to,
        created_at=draft.now,
        due_at=draft.now,
    )
    return True


# -- the stop --------------------------------------------------------------------------------------


def _ask_route_to_stop(draft: _Draft, finding: Finding, decision: Decision, settings: Stop) -> None:
    stop = draft.incident.stop
    if stop and (stop.phase in _OVER or stop.phase in _UNDER_WAY):
        return
    actor = f"route {decision.route}"
    grace = timedelta(seconds=settings.grace)
    waits = bool(settings.grace) and not settings.dry_run
    # With a grace, the time is brought forward when the alert is delivered: see `delivered`.
    due_at = draft.now + timedelta(seconds=settings.grace_limit) + grace if waits else draft.now
    _attempt_stop(draft, actor, due_at, finding.id)
    if waits:
        reason = f"It is stopped {duration(grace)} after this alert has arrived."
        draft.set_stop(StopPhase.WAITING, actor, reason)
    else:
        draft.set_stop(StopPhase.ASKED, actor, "" if not settings.dry_run else "dry run")
    draft.note(ChangeKind.STOP_ASKED, f"{actor} asks to stop the job", actor=actor, door=Door.ROUTE)


def _reconsider_stop(draft: _Draft, job: JobSnapshot, config: Config) -> None:
    """A stop that was not requested yet is called off when the issue that asked for it has recovered, unless
    another one asks for it too."""
    stop = draft.incident.stop
    if stop is None or stop.phase not in (StopPhase.WAITING, StopPhase.ASKED):
        return
    row = _pending_stop(draft)
    asker = draft.findings.get(row.finding) if row else None
    if row is None or asker is None or asker.closing is not Closing.RECOVERED:
        return
    for finding in draft.findings.values():
        decision = routing.decide(finding, job, config)
        if finding.open and decision.stop is StopChoice.STOP:
            actor = f"route {decision.route}"
            draft.deliveries[row.id] = replace(row, finding=finding.id, actor=actor)
            draft.incident = replace(draft.incident, stop=replace(stop, actor=actor))
            return
    sentence = f"Not stopped: {_subject(asker)} recovered before the stop."
    _withdraw_stop(draft, sentence)
    _note_end_of_stop(draft, StopPhase.NOT_STOPPED, stop.actor, sentence)


def delivered(
    case: Case | None, alert_id: str, settings: Stop, now: datetime, picture_of: str = ""
) -> Case | None:
    """What follows when a destination has the alert.

    The grace of a waiting stop begins, once every destination that takes the alert has it. While the incident
    is snoozed, a destination that cannot edit is told nothing more, and one that can is edited when the
    snooze ends. `picture_of`: the finding whose picture goes next to the alert.
    """
    alert = case.delivery(alert_id) if case else None
    if case is None or alert is None:
        return None
    draft = _Draft.of(case, now)
    _begin_grace(draft, settings)
    until = case.incident.snoozed_until
    if until and until > now:
        behind = alert.state is DeliveryState.PENDING
        if behind is not can_edit(alert.to):
            draft.deliveries[alert.id] = _snoozed(alert, until)
    if picture_of and (finding := draft.findings.get(picture_of)):
        picture = _picture(alert, finding, now)
        draft.deliveries.setdefault(picture.id, picture)
    if after := draft.case():
        return after
    after = replace(case, deliveries=tuple(draft.deliveries.values()))
    return None if after == case else after


def picture_id(alert: Delivery, finding: Finding) -> str:
    return delivery_id(alert.id, DeliveryKind.PLOT, alert.to, f"{finding.id} {finding.episode}")


def _picture(alert: Delivery, finding: Finding, now: datetime) -> Delivery:
    """It has a lane of its own: drawing and uploading it holds back no alert."""
    id_ = picture_id(alert, finding)
    return Delivery(
        id=id_,
        incident=alert.incident,
        kind=DeliveryKind.PLOT,
        to=alert.to,
        lane=f"plot:{id_}",
        created_at=now,
        due_at=now,
        finding=finding.id,
    )


def _begin_grace(draft: _Draft, settings: Stop) -> None:
    """Sets the time of a waiting stop, once a person could have read of it wherever the alert goes. A
    destination that refuses the alert is not waited for."""
    stop = draft.incident.stop
    row = _pending_stop(draft)
    if row is None or stop is None or stop.phase is not StopPhase.WAITING or stop.due_at:
        return
    alerts = [each for each in draft.deliveries.values() if each.kind is DeliveryKind.ALERT]
    behind = [alert for alert in alerts if alert.told < draft.incident.telling_revision]
    if len(behind) == len(alerts) or any(alert.open for alert in behind):
        return
    due_at = min(draft.now + timedelta(seconds=settings.grace), row.due_at)
    draft.deliveries[row.id] = replace(row, due_at=due_at)
    draft.incident = replace(draft.incident, stop=replace(stop, due_at=due_at, reason=""))
    draft.note(ChangeKind.STOP_SCHEDULED, f"the job is going to be stopped at {due_at:%H:%M:%S} UTC")


def _pending_stop(draft: _Draft) -> Delivery | None:
    """The stop of the run, unless it is being attempted now, or is over."""
    rows = draft.deliveries.values()
    return next(
        (row for row in rows if row.kind is DeliveryKind.STOP and row.state is DeliveryState.PENDING), None
    )


def _withdraw_stop(draft: _Draft, why: str) -> None:
    """Takes back a stop that has not been requested from SageMaker, if there is one."""
    if row := _pending_stop(draft):
        draft.deliveries[row.id] = replace(row, state=DeliveryState.CANCELLED, error=why)


def stop_requested(case: Case | None, actor: str, now: datetime) -> Case | None:
    """SageMaker was asked to stop the run."""
    if case is None or (case.incident.stop and case.incident.stop.phase in (*_OVER, StopPhase.STOPPING)):
        return None
    draft = _Draft.of(case, now)
    draft.set_stop(StopPhase.STOPPING, actor)
    draft.note(ChangeKind.STOPPING, f"SageMaker was asked to stop the job ({actor})", actor=actor)
    return draft.case()


def person_stops(case: Case | None, actor: str, door: Door, now: datetime) -> Case | None:
    """A person asked to stop the run. A stop that waits for its grace need not wait any more.

    The command stops the run itself. If it is interrupted, the outbox takes the stop over: otherwise nobody
    would, although the alerts say so, and no route would ask again.
    """
    if case is None or (case.incident.stop and case.incident.stop.phase is StopPhase.STOPPED):
        return None
    draft = _Draft.of(case, now)
    _attempt_stop(draft, actor, now + timedelta(seconds=HANDED_OVER_AFTER_S))
    draft.set_stop(StopPhase.ASKED, actor)
    draft.note(ChangeKind.STOP_ASKED, f"{actor} asks to stop the job", actor=actor, door=door)
    return draft.case()


def _attempt_stop(draft: _Draft, actor: str, due_at: datetime, finding: str = "") -> None:
    """Leave the stop to the outbox, in place of an earlier one. One that is being attempted goes on."""
    row = next((row for row in draft.deliveries.values() if row.kind is DeliveryKind.STOP), None)
    if row is None:
        row = Delivery(
            id=delivery_id(draft.incident.id, DeliveryKind.STOP, draft.incident.run),
            incident=draft.incident.id,
            kind=DeliveryKind.STOP,
            to=STOP_DESTINATION,
            lane=stop_lane(draft.incident.run),
            created_at=draft.now,
            due_at=due_at,
            run=draft.incident.run,
        )
    elif row.state is DeliveryState.IN_FLIGHT:
        return
    draft.deliveries[row.id] = replace(
        row,
        state=DeliveryState.PENDING,
        due_at=due_at,
        finding=finding,
        actor=actor,
        error="",
        failures=0,
        refused_at=None,
    )


def stop_ended(
    case: Case | None, phase: StopPhase, actor: str, sentence: str, now: datetime, *, gone: str = ""
) -> Case | None:
    """The run was stopped, or was not (`phase`); `sentence` says when, or why not. `gone`: that the run does
    not exist any more, so nothing more will be known of what is open."""
    if case is None or (case.incident.stop and case.incident.stop.phase in (*_OVER, phase)):
        return None
    draft = _Draft.of(case, now)
    if row := _pending_stop(draft):
        over = DeliveryState.DELIVERED if phase is StopPhase.STOPPED else DeliveryState.SKIPPED
        draft.deliveries[row.id] = replace(row, state=over, error=sentence, delivered_at=now)
    _note_end_of_stop(draft, phase, actor, sentence)
    if gone:
        _close_as_unwatched(draft, gone)
    return draft.case()


def _note_end_of_stop(draft: _Draft, phase: StopPhase, actor: str, sentence: str) -> None:
    draft.set_stop(phase, actor, sentence)
    if phase is not StopPhase.STOPPED:
        draft.note(ChangeKind.NOT_STOPPED, sentence, actor=actor)
        return
    draft.note(ChangeKind.STOPPED, sentence, actor=actor)
    # At once, and not with the next look at the run: that would be another message.
    _close_with_run(draft, "Stopped")


def _close_with_run(draft: _Draft, status: str) -> None:
    """Closes what no longer matters once the run has ended with this status."""
    for finding in list(draft.findings.values()):
        if finding.open and kinds.closed_by(finding.kind, status):
            _close(draft, finding.id, Closing.RUN_ENDED, f"the job is {status}")


def _end_stop(draft: _Draft, job: JobSnapshot, asked_by: str) -> None:
    """What a look at an ended run says about its stop, whoever asked for it."""
    stop = draft.incident.stop
    if stop is None and not asked_by:
        return
    if stop and stop.phase not in _UNDER_WAY and not (asked_by and stop.phase is StopPhase.NOT_STOPPED):
        return
    if stop and stop.phase is StopPhase.WAITING:
        _withdraw_stop(draft, "the job has ended")
    if not draft.incident.revision:
        # The incident begins after the stop, so it has nothing to tell of it but the fact.
        if job.status == "Stopped":
            draft.set_stop(StopPhase.STOPPED, asked_by, stopped_sentence(job, asked_by))
        return
    actor = asked_by or (stop.actor if stop else "")
    if job.status == "Stopped" and asked_by:
        _note_end_of_stop(draft, StopPhase.STOPPED, actor, stopped_sentence(job, actor))
    elif job.status == "Stopped":
        _note_end_of_stop(draft, StopPhase.NOT_STOPPED, actor, "The job was stopped already, not by Watcher.")
    elif stop is None or stop.phase is not StopPhase.NOT_STOPPED:
        sentence = f"Not stopped: {job.name} ended ({job.status}) before the stop took effect."
        _note_end_of_stop(draft, StopPhase.NOT_STOPPED, actor, sentence)


def stopped_sentence(job: JobSnapshot, actor: str) -> str:
    at = job.ended_at or job.modified_at
    return f"Stopped by Watcher ({actor}) at {at:%H:%M:%S} UTC; SageMaker confirms it."


# -- what people do --------------------------------------------------------------------------------


def acknowledge(case: Case | None, actor: str, door: Door, now: datetime) -> Case | None:
    """A person has the incident. None if it is resolved, or theirs already."""
    if case is None or case.incident.state is IncidentState.RESOLVED:
        return None
    if case.incident.state is IncidentState.ACKNOWLEDGED and case.incident.acknowledged_by == actor:
        return None
    draft = _Draft.of(case, now)
    draft.incident = replace(
        draft.incident, state=IncidentState.ACKNOWLEDGED, acknowledged_by=actor, acknowledged_at=now
    )
    draft.note(ChangeKind.ACKNOWLEDGED, f"{actor} has this", actor=actor, door=door)
    return draft.case()


def snooze(case: Case | None, until: datetime, actor: str, door: Door, now: datetime) -> Case | None:
    """Be quiet until then. Destinations that cannot edit are reminded then, and told what happened meanwhile.
    One that was told nothing yet gets its first message."""
    if case is None or case.incident.state is IncidentState.RESOLVED:
        return None
    draft = _Draft.of(case, now)
    draft.incident = replace(draft.incident, snoozed_until=until, snoozed_by=actor)
    draft.note(
        ChangeKind.SNOOZED,
        f"{actor} snoozed this until {until:%Y-%m-%d %H:%M:%S} UTC",
        actor=actor,
        door=door,
    )
    # The destinations that can edit show it.
    for row in case.deliveries:
        if row.kind is DeliveryKind.ALERT and row.told and not can_edit(row.to) and row.state in _QUIET:
            # Wanted is a revision that it was not told, so that the reminder is a message of its own.
            draft.deliveries[row.id] = replace(_snoozed(row, until), wanted=draft.incident.revision)
    return draft.case()


_QUIET = frozenset({DeliveryState.DELIVERED, DeliveryState.PENDING, DeliveryState.SNOOZED})


def unsnooze(case: Case | None, actor: str, door: Door, now: datetime) -> Case | None:
    if case is None or case.incident.snoozed_until is None or case.incident.snoozed_until <= now:
        return None
    draft = _Draft.of(case, now)
    draft.incident = replace(draft.incident, snoozed_until=None, snoozed_by="")
    draft.note(ChangeKind.UNSNOOZED, f"{actor} ended the snooze", actor=actor, door=door)
    for row in case.deliveries:
        if row.state is DeliveryState.SNOOZED:
            draft.deliveries[row.id] = _woken(row, draft.incident, now)
    return draft.case()


def cancel_stop(case: Case | None, actor: str, door: Door, now: datetime) -> Case | None:
    """A person cancels a stop that has not been requested from SageMaker yet. No route stops the run any
    more. None if nothing waits."""
    if case is None or case.incident.stop is None:
        return None
    draft = _Draft.of(case, now)
    if case.incident.stop.phase is not StopPhase.WAITING or _pending_stop(draft) is None:
        return None
    _withdraw_stop(draft, f"cancelled by {actor}")
    sentence = f"Not stopped: {actor} cancelled it. The job continues."
    draft.set_stop(StopPhase.CANCELLED, actor, sentence)
    draft.note(ChangeKind.CANCELLED, sentence, actor=actor, door=door)
    return draft.case()


def redeliver(case: Case | None, actor: str, door: Door, now: datetime) -> Case | None:
    """Send at once what was refused or given up. None if there is nothing of the kind."""
    if case is None:
        return None
    again = [_tried_anew(row, now) for row in case.deliveries if given_up(row)]
    if not again:
        return None
    draft = _Draft.of(case, now)
    draft.deliveries |= {row.id: row for row in again}
    draft.note(ChangeKind.REDELIVERED, f"{actor} asks to send again what was refused", actor=actor, door=door)
    return draft.case()


def _tried_anew(row: Delivery, now: datetime) -> Delivery:
    """With as many attempts, and for as long, as one that never failed."""
    since = None if row.state is DeliveryState.DEAD else row.refused_at
    return replace(_due_again(row, now), failures=0, refused_at=since)


def given_up(row: Delivery) -> bool:
    """Whether `redeliver` sends it again."""
    return row.kind is DeliveryKind.ALERT and row.state in (DeliveryState.REFUSED, DeliveryState.DEAD)


def retry_refused(case: Case | None, now: datetime, to: str | None = None) -> Case | None:
    """The same without a person: after a start, or because `to` takes messages again. The history has no line
    of it, and what is refused once more waits longer than before."""
    if case is None:
        return None
    again = {
        row.id: _due_again(row, now)
        for row in case.deliveries
        if row.state is DeliveryState.REFUSED and to in (None, row.to)
    }
    if not again:
        return None
    return replace(case, deliveries=tuple(again.get(row.id, row) for row in case.deliveries))


# -- what happens to an incident otherwise ---------------------------------------------------------


def refused(
    case: Case | None, delivery: Delivery, config: Config, now: datetime, *, already_known: bool
) -> Case | None:
    """A destination refuses the alert. The incident's other destinations are told so, unless that is
    `already_known`; if there is none, `slack.channel` gets the alert. The grace of a waiting stop does not
    wait for it."""
    if case is None:
        return None
    draft = _Draft.of(case, now)
    others = any(
        row.kind is DeliveryKind.ALERT and row.id != delivery.id and not given_up(row)
        for row in case.deliveries
    )
    fallback = routing.elsewhere(delivery.to, config)
    added = not others and fallback is not None and _add_alert(draft, fallback)
    if added or not already_known:
        name = shown(delivery.to)
        draft.note(ChangeKind.REFUSED, f"{name} refuses this alert: {delivery.error}", actor=name)
    _begin_grace(draft, config.stop)
    return draft.case()


def unwatched(case: Case | None, reason: str, now: datetime) -> Case | None:
    """The run is no longer watched, so nothing more will be known of what is open, and nothing is stopped."""
    if case is None:
        return None
    draft = _Draft.of(case, now)
    stop = case.incident.stop
    if stop and stop.phase in (StopPhase.WAITING, StopPhase.ASKED) and _pending_stop(draft):
        _withdraw_stop(draft, reason)
        _note_end_of_stop(draft, StopPhase.NOT_STOPPED, stop.actor, f"Not stopped: {reason}")
    _close_as_unwatched(draft, reason)
    return draft.case()
