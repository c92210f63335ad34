"""What a plot shows, read from the figure before it is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rules import Evidence, Status, Verdict
from tests.alerts import FINDING
from watcher import model
from watcher.alerts import plots
from watcher.debug_output.series import Series, Summary, Value
from watcher.model import Reading

FALL = Evidence("loss", 60, 0.98, 40, 1.0, threshold=5.0, missed_by=3.0, needed=0.95)
"""A fall of 2 % where the rule requires 5 %."""


def series(values: Sequence[Value | None], tensor: str = "loss", mode: str = "GLOBAL") -> Series:
    """Saved at every tenth step."""
    made = Series(tensor, mode, "worker_0")
    for number, value in enumerate(values):
        made.add(number * 10, number, value)
    return made


LOSS = series([5.0, 3.0, 2.0, 1.5, 1.0, 0.99, 0.98, 0.98, 0.98])


def fired(*evidence: Evidence, step: int = 60) -> Verdict:
    return Verdict(
        Status.ISSUES_FOUND, "plateau", "loss fell 2 %; the rule wants 5 %", step, evidence=evidence
    )


def line(axes: Axes, label: str) -> list[tuple[float, float]]:
    [found] = [one for one in axes.get_lines() if one.get_label() == label]
    return [(float(x), float(y)) for x, y in zip(*found.get_data(), strict=True)]


def rings(axes: Axes) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for each in axes.collections
        if each.get_label() == "compared"
        for x, y in each.get_offsets()  # type: ignore[union-attr]
    ]


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


def title(figure: Figure) -> list[str]:
    return figure.get_suptitle().splitlines()


def test_the_compared_steps_are_marked_on_the_curve():
    axes = plots.of_verdict([LOSS], fired(FALL), "LossNotDecreasing", "churn").axes[0]

    assert line(axes, "loss")[:2] == [(0.0, 5.0), (10.0, 3.0)]
    assert rings(axes) == [(40.0, 1.0), (60.0, 0.98)]
    assert line(axes, "the rule fires")[0][0] == 60


def test_the_required_change_is_drawn_from_the_earlier_value():
    axes = plots.of_verdict([LOSS], fired(FALL), "LossNotDecreasing", "churn").axes[0]

    assert line(axes, "what the rule wants") == [(40.0, 1.0), (60.0, 0.95)]


def test_rule_job_step_and_sentence_are_in_the_title():
    figure = plots.of_verdict([LOSS], fired(FALL), "LossNotDecreasing", "churn")

    assert title(figure) == [
        "LossNotDecreasing: issues found at step 60 · churn",
        "loss fell 2 %; the rule wants 5 %",
    ]


def test_a_change_too_small_to_see_is_drawn_again_enlarged():
    long = series([1 / (1 + number) for number in range(200)])
    row = Evidence("loss", 510, 1 / 52, 500, 1 / 51, 5.0, 5 - 100 / 52, needed=0.95 / 51)

    whole, close = plots.of_verdict([long], fired(row, step=510), "LossNotDecreasing", "churn").axes

    assert rings(whole) == rings(close)
    assert whole.get_xlim()[1] > 1900
    assert close.get_xlim() == (470, 540)
    low, high = close.get_ylim()
    assert low < 0.95 / 51 < 1 / 52 < high < 0.03


def test_a_number_that_is_on_no_curve_is_not_marked():
    zeros = Evidence("loss", 60, 0.99, threshold=0.9, missed_by=0.09)

    axes = plots.of_verdict([LOSS], fired(zeros), "AllZero", "churn").axes[0]

    assert rings(axes) == []
    assert "what the rule wants" not in legend(axes)
    assert line(axes, "the rule fires")[0][0] == 60


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_leaves_a_gap_and_its_step_is_still_marked(value):
    broken = series([1.0, 0.5, value])

    axes = plots.of_verdict([broken], fired(Evidence("loss", 20, value), step=20), "R", "churn").axes[0]

    assert not math.isfinite(line(axes, "loss")[2][1])
    assert rings(axes) == []
    assert line(axes, "the rule fires")[0][0] == 20


def test_without_a_finding_only_the_curves_are_drawn():
    verdict = Verdict(Status.NO_ISSUES_FOUND, step=80)

    figure = plots.of_verdict([LOSS], verdict, "LossNotDecreasing", "churn")

    assert title(figure) == ["LossNotDecreasing: no issues found · churn"]
    assert legend(figure.axes[0]) == ["loss"]


FELL = model.AlertEvidence(
    explanation="loss fell 2 %; the rule wants 5 %",
    deciding=(Reading("loss", 40, 1.0), Reading("loss", 60, 0.98)),
    needed=(Reading("loss", 60, 0.95),),
    curve=tuple(
        Reading("loss", 10 * number, value) for number, value in enumerate([5, 3, 2, 1.5, 1, 0.99, 0.98])
    ),
)


def test_the_plot_of_an_alert_shows_what_the_alert_says():
    figure = plots.of_evidence(replace(FELL, curve_from="From CloudWatch."), FINDING)

    assert title(figure) == [
        "LossNotDecreasing at step 24 · churn-xgb-2026-11-20",
        "loss fell 2 %; the rule wants 5 %",
        "From CloudWatch.",
    ]
    [axes] = figure.axes
    assert line(axes, "loss")[-1] == (60.0, 0.98)
    assert rings(axes) == [(40.0, 1.0), (60.0, 0.98)]
    assert line(axes, "what the rule wants") == [(40.0, 1.0), (60.0, 0.95)]
    assert line(axes, "the rule fires")[0][0] == 60


def test_a_curve_over_minutes_has_no_line_at_debuggers_step():
    figure = plots.of_evidence(model.AlertEvidence(curve=FELL.curve), FINDING)

    assert legend(figure.axes[0]) == ["loss"]


def test_a_curve_across_many_powers_of_ten_has_a_log_axis():
    fading = model.AlertEvidence(curve=tuple(Reading("w", step, 10.0**-step) for step in range(5)))

    assert plots.of_evidence(fading, FINDING).axes[0].get_yscale() == "log"
    assert plots.of_evidence(FELL, FINDING).axes[0].get_yscale() == "linear"


def test_several_threads_can_draw_at_the_same_time():
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: plots.png(plots.of_evidence(FELL, FINDING)), range(8)))

    assert len(set(pictures)) == 1
    assert pictures[0].startswith(b"\x89PNG")


def test_a_larger_tensor_is_drawn_as_its_mean_between_its_minimum_and_maximum():
    weights = series([Summary((3,), -1.0, 1.0, 0.0), Summary((3,), -2.0, 4.0, 1.0)], "weight")

    [axes] = plots.of_tensors([weights], "churn").axes

    [label] = legend(axes)
    assert label == "weight (mean, shaded from min to max)"
    assert line(axes, label) == [(0.0, 0.0), (10.0, 1.0)]
    assert axes.collections[0].get_datalim(axes.transData).y0 == -2


def test_each_mode_has_its_own_curve():
    [axes] = plots.of_tensors([series([1.0], mode="TRAIN"), series([2.0], mode="EVAL")], "churn").axes

    assert legend(axes) == ["loss TRAIN", "loss EVAL"]


def test_the_deciding_tensor_is_always_among_the_ten_that_are_drawn():
    many = [series([1.0], f"weight{number:02}") for number in range(30)]

    axes = plots.of_verdict([*many, LOSS], fired(FALL), "R", "churn").axes[0]

    names = legend(axes)
    assert names[0] == "loss"
    assert len([name for name in names if name.startswith("weight")]) == 9
    assert "and 21 more, not drawn" in names


def test_a_plot_without_values_says_so():
    [axes] = plots.of_tensors([], "churn").axes

    assert axes.texts[0].get_text() == "no values to draw"


def test_names_are_drawn_as_they_are_even_if_they_look_like_formulas(tmp_path: Path):
    odd = series([1.0, 2.0], "_loss$\\frac$")
    file = tmp_path / "odd.png"

    figure = plots.of_tensors([odd], "50 $ $x^$")
    plots.save(figure, file)

    assert legend(figure.axes[0]) == [" _loss$\\frac$"]
    assert file.read_bytes().startswith(b"\x89PNG")
