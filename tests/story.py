"""An incident without a store: amendments are applied one after the other, as a store would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.jobs import NOON, a_job
from watcher.config.settings import Config, Route, Slack, Stop
from watcher.model import (
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Finding,
    FindingKind,
    Incident,
    JobSnapshot,
    Judge,
    Report,
    RuleFamily,
    RunStop,
    StopPhase,
    edits_lane,
    finding_id,
)
from watcher.policy import incidents
from watcher.store.base import Amend, claimed, settled

SLACK, WEBHOOK, TOPIC = (
    "slack:#alerts",
    "webhook:https://ops.example/hook",
    "sns:arn:aws:sns:us-east-1:111122223333:training",
)
LOSS, OVERFIT, DEPTH = "LossNotDecreasing", "Overfit", "TreeDepth"
ZOE = "zoe"


def routed(*to: str, stop: bool = False, channel: str = "", **settings: Any) -> Config:
    """Every finding goes to these destinations. `settings` are those of stops."""
    return Config(
        route=(Route(to=to or (SLACK, WEBHOOK), stop=stop),),
        slack=Slack(channel=channel),
        stop=Stop(**settings),
    )


def fired(rule: str = LOSS, judge: Judge = Judge.WATCHER, step: int | None = 140) -> Report:
    reason = "the loss does not decrease"
    return Report(FindingKind.RULE_ISSUE, rule, RuleFamily.DEBUGGER, judge, "IssuesFound", step, reason)


def recovered(rule: str = LOSS, judge: Judge = Judge.WATCHER) -> Report:
    reason = "it fell by 7 % between step 140 and step 160"
    family = RuleFamily.DEBUGGER
    return Report(FindingKind.RULE_ISSUE, rule, family, judge, reason=reason, closing=Closing.RECOVERED)


FAILED = Report(FindingKind.JOB_FAILED, status="Failed", reason="AlgorithmError")
STOPPED_BY_OTHERS = Report(FindingKind.JOB_STOPPED, status="Stopped")


@dataclass
class Story:
    config: Config = field(default_factory=routed)
    job: JobSnapshot = field(default_factory=a_job)
    now: datetime = NOON
    case: Case | None = None
    history: list[Change] = field(default_factory=list)

    # -- what happens ------------------------------------------------------------------------------

    def amend(self, amend: Amend, *, passes: float = 1) -> list[ChangeKind]:
        """Returns the kinds of the changes that it made. `passes`: seconds before it."""
        self.now += timedelta(seconds=passes)
        after = amend(replace(self.case, changes=()) if self.case else None)
        if after is None:
            return []
        self.case = replace(after, changes=())
        self.history += after.changes
        return [change.kind for change in after.changes]

    def seen(self, *reports: Report, stop_asked_by: str = "", **job: Any) -> list[ChangeKind]:
        """A look at the job, which is now as `job` says."""
        ended_before = self.job.ended
        self.job = replace(self.job, **job)
        return self.amend(
            lambda case: incidents.seen(
                case,
                self.job,
                reports,
                self.config,
                self.now,
                stop_asked_by=stop_asked_by,
                just_ended=self.job.ended and not ended_before,
            )
        )

    def ends(self, status: str, *reports: Report, stop_asked_by: str = "") -> list[ChangeKind]:
        ended_at = self.now
        return self.seen(*reports, status=status, ended_at=ended_at, stop_asked_by=stop_asked_by)

    def does(self, action: Callable[..., Case | None], *arguments: Any, **named: Any) -> list[ChangeKind]:
        """One of the functions that take a case first and the time last."""
        return self.amend(lambda case: action(case, *arguments, self.now, **named))

    def delivers(self, *to: str, passes: float = 1) -> None:
        """These destinations, or all, take the message that is due next."""
        for row in self.alerts:
            if (not to or row.to in to) and row.state in (DeliveryState.PENDING, DeliveryState.REFUSED):
                self._deliver(row, passes)

    def _deliver(self, row: Delivery, passes: float) -> None:
        attempt = claimed(row)
        told = replace(
            attempt,
            state=DeliveryState.DELIVERED,
            lane=edits_lane(row.to),
            told=attempt.trying,
            delivered_at=self.now,
        )
        self.put(settled(attempt, told))
        self.amend(lambda case: incidents.delivered(case, row.id, self.config.stop, self.now), passes=passes)

    def refuses(self, to: str, *, already_known: bool = False) -> list[ChangeKind]:
        row = replace(
            self.alert(to), state=DeliveryState.REFUSED, error="is_archived", refused_at=self.now, failures=1
        )
        self.put(row)
        return self.does_refuse(row, already_known)

    def does_refuse(self, row: Delivery, already_known: bool) -> list[ChangeKind]:
        return self.amend(
            lambda case: incidents.refused(case, row, self.config, self.now, already_known=already_known)
        )

    def put(self, row: Delivery) -> None:
        """An attempt changed the delivery."""
        assert self.case
        rows = tuple(row if each.id == row.id else each for each in self.case.deliveries)
        self.case = replace(self.case, deliveries=rows)

    # -- how it is ---------------------------------------------------------------------------------

    @property
    def incident(self) -> Incident:
        assert self.case
        return self.case.incident

    @property
    def stop(self) -> RunStop | None:
        return self.incident.stop

    @property
    def phase(self) -> StopPhase | None:
        return self.stop.phase if self.stop else None

    @property
    def alerts(self) -> list[Delivery]:
        return [row for row in self.rows if row.kind is DeliveryKind.ALERT]

    @property
    def rows(self) -> tuple[Delivery, ...]:
        return self.case.deliveries if self.case else ()

    def alert(self, to: str) -> Delivery:
        (row,) = [row for row in self.alerts if row.to == to]
        return row

    @property
    def stop_row(self) -> Delivery:
        (row,) = [row for row in self.rows if row.kind is DeliveryKind.STOP]
        return row

    def finding(self, rule: str = LOSS, kind: FindingKind = FindingKind.RULE_ISSUE) -> Finding:
        assert self.case
        found = self.case.finding(finding_id(self.job.run, kind, rule or None, RuleFamily.DEBUGGER))
        assert found
        return found

    @property
    def kinds(self) -> list[ChangeKind]:
        return [change.kind for change in self.history]

    def owes(self, to: str) -> list[ChangeKind]:
        """The changes worth telling that the destination is still to be told."""
        told = self.alert(to).told
        return [change.kind for change in self.history if change.telling and change.revision > told]
