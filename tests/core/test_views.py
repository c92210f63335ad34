from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.samples import (
    NOON,
    after,
    arn,
    case,
    change,
    delivery,
    finding,
    incident,
    look,
    opens,
    run,
    snapshot,
)
from watcher.errors import UsageError
from watcher.model import (
    ChangeKind,
    Closing,
    DeliveryKind,
    DeliveryState,
    Door,
    IncidentState,
    Judge,
    Outcome,
    RuleFamily,
    RunStop,
    Says,
    StopPhase,
    incident_id,
)
from watcher.store import incident_views, views
from watcher.store.memory import MemoryStore

URL = "sqlite:///watcher.db"
TOPIC = "sns:arn:aws:sns:us-east-1:123456789012:ml"
ELSEWHERE = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn"
REASON = "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 resulted in …"
NOT_IN_CHANNEL = "slack:#ml refused: not_in_channel; invite the bot with /invite @watcher"
ISSUE = finding(
    "churn",
    step=140,
    reason=REASON,
    says=(
        Says(Judge.DEBUGGER, "IssuesFound", NOON, 140, REASON),
        Says(Judge.WATCHER, "IssuesFound", after(9), 140, "the loss fell by 1 %"),
    ),
)
STUCK = finding("churn", "Overfit", id="stuck", says=(Says(Judge.DEBUGGER, "InProgress", NOON),))


@pytest.fixture
def store() -> MemoryStore:
    """`churn` has an issue: sent to Slack, refused by a channel, given up for a webhook, its stop pending;
    `sales` has none."""
    churn = snapshot(
        "churn",
        outcomes=(
            Outcome("LossNotDecreasing", RuleFamily.DEBUGGER, Judge.DEBUGGER, "IssuesFound", REASON),
            Outcome("Overfit", RuleFamily.DEBUGGER, Judge.DEBUGGER, "InProgress"),
        ),
    )
    sales = snapshot("sales", status="Completed", created_at=after(60))
    arrived: dict[str, Any] = {"state": DeliveryState.DELIVERED, "attempts": 1, "delivered_at": after(1)}
    given_up: dict[str, Any] = {"state": DeliveryState.DEAD, "attempts": 9, "error": "404 Not Found"}
    refused: dict[str, Any] = {
        "state": DeliveryState.REFUSED,
        "attempts": 3,
        "error": NOT_IN_CHANNEL,
        "refused_at": after(5),
        "due_at": after(65),
    }
    stop = delivery(
        "churn", "stop", id="stop", kind=DeliveryKind.STOP, finding=ISSUE.id, run=run("churn"), actor="route"
    )
    picture = delivery("churn", "slack:#ml", id="plot", kind=DeliveryKind.PLOT, finding=ISSUE.id)
    told = case(
        "churn",
        delivery("churn", "slack:#ml", **arrived),
        delivery("churn", "slack:#prod", **refused),
        delivery("churn", "webhook:https://me:pw@ops.example/hook?key=1", **given_up),
        delivery("churn", TOPIC),
        stop,
        picture,
        incident=incident("churn", stop=RunStop(StopPhase.ASKED, "route", after(1))),
        findings=(ISSUE, STUCK),
        changes=(
            change("churn", finding=ISSUE.id),
            change("churn", 2, kind=ChangeKind.ACKNOWLEDGED, actor="anna", door=Door.CLI),
        ),
    )
    store = MemoryStore()
    store.commit([look("churn", opens(told), snapshot=churn), look("sales", snapshot=sales, watching=False)])
    return store


def test_findings_have_the_exact_json_shape_that_scripts_rely_on(store):
    found = json.loads(views.to_json(views.findings(store)))

    shown = next(each for each in found if each["id"] == ISSUE.id)
    assert list(shown) == [
        "id",
        "job",
        "rule",
        "source",
        "sources",
        "kind",
        "status",
        "reason",
        "step",
        "opened_at",
        "closed_at",
        "episode",
        "incident",
        "deliveries",
    ]
    assert shown == {
        "id": ISSUE.id,
        "job": "churn",
        "rule": "LossNotDecreasing",
        "source": "debugger",
        "sources": ["debugger", "local"],
        "kind": "rule_issue",
        "status": "IssuesFound",
        "reason": REASON,
        "step": 140,
        "opened_at": NOON.isoformat(),
        "closed_at": None,
        "episode": 1,
        "incident": incident_id(run("churn")),
        "deliveries": [
            {"to": "slack:#ml", "state": "delivered", "attempts": 1, "delivered_at": after(1).isoformat()},
            {"to": "slack:#prod", "state": "refused", "attempts": 3, "delivered_at": None},
            {"to": "webhook:https://ops.example/hook", "state": "dead", "attempts": 9, "delivered_at": None},
            {"to": TOPIC, "state": "pending", "attempts": 0, "delivered_at": None},
            {"to": "stop", "state": "pending", "attempts": 0, "delivered_at": None},
        ],
    }


