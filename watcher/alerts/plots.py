"""Draws tensors over the steps, and what a rule compared on them.

Importing this module imports matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rules import Evidence, Status, Verdict
from watcher.alerts.curves import compared, curves, decided_at, holds, logarithmic
from watcher.debug_output.series import GLOBAL, Series, Summary, Value, curve
from watcher.model import AlertEvidence, Finding
from watcher.text import one_line, truncated

LARGE_INCHES, SMALL_INCHES = (12.0, 5.5), (7.0, 4.2)
"""Both have the same font size, so text looks larger in the small one when a chat shows it."""
MAX_CURVES = 10
"""matplotlib has as many distinguishable colours."""
MAX_LABEL_CHARACTERS = 120
"""Of a curve's name."""
_MAX_DOTS = 80
"""A curve of more steps has no dots."""
_ZOOM_BELOW_SHARE = 0.25
"""Of the steps. If the compared values span a smaller share, an enlarged second plot shows them."""
_ALARM_COLOUR = "#c0392b"


class _Comparison(NamedTuple):
    """What a rule compared, on the curve that it lies on."""

    curve: Series
    points: list[tuple[int, float]]
    needed: float | None
    """The value of the last point that would have satisfied the rule."""


def of_tensors(series: Sequence[Series], title: str) -> Figure:
    figure = _titled(title)
    axes = _axes(figure)
    _draw(axes, series)
    _add_legend(axes)
    return figure


def of_verdict(series: Sequence[Series], verdict: Verdict, rule: str, job: str) -> Figure:
    """The tensors that the rule read and, if it fired, the values that it compared and the value that would
    have satisfied it, if the evidence has one."""
    fired_at = verdict.step if verdict.status is Status.ISSUES_FOUND else None
    at = "" if fired_at is None else f" at step {fired_at}"
    figure = _titled(f"{rule}: {verdict.status.replace('_', ' ')}{at} · {job}", verdict.explanation)
    deciding = {row.tensor for row in verdict.evidence}
    series = sorted(series, key=lambda one: one.tensor not in deciding)
    _draw_comparisons(figure, series, list(_comparisons(verdict.evidence, series[:MAX_CURVES])), fired_at)
    return figure


def of_curves(curves: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str, y: str) -> Figure:
    """Curves over each other, each under its name. `x` and `y` say what the axes are."""
    figure = _titled(title)
    axes = _axes(figure, x=x)
    axes.set_ylabel(_label(y), parse_math=False)
    for name, points in list(curves.items())[:MAX_CURVES]:
        _curve(axes, name, points)
    if len(curves) > MAX_CURVES:
        axes.plot([], [], linestyle="", label=f"and {len(curves) - MAX_CURVES} more, not drawn")
    if logarithmic(value for points in curves.values() for _, value in points):
        axes.set_yscale("log")
    _add_legend(axes)
    return figure


def of_panels(curves: Mapping[str, Sequence[tuple[float, float]]], title: str, x: str) -> Figure:
    """Each curve in a plot of its own, two in a row."""
    columns = min(len(curves), 2) or 1
    rows = math.ceil(len(curves) / columns) or 1
    figure = _titled(title, size=(LARGE_INCHES[0], max(LARGE_INCHES[1], 3.0 * rows)))
    for number, (name, points) in enumerate(curves.items(), start=1):
        axes = _axes(figure, number, columns, rows=rows, x=x)
        axes.set_title(_label(name), fontsize="medium", parse_math=False)
        _curve(axes, name, points)
    return figure


def of_evidence(evidence: AlertEvidence, finding: Finding) -> Figure:
    """The picture of an alert: the last values of the tensors that decided, the compared values, and the
    value that would have satisfied the rule. Its letters are large, because a chat shows it small."""
    series = {name: Series(name, GLOBAL, "") for name in curves(evidence)}
    for name, points in curves(evidence).items():
        for step, value in points:
            series[name].add(step, step, value)
    comparisons = [_Comparison(series[each.curve], each.points, each.needed) for each in compared(evidence)]
    at = "" if finding.step is None else f" at step {finding.step}"
    figure = _titled(
        f"{finding.rule}{at} · {finding.job}", evidence.explanation, evidence.curve_from, size=SMALL_INCHES
    )
    _draw_comparisons(figure, list(series.values()), comparisons, decided_at(evidence))
    return figure


def png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160)
    return content.getvalue()


def save(figure: Figure, file: Path) -> None:
    """The suffix chooses the format: `.png`, `.svg`, `.pdf`."""
    figure.savefig(file, dpi=120)


# -- the parts ------------------------------------------------------------------------------------


def _draw_comparisons(
    figure: Figure, series: Sequence[Series], comparisons: Sequence[_Comparison], fired_at: int | None
) -> None:
    """The whole curves and, if the compared values are too close together on them, a second, enlarged
    plot."""
    close = _window(comparisons, series)
    whole = _axes(figure, 1, 2 if close else 1)
    for axes in (whole, _axes(figure, 2, 2)) if close else (whole,):
        _draw(axes, series)
        if fired_at is not None:
            axes.axvline(fired_at, color=_ALARM_COLOUR, linewidth=1, linestyle=":", label="the rule fires")
        for each in comparisons:
            _mark(axes, each)
    drawn = [height for one in series[:MAX_CURVES] for value in one.values for height in _extent(value)]
    if logarithmic([*drawn, *(each.needed for each in comparisons if each.needed is not None)]):
        whole.set_yscale("log")
    if close:
        _zoom(figure.axes[1], close, comparisons)
    _add_legend(whole)


