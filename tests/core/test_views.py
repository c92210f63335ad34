from __future__ import annotations

import json

import pytest

from tests.contract.samples import NOON, after, arn, delivery, finding, look, snapshot
from watcher.errors import UsageError
from watcher.model import DeliveryKind, DeliveryState, Outcome, RuleSource
from watcher.store import views
from watcher.store.memory import MemoryStore

URL = "sqlite:///watcher.db"
TOPIC = "sns:arn:aws:sns:us-east-1:123456789012:ml"
ELSEWHERE = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn"
REASON = "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 resulted in …"


@pytest.fixture
def store() -> MemoryStore:
    """`churn` has an issue: sent to Slack, given up for a webhook, its stop pending; `sales` has none."""
    churn = snapshot(
        "churn",
        outcomes=(
            Outcome("LossNotDecreasing", RuleSource.DEBUGGER, "IssuesFound", REASON),
            Outcome("Overfit", RuleSource.DEBUGGER, "InProgress"),
        ),
    )
    sales = snapshot("sales", status="Completed", created_at=after(60))
    issue = finding("churn", step=140, reason=REASON)
    delivered = {"state": DeliveryState.DELIVERED, "attempts": 1, "delivered_at": after(1)}
    refused = {"state": DeliveryState.DEAD, "attempts": 9, "error": "404 Not Found"}
    deliveries = [
        delivery(issue, "slack:#ml", **delivered),
        delivery(issue, "webhook:https://me:pw@ops.example/hook?key=1", **refused),
        delivery(issue, TOPIC),
        delivery(issue, "slack:#ml", id="an update", kind=DeliveryKind.UPDATE, text="Stopped by Watcher"),
        delivery(issue, "stop", kind=DeliveryKind.STOP),
    ]
    store = MemoryStore()
    store.commit(
        [look("churn", [issue], deliveries, snapshot=churn), look("sales", snapshot=sales, watching=False)]
    )
    return store


def test_findings_have_the_exact_json_shape_that_scripts_rely_on(store):
    [found] = json.loads(views.to_json(views.findings(store)))

    assert list(found) == [
        "id",
        "job",
        "rule",
        "source",
        "kind",
        "status",
        "reason",
        "step",
        "opened_at",
        "deliveries",
    ]
    assert found["id"] == finding("churn").id
    del found["id"]
    assert found == {
        "job": "churn",
        "rule": "LossNotDecreasing",
        "source": "debugger",
        "kind": "rule_issue",
        "status": "IssuesFound",
        "reason": REASON,
        "step": 140,
        "opened_at": NOON.isoformat(),
        "deliveries": [
            {
                "to": "slack:#ml",
                "state": "delivered",
                "attempts": 1,
                "delivered_at": after(1).isoformat(),
            },
            {"to": "webhook:https://ops.example/hook", "state": "dead", "attempts": 9, "delivered_at": None},
            {
                "to": TOPIC,
                "state": "pending",
                "attempts": 0,
                "delivered_at": None,
            },
            {"to": "stop", "state": "pending", "attempts": 0, "delivered_at": None},
        ],
    }


def test_findings_can_be_limited_to_jobs_by_a_glob(store):
    assert len(views.findings(store, "chu*")) == 1
    assert views.findings(store, "sales") == []


def test_status_counts_jobs_findings_and_deliveries_and_shows_dead_letters(store):
    status = views.status(store, URL)

    assert status["jobs"] == {"InProgress": 1, "Completed": 1}
    assert status["watching"] == 1
    assert (status["findings"], status["undelivered"]) == (1, 1)
    assert status["deliveries"] == {"pending": 3, "delivered": 1, "dead": 1}
    assert status["changed_at"] == NOON
    [letter] = status["dead_letters"]
    assert (letter["job"], letter["rule"], letter["error"]) == ("churn", "LossNotDecreasing", "404 Not Found")


def test_an_empty_store_has_a_status():
    status = views.status(MemoryStore(), URL)

    assert status["jobs"] == {}
    assert status["changed_at"] is None


def test_jobs_come_newest_first_with_how_many_rules_are_in_each_status(store):
    sales, churn = views.jobs(store)

    assert (sales["job"], churn["job"]) == ("sales", "churn")
    assert churn["rules"] == {"IssuesFound": 1, "InProgress": 1}
    assert (churn["findings"], sales["findings"]) == (1, 0)


def test_a_job_is_shown_with_its_rules_its_findings_every_delivery_and_who_stopped_it(store):
    store.permit_stop(arn("churn"), "route job prod-*, rule *", NOON, max_per_hour=10)

    shown = views.show(store, "churn")

    assert [rule["rule"] for rule in shown["evaluations"]] == ["LossNotDecreasing", "Overfit"]
    [told] = shown["told"]
    assert told["reason"] == REASON
    assert [(d["kind"], d["error"]) for d in told["deliveries"]] == [
        ("alert", ""),
        ("alert", "404 Not Found"),
        ("alert", ""),
        ("update", ""),
        ("stop", ""),
    ]
    assert shown["stop"] == {"actor": "route job prod-*, rule *", "at": NOON}


def test_a_job_can_be_named_by_its_arn_and_must_be_when_two_jobs_share_a_name(store):
    store.commit([look("churn", snapshot=snapshot("churn", arn=ELSEWHERE))])

    assert views.show(store, ELSEWHERE)["arn"] == ELSEWHERE
    with pytest.raises(UsageError, match=r"there are 2 jobs named churn; name one by its ARN: .*eu-west-1"):
        views.show(store, "churn")


def test_an_unknown_job_is_refused_with_the_closest_name(store):
    with pytest.raises(UsageError, match=r"the store has no job chrun; did you mean churn\?"):
        views.show(store, "chrun")
    with pytest.raises(UsageError, match="`watcher jobs` lists the known jobs"):
        views.show(store, "something else entirely")


def test_the_secret_part_of_a_destination_is_not_shown(store):
    for document in (views.status(store, URL), views.findings(store), views.show(store, "churn")):
        text = views.to_json(document)
        assert "me:pw" not in text
        assert "key=1" not in text


def test_a_destination_written_by_a_later_version_is_shown_by_its_kind():
    issue = finding("churn")
    store = MemoryStore()
    store.commit([look("churn", [issue], [delivery(issue, "pager:secret")])])

    assert views.findings(store)[0]["deliveries"][0]["to"] == "pager"
