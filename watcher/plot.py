"""A picture of tensors over the steps, and of what a rule compared there.

Importing this module imports matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rules import Evidence, Status, Verdict
from watcher.series import GLOBAL, Series, Summary, Value, curve

MOST_CURVES = 10
"""As many colours as can be told apart."""
_DOTTED = 80
"""Points up to which each saved step is a dot of its own."""
_ALARM = "#c0392b"


def of_tensors(series: Sequence[Series], title: str) -> Figure:
    figure, axes = _blank(title)
    _draw(axes, series)
    _finish(axes)
    return figure


def of_verdict(series: Sequence[Series], verdict: Verdict, rule: str, job: str) -> Figure:
    """The tensors that the rule looked at, the values that it compared when it fired, and the value that
    would have satisfied it, where the evidence lets one say which that is."""
    fired = verdict.status is Status.ISSUES_FOUND
    at = f" at step {verdict.step}" if fired and verdict.step is not None else ""
    said = verdict.status.replace("_", " ")
    figure, axes = _blank(f"{rule}: {said}{at} · {job}", verdict.explanation)
    deciding = {row.tensor for row in verdict.evidence}
    drawn = _draw(axes, sorted(series, key=lambda one: one.tensor not in deciding))
    if fired and verdict.step is not None:
        axes.axvline(verdict.step, color=_ALARM, linewidth=1, linestyle=":", label="the rule fires")
    for row in verdict.evidence:
        _mark(axes, row, drawn)
    _finish(axes)
    return figure


def save(figure: Figure, file: Path) -> None:
    """The suffix says which format: `.png`, `.svg`, `.pdf`."""
    figure.savefig(file, dpi=120)


def level(row: Evidence) -> float | None:
    """The value that would just have satisfied the rule. None where the threshold is about something else
    than the value: a share of its elements, say.

    A threshold is in the parameter's unit. In which way it bears on the value shows in `missed_by`.
    """
    if row.threshold is None or row.missed_by is None:
        return None
    candidates = [(row.threshold, abs(row.value - row.threshold))]
    if row.previous_value is not None:
        fall = row.previous_value - row.value
        unit = abs(row.previous_value) / 100
        candidates.append((row.previous_value - row.threshold, row.threshold - fall))
        if unit:
            candidates.append((row.previous_value - row.threshold * unit, row.threshold - fall / unit))
    for needed, missed_by in candidates:
        if math.isclose(missed_by, row.missed_by, rel_tol=1e-6):
            return needed
    return None


def _blank(title: str, subtitle: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.add_subplot()
    lines = textwrap.wrap(subtitle, 120, max_lines=3, placeholder=" …")
    figure.suptitle(
        textwrap.shorten(title, 100, placeholder=" …"),
        x=0.01,
        horizontalalignment="left",
        fontweight="bold",
        parse_math=False,
    )
    axes.set_title("\n".join(lines), loc="left", fontsize="medium", parse_math=False)
    axes.set_xlabel("step (global)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw(axes: Axes, series: Sequence[Series]) -> list[Series]:
    """Gives those that are drawn."""
    several_workers = len({one.worker for one in series}) > 1
    drawn = list(series[:MOST_CURVES])
    for number, one in enumerate(drawn):
        words = [one.tensor]
        if one.mode != GLOBAL:
            words.append(one.mode)
        if several_workers:
            words.append(one.worker)
        lows, middles, highs = zip(*map(_extent, one.values), strict=True)
        if lows != highs:
            words.append("(mean, within least and greatest)")
            axes.fill_between(one.steps, lows, highs, color=f"C{number}", alpha=0.15, linewidth=0)
        dots = "." if len(middles) <= _DOTTED else ""
        axes.plot(one.steps, middles, color=f"C{number}", linewidth=1.5, marker=dots, label=" ".join(words))
    if len(series) > len(drawn):
        axes.plot([], [], linestyle="", label=f"and {len(series) - len(drawn)} more, not drawn")
    return drawn


def _extent(value: Value | None) -> tuple[float, float, float]:
    """Least, mean, greatest; NaN, which leaves a gap, where it is no number."""
    if isinstance(value, int | float):
        return value, value, value
    if isinstance(value, Summary) and value.min is not None and value.mean is not None:
        return value.min, value.mean, value.max or value.min
    return math.nan, math.nan, math.nan


def _mark(axes: Axes, row: Evidence, drawn: Sequence[Series]) -> None:
    points = [(row.step, row.value)]
    if row.previous_step is not None and row.previous_value is not None:
        points.insert(0, (row.previous_step, row.previous_value))
    if not any(_holds(one, points) for one in drawn):
        return  # a number about the tensor, such as its share of zeros, which none of the curves shows
    steps, values = zip(*points, strict=True)
    axes.scatter(steps, values, s=90, facecolors="none", edgecolors=_ALARM, zorder=3, label="compared")
    needed = level(row)
    if needed is not None:
        start = points[0] if len(points) > 1 else (drawn[0].steps[0], needed)
        wanted = [start[0], row.step], [start[1], needed]
        axes.plot(*wanted, color=_ALARM, linewidth=1.2, linestyle="--", label="what the rule wants")


def _holds(series: Series, points: Sequence[tuple[int, float]]) -> bool:
    values = dict(curve(series))
    return all(math.isclose(values.get(step, math.nan), value) for step, value in points)


def _finish(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    each_once = dict(zip(labels, handles, strict=True))
    if each_once:
        legend = axes.legend(each_once.values(), each_once.keys(), fontsize="small", framealpha=0.8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        axes.text(0.5, 0.5, "no values to draw", transform=axes.transAxes, horizontalalignment="center")
