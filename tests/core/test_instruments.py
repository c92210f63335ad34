"""The metrics for Prometheus, in the format in which it reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rules import RULES
from rules.profiler import PROFILER_RULES
from tests.jobs import NOON, a_job, an_outcome
from watcher import __version__
from watcher.instruments import BUILT_IN_RULES, Instruments
from watcher.jobs.detect import news
from watcher.model import Delivery, DeliveryKind, DeliveryState, RuleConfiguration, RuleFamily


@pytest.fixture
def instruments() -> Instruments:
    return Instruments()


def samples(instruments: Instruments, name: str) -> dict[tuple[str, ...], float]:
    """Non-zero samples by the values of their labels, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(instruments.registry).decode())
        for sample in family.samples
        if sample.name == name and sample.value
    }


def a_delivery(**changes: Any) -> Delivery:
    values: dict[str, Any] = {
        "id": "d",
        "incident": "i",
        "kind": DeliveryKind.ALERT,
        "to": "slack:#alerts",
        "lane": "slack:#alerts",
        "created_at": NOON,
        "due_at": NOON,
        "state": DeliveryState.DELIVERED,
    }
    return Delivery(**{**values, **changes})


def test_the_version_is_exported(instruments: Instruments):
    assert samples(instruments, "watcher_build_info") == {(__version__,): 1}


def test_a_rules_status_is_counted_when_it_changes(instruments: Instruments):
    started = a_job(outcomes=(an_outcome("InProgress"),))
    fired = a_job(outcomes=(an_outcome("IssuesFound"),))

    for before, after in [(None, started), (started, started), (started, fired), (fired, fired)]:
        instruments.outcomes(after, news(before, after))

    assert samples(instruments, "watcher_rule_outcomes_total") == {
        ("LossNotDecreasing", "debugger", "InProgress"): 1,
        ("LossNotDecreasing", "debugger", "IssuesFound"): 1,
    }


@pytest.mark.parametrize(
    ("configured", "label"),
    [
        ([RuleConfiguration("churn-7", RuleFamily.DEBUGGER, {"rule_to_invoke": "Overfit"})], "Overfit"),
        (
            [RuleConfiguration("churn-7", RuleFamily.PROFILER, {"rule_to_invoke": "DataLoader"})],
            "Dataloader",
        ),
        ([RuleConfiguration("churn-7", RuleFamily.DEBUGGER)], "custom"),
        ([RuleConfiguration("churn-7", RuleFamily.DEBUGGER, {"rule_to_invoke": "Mine\u202e"})], "custom"),
        ([], "custom"),
    ],
)
def test_a_rule_is_labelled_by_what_it_invokes_because_each_job_may_rename_it(
    instruments: Instruments, configured: list[RuleConfiguration], label: str
):
    job = a_job(outcomes=(an_outcome(rule="churn-7"),), rules=tuple(configured))

    instruments.outcomes(job, job.outcomes)

    assert samples(instruments, "watcher_rule_outcomes_total") == {(label, "debugger", "InProgress"): 1}


def test_a_rule_that_the_settings_attach_has_the_label_of_the_built_in_rule(instruments: Instruments):
    job = a_job(outcomes=(an_outcome(rule="Overfit"),))

    instruments.outcomes(job, job.outcomes)

    assert samples(instruments, "watcher_rule_outcomes_total") == {("Overfit", "debugger", "InProgress"): 1}


def test_every_built_in_rule_has_a_label_of_its_own():
    assert {*RULES, *PROFILER_RULES} == BUILT_IN_RULES


def test_names_that_owners_choose_add_no_series(instruments: Instruments):
    names = [f"rule-{number}" for number in range(150)]
    rules = [RuleConfiguration(name, RuleFamily.DEBUGGER, {"rule_to_invoke": name}) for name in names]
    job = a_job(outcomes=tuple(an_outcome(rule=name) for name in names), rules=tuple(rules))

    instruments.outcomes(job, job.outcomes)

    assert samples(instruments, "watcher_rule_outcomes_total") == {("custom", "debugger", "InProgress"): 150}


def test_a_metric_counts_what_is_beyond_its_limit_of_series_in_one_more(
    instruments: Instruments, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.instruments.MAX_SERIES", 3)

    for result in ("ok", "ok", "404", "Throttling", "E4", "E5", "404"):
        instruments.aws_answered("s3", "GetObject", result)

    assert samples(instruments, "watcher_aws_requests_total") == {
        ("GetObject", "ok", "s3"): 2,
        ("GetObject", "404", "s3"): 2,
        ("GetObject", "Throttling", "s3"): 1,
        ("other", "other", "other"): 2,
    }


def test_a_gauge_that_begins_anew_has_room_for_other_labels(
    instruments: Instruments, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("watcher.instruments.MAX_SERIES", 1)

    for status in ("InProgress", "Stopping"):
        instruments.watched([status])

    assert samples(instruments, "watcher_watched_jobs") == {("Stopping",): 1}


def test_a_destination_is_labelled_by_its_kind_because_its_address_may_be_a_secret(instruments: Instruments):
    secret = "webhook:https://hooks.example/T0/very-secret"

    instruments.attempted(a_delivery(to=secret, state=DeliveryState.DEAD), 3)

    assert samples(instruments, "watcher_deliveries_total") == {("webhook", "alert", "dead"): 1}
    assert b"very-secret" not in generate_latest(instruments.registry)


def test_only_an_alert_that_arrives_for_the_first_time_has_a_latency(instruments: Instruments):
    first = a_delivery(told=1)

    instruments.attempted(first, timedelta(minutes=2).total_seconds(), first=True)
    instruments.attempted(a_delivery(told=2), 900)
    instruments.attempted(a_delivery(state=DeliveryState.PENDING), 1)
    instruments.attempted(a_delivery(kind=DeliveryKind.STOP, to="stop"), 1)
    instruments.attempted(a_delivery(kind=DeliveryKind.PLOT), 1)

    assert samples(instruments, "watcher_delivery_latency_seconds_count") == {("slack",): 1}
    assert samples(instruments, "watcher_delivery_latency_seconds_sum") == {("slack",): 120}


def test_attempts_are_counted_as_alerts_until_one_has_arrived_and_as_updates_from_then_on(
    instruments: Instruments,
):
    attempts = [
        a_delivery(state=DeliveryState.REFUSED),
        a_delivery(told=1),
        a_delivery(told=1, state=DeliveryState.PENDING),
        a_delivery(told=2),
        a_delivery(kind=DeliveryKind.PLOT),
        a_delivery(kind=DeliveryKind.STOP, to="stop"),
    ]
    for number, attempt in enumerate(attempts):
        instruments.attempted(attempt, 1, first=number == 1)

    assert samples(instruments, "watcher_deliveries_total") == {
        ("slack", "alert", "refused"): 1,
        ("slack", "alert", "delivered"): 1,
        ("slack", "update", "pending"): 1,
        ("slack", "update", "delivered"): 1,
        ("slack", "plot", "delivered"): 1,
        ("stop", "stop", "delivered"): 1,
    }


def test_a_replica_that_no_longer_watches_exports_no_number_of_jobs(instruments: Instruments):
    instruments.watched(["InProgress", "InProgress", "Completed"])
    assert samples(instruments, "watcher_watched_jobs") == {("InProgress",): 2, ("Completed",): 1}

    instruments.watched([])
    assert samples(instruments, "watcher_watched_jobs") == {}
