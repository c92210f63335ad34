"""Which run is best, what differs between runs, and which metric is compared."""

from __future__ import annotations

import csv
import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import NOON, a_job, an_ended_job, an_outcome
from watcher.aws.metrics import VALUES_PER_PAGE, Average, MetricSeries, Statistic
from watcher.comparison import measurements
from watcher.comparison.compare import Comparison
from watcher.comparison.document import Around, as_csv, curves, document
from watcher.comparison.runs import By, Measured, Run, Source, chosen_metric, differing, goal, ranked
from watcher.errors import UsageError
from watcher.model import FinalMetric, JobSnapshot

VALUES = st.one_of(st.none(), st.floats(allow_nan=True))


def run(name: str, job: JobSnapshot | None = None, age: int = 0, **parameters: str) -> Run:
    created = NOON - timedelta(minutes=age)
    return Run(name, name, "Completed", created, parameters, NOON - timedelta(hours=1), NOON, job)


def measured(last: float | None, low: float | None = None, high: float | None = None) -> Measured:
    return Measured(Source.CLOUDWATCH, last, low, high, [(0.0, 1.0), (1.0, 0.5)])


@pytest.mark.parametrize(
    ("metric", "by", "rises", "best_first"),
    [
        ("validation:rmse", None, None, "low"),
        ("validation:auc", None, None, "high"),
        ("validation:rmse", None, True, "high"),
        ("validation:rmse", By.LAST, None, "late"),
    ],
)
def test_the_name_of_the_metric_says_which_run_is_best_unless_a_person_does(
    metric: str, by: By | None, rises: bool | None, best_first: str
):
    runs = [run("low"), run("high"), run("late")]
    numbers = {
        "low": measured(0.9, 0.1, 0.9),
        "high": measured(0.8, 0.3, 0.95),
        "late": measured(0.4, 0.4, 0.5),
    }

    assert ranked(runs, numbers, goal(metric, by, rises))[0].name == best_first


def test_a_metric_whose_name_says_nothing_is_taken_to_fall_and_the_goal_says_so():
    assert goal("custom_7", None, None).assumed
    assert not goal("custom_7", None, None).rises
    assert not goal("custom_7", None, True).assumed


@given(st.lists(VALUES, min_size=1, max_size=20), st.booleans())
def test_no_run_comes_before_a_better_one_and_those_without_a_number_come_last(
    values: list[float | None], rises: bool
):
    runs = [run(str(number), age=number) for number in range(len(values))]
    numbers = {str(number): measured(value) for number, value in enumerate(values) if value is not None}

    order = ranked(runs, numbers, goal("loss", By.LAST, rises))

    found = [values[int(each.name)] for each in order]
    known = [value for value in found if value is not None and not math.isnan(value)]
    assert sorted(each.name for each in order) == sorted(each.name for each in runs)
    assert found[: len(known)] == known == sorted(known, reverse=rises)


def test_runs_with_the_same_number_are_ordered_by_their_age():
    runs = [run("old", age=9), run("new", age=1), run("none", age=0)]

    order = ranked(runs, {"old": measured(0.5), "new": measured(0.5)}, goal("loss", By.LAST, None))

    assert [each.name for each in order] == ["new", "old", "none"]


def test_only_what_differs_is_listed():
    assert differing([{"eta": "0.1", "k": "3"}, {"eta": "0.2", "k": "3"}]) == ["eta"]
    assert differing([{"eta": "0.1"}, {"eta": "0.1", "seed": "7"}]) == ["seed"]
    assert differing([{"eta": "0.1"}]) == []


def test_the_metric_is_the_validation_loss_that_most_runs_have():
    xgboost = ["train:rmse", "validation:auc", "validation:rmse"]

    assert chosen_metric([xgboost, xgboost, ["extra"]], "") == "validation:rmse"
    assert chosen_metric([["train:loss", "lr"]], "") == "train:loss"


def test_a_metric_can_be_spelled_as_xgboost_or_as_sagemaker_spells_it():
    assert chosen_metric([["validation:rmse"]], "validation-rmse") == "validation:rmse"
    with pytest.raises(UsageError, match=r"none of these runs has the metric f1: they have train:rmse"):
        chosen_metric([["train:rmse"]], "f1")
    with pytest.raises(UsageError, match="none of these runs has the metric f1: they have none"):
        chosen_metric([[], []], "f1")
    assert chosen_metric([[], []], "") == ""


# -- numbers from CloudWatch ----------------------------------------------------------------------


def series(*values: float) -> MetricSeries:
    return MetricSeries([Average(NOON + timedelta(minutes=at), value) for at, value in enumerate(values)])