def test_a_stop_is_listed_with_the_finding_that_asks_for_it_only(store):
    stuck = next(each for each in views.findings(store) if each["id"] == STUCK.id)

    assert "stop" not in [each["to"] for each in stuck["deliveries"]]


def test_findings_can_be_limited_to_jobs_by_a_glob(store):
    assert len(views.findings(store, "chu*")) == 2
    assert views.findings(store, "sales") == []


def test_incidents_have_the_exact_json_shape_that_scripts_rely_on(store):
    [shown] = json.loads(
        views.to_json([incident_views.incident(each) for each in incident_views.cases(store)])
    )

    deliveries = shown.pop("deliveries")
    assert list(shown.items()) == [
        ("id", incident_id(run("churn"))),
        ("jobs", ["churn"]),
        ("group", None),
        ("state", "open"),
        ("severity", "critical"),
        ("opened_at", NOON.isoformat()),
        ("resolved_at", None),
        ("acknowledged_by", None),
        ("revision", 1),
        ("findings", [ISSUE.id, STUCK.id]),
    ]
    assert [each["to"] for each in deliveries] == [
        "slack:#ml",
        "slack:#prod",
        "webhook:https://ops.example/hook",
        TOPIC,
        "stop",
    ]
    assert deliveries[1] == {
        "to": "slack:#prod",
        "state": "refused",
        "attempts": 3,
        "delivered_at": None,
        "error": NOT_IN_CHANNEL,
    }


def test_incidents_come_open_first_then_acknowledged_then_resolved_and_the_newest_first_in_each():
    store = MemoryStore()
    states = [IncidentState.RESOLVED, IncidentState.OPEN, IncidentState.ACKNOWLEDGED]
    for number, state in enumerate(states * 2):
        name = f"{state}-{number}"
        opened = incident(name, state=state, opened_at=after(number))
        store.commit([look(name, opens(case(name, incident=opened)))])

    assert [each.incident.job for each in incident_views.cases(store)] == [
        "open-4",
        "open-1",
        "acknowledged-5",
        "acknowledged-2",
        "resolved-3",
        "resolved-0",
    ]


def test_status_counts_jobs_incidents_and_deliveries_and_shows_dead_letters(store):
    status = views.status(store, URL)

    assert status["jobs"] == {"InProgress": 1, "Completed": 1}
    assert status["watching"] == 1
    assert (status["incidents"], status["findings"], status["undelivered"]) == ({"open": 1}, 2, 1)
    assert status["deliveries"] == {"pending": 3, "delivered": 1, "refused": 1, "dead": 1}
    assert status["changed_at"] == NOON
    [letter] = status["dead_letters"]
    assert (letter["job"], letter["kind"], letter["error"]) == ("churn", "alert", "404 Not Found")


def test_status_says_what_is_refused_since_when_why_and_when_it_is_tried_again(store):
    [refusal] = views.status(store, URL)["refused"]

    assert refusal == {
        "to": "slack:#prod",
        "since": after(5),
        "error": NOT_IN_CHANNEL,
        "incidents": [incident_id(run("churn"))],
        "retry_at": after(65),
    }


def test_a_destination_that_refuses_many_incidents_for_one_reason_is_one_refusal():
    refused: dict[str, Any] = {"state": DeliveryState.REFUSED, "error": NOT_IN_CHANNEL}
    rows = [delivery(f"job-{n}", "slack:#ml", refused_at=after(9 - n), **refused) for n in range(3)]

    [refusal] = incident_views.refusals(rows)

    assert refusal["since"] == after(7)
    assert len(refusal["incidents"]) == 3


def test_an_incident_whose_alert_is_on_its_way_refused_or_given_up_counts_as_not_delivered():
    store = MemoryStore()
    for state in DeliveryState:
        row = delivery(state, "slack:#ml", state=state)
        store.commit([look(state, opens(case(state, row)))])

    assert views.status(store, URL)["undelivered"] == len({"pending", "in_flight", "refused", "dead"})


def test_an_empty_store_has_a_status():
    status = views.status(MemoryStore(), URL)

    assert status["jobs"] == status["incidents"] == {}
    assert status["changed_at"] is None


def test_jobs_come_newest_first_with_how_many_rules_are_in_each_status(store):
    sales, churn = views.jobs(store)

    assert (sales["job"], churn["job"]) == ("sales", "churn")
    assert churn["rules"] == {"IssuesFound": 1, "InProgress": 1}
    assert (churn["findings"], sales["findings"]) == (2, 0)