def _titled(title: str, *sentences: str, size: tuple[float, float] = LARGE_INCHES) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    characters = round(11 * size[0])
    lines = [textwrap.shorten(one_line(title), characters, placeholder=" …")]
    for sentence in sentences:
        lines += textwrap.wrap(one_line(sentence), characters, max_lines=3, placeholder=" …")
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize="medium", parse_math=False)
    return figure


def _axes(figure: Figure, number: int = 1, of: int = 1, *, rows: int = 1, x: str = "step (global)") -> Axes:
    """`of`: how many plots there are in a row."""
    axes = figure.add_subplot(rows, of, number)
    axes.set_xlabel(x)
    axes.xaxis.set_major_locator(MaxNLocator(8 // of, integer=True))  # steps of seven digits side by side
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _curve(axes: Axes, name: str, points: Sequence[tuple[float, float]]) -> None:
    dots = "." if len(points) <= _MAX_DOTS else ""
    places, values = [place for place, _ in points], [value for _, value in points]
    axes.plot(places, values, linewidth=1.5, marker=dots, label=_label(name))


def _label(*words: str) -> str:
    """Text from outside, as matplotlib may draw it."""
    label = truncated(one_line(" ".join(words)), MAX_LABEL_CHARACTERS)
    return f" {label}" if label.startswith("_") else label  # "_" hides it in legends


def _draw(axes: Axes, series: Sequence[Series]) -> None:
    several_workers = len({one.worker for one in series}) > 1
    for number, one in enumerate(series[:MAX_CURVES]):
        words = [one.tensor]
        if one.mode != GLOBAL:
            words.append(one.mode)
        if several_workers:
            words.append(one.worker)
        if any(isinstance(value, Summary) for value in one.values):
            words.append("(mean, shaded from min to max)")
        lows, middles, highs = zip(*map(_extent, one.values), strict=True)
        colour, dots = f"C{number}", "." if len(middles) <= _MAX_DOTS else ""
        axes.plot(one.steps, middles, color=colour, linewidth=1.5, marker=dots, label=_label(*words))
        axes.fill_between(one.steps, lows, highs, color=colour, alpha=0.15, linewidth=0)
    if len(series) > MAX_CURVES:
        axes.plot([], [], linestyle="", label=f"and {len(series) - MAX_CURVES} more, not drawn")


def _extent(value: Value | None) -> tuple[float, float, float]:
    """Minimum, mean, maximum; NaN, which leaves a gap, if there are no numbers."""
    match value:
        case float() | int():
            return value, value, value
        case Summary(_, float(least), float(greatest), float(mean)):
            return least, mean, greatest
        case _:
            return math.nan, math.nan, math.nan


def _comparisons(evidence: Sequence[Evidence], drawn: Sequence[Series]) -> Iterator[_Comparison]:
    """The values that the rule compared, if they are on a drawn curve. Numbers derived from a tensor, such as
    its share of zeros, are not."""
    for row in evidence:
        points = [(row.step, row.value)]
        if row.previous_step is not None and row.previous_value is not None:
            points.insert(0, (row.previous_step, row.previous_value))
        own = [one for one in drawn if one.tensor == row.tensor]
        if on := next((one for one in own or drawn if holds(curve(one), points)), None):
            yield _Comparison(on, points, row.needed)


def _mark(axes: Axes, compared: _Comparison) -> None:
    steps, values = zip(*compared.points, strict=True)
    axes.scatter(steps, values, s=90, facecolors="none", edgecolors=_ALARM_COLOUR, zorder=3, label="compared")
    if compared.needed is None:
        return
    bound = len(compared.points) == 1
    start = (compared.curve.steps[0], compared.needed) if bound else compared.points[0]
    axes.plot(
        [start[0], steps[-1]],
        [start[1], compared.needed],
        color=_ALARM_COLOUR,
        linewidth=1.2,
        linestyle="--",
        marker="_",
        markevery=[1],
        label="what the rule wants",
    )


def _window(comparisons: Sequence[_Comparison], series: Sequence[Series]) -> range | None:
    """The steps around the compared values; None if the whole plot shows them large enough."""
    compared = [step for each in comparisons for step, _ in each.points]
    saved = sorted({step for one in series for step in one.steps})
    if not compared or len(saved) < 2:
        return None
    between = saved[1] - saved[0]
    margin = max(max(compared) - min(compared), 3 * between)
    window = range(min(compared) - margin, max(compared) + margin + 1)
    return window if len(window) < _ZOOM_BELOW_SHARE * (saved[-1] - saved[0]) else None


def _zoom(axes: Axes, window: range, comparisons: Sequence[_Comparison]) -> None:
    """Limit the axes to these steps, the values there, and the needed values."""
    heights = [
        value
        for each in comparisons
        for value in (each.needed, *(value for step, value in curve(each.curve) if step in window))
        if value is not None and math.isfinite(value)
    ]
    margin = (max(heights) - min(heights)) / 10 or abs(heights[0]) / 10 or 1
    axes.set_xlim(window.start, window.stop - 1)
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    axes.set_title("where the rule fired", fontsize="medium")


def _add_legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    each_once = dict(zip(labels, handles, strict=True))
    if each_once:
        legend = axes.legend(each_once.values(), each_once.keys(), fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        axes.text(0.5, 0.5, "no values to draw", transform=axes.transAxes, ha="center")