def test_the_last_value_is_the_one_in_the_jobs_record_and_the_extremes_are_cloudwatchs():
    job = an_ended_job(started_at=NOON, final_metrics=(FinalMetric("loss", 0.31, NOON),))

    one = measurements.measured(job, "loss", [series(0.9, 0.4), series(0.7, 0.3), series(1.1, 0.5)])

    assert one is not None
    assert (one.last, one.min, one.max) == (0.31, 0.3, 1.1)
    assert one.curve == [(0.0, 0.9), (1.0, 0.4)]


def test_a_job_without_values_has_not_measured_anything():
    assert measurements.measured(a_job(), "loss", [series(), series(), series()]) is None
    assert measurements.measured(a_job(), "loss", []) is None


@given(st.lists(st.tuples(st.integers(0, 60 * 86400), st.integers(60, 20 * 86400)), min_size=1, max_size=100))
def test_one_period_fits_all_runs_into_an_answer_of_about_one_page(spans: list[tuple[int, int]]):
    times = [(NOON - timedelta(seconds=ago + lasted), NOON - timedelta(seconds=ago)) for ago, lasted in spans]

    period = measurements.common_period(times, NOON)

    days = max(ago + lasted for ago, lasted in spans) / 86400
    assert period % (3600 if days > 63 else 300 if days > 15 else 60) == 0  # what GetMetricData demands
    points = 0
    for span in times:
        query = measurements.query("job", "loss", period, span, Statistic.AVERAGE)
        assert query.since <= span[0]
        assert query.until > span[1]
        assert query.since.timestamp() % period == query.until.timestamp() % period == 0
        points += (query.until - query.since) // timedelta(seconds=period)
    assert 3 * (points - 2 * len(spans)) <= VALUES_PER_PAGE


# -- the document ---------------------------------------------------------------------------------


def compared(*runs: Run, **numbers: Measured) -> Comparison:
    aim = goal("loss", None, None)
    return Comparison(aim, ranked(runs, numbers, aim), numbers, {})


def test_the_document_has_what_differs_the_cost_and_what_rules_found_but_no_secret():
    job = an_ended_job(outcomes=(an_outcome("IssuesFound"), an_outcome(rule="Overfit")))
    first = Run("a", "a", "Completed", NOON, {"eta": "0.1", "api_token": "x"}, job.started_at, NOON, job)
    around = Around({job.run: ["StalledTrainingRule"]}, {"ml.m5.xlarge": 0.6}, NOON)

    shown = document(compared(first, run("b", eta="0.2", api_token="y"), a=measured(0.2, 0.1, 0.9)), around)

    assert shown["differing"] == ["eta"]
    best = shown["runs"][0]
    assert (best["rank"], best["duration"], best["cost"]) == (1, 2400.0, pytest.approx(0.4))
    assert best["findings"] == ["LossNotDecreasing", "StalledTrainingRule"]
    assert best["metric"] is not None
    assert best["metric"]["best"] == 0.1
    assert "token" not in str(shown)


def test_csv_has_a_line_for_each_run_that_a_spreadsheet_reads_back():
    comparison = compared(run("a", note='say "hi", twice'), run("b"), a=measured(0.2, 0.1, 0.9))

    rows = list(csv.DictReader(as_csv(document(comparison, Around({}, {}, NOON))).splitlines()))

    assert [row["job"] for row in rows] == ["a", "b"]
    assert (rows[0]["note"], rows[0]["loss best"], rows[1]["loss best"]) == ('say "hi", twice', "0.1", "")


def test_curves_over_steps_and_over_minutes_are_not_drawn_on_one_axis():
    tensors = Measured(Source.TENSORS, 0.15, 0.15, 0.9, [(0.0, 0.9), (100.0, 0.1)])
    comparison = compared(run("a"), run("b"), run("c"), a=measured(0.2, 0.1), b=measured(0.3, 0.2), c=tensors)

    drawn, over = curves(document(comparison, Around({}, {}, NOON)))

    assert (list(drawn), over) == (["1. a", "3. b"], "minutes of training")


def test_no_cell_of_the_csv_is_a_formula_and_numbers_stay_numbers():
    first = run(
        "a", x="=HYPERLINK(1)", minus="-0.5", flag="--fast", at="@x", hidden="\u202e\t=1", **{"=name": "1"}
    )
    second = run("b", x="1", minus="+2e-3", flag="b", at="b", hidden="b", **{"=name": "2"})

    text = as_csv(document(compared(first, second), Around({}, {}, NOON)))
    rows = {row["job"]: row for row in csv.DictReader(text.splitlines())}

    assert rows["a"]["x"] == "'=HYPERLINK(1)"
    assert (rows["a"]["minus"], rows["b"]["minus"]) == ("-0.5", "+2e-3")
    assert (rows["a"]["flag"], rows["a"]["at"], rows["a"]["hidden"]) == ("'--fast", "'@x", "'=1")
    assert rows["a"]["'=name"] == "1"