def test_a_job_is_shown_with_its_rules_its_findings_every_delivery_and_who_stopped_it(store):
    store.permit_stop(run("churn"), "route job prod-*, rule *", NOON, max_per_hour=10)

    shown = views.show(store, "churn")

    assert [rule["rule"] for rule in shown["evaluations"]] == ["LossNotDecreasing", "Overfit"]
    told = next(each for each in shown["told"] if each["id"] == ISSUE.id)
    assert told["reason"] == REASON
    assert [(each["kind"], each["error"]) for each in told["deliveries"]] == [
        ("alert", ""),
        ("alert", NOT_IN_CHANNEL),
        ("alert", "404 Not Found"),
        ("alert", ""),
        ("stop", ""),
        ("plot", ""),
    ]
    assert shown["stop"] == {"actor": "route job prod-*, rule *", "at": NOON}


def test_a_shown_job_has_what_each_source_says_of_a_finding(store):
    told = next(each for each in views.show(store, "churn")["told"] if each["id"] == ISSUE.id)

    assert told["sources"] == ["debugger", "local"]
    assert told["says"][1] == {
        "source": "local",
        "status": "IssuesFound",
        "step": 140,
        "reason": "the loss fell by 1 %",
        "at": after(9),
    }


def test_a_shown_job_says_of_a_finding_that_recovered_in_which_episode_and_why():
    recovered = finding(
        "churn",
        episode=2,
        closed_at=after(9),
        closing=Closing.RECOVERED,
        closing_reason="the loss fell again",
    )
    store = MemoryStore()
    store.commit([look("churn", opens(case("churn", findings=(recovered,))))])

    [told] = views.show(store, "churn")["told"]

    assert (told["episode"], told["closed_at"]) == (2, after(9))
    assert (told["closing"], told["closing_reason"]) == ("recovered", "the loss fell again")


def test_a_shown_job_has_the_state_and_the_history_of_its_incident(store):
    shown = views.show(store, "churn")["incident"]

    assert shown is not None
    assert (shown["state"], shown["snoozed_until"]) == ("open", None)
    assert shown["stop"] is not None
    assert shown["stop"]["phase"] == "asked"
    assert [(each["kind"], each["actor"], each["door"]) for each in shown["history"]] == [
        ("opened", None, "watcher"),
        ("acknowledged", "anna", "cli"),
    ]
    assert views.show(store, "sales")["incident"] is None


def test_of_several_runs_of_a_name_the_newest_is_shown_and_the_others_are_listed(store):
    again = snapshot("churn", created_at=after(3600))
    store.commit([look("churn", snapshot=again)])

    shown = views.show(store, "churn")

    assert (shown["run"], shown["findings"], shown["told"]) == (again.run, 0, [])
    assert [(each["run"], each["findings"]) for each in shown["other_runs"]] == [(run("churn"), 2)]
    assert views.show(store, run("churn"))["findings"] == 2


def test_a_job_can_be_named_by_its_arn_and_must_be_when_two_jobs_share_a_name(store):
    store.commit([look("churn", snapshot=snapshot("churn", arn=ELSEWHERE))])

    assert views.show(store, ELSEWHERE)["arn"] == ELSEWHERE
    assert views.show(store, arn("churn"))["arn"] == arn("churn")
    with pytest.raises(UsageError, match=r"there are 2 jobs named churn; name one by its ARN: .*eu-west-1"):
        views.show(store, "churn")


def test_the_secret_part_of_a_destination_is_not_shown(store):
    incidents = [incident_views.incident(each) for each in incident_views.cases(store)]
    for document in (views.status(store, URL), views.findings(store), views.show(store, "churn"), incidents):
        text = views.to_json(document)
        assert "me:pw" not in text
        assert "key=1" not in text


def test_a_destination_written_by_a_later_version_is_shown_by_its_kind():
    store = MemoryStore()
    store.commit([look("churn", opens(case("churn", delivery("churn", "pager:secret"))))])

    assert views.findings(store)[0]["deliveries"][0]["to"] == "pager"


def test_the_history_has_one_line_of_json_for_each_change_and_for_each_action_without_an_incident(store):
    by_anna = {"actor": "anna", "door": Door.CLI, "at": after(60)}
    asked = change("sales", 0, kind=ChangeKind.STOP_ASKED, incident="", text="asks", **by_anna)
    store.record(asked)

    lines = [json.loads(line) for line in incident_views.history(store)]

    assert [line["kind"] for line in lines] == ["opened", "acknowledged", "stop_asked"]
    assert lines[0]["finding"] == ISSUE.id
    assert lines[2] == {
        "at": asked.at.isoformat(),
        "incident": None,
        "job": "sales",
        "run": run("sales"),
        "revision": 0,
        "kind": "stop_asked",
        "actor": "anna",
        "door": "cli",
        "text": "asks",
        "finding": None,
    }
