from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import NOON, a_job, an_ended_job
from watcher.alerts.cost import Spend, remaining, spend
from watcher.model import JobSnapshot

PRICES = {"ml.m5.xlarge": 0.23, "ml.p4d.24xlarge": 37.69}
HOUR = timedelta(hours=1)


def a_running_job(ran: timedelta = HOUR, **changes: object) -> JobSnapshot:
    return a_job(started_at=NOON - ran, **{"max_runtime": 86_400, **changes})


def spent(job: JobSnapshot, prices: dict[str, float] | None = None) -> Spend:
    found = spend(job, PRICES if prices is None else prices, NOON)
    assert found is not None
    return found


def test_a_job_costs_the_price_of_each_instance_for_its_training_time() -> None:
    two_hours = spent(a_running_job(2 * HOUR, instance_count=4))
    assert two_hours.so_far == pytest.approx(2 * 4 * 0.23)
    assert two_hours.an_hour == pytest.approx(4 * 0.23)
    assert (two_hours.currency, two_hours.basis) == ("USD", "4 × ml.m5.xlarge at $0.23 an hour each")


def test_stopping_saves_the_time_left_until_the_maximum_runtime() -> None:
    assert spent(a_running_job(2 * HOUR)).saved_by_stopping == pytest.approx(22 * 0.23)


def test_without_a_price_the_amounts_are_instance_hours() -> None:
    unpriced = spent(a_running_job(2 * HOUR, instance_count=3), {})
    assert (unpriced.so_far, unpriced.saved_by_stopping, unpriced.currency) == (6, 66, "")
    assert unpriced.basis == "3 × ml.m5.xlarge; no price is configured"


def test_each_group_of_a_heterogeneous_cluster_has_its_own_price() -> None:
    groups = (("ml.p4d.24xlarge", 2), ("ml.m5.xlarge", 1))
    both = spent(a_running_job(instance_type="", instance_groups=groups))
    assert both.so_far == pytest.approx(2 * 37.69 + 0.23)
    assert both.basis == "2 × ml.p4d.24xlarge at $37.69 an hour and 1 × ml.m5.xlarge at $0.23 an hour each"


def test_one_group_without_a_price_makes_the_whole_amount_instance_hours() -> None:
    groups = (("ml.p4d.24xlarge", 2), ("ml.c5.18xlarge", 1))
    both = spent(a_running_job(instance_type="", instance_groups=groups))
    assert (both.so_far, both.currency) == (3, "")


def test_spot_instances_cost_at_most_the_full_price_until_sagemaker_reports_the_billed_time() -> None:
    running = spent(a_running_job(spot=True))
    assert running.at_most
    assert "spot instances cost less" in running.basis
    ended = spent(an_ended_job(started_at=NOON - HOUR, spot=True, billable_time=1080))
    assert not ended.at_most
    assert ended.so_far == pytest.approx(0.3 * 0.23)
    assert "billed time" in ended.basis


def test_a_job_that_has_not_started_or_has_no_instances_has_no_spend() -> None:
    assert spend(a_job(started_at=None), PRICES, NOON) is None
    assert spend(a_running_job(instance_type=""), PRICES, NOON) is None


def test_a_job_that_ended_by_itself_saves_nothing_and_a_stopped_job_saved_the_rest() -> None:
    times = {"started_at": NOON - HOUR, "max_runtime": 7200}
    assert spent(an_ended_job(**times)).saved_by_stopping is None
    assert spent(an_ended_job(status="Failed", **times)).saved_by_stopping is None
    assert spent(an_ended_job(status="Stopped", **times)).saved_by_stopping == pytest.approx(0.23)
    overrun = an_ended_job(status="Stopped", **{**times, "secondary_status": "MaxRuntimeExceeded"})
    assert spent(overrun).saved_by_stopping is None


def test_without_a_maximum_runtime_what_stopping_saves_is_unknown() -> None:
    assert spent(a_running_job(max_runtime=0)).saved_by_stopping is None


@pytest.mark.parametrize(
    ("amount", "money", "hours"),
    [
        (0.0, "$0.00", "0.00 instance-hours"),
        (0.0001, "$0.01", "0.01 instance-hours"),
        (12.345, "$12.35", "12.35 instance-hours"),
        (12_345.6, "$12,346", "12,346 instance-hours"),
    ],
)
def test_amounts_are_shown_in_cents_and_above_a_thousand_in_whole_numbers(
    amount: float, money: str, hours: str
) -> None:
    assert spent(a_running_job()).formatted(amount) == money
    assert spent(a_running_job(), {}).formatted(amount) == hours


durations = st.timedeltas(timedelta(0), timedelta(days=60))
jobs = st.builds(
    lambda ran, limit, count, spot, ended: (an_ended_job if ended else a_job)(
        started_at=NOON - ran,
        ended_at=NOON if ended else None,
        status=ended or "InProgress",
        secondary_status=ended or "Training",
        max_runtime=limit,
        instance_count=count,
        spot=spot,
    ),
    durations,
    st.integers(0, 28 * 86_400),
    st.integers(1, 2000),
    st.booleans(),
    st.sampled_from(["", "Stopped", "Completed"]),
)


@given(jobs, durations, st.booleans())
def test_savings_are_never_negative_and_the_spend_never_decreases(
    job: JobSnapshot, later: timedelta, priced: bool
) -> None:
    prices = PRICES if priced else {}
    now, then = spend(job, prices, NOON), spend(job, prices, NOON + later)
    assert now is not None
    assert then is not None
    assert 0 <= now.so_far <= then.so_far
    assert then.saved_by_stopping is None or 0 <= then.saved_by_stopping <= (now.saved_by_stopping or 0)


@given(jobs)
def test_the_spend_and_the_savings_add_up_to_the_whole_runtime(job: JobSnapshot) -> None:
    found, left = spend(job, PRICES, NOON), remaining(job, NOON)
    assert found is not None
    if found.saved_by_stopping and left:
        whole = job.max_runtime / 3600 * job.instance_count * 0.23
        assert found.so_far + found.saved_by_stopping == pytest.approx(whole)


def test_a_clock_that_runs_behind_sagemakers_makes_nothing_negative() -> None:
    job = a_running_job(-HOUR)
    assert spent(job).so_far == 0
    assert remaining(job, NOON) == timedelta(days=1)
