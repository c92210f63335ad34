"""What an alert says of an incident is true when it is said, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alerts import (
    ASKED,
    EVIDENCE,
    FINDING,
    JOB,
    NOW,
    ROUTE,
    SNAPSHOT,
    STOPPED,
    a_case,
    a_change,
    an_alert,
    told,
)
from watcher.alerts.message import Message, compose, headline, plain_text, summary
from watcher.alerts.sentences import MAX_OTHERS, Ending, finding_line, undelivered
from watcher.config.settings import Config, Route, Stop
from watcher.model import (
    AlertEvidence,
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
    IncidentState,
    JobSnapshot,
    Judge,
    Report,
    RuleFamily,
    RunStop,
    Says,
    Severity,
    StopPhase,
)
from watcher.policy import incidents

LATER = NOW + timedelta(seconds=30)
OVERFIT = replace(
    FINDING, id="finding-2", rule="Overfit", step=40, opened_at=NOW - timedelta(seconds=1), says=()
)
STUCK = replace(OVERFIT, id="finding-3", kind=FindingKind.RULE_STUCK, severity=Severity.WARNING, step=None)
COMPLETED = replace(SNAPSHOT, status="Completed", secondary_status="Completed", ended_at=NOW)


def closed(finding: Finding, closing: Closing = Closing.RECOVERED, reason: str = "it fell again") -> Finding:
    return replace(finding, closed_at=NOW, closing=closing, closing_reason=reason)


def stop_of(stop: RunStop | None, snapshot: JobSnapshot | None = SNAPSHOT, *findings: Finding) -> str:
    return told(a_case(*findings, stop=stop), snapshot=snapshot).stop


# -- the headline ----------------------------------------------------------------------------------


def test_the_headline_is_the_worst_open_finding_and_the_newest_of_equals() -> None:
    assert headline(a_case(FINDING, OVERFIT, STUCK)) == OVERFIT
    assert headline(a_case(FINDING, closed(OVERFIT), STUCK)) == FINDING
    assert headline(a_case(closed(FINDING), closed(OVERFIT), STUCK)) == STUCK


def test_when_nothing_is_open_the_headline_is_the_worst_that_closed_last() -> None:
    earlier = replace(closed(FINDING), closed_at=NOW - timedelta(minutes=1))
    assert headline(a_case(earlier, closed(OVERFIT), closed(STUCK))).id == OVERFIT.id


# -- how it ended ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "snapshot", "stop", "ending"),
    [
        (FINDING, SNAPSHOT, None, None),
        (closed(FINDING), SNAPSHOT, None, Ending.RECOVERED),
        (closed(FINDING), SNAPSHOT, STOPPED, Ending.STOPPED),
        (closed(FINDING, Closing.RUN_ENDED), replace(COMPLETED, status="Stopped"), None, Ending.STOPPED),
        (closed(STUCK, Closing.RUN_ENDED), COMPLETED, None, Ending.RESOLVED),
        (closed(FINDING, Closing.UNWATCHED), None, None, Ending.UNWATCHED),
    ],
)
def test_a_title_begins_with_how_the_incident_ended(
    finding: Finding, snapshot: JobSnapshot | None, stop: RunStop | None, ending: Ending | None
) -> None:
    message = told(a_case(finding, stop=stop, resolved_at=NOW), snapshot=snapshot)
    assert message.ending == ending
    assert message.title.startswith(f"{ending}: " if ending else "LossNotDecreasing found")


@pytest.mark.parametrize("kind", [FindingKind.JOB_STOPPED, FindingKind.JOB_COMPLETED])
def test_that_a_job_ended_is_told_as_that_and_not_as_resolved(kind: FindingKind) -> None:
    about_the_job = replace(closed(FINDING), kind=kind, rule=None, family=None, judge=None, opened_at=NOW)
    message = told(a_case(about_the_job, stop=None, resolved_at=NOW), snapshot=COMPLETED)
    assert message.title.startswith(JOB)


def test_what_is_found_after_the_end_of_the_job_is_not_told_as_over() -> None:
    kind = FindingKind.RULE_UNEVALUATED
    found_late = replace(closed(FINDING, Closing.RUN_ENDED), kind=kind, opened_at=NOW)
    message = told(a_case(found_late, stop=None, resolved_at=NOW), snapshot=COMPLETED)
    assert message.title == f"LossNotDecreasing was not evaluated on {JOB}"


# -- the state -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("incident", "status"),
    [
        ({}, "Open since 10:00:03 UTC."),
        (
            {"state": IncidentState.ACKNOWLEDGED, "acknowledged_by": "ana", "acknowledged_at": NOW},
            "Acknowledged by ana at 10:00:05 UTC.",
        ),
        (
            {"snoozed_until": NOW + timedelta(hours=1), "snoozed_by": "ben"},
            "Open since 10:00:03 UTC; snoozed until 11:00:05 UTC by ben.",
        ),
        ({"snoozed_until": NOW, "snoozed_by": "ben"}, "Open since 10:00:03 UTC."),
        (
            {"snoozed_until": NOW + timedelta(days=1), "snoozed_by": "ben"},
            "Open since 10:00:03 UTC; snoozed until 2026-11-21 10:00 UTC by ben.",
        ),
    ],
)
def test_the_state_says_since_when_and_by_whom(incident: dict[str, Any], status: str) -> None:
    assert told(a_case(**incident)).status == status


def test_the_state_of_what_is_over_says_why() -> None:
    assert told(a_case(closed(FINDING), resolved_at=NOW)).status == (
        "Recovered at 10:00:05 UTC: it fell again."
    )
    ended = closed(STUCK, Closing.RUN_ENDED, "the job is Completed")
    assert told(a_case(ended, resolved_at=NOW)).status == "Resolved at 10:00:05 UTC: the job is Completed."


def test_several_open_findings_are_counted() -> None:
    status = "2 findings are open, the first since 10:00:03 UTC."
    assert told(a_case(FINDING, OVERFIT, closed(STUCK))).status == status


def test_that_the_job_was_stopped_is_said_by_the_stop_alone() -> None:
    over = closed(FINDING, Closing.RUN_ENDED, "the job is Stopped")
    message = told(a_case(over, stop=STOPPED, resolved_at=NOW))
    assert (message.status, message.stop) == ("Resolved at 10:00:05 UTC.", STOPPED.reason)


def test_what_is_no_longer_watched_is_not_called_resolved() -> None:
    over = closed(FINDING, Closing.UNWATCHED, "the job no longer matches watch.jobs")
    message = told(a_case(over, stop=None, resolved_at=NOW))
    assert message.title.startswith("No longer watched: LossNotDecreasing found")
    assert message.status == "No longer watched since 10:00:05 UTC: the job no longer matches watch.jobs."


# -- the stop --------------------------------------------------------------------------------------


def a_stop(phase: StopPhase, reason: str = "", due_at: datetime | None = None) -> RunStop:
    return RunStop(phase, ROUTE, NOW, due_at, reason)


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        (
            a_stop(StopPhase.WAITING, "It is stopped 120 s after this alert has arrived."),
            f"Watcher is going to stop this job ({ROUTE}). It is stopped 120 s after this alert has arrived. "
            f"To prevent that: watcher stop {JOB} --cancel",
        ),
        (
            a_stop(StopPhase.WAITING, due_at=LATER),
            f"Watcher stops this job at 10:00:35 UTC ({ROUTE}). To prevent that: watcher stop {JOB} --cancel",
        ),
        (
            a_stop(StopPhase.WAITING, due_at=NOW),
            f"Watcher is about to stop this job ({ROUTE}). To prevent that: watcher stop {JOB} --cancel",
        ),
        (ASKED, f"Watcher is stopping this job ({ROUTE})."),
        (
            a_stop(StopPhase.ASKED, "dry run"),
            f"Dry run: Watcher checks whether it would stop this job ({ROUTE}), and stops nothing.",
        ),
        (
            a_stop(StopPhase.STOPPING),
            f"Watcher is stopping this job ({ROUTE}); SageMaker was asked at 10:00:05 UTC.",
        ),
        (STOPPED, STOPPED.reason),
        (
            a_stop(StopPhase.NOT_STOPPED, "Not stopped: it is younger than stop.min_runtime (600 s)."),
            "Not stopped: it is younger than stop.min_runtime (600 s). The job continues. "
            f"To stop it: watcher stop {JOB}",
        ),
        (
            RunStop(StopPhase.CANCELLED, "ana", NOW),
            "Not stopped: ana cancelled the stop at 10:00:05 UTC. The job continues. "
            f"To stop it: watcher stop {JOB}",
        ),
        (None, f"The job continues: no route says to stop it. To stop it: watcher stop {JOB}"),
    ],
)
def test_an_alert_says_what_happens_to_the_job(stop: RunStop | None, sentence: str) -> None:
    assert stop_of(stop) == sentence


@pytest.mark.parametrize("phase", StopPhase)
def test_a_job_that_has_ended_does_not_continue_and_is_not_being_stopped(phase: StopPhase) -> None:
    said = stop_of(RunStop(phase, ROUTE, NOW), COMPLETED)
    assert "continues" not in said
    assert "stopping" not in said
    assert "--cancel" not in said


def test_a_job_that_is_no_longer_watched_may_be_another_one_now() -> None:
    """Its record is out of date, and to stop what has its name now would stop another run."""
    stop = a_stop(StopPhase.NOT_STOPPED, "Not stopped: the job was deleted, and a new run has its name.")
    message = told(a_case(closed(FINDING, Closing.UNWATCHED), stop=stop))
    assert message.stop == stop.reason
    assert message.fields == (("Job", JOB),)


def test_nothing_is_said_of_the_job_when_there_is_nothing_to_say() -> None:
    assert stop_of(None, COMPLETED) == ""
    assert stop_of(None, None) == ""
    assert stop_of(None, SNAPSHOT, STUCK) == ""
    assert stop_of(None, SNAPSHOT, closed(FINDING)) == ""


def test_profiler_rules_never_stop_a_job() -> None:
    profiler = replace(FINDING, rule="CPUBottleneck", family=RuleFamily.PROFILER, judge=Judge.DEBUGGER)
    assert stop_of(None, SNAPSHOT, profiler) == "The job continues: profiler rules never stop a job."
    assert "no route" in stop_of(None, SNAPSHOT, profiler, OVERFIT)


def test_a_second_rule_that_fires_while_the_job_is_being_stopped_does_not_say_that_it_continues() -> None:
    for stop in (ASKED, a_stop(StopPhase.WAITING, due_at=LATER), a_stop(StopPhase.STOPPING), STOPPED):
        message = told(a_case(FINDING, OVERFIT, stop=stop))
        assert message.finding.rule == "Overfit"
        assert "continues" not in plain_text(message) + message.text


def test_a_person_who_stopped_the_job_is_named() -> None:
    said = "Stopped by Watcher (watcher stop by ana) at 10:00:17 UTC; SageMaker confirms it."
    stop = RunStop(StopPhase.STOPPED, "watcher stop by ana", NOW, reason=said)
    message = told(a_case(closed(FINDING, Closing.RUN_ENDED), stop=stop, resolved_at=NOW))
    assert message.stop == said
    assert "continues" not in plain_text(message)


def test_the_state_of_a_stopped_job_is_shown_although_the_store_has_an_older_one() -> None:
    message = told(a_case(stop=STOPPED))
    assert dict(message.fields)["Job's status"] == "Stopped"
    assert "Stopping now saves" not in dict(message.fields)
    stopping = told(a_case(stop=a_stop(StopPhase.STOPPING)))
    assert dict(stopping.fields)["Job's status"] == "Stopping"


# -- the other findings ----------------------------------------------------------------------------


def test_each_other_finding_has_a_line_with_its_state_and_the_open_ones_are_first() -> None:
    recovered = closed(replace(OVERFIT, rule="ExplodingTensor", id="4"), reason="all values are finite again")
    assert told(a_case(recovered, STUCK, FINDING)).others == (
        "Overfit is stuck; open since 10:00:04 UTC.",
        "ExplodingTensor found an issue at step 40; recovered at 10:00:05 UTC: all values are finite again.",
    )


def test_what_broke_again_says_which_episode_it_is() -> None:
    assert finding_line(replace(OVERFIT, episode=2), NOW) == (
        "Overfit found an issue at step 40 (episode 2); open since 10:00:04 UTC."
    )


def test_of_very_many_findings_some_are_counted() -> None:
    many = [replace(STUCK, id=f"{number}", rule=f"Rule{number}") for number in range(30)]
    others = told(a_case(FINDING, *many)).others
    assert len(others) == MAX_OTHERS + 1
    assert others[-1] == f"And 20 more: watcher show {JOB}"


def test_a_finding_says_what_each_evaluator_found() -> None:
    both = (Says(Judge.DEBUGGER, "IssuesFound", NOW, 24), Says(Judge.WATCHER, "IssuesFound", NOW, 22))
    assert dict(told(a_case(replace(FINDING, says=both))).details)["Found by"] == (
        "Debugger at step 24, Watcher at step 22"
    )


# -- what is new -----------------------------------------------------------------------------------


def test_in_a_first_message_everything_is_new() -> None:
    message = told(a_case(FINDING, OVERFIT))
    assert (message.news, message.is_update) == ((), False)
    assert [change.revision for change in message.changes] == [1, 2]
    assert message.others == ("LossNotDecreasing found an issue at step 24; open since 10:00:03 UTC.",)


def test_an_update_tells_only_what_its_destination_does_not_know_yet() -> None:
    case = a_case(FINDING, OVERFIT, STUCK)
    message = told(case, an_alert(told=1, wanted=2, trying=2))
    assert message.news == ("Overfit found an issue at step 40; open since 10:00:04 UTC.",)
    assert [change.revision for change in message.changes] == [2]
    assert message.is_update
    assert message.key == "delivery-1-2"


def test_news_that_was_overtaken_says_how_it_ended() -> None:
    changes = (
        a_change(ChangeKind.OPENED, 1, finding=FINDING.id),
        a_change(ChangeKind.WORSE, 2, finding=OVERFIT.id),
        a_change(ChangeKind.NOT_STOPPED, 3, text="Not stopped: the limit is reached."),
        a_change(ChangeKind.STOP_ASKED, 4, actor="ana"),
        a_change(ChangeKind.RECOVERED, 5, finding=OVERFIT.id),
        a_change(ChangeKind.STOPPED, 6),
    )
    case = a_case(FINDING, closed(OVERFIT), changes=changes, stop=STOPPED)
    assert told(case, an_alert(told=1, trying=6)).news == (
        "Overfit found an issue at step 40; recovered at 10:00:05 UTC: it fell again.",
        STOPPED.reason,
    )


def test_news_is_not_repeated_below_it() -> None:
    text = plain_text(told(a_case(OVERFIT, FINDING), an_alert(told=1, trying=2)))
    assert text.count("LossNotDecreasing found an issue at step 24;") == 1


def test_that_it_is_resolved_is_news_if_nothing_else_says_so() -> None:
    changes = (a_change(ChangeKind.RESOLVED, 2),)
    over = closed(STUCK, Closing.RUN_ENDED, "the job is Completed")
    message = told(a_case(over, changes=changes, resolved_at=NOW), an_alert(told=1, trying=2))
    assert message.news == ("Resolved at 10:00:05 UTC: the job is Completed.",)


def test_a_recovery_is_said_once() -> None:
    changes = (a_change(ChangeKind.RECOVERED, 2, finding=FINDING.id), a_change(ChangeKind.RESOLVED, 3))
    case = a_case(closed(FINDING), changes=changes, stop=None, resolved_at=NOW)
    message = told(case, an_alert(told=1, trying=3))
    assert summary(message) == "Recovered at 10:00:05 UTC: it fell again."
    assert message.text == f"{message.title} at step 24. Recovered at 10:00:05 UTC: it fell again."


def test_the_status_of_what_recovered_is_recovered() -> None:
    message = told(a_case(closed(FINDING), stop=None, resolved_at=NOW))
    assert dict(message.details)["Status"] == "Recovered"


def test_a_notification_does_not_repeat_its_title() -> None:
    message = told(a_case(FINDING, OVERFIT, stop=ASKED), an_alert(told=1, trying=2))
    assert message.text == f"Overfit found an issue in {JOB} at step 40. {message.stop}"


def test_a_notification_says_why_the_job_failed() -> None:
    failed = replace(
        STUCK, kind=FindingKind.JOB_FAILED, rule=None, family=None, judge=None, reason="ExitCode 1\nTraceback"
    )
    message = told(a_case(failed, stop=None), snapshot=COMPLETED)
    assert message.text == f"{JOB} failed. ExitCode 1 Traceback."


def test_the_stop_of_the_job_is_news() -> None:
    case = a_case(changes=(a_change(ChangeKind.STOP_ASKED, 2, actor="ana"),), stop=ASKED)
    assert told(case, an_alert(told=1, trying=2)).news == (f"Watcher is stopping this job ({ROUTE}).",)
    nothing_new = told(case, an_alert(told=2, trying=3))
    assert nothing_new.text.endswith(f"at step 24. Watcher is stopping this job ({ROUTE}).")


# -- where it is not known -------------------------------------------------------------------------


def refused(to: str, error: str, **changes: Any) -> Delivery:
    values = {"state": DeliveryState.REFUSED, "error": error, "refused_at": NOW, **changes}
    return replace(an_alert(to), **values)


def test_an_alert_names_the_destinations_that_refuse_it_since_when_and_why() -> None:
    rows = (
        an_alert("slack:#alerts"),
        refused("slack:#old", "Slack's #old refused: is_archived; the channel is archived: unarchive it"),
        refused("console", "closed", kind=DeliveryKind.STOP),
    )
    assert told(replace(a_case(), deliveries=rows)).undelivered == (
        "slack:#old has refused this alert since 10:00:05 UTC: Slack's #old refused: is_archived; "
        "the channel is archived: unarchive it.",
    )


def test_a_destination_that_refuses_it_is_not_told_of_itself() -> None:
    row = refused("slack:#alerts", "not_in_channel")
    assert told(replace(a_case(), deliveries=(row,))).undelivered == ()


def test_a_destination_that_takes_it_again_is_not_named_any_more() -> None:
    row = refused("slack:#old", "", state=DeliveryState.DELIVERED, refused_at=None)
    changes = (a_change(ChangeKind.REFUSED, 2),)
    message = told(replace(a_case(changes=changes), deliveries=(row,)), an_alert(told=1, trying=2))
    assert (message.undelivered, message.news) == ((), ())


def test_the_secrets_of_a_webhook_are_not_told_elsewhere() -> None:
    url = "https://ana:s3cr3tword@hooks.example/x?token=abcdef123456"
    row = refused(f"webhook:{url}", f"{url} answered 403, token=abcdef123456 is wrong for ana:s3cr3tword")
    [line] = undelivered(Case(a_case().incident, (FINDING,), (row,)), "console", NOW)
    assert line.startswith("webhook:https://hooks.example/x has refused this alert")
    assert "s3cr3tword" not in line
    assert "abcdef123456" not in line


# -- whatever happened before ----------------------------------------------------------------------

CONFIGS = [
    Config(route=(Route(to=("console", "slack:#alerts"), stop=stops),), stop=stop)
    for stops in (True, False)
    for stop in (Stop(), Stop(grace=120), Stop(dry_run=True))
]
Happens = Callable[[Case | None, Config, JobSnapshot, datetime], Case | None]


def _reports(*reports: Report) -> Happens:
    return lambda case, config, job, now: incidents.seen(case, job, reports, config, now)


def _issue(rule: str, family: RuleFamily, judge: Judge) -> Report:
    return Report(FindingKind.RULE_ISSUE, rule, family, judge, "IssuesFound", 24, "it fires")


LOSS = _issue("LossNotDecreasing", RuleFamily.DEBUGGER, Judge.DEBUGGER)
OTHER = _issue("Overfit", RuleFamily.DEBUGGER, Judge.WATCHER)
HAPPENINGS: dict[str, Happens] = {
    "a rule fires": _reports(LOSS),
    "another fires": _reports(OTHER),
    "watcher finds the same": _reports(replace(LOSS, family=RuleFamily.DEBUGGER, judge=Judge.WATCHER)),
    "a profiler rule fires": _reports(_issue("CPUBottleneck", RuleFamily.PROFILER, Judge.DEBUGGER)),
    "a rule is stuck": _reports(
        Report(FindingKind.RULE_STUCK, "Overfit", RuleFamily.DEBUGGER, Judge.DEBUGGER)
    ),
    "it recovers": _reports(replace(LOSS, closing=Closing.RECOVERED, reason="it fell 8 %")),
    "the other recovers": _reports(replace(OTHER, closing=Closing.RECOVERED, reason="it fell 9 %")),
    "nothing is new": _reports(),
    "the job fails": _reports(Report(FindingKind.JOB_FAILED, status="Failed", reason="AlgorithmError")),
    "it is delivered": lambda case, config, job, now: incidents.delivered(
        _all_told(case), incidents.alert_id(case.incident.id, "console") if case else "", config.stop, now
    ),
    "SageMaker was asked": lambda case, config, job, now: incidents.stop_requested(case, ROUTE, now),
    "it was stopped": lambda case, config, job, now: incidents.stop_ended(
        case, StopPhase.STOPPED, ROUTE, STOPPED.reason, now
    ),
    "it was not stopped": lambda case, config, job, now: incidents.stop_ended(
        case, StopPhase.NOT_STOPPED, ROUTE, "Not stopped: it is too young.", now
    ),
    "a person stops it": lambda case, config, job, now: incidents.person_stops(case, "ana", Door.CLI, now),
    "a person cancels": lambda case, config, job, now: incidents.cancel_stop(case, "ana", Door.SLACK, now),
    "a person has it": lambda case, config, job, now: incidents.acknowledge(case, "ana", Door.CLI, now),
    "a person snoozes it": lambda case, config, job, now: incidents.snooze(
        case, now + timedelta(minutes=1), "ana", Door.CLI, now
    ),
    "a destination refuses it": lambda case, config, job, now: incidents.refused(
        case, replace(an_alert("slack:#old"), error="is_archived"), config, now, already_known=False
    ),
    "it is unwatched": lambda case, config, job, now: incidents.unwatched(case, "its tag was removed", now),
}


def _all_told(case: Case | None) -> Case | None:
    if case is None:
        return None
    rows = (
        replace(row, told=row.wanted) if row.kind is DeliveryKind.ALERT else row for row in case.deliveries
    )
    return replace(case, deliveries=tuple(rows))


def story(config: Config, happenings: list[str]) -> tuple[Case, JobSnapshot, datetime]:
    """The case after a rule has fired and these things have happened, each half a minute later. An event
    `ends Completed` ends the job."""
    job, now = SNAPSHOT, NOW
    history: list[Change] = []
    case: Case | None = None
    for what in ["a rule fires", *happenings]:
        now += timedelta(seconds=30)
        if what.startswith("ends "):
            status = what.removeprefix("ends ")
            if not job.ended:
                job = replace(job, status=status, secondary_status=status, ended_at=now)
            what = "nothing is new"  # noqa: PLW2901 - what a look at the ended job finds
        after = HAPPENINGS[what](case, config, job, now)
        if after:
            history += after.changes
            case = after
    assert case
    return replace(case, changes=tuple(history)), job, now


happenings = st.lists(
    st.sampled_from([*HAPPENINGS, "ends Completed", "ends Failed", "ends Stopped"]), max_size=8
)


@given(st.sampled_from(CONFIGS), happenings, st.integers(0, 12), st.booleans())
def test_no_message_contradicts_the_state_of_its_incident(
    config: Config, happened: list[str], known: int, forgotten: bool
) -> None:
    case, job, now = story(config, happened)
    revision = case.incident.revision
    alert = an_alert("console", told=min(known, revision - 1), wanted=revision, trying=revision)
    message = compose(case, alert, None if forgotten else job, EVIDENCE, now, prices={})
    stop, text = case.incident.stop, _said(message)
    runs = job.in_progress and not forgotten
    stops = stop is not None and stop.phase in (StopPhase.WAITING, StopPhase.ASKED, StopPhase.STOPPING)

    if stops or (stop and stop.phase is StopPhase.STOPPED) or not runs:
        assert "continues" not in text
        assert "no route" not in text
    if not stops:
        assert "Watcher is stopping" not in text
        assert "Watcher stops" not in text
        assert "Dry run" not in text
    if stop is None or stop.phase is not StopPhase.STOPPED:
        assert "Stopped by Watcher" not in text
    else:
        assert "Stopping now saves" not in text
    if stop is None or stop.phase is not StopPhase.WAITING:
        assert "--cancel" not in text

    is_over = case.incident.state is IncidentState.RESOLVED
    assert is_over == all(not finding.open for finding in case.findings)
    assert is_over == message.status.startswith(("Recovered", "Resolved", "No longer watched"))
    assert is_over or message.ending in (None, Ending.STOPPED)
    assert message.finding.open != is_over
    for finding in case.findings:
        line = finding_line(finding, now)
        about_the_job = finding.kind is FindingKind.JOB_FAILED
        assert (finding.open and not about_the_job) == ("open since" in line)
        assert not (finding.open and any(word in line for word in ("recovered", "closed", "no longer")))


def _said(message: Message) -> str:
    return f"{message.text}\n{plain_text(replace(message, evidence=AlertEvidence()))}"
