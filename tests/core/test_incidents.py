"""What changes an incident, who is to see it, and what becomes of a stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs import a_job, an_ended_job
from tests.story import (
    DEPTH,
    FAILED,
    LOSS,
    OVERFIT,
    SLACK,
    STOPPED_BY_OTHERS,
    TOPIC,
    WEBHOOK,
    ZOE,
    Story,
    fired,
    recovered,
    routed,
)
from watcher.config.settings import Config
from watcher.model import (
    Case,
    Change,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Door,
    FindingKind,
    IncidentState,
    Judge,
    Report,
    RuleFamily,
    Severity,
    StopPhase,
    edits_lane,
)
from watcher.policy import incidents
from watcher.store.base import claimed

DEBUGGER = Judge.DEBUGGER
OPENED, WORSE, ADDED, AGREED = ChangeKind.OPENED, ChangeKind.WORSE, ChangeKind.ADDED, ChangeKind.AGREED
RESOLVED = ChangeKind.RESOLVED
STOPPED_AND_OVER = [ChangeKind.STOPPED, ChangeKind.CLOSED, RESOLVED]


def a_stuck_rule(rule: str = LOSS) -> Report:
    return Report(
        FindingKind.RULE_STUCK,
        rule,
        RuleFamily.DEBUGGER,
        DEBUGGER,
        "InProgress",
        reason="its log ends with an error",
    )


# -- opening ---------------------------------------------------------------------------------------


def test_the_first_finding_opens_an_incident_and_an_alert_for_each_destination_of_its_route():
    story = Story()
    assert story.seen(fired()) == [OPENED]
    assert (story.incident.state, story.incident.severity) == (IncidentState.OPEN, Severity.CRITICAL)
    assert [(row.to, row.state, row.wanted) for row in story.alerts] == [
        (SLACK, DeliveryState.PENDING, 1),
        (WEBHOOK, DeliveryState.PENDING, 1),
    ]
    assert all(row.due_at == story.now for row in story.alerts)


def test_a_look_that_finds_nothing_opens_no_incident():
    story = Story()
    assert story.seen() == []
    assert story.seen(recovered()) == []
    assert story.case is None


def test_a_finding_that_is_open_already_changes_nothing():
    story = Story()
    story.seen(fired())
    assert story.seen(fired(step=150)) == []
    assert story.finding().step == 140


def test_another_finding_makes_the_incident_worse_and_every_destination_is_told():
    story = Story()
    story.seen(fired())
    story.delivers()
    assert story.seen(fired(OVERFIT)) == [WORSE]
    assert [row.wanted for row in story.alerts] == [2, 2]
    assert all(row.open for row in story.alerts)


def test_a_further_destination_is_added_when_a_finding_goes_there():
    story = Story(routed(SLACK))
    story.seen(fired())
    story.delivers()
    story.config = routed(WEBHOOK)
    story.seen(fired(OVERFIT))
    assert [row.to for row in story.alerts] == [SLACK, WEBHOOK]
    assert story.owes(WEBHOOK) == [OPENED, WORSE]


def test_the_severity_is_that_of_the_worst_open_finding():
    story = Story()
    story.seen(fired(DEPTH))
    assert story.incident.severity is Severity.WARNING
    story.seen(fired())
    assert story.incident.severity is Severity.CRITICAL
    story.seen(recovered())
    assert story.incident.severity is Severity.WARNING


def test_an_incident_that_is_over_keeps_the_severity_that_it_had():
    story = Story()
    story.seen(fired())
    story.seen(recovered())
    assert (story.incident.state, story.incident.severity) == (IncidentState.RESOLVED, Severity.CRITICAL)


# -- two evaluators --------------------------------------------------------------------------------


def test_when_both_evaluators_find_the_same_it_is_one_finding():
    story = Story()
    story.seen(fired())
    assert story.seen(fired(judge=DEBUGGER, step=144)) == [AGREED]
    assert [(says.judge, says.step) for says in story.finding().says] == [
        (Judge.WATCHER, 140),
        (DEBUGGER, 144),
    ]


def test_agreement_is_shown_where_an_alert_can_be_edited_and_told_nowhere():
    story = Story()
    story.seen(fired())
    story.delivers()
    story.seen(fired(judge=DEBUGGER))
    assert story.alert(SLACK).open
    assert not story.alert(WEBHOOK).open


def test_debugger_late_after_a_recovery_adds_a_source_and_opens_nothing():
    story = Story()
    story.seen(fired())
    story.seen(recovered())
    assert story.seen(fired(judge=DEBUGGER)) == [AGREED]
    assert not story.finding().open
    assert story.incident.state is IncidentState.RESOLVED


def test_the_second_evaluator_asks_for_no_stop():
    story = Story(routed(SLACK))
    story.seen(fired())
    story.config = routed(SLACK, stop=True)
    assert story.seen(fired(judge=DEBUGGER)) == [AGREED]
    assert story.stop is None


# -- episodes and recovery -------------------------------------------------------------------------


def test_a_recovery_closes_the_finding_with_its_numbers_and_resolves_the_incident():
    story = Story()
    story.seen(fired())
    assert story.seen(recovered()) == [ChangeKind.RECOVERED, RESOLVED]
    finding = story.finding()
    assert (finding.closing, finding.closing_reason) == (
        Closing.RECOVERED,
        "it fell by 7 % between step 140 and step 160",
    )
    assert story.incident.resolved_at == story.now


def test_an_incident_with_something_open_is_not_resolved():
    story = Story()
    story.seen(fired(), fired(OVERFIT))
    assert story.seen(recovered()) == [ChangeKind.RECOVERED]
    assert story.incident.state is IncidentState.OPEN


def test_what_breaks_again_is_the_next_episode_of_the_same_incident():
    story = Story()
    story.seen(fired())
    story.seen(recovered())
    assert story.seen(fired(step=200)) == [WORSE]
    finding = story.finding()
    assert (finding.episode, finding.step, finding.open, finding.closing_reason) == (2, 200, True, "")
    assert (story.incident.state, story.incident.resolved_at) == (IncidentState.OPEN, None)
    assert "2nd time" in story.history[-1].text


def test_what_recovers_and_breaks_again_and_again_stays_open_and_is_not_told_again():
    story = Story()
    for _ in range(incidents.MAX_RECOVERIES):
        story.seen(fired())
        assert ChangeKind.RECOVERED in story.seen(recovered())
    assert story.seen(fired()) == [ChangeKind.WORSE]
    assert story.seen(recovered()) == story.seen(fired()) == []
    assert story.finding().open


def test_a_recovery_of_what_is_closed_changes_nothing():
    story = Story()
    story.seen(fired())
    story.seen(recovered())
    assert story.seen(recovered()) == []


# -- the end of a run ------------------------------------------------------------------------------


def test_the_end_of_a_run_closes_what_only_mattered_while_it_ran():
    story = Story()
    story.seen(a_stuck_rule())
    assert story.ends("Completed") == [ChangeKind.CLOSED, RESOLVED]
    assert story.finding(LOSS, FindingKind.RULE_STUCK).closing is Closing.RUN_ENDED


def test_an_issue_stays_open_when_its_run_completes():
    story = Story()
    story.seen(fired())
    story.delivers()
    assert story.ends("Completed") == [ChangeKind.RUN_ENDED]
    assert story.finding().open
    assert story.alert(SLACK).open, "the alert does not say any more that the job continues"
    assert not story.alert(WEBHOOK).open
    assert story.seen() == [], "once"


def test_what_opens_and_closes_in_one_look_is_told_as_one_thing():
    story = Story()
    assert story.ends("Stopped", STOPPED_BY_OTHERS) == [OPENED]
    assert story.incident.state is IncidentState.RESOLVED


def test_a_run_that_somebody_else_stopped_is_told_once_with_what_that_closes():
    story = Story()
    story.seen(fired())
    assert story.ends("Stopped", STOPPED_BY_OTHERS) == [WORSE, ChangeKind.CLOSED]
    assert story.incident.state is IncidentState.RESOLVED


@pytest.mark.parametrize(("status", "report"), [("Failed", FAILED), ("Stopped", STOPPED_BY_OTHERS)])
def test_what_rules_find_after_a_run_failed_or_was_stopped_is_no_news(status: str, report: Report):
    story = Story()
    story.ends(status, report)
    story.delivers()
    assert story.seen(fired(judge=DEBUGGER), fired(OVERFIT, DEBUGGER)) == [ADDED, ADDED]
    assert story.alert(SLACK).open, "the alert shows it"
    assert not story.alert(WEBHOOK).open
    assert story.owes(WEBHOOK) == []


def test_what_rules_find_after_watcher_stopped_the_run_is_no_news():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.ends("Stopped", stop_asked_by="route job *, rule *")
    story.delivers()
    assert story.seen(fired(OVERFIT, DEBUGGER)) == [ADDED]
    assert story.incident.state is IncidentState.RESOLVED
    assert not story.alert(WEBHOOK).open


def test_what_rules_find_after_a_run_completed_is_news():
    story = Story()
    story.seen(a_stuck_rule())
    story.ends("Completed")
    assert story.seen(fired(OVERFIT, DEBUGGER)) == [WORSE]


def test_a_run_that_is_no_longer_watched_leaves_nothing_open():
    story = Story()
    story.seen(fired())
    assert story.does(incidents.unwatched, "the job was deleted") == [ChangeKind.CLOSED, RESOLVED]
    assert (story.finding().closing, story.finding().closing_reason) == (
        Closing.UNWATCHED,
        "the job was deleted",
    )
    assert story.does(incidents.unwatched, "the job was deleted") == []


def test_a_run_that_is_no_longer_watched_is_not_stopped():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    assert ChangeKind.NOT_STOPPED in story.does(incidents.unwatched, "the tag was taken off")
    assert (story.phase, story.stop_row.state) == (StopPhase.NOT_STOPPED, DeliveryState.CANCELLED)


def test_a_stop_that_sagemaker_was_asked_for_is_followed_to_its_end_whatever_is_watched():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.does(incidents.stop_requested, "route *")
    assert ChangeKind.NOT_STOPPED not in story.does(incidents.unwatched, "the tag was taken off")
    assert (story.phase, story.stop_row.state) == (StopPhase.STOPPING, DeliveryState.PENDING)


# -- acknowledge -----------------------------------------------------------------------------------


def test_a_person_has_an_incident_until_it_gets_worse():
    story = Story()
    story.seen(fired(DEPTH))
    assert story.does(incidents.acknowledge, ZOE, Door.SLACK) == [ChangeKind.ACKNOWLEDGED]
    story.seen(fired("ClassImbalance"))
    assert (story.incident.state, story.incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, ZOE)
    story.seen(fired(LOSS))
    assert (story.incident.state, story.incident.acknowledged_by) == (IncidentState.OPEN, "")


def test_acknowledging_twice_changes_nothing_but_another_person_may_take_over():
    story = Story()
    story.seen(fired())
    story.does(incidents.acknowledge, ZOE, Door.SLACK)
    assert story.does(incidents.acknowledge, ZOE, Door.CLI) == []
    assert story.does(incidents.acknowledge, "max", Door.CLI) == [ChangeKind.ACKNOWLEDGED]
    assert story.incident.acknowledged_by == "max"


def test_what_is_resolved_cannot_be_acknowledged_or_snoozed():
    story = Story()
    story.seen(fired())
    story.seen(recovered())
    assert story.does(incidents.acknowledge, ZOE, Door.CLI) == []
    assert story.does(incidents.snooze, story.now + timedelta(hours=1), ZOE, Door.CLI) == []


def test_an_acknowledgement_is_shown_where_an_alert_can_be_edited_and_told_nowhere():
    story = Story()
    story.seen(fired())
    story.delivers()
    story.does(incidents.acknowledge, ZOE, Door.SLACK)
    assert [row.open for row in story.alerts] == [True, False]


# -- edits -----------------------------------------------------------------------------------------


def test_an_edit_waits_for_further_changes_and_a_message_does_not():
    story = Story()
    story.seen(fired())
    story.delivers()
    story.seen(fired(OVERFIT))
    assert story.alert(SLACK).due_at == story.now + timedelta(seconds=incidents.EDIT_DELAY_S)
    assert story.alert(WEBHOOK).due_at == story.now


def test_further_changes_do_not_put_an_edit_off():
    story = Story()
    story.seen(fired())
    story.delivers()
    story.seen(fired(OVERFIT))
    due_at = story.alert(SLACK).due_at
    story.seen(fired(DEPTH))
    assert (story.alert(SLACK).due_at, story.alert(SLACK).wanted) == (due_at, story.incident.revision)


def test_an_edit_that_waits_is_not_in_the_lane_of_first_messages():
    story = Story()
    story.seen(fired())
    assert {row.lane for row in story.alerts} == {SLACK, WEBHOOK}
    story.delivers()
    story.seen(fired(OVERFIT))
    assert not {row.lane for row in story.alerts} & {SLACK, WEBHOOK}


# -- stops -----------------------------------------------------------------------------------------


def test_a_route_asks_to_stop_the_run_at_once():
    story = Story(routed(stop=True))
    assert story.seen(fired()) == [OPENED, ChangeKind.STOP_ASKED]
    assert story.phase is StopPhase.ASKED
    row = story.stop_row
    assert (row.due_at, row.run, row.actor) == (story.now, story.job.run, "route job *, rule *")


def test_with_a_grace_the_stop_waits_until_the_alert_has_arrived():
    story = Story(routed(SLACK, stop=True, grace=40))
    story.seen(fired())
    assert story.phase is StopPhase.WAITING
    assert story.stop and story.stop.due_at is None
    story.delivers(passes=5)
    assert story.kinds[-1] is ChangeKind.STOP_SCHEDULED
    assert story.stop.due_at == story.now + timedelta(seconds=40) == story.stop_row.due_at


def test_a_dry_run_needs_no_grace():
    story = Story(routed(SLACK, stop=True, grace=40, dry_run=True))
    story.seen(fired())
    assert story.phase is StopPhase.ASKED


def test_the_grace_begins_when_every_destination_that_takes_the_alert_has_it():
    story = Story(routed(SLACK, WEBHOOK, TOPIC, stop=True, grace=40))
    story.seen(fired())
    story.delivers(SLACK)
    story.delivers(TOPIC)
    assert story.stop and story.stop.due_at is None
    story.delivers(WEBHOOK)
    assert story.stop.due_at == story.now + timedelta(seconds=40)


def test_the_grace_does_not_wait_for_a_destination_that_refuses_the_alert():
    story = Story(routed(SLACK, WEBHOOK, stop=True, grace=40))
    story.seen(fired())
    story.delivers(SLACK)
    story.refuses(WEBHOOK, already_known=True)
    assert story.stop and story.stop.due_at == story.now + timedelta(seconds=40)


def test_the_grace_waits_for_those_who_are_told_that_another_destination_refuses():
    story = Story(routed(SLACK, WEBHOOK, stop=True, grace=40))
    story.seen(fired())
    story.refuses(WEBHOOK)
    story.delivers(SLACK)
    assert story.stop and story.stop.due_at == story.now + timedelta(seconds=40)


def test_while_no_destination_answers_the_stop_waits_to_the_limit():
    story = Story(routed(SLACK, stop=True, grace=40, grace_limit=600))
    story.seen(fired())
    asked_at = story.now
    story.put(replace(story.alert(SLACK), error="cannot be reached", failures=5))
    assert story.stop_row.due_at == asked_at + timedelta(seconds=640)
    story.delivers(SLACK, passes=620)
    assert story.stop_row.due_at == asked_at + timedelta(seconds=640), "never later than the limit"


def test_an_alert_that_does_not_speak_of_the_stop_yet_begins_no_grace():
    story = Story(routed(SLACK, WEBHOOK))
    story.seen(fired(DEPTH))
    story.delivers()
    story.config = routed(SLACK, WEBHOOK, stop=True, grace=40)
    story.seen(fired(LOSS))
    story.delivers(WEBHOOK)
    assert story.stop and story.stop.due_at is None, "Slack shows the first finding only"
    story.delivers(SLACK)
    assert story.stop.due_at


def test_a_second_rule_asks_for_no_second_stop():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    assert story.seen(fired(OVERFIT)) == [WORSE]
    assert story.stop_row.finding == story.finding(LOSS).id


def test_after_a_stop_that_was_not_possible_another_rule_asks_again():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.does(incidents.stop_ended, StopPhase.NOT_STOPPED, "route", "Not stopped: limit reached.")
    story.put(replace(story.stop_row, state=DeliveryState.SKIPPED, attempts=1))
    assert story.seen(fired(OVERFIT)) == [WORSE, ChangeKind.STOP_ASKED]
    assert (story.phase, story.stop_row.state) == (StopPhase.ASKED, DeliveryState.PENDING)


def test_a_stop_that_is_being_attempted_goes_on_though_another_rule_asks():
    story = Story(routed(stop=True))
    story.seen(fired())
    attempted = claimed(story.stop_row)
    story.put(attempted)
    story.does(incidents.stop_ended, StopPhase.NOT_STOPPED, ZOE, "Not stopped: no permission.")
    story.seen(fired(OVERFIT))
    assert story.stop_row == attempted


def test_a_stop_that_is_tried_again_counts_its_attempts_on():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.put(replace(claimed(story.stop_row), state=DeliveryState.DEAD, failures=3))
    story.does(incidents.stop_ended, StopPhase.NOT_STOPPED, ZOE, "Not stopped: no permission.")
    story.seen(fired(OVERFIT))
    row = story.stop_row
    assert (row.state, row.attempts, row.failures) == (DeliveryState.PENDING, 1, 0)
    assert row.finding == story.finding(OVERFIT).id


def test_a_cancelled_stop_is_not_asked_for_again_by_another_rule():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    assert story.does(incidents.cancel_stop, ZOE, Door.CLI) == [ChangeKind.CANCELLED]
    assert story.seen(fired(OVERFIT)) == [WORSE]
    assert (story.phase, story.stop_row.state) == (StopPhase.CANCELLED, DeliveryState.CANCELLED)


def test_a_stop_that_is_being_requested_cannot_be_cancelled():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    story.put(replace(story.stop_row, state=DeliveryState.IN_FLIGHT))
    assert story.does(incidents.cancel_stop, ZOE, Door.CLI) == []


def test_without_a_stop_there_is_nothing_to_cancel():
    story = Story()
    story.seen(fired())
    assert story.does(incidents.cancel_stop, ZOE, Door.CLI) == []


def test_a_person_need_not_wait_for_the_grace():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    assert story.does(incidents.person_stops, ZOE, Door.CLI) == [ChangeKind.STOP_ASKED]
    assert (story.stop and story.stop.actor, story.phase) == (ZOE, StopPhase.ASKED)
    assert (story.stop_row.state, story.stop_row.actor) == (DeliveryState.PENDING, ZOE)
    assert story.stop_row.due_at - story.now == timedelta(seconds=incidents.HANDED_OVER_AFTER_S)


@pytest.mark.parametrize("config", [routed(), routed(stop=True)], ids=["no route", "a route"])
def test_a_stop_whose_command_is_interrupted_is_left_to_the_outbox(config: Config):
    story = Story(config)
    story.seen(fired())
    story.does(incidents.stop_ended, StopPhase.NOT_STOPPED, "route", "Not stopped: limit reached")
    story.does(incidents.person_stops, ZOE, Door.CLI)
    assert (story.stop_row.state, story.stop_row.actor) == (DeliveryState.PENDING, ZOE)


@pytest.mark.parametrize(
    ("phase", "state"),
    [(StopPhase.STOPPED, DeliveryState.DELIVERED), (StopPhase.NOT_STOPPED, DeliveryState.SKIPPED)],
)
def test_a_stop_that_the_command_has_carried_out_is_left_to_nobody(phase: StopPhase, state: DeliveryState):
    story = Story()
    story.seen(fired())
    story.does(incidents.person_stops, ZOE, Door.CLI)
    story.does(incidents.stop_ended, phase, ZOE, "a sentence")
    assert story.stop_row.state is state


def test_a_person_may_stop_what_was_cancelled_before():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    story.does(incidents.cancel_stop, "max", Door.CLI)
    story.does(incidents.person_stops, ZOE, Door.CLI)
    assert story.does(incidents.stop_ended, StopPhase.STOPPED, ZOE, "Stopped by zoe") == STOPPED_AND_OVER


def test_a_stop_that_command_outbox_and_pipeline_all_see_is_told_once():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.does(incidents.stop_requested, "route job *, rule *")
    assert story.does(incidents.stop_requested, "route job *, rule *") == []
    story.does(incidents.stop_ended, StopPhase.STOPPED, ZOE, "Stopped")
    story.does(incidents.stop_ended, StopPhase.STOPPED, "route job *, rule *", "Stopped")
    assert story.ends("Stopped", stop_asked_by=ZOE) == [], "the incident was resolved with the stop"
    assert story.incident.state is IncidentState.RESOLVED
    assert story.kinds.count(ChangeKind.STOPPED) == 1
    assert story.does(incidents.stop_requested, "route job *, rule *") == []
    assert story.does(incidents.person_stops, ZOE, Door.CLI) == []


def test_a_run_that_ends_before_its_stop_is_told_once():
    story = Story(routed(stop=True))
    story.seen(fired())
    assert story.ends("Completed") == [ChangeKind.NOT_STOPPED]
    sentence = "Not stopped: churn ended (Completed) before the stop took effect."
    assert story.does(incidents.stop_ended, StopPhase.NOT_STOPPED, "route", sentence) == []


def test_a_run_that_ends_during_the_grace_has_no_stop_to_wait_for():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    story.ends("Failed", FAILED)
    assert (story.phase, story.stop_row.state) == (StopPhase.NOT_STOPPED, DeliveryState.CANCELLED)


def test_a_run_that_others_stopped_during_the_grace_was_not_stopped_by_watcher():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    story.ends("Stopped", STOPPED_BY_OTHERS)
    assert story.phase is StopPhase.NOT_STOPPED
    assert story.stop and "not by Watcher" in story.stop.reason


def test_a_stop_of_a_run_is_known_in_an_incident_that_opens_later():
    story = Story(job=an_ended_job(status="Stopped"))
    assert story.seen(fired(judge=DEBUGGER), stop_asked_by=f"watcher stop by {ZOE}") == [OPENED]
    assert story.phase is StopPhase.STOPPED


@pytest.mark.parametrize("first", Judge)
def test_what_both_judges_find_with_a_profiler_rule_is_one_finding_and_asks_for_no_stop(first):
    story = Story(routed(stop=True))
    second = next(judge for judge in Judge if judge is not first)
    for judge, change in ((first, OPENED), (second, AGREED)):
        assert story.seen(replace(fired("LowGPUUtilization", judge), family=RuleFamily.PROFILER)) == [change]
    assert story.case
    [finding] = story.case.findings
    assert [says.judge for says in finding.says] == [first, second]
    assert story.stop is None
    assert DeliveryKind.STOP not in {row.kind for row in story.rows}


def test_a_stop_that_waits_is_called_off_when_its_issue_recovers():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    assert ChangeKind.NOT_STOPPED in story.seen(recovered())
    assert (story.phase, story.stop_row.state) == (StopPhase.NOT_STOPPED, DeliveryState.CANCELLED)


def test_a_stop_for_which_two_issues_ask_waits_on_when_one_recovers():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired(), fired(OVERFIT))
    story.seen(recovered())
    assert (story.phase, story.stop_row.state) == (StopPhase.WAITING, DeliveryState.PENDING)
    assert story.stop_row.finding == story.finding(OVERFIT).id
    assert ChangeKind.NOT_STOPPED in story.seen(recovered(OVERFIT))


def test_a_recovery_calls_off_no_stop_that_sagemaker_was_asked_for():
    story = Story(routed(stop=True))
    story.seen(fired())
    story.does(incidents.stop_requested, "route job *, rule *")
    assert ChangeKind.NOT_STOPPED not in story.seen(recovered())
    assert (story.phase, story.stop_row.state) == (StopPhase.STOPPING, DeliveryState.PENDING)


def test_an_issue_that_breaks_again_asks_again_for_the_stop():
    story = Story(routed(stop=True, grace=40))
    story.seen(fired())
    story.seen(recovered())
    assert story.seen(fired(step=200)) == [WORSE, ChangeKind.STOP_ASKED]
    assert (story.phase, story.stop_row.state) == (StopPhase.WAITING, DeliveryState.PENDING)


# -- snoozes ---------------------------------------------------------------------------------------


def snoozed() -> Story:
    """For an hour, after all destinations were told."""
    story = Story()
    story.seen(fired())
    story.delivers()
    assert story.does(incidents.snooze, story.now + timedelta(hours=1), ZOE, Door.CLI) == [ChangeKind.SNOOZED]
    story.delivers(SLACK)
    return story


def test_a_snoozed_destination_is_told_nothing_until_the_snooze_ends():
    story = snoozed()
    until = story.incident.snoozed_until
    story.seen(fired(OVERFIT))
    assert (story.alert(WEBHOOK).state, story.alert(WEBHOOK).due_at) == (DeliveryState.SNOOZED, until)
    assert story.alert(SLACK).open, "an edit disturbs nobody"


def test_an_alert_that_waits_for_the_end_of_a_snooze_holds_back_no_other():
    story = snoozed()
    assert len({row.lane for row in story.alerts} | {f"{to} edits" for to in (SLACK, WEBHOOK)}) == 4


def test_when_a_snooze_ends_destinations_are_reminded_with_a_message_of_its_own():
    story = snoozed()
    assert story.alert(WEBHOOK).wanted > story.alert(WEBHOOK).told


def test_what_happens_just_before_the_snooze_is_told_after_it():
    story = Story()
    story.seen(fired())
    story.delivers()
    story.seen(fired(OVERFIT))
    story.does(incidents.snooze, story.now + timedelta(hours=1), ZOE, Door.CLI)
    assert story.alert(WEBHOOK).state is DeliveryState.SNOOZED
    assert story.owes(WEBHOOK) == [WORSE]


def test_a_message_that_arrives_during_a_snooze_is_the_last_until_its_end():
    story = Story()
    story.seen(fired())
    attempt = replace(story.alert(WEBHOOK), state=DeliveryState.IN_FLIGHT, trying=1)
    story.put(attempt)
    story.does(incidents.snooze, story.now + timedelta(hours=1), ZOE, Door.CLI)
    story.seen(fired(OVERFIT))
    story.put(replace(story.alert(WEBHOOK), state=DeliveryState.PENDING, told=1))
    story.amend(lambda case: incidents.delivered(case, attempt.id, story.config.stop, story.now))
    assert story.alert(WEBHOOK).state is DeliveryState.SNOOZED


def test_a_destination_that_was_told_nothing_gets_its_first_message_during_a_snooze():
    story = Story()
    story.seen(fired())
    story.does(incidents.snooze, story.now + timedelta(hours=1), ZOE, Door.CLI)
    assert all(row.open for row in story.alerts)
    story.delivers()
    assert not any(row.open for row in story.alerts)


def test_after_an_early_end_of_a_snooze_only_what_is_new_is_told():
    story = snoozed()
    assert story.does(incidents.unsnooze, ZOE, Door.CLI) == [ChangeKind.UNSNOOZED]
    assert (story.alert(SLACK).open, story.alert(WEBHOOK).open) == (True, False)
    assert story.does(incidents.unsnooze, ZOE, Door.CLI) == []


def test_after_an_early_end_of_a_snooze_what_was_held_back_is_told():
    story = snoozed()
    story.seen(fired(OVERFIT))
    story.does(incidents.unsnooze, ZOE, Door.CLI)
    assert (story.alert(WEBHOOK).state, story.alert(WEBHOOK).due_at) == (DeliveryState.PENDING, story.now)
    assert story.owes(WEBHOOK) == [WORSE]


def test_a_snooze_that_is_over_cannot_be_ended():
    story = snoozed()
    story.now += timedelta(hours=2)
    assert story.does(incidents.unsnooze, ZOE, Door.CLI) == []


def test_after_the_end_of_a_snooze_changes_are_told_at_once():
    story = snoozed()
    story.now += timedelta(hours=2)
    story.put(replace(story.alert(WEBHOOK), state=DeliveryState.DELIVERED, told=2))
    story.seen(fired(OVERFIT))
    assert (story.alert(WEBHOOK).state, story.alert(WEBHOOK).due_at) == (DeliveryState.PENDING, story.now)


def test_an_incident_that_is_resolved_during_a_snooze_is_told_at_once():
    story = snoozed()
    story.seen(recovered())
    assert story.incident.snoozed_until is None
    assert (story.alert(WEBHOOK).state, story.alert(WEBHOOK).due_at) == (DeliveryState.PENDING, story.now)
    assert story.owes(WEBHOOK) == [ChangeKind.RECOVERED, RESOLVED]


def test_a_longer_snooze_replaces_a_shorter_one():
    story = snoozed()
    until = story.now + timedelta(hours=5)
    story.does(incidents.snooze, until, ZOE, Door.CLI)
    story.delivers(SLACK)
    assert {row.due_at for row in story.alerts} == {until}


# -- refusals --------------------------------------------------------------------------------------


def test_a_refusal_is_told_elsewhere():
    story = Story()
    story.seen(fired())
    story.delivers(WEBHOOK)
    assert story.refuses(SLACK) == [ChangeKind.REFUSED]
    assert story.owes(WEBHOOK) == [ChangeKind.REFUSED]
    assert "slack:#alerts refuses this alert: is_archived" in story.history[-1].text


def test_a_refusal_that_is_known_is_told_nowhere():
    story = Story()
    story.seen(fired())
    story.delivers(WEBHOOK)
    assert story.refuses(SLACK, already_known=True) == []


def test_what_its_only_destination_refuses_goes_to_the_slack_channel():
    story = Story(routed(WEBHOOK, channel="#alerts"))
    story.seen(fired())
    assert story.refuses(WEBHOOK) == [ChangeKind.REFUSED]
    assert story.alert(SLACK).open


def test_so_does_what_it_refuses_later_though_the_refusal_is_known():
    story = Story(routed(WEBHOOK, channel="#alerts"))
    story.seen(fired())
    assert story.refuses(WEBHOOK, already_known=True) == [ChangeKind.REFUSED]
    assert story.alert(SLACK).open


def test_when_the_slack_channel_refuses_too_nothing_is_repeated():
    story = Story(routed(WEBHOOK, channel="#alerts"))
    story.seen(fired())
    story.refuses(WEBHOOK)
    story.refuses(SLACK)
    assert story.refuses(WEBHOOK, already_known=True) == []
    assert story.refuses(SLACK, already_known=True) == []


def test_the_address_of_a_webhook_that_refuses_shows_no_secret():
    story = Story(routed(SLACK, "webhook:https://user:secret@ops.example/hook?token=secret"))
    story.seen(fired())
    story.refuses("webhook:https://user:secret@ops.example/hook?token=secret")
    assert "secret" not in story.history[-1].text + story.history[-1].actor


def test_a_refused_alert_waits_for_its_next_attempt_however_much_changes():
    story = Story()
    story.seen(fired())
    story.refuses(SLACK)
    due_at = story.alert(SLACK).due_at
    story.seen(fired(OVERFIT))
    assert (story.alert(SLACK).state, story.alert(SLACK).due_at) == (DeliveryState.REFUSED, due_at)
    assert story.alert(SLACK).wanted == story.incident.revision


@pytest.mark.parametrize("state", [DeliveryState.REFUSED, DeliveryState.DEAD])
def test_what_was_refused_or_given_up_is_sent_again_at_once_when_a_person_asks(state: DeliveryState):
    story = Story()
    story.seen(fired())
    story.refuses(SLACK)
    story.put(replace(story.alert(SLACK), state=state, due_at=story.now + timedelta(hours=1)))
    assert story.does(incidents.redeliver, ZOE, Door.CLI) == [ChangeKind.REDELIVERED]
    row = story.alert(SLACK)
    assert (row.state, row.due_at, row.failures) == (DeliveryState.PENDING, story.now, 0)


def test_a_person_who_asks_to_send_again_what_was_given_up_gives_it_seven_more_days():
    story = Story()
    story.seen(fired())
    story.refuses(SLACK)
    story.put(replace(story.alert(SLACK), state=DeliveryState.DEAD))
    story.does(incidents.redeliver, ZOE, Door.CLI)
    assert story.alert(SLACK).refused_at is None


def test_without_a_refusal_there_is_nothing_to_send_again():
    story = Story()
    story.seen(fired())
    assert story.does(incidents.redeliver, ZOE, Door.CLI) == []
    assert story.does(incidents.retry_refused) == []


def test_what_is_tried_again_without_a_person_leaves_no_line_and_waits_longer_next_time():
    story = Story()
    story.seen(fired())
    story.refuses(SLACK)
    revision = story.incident.revision
    story.amend(lambda case: incidents.retry_refused(case, story.now, WEBHOOK))
    assert story.alert(SLACK).state is DeliveryState.REFUSED, "that is another destination"
    story.amend(lambda case: incidents.retry_refused(case, story.now, SLACK))
    row = story.alert(SLACK)
    assert (row.state, row.due_at, row.failures) == (DeliveryState.PENDING, story.now, 1)
    assert story.incident.revision == revision


# -- pictures --------------------------------------------------------------------------------------


def test_each_episode_of_a_finding_has_one_picture():
    story = Story()
    story.seen(fired())
    alert = story.alert(SLACK)

    def pictured() -> int:
        finding = story.finding()
        for _ in range(2):
            story.amend(
                lambda case: incidents.delivered(case, alert.id, story.config.stop, story.now, finding.id)
            )
        return len([row for row in story.rows if row.kind is DeliveryKind.PLOT])

    assert pictured() == 1
    story.seen(recovered())
    story.seen(fired())
    assert pictured() == 2


# -- whatever happens ------------------------------------------------------------------------------

Step = Callable[[Story], object]
_judges = st.sampled_from(Judge)
_rules = st.sampled_from([LOSS, OVERFIT, DEPTH])
_destinations = st.sampled_from([SLACK, WEBHOOK, TOPIC])


def _looks(rule: str, judge: Judge, closing: bool, failing: bool) -> Step:
    reports = [recovered(rule, judge) if closing else fired(rule, judge)]
    reports += [a_stuck_rule(rule)] if failing else []
    return lambda story: story.seen(*reports)


def _ends(status: str, asked: bool) -> Step:
    report = {"Failed": [FAILED], "Stopped": [] if asked else [STOPPED_BY_OTHERS]}.get(status, [])
    return lambda story: story.ends(status, *report, stop_asked_by=ZOE if asked else "")


def _is_attempted(to: str, result: str) -> Step:
    """What the outbox does with a delivery that is due."""

    def step(story: Story) -> None:
        rows = [row for row in story.alerts if row.to == to and row.due_at <= story.now]
        for row in rows:
            if row.state is DeliveryState.SNOOZED:
                story.put(replace(row, state=DeliveryState.PENDING))
            if row.state in (DeliveryState.PENDING, DeliveryState.SNOOZED, DeliveryState.REFUSED):
                match result:
                    case "taken":
                        story.delivers(to)
                    case "refused":
                        story.refuses(to)
                    case "given up":
                        story.put(replace(row, state=DeliveryState.DEAD))

    return step


def _time_passes(seconds: float) -> Step:
    def step(story: Story) -> None:
        story.now += timedelta(seconds=seconds)

    return step


def _is_stopped(phase: StopPhase) -> Step:
    return lambda story: story.does(incidents.stop_ended, phase, ZOE, "a sentence")


STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(_looks, _rules, _judges, st.booleans(), st.booleans()),
    st.builds(_is_attempted, _destinations, st.sampled_from(["taken", "taken", "refused", "given up"])),
    st.builds(_time_passes, st.sampled_from([1.0, 60.0, 3600.0])),
    st.builds(_ends, st.sampled_from(["Completed", "Failed", "Stopped"]), st.booleans()),
    st.builds(_is_stopped, st.sampled_from([StopPhase.STOPPED, StopPhase.NOT_STOPPED])),
    st.sampled_from(
        [
            lambda story: story.does(incidents.acknowledge, ZOE, Door.SLACK),
            lambda story: story.does(incidents.snooze, story.now + timedelta(minutes=30), ZOE, Door.CLI),
            lambda story: story.does(incidents.unsnooze, ZOE, Door.CLI),
            lambda story: story.does(incidents.person_stops, ZOE, Door.CLI),
            lambda story: story.does(incidents.cancel_stop, ZOE, Door.CLI),
            lambda story: story.does(incidents.stop_requested, ZOE),
            lambda story: story.does(incidents.redeliver, ZOE, Door.CLI),
            lambda story: story.does(incidents.retry_refused),
            lambda story: story.does(incidents.unwatched, "a reason"),
        ]
    ),
)
CONFIGS = st.sampled_from(
    [
        routed(SLACK, WEBHOOK),
        routed(SLACK, TOPIC, stop=True),
        routed(WEBHOOK, TOPIC, stop=True, grace=40, grace_limit=100, channel="#alerts"),
    ]
)


@settings(max_examples=300)
@given(CONFIGS, st.lists(STEPS, max_size=30))
def test_whatever_happens_an_incident_is_consistent_and_nothing_is_lost(config, steps: list[Step]):
    story = Story(config, a_job())
    story.seen(fired())
    for step in steps:
        before, changes = story.case, len(story.history)
        step(story)
        assert before and story.case
        holds(before, story.case, story.history[changes:])
        told = any(change.telling for change in story.history[changes:])
        can_hear_the_rest(story, DeliveryState.DEAD if not told else DeliveryState.SNOOZED)


def holds(before: Case, after: Case, made: list[Change]) -> None:
    incident = after.incident
    first = before.incident.revision
    assert [change.revision for change in made] == list(range(first + 1, incident.revision + 1))
    telling = [change.revision for change in made if change.telling]
    assert incident.telling_revision == max(telling, default=before.incident.telling_revision)
    is_open = any(finding.open for finding in after.findings)
    assert (incident.state is IncidentState.RESOLVED) == (not is_open)
    assert (incident.resolved_at is None) == is_open
    assert not (incident.snoozed_until and not is_open)
    pairs = [(one, after.delivery(one.id)) for one in before.deliveries]
    assert all(now is not None for _, now in pairs), "a row is lost"
    assert all(now and now.wanted >= one.wanted for one, now in pairs if one.kind is DeliveryKind.ALERT)
    assert {finding.id for finding in before.findings} <= {finding.id for finding in after.findings}


def can_hear_the_rest(story: Story, or_is: DeliveryState) -> None:
    """What an alert has not told yet is on its way, or waits for a mend or for the end of a snooze. (One that
    was given up waits for the next change worth telling, or for a person.)"""
    incident = story.incident
    for row in story.alerts:
        knows_all = row.told >= (
            incident.revision if incidents.can_edit(row.to) else incident.telling_revision
        )
        waits = row.open or row.state in (DeliveryState.REFUSED, DeliveryState.SNOOZED, or_is)
        assert knows_all or waits, row
        assert row.wanted >= incident.telling_revision
        assert row.state is not DeliveryState.SNOOZED or incident.snoozed_until
        check_lane(row)


def check_lane(row: Delivery) -> None:
    if row.state is DeliveryState.PENDING:
        assert row.lane == (edits_lane(row.to) if row.told else row.to)
    if row.state is DeliveryState.SNOOZED:
        assert row.id in row.lane
