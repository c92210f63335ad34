from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.jobs import NOON, a_job, an_ended_job
from watcher.alerts.job_facts import MAX_LISTED, cost, facts, particulars
from watcher.text import duration

PRICES = {"ml.m5.xlarge": 0.23}


def costs(prices: dict[str, float] | None = None, **changes: Any) -> dict[str, str]:
    job = a_job(**{"started_at": NOON - timedelta(hours=2), "max_runtime": 86_400, **changes})
    return dict(cost(facts(job, PRICES if prices is None else prices, NOON)))


def shown_particulars(**changes: Any) -> dict[str, str]:
    return dict(particulars(facts(a_job(**changes), {}, NOON)))


def test_a_running_job_shows_its_runtime_instances_cost_and_what_stopping_saves() -> None:
    assert costs(instance_count=2) == {
        "Running for": "2 h",
        "Instances": "2 × ml.m5.xlarge",
        "Spend so far": "$0.92, at $0.46 an hour",
        "Stopping now saves": "up to $10.12 (22 h until MaxRuntimeInSeconds)",
    }


def test_without_prices_amounts_are_in_hours() -> None:
    told_in_hours = costs({}, instance_count=2)
    assert told_in_hours["Spend so far"] == "4.00 instance-hours"
    assert (
        told_in_hours["Stopping now saves"] == "up to 44.00 instance-hours (22 h until MaxRuntimeInSeconds)"
    )


def test_a_job_on_spot_instances_says_so_and_shows_its_cost_as_a_maximum() -> None:
    spot = costs(spot=True)
    assert spot["Instances"] == "1 × ml.m5.xlarge (spot)"
    assert spot["Spend so far"] == "at most $0.46, at $0.23 an hour"


def test_all_groups_of_a_heterogeneous_cluster_are_named() -> None:
    groups = (("ml.p4d.24xlarge", 2), ("ml.c5.18xlarge", 4))
    assert costs(instance_groups=groups)["Instances"] == "2 × ml.p4d.24xlarge and 4 × ml.c5.18xlarge"


def test_an_ended_job_shows_its_cost_and_a_stopped_one_what_the_stop_saved() -> None:
    def ended(status: str) -> dict[str, str]:
        job = an_ended_job(status=status, started_at=NOON - timedelta(hours=2), max_runtime=10_800)
        return dict(cost(facts(job, PRICES, NOON + timedelta(days=1))))

    assert ended("Completed") == {"Ran for": "2 h", "Instances": "1 × ml.m5.xlarge", "Cost": "$0.46"}
    assert ended("Stopped")["Stopping saved"] == "up to $0.23 (1 h until MaxRuntimeInSeconds)"


def test_a_job_that_is_waiting_for_its_instances_has_cost_nothing() -> None:
    assert costs(started_at=None) == {"Instances": "1 × ml.m5.xlarge"}
    assert costs(started_at=None, instance_type="") == {}


def test_a_job_past_its_maximum_runtime_has_nothing_to_save() -> None:
    assert "Stopping now saves" not in costs(max_runtime=60)


def test_few_hyperparameters_are_all_shown_and_many_are_cut_to_the_most_useful() -> None:
    assert (
        shown_particulars(hyperparameters={"eta": "0.1", "nthread": "4"})["Hyperparameters"]
        == "eta = 0.1 · nthread = 4"
    )
    many = {f"flag_{number:02}": "1" for number in range(20)} | {"eta": "0.1"}
    shown = shown_particulars(hyperparameters=many)["Hyperparameters"].split(" · ")
    assert shown[0] == "eta = 0.1"
    assert len(shown) == MAX_LISTED + 1
    assert shown[-1] == "and 13 more"


def test_a_long_value_is_cut() -> None:
    shown = shown_particulars(hyperparameters={"model": "x" * 2500})["Hyperparameters"]
    assert shown == f"model = {'x' * 39}…"


def test_experiment_and_trial_are_named_together() -> None:
    assert shown_particulars(experiment="churn", trial="deep")["Experiment"] == "churn, trial deep"
    assert shown_particulars(experiment="churn")["Experiment"] == "churn"


def test_tags_of_aws_and_secret_tags_are_left_out() -> None:
    tags = {"team": "growth", "aws:createdBy": "root", "api-token": "hunter2", "env": "prod"}
    assert shown_particulars(tags=tags)["Tags"] == "env = prod · team = growth"


@pytest.mark.parametrize("tags", [None, {}, {"aws:createdBy": "root"}])
def test_a_job_without_tags_of_its_own_shows_none(tags: dict[str, str] | None) -> None:
    assert shown_particulars(tags=tags) == {}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_725, "1 h 2 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_are_shown_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(timedelta(seconds=seconds)) == shown
