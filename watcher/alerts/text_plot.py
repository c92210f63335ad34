"""Draws curves as text, for a terminal or a log file.

Importing this module imports uniplot and numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from uniplot import plot_to_string

from watcher.alerts.curves import compared, curves, decided_at, logarithmic
from watcher.model import AlertEvidence

WIDTH, HEIGHT = 60, 10
"""In characters, without the axes. Fits into a panel on a terminal of 80 columns."""
MAX_CURVES = 4
_BARS = "▁▂▃▄▅▆▇█"
MAX_VALUE = 1e100
"""uniplot's arithmetic overflows with larger values, and with differences smaller than 1 / MAX_VALUE."""


def text_plot(evidence: AlertEvidence, *, colour: bool) -> str:
    """The last values of the tensors that decided, with a horizontal line at the value that the rule wants
    and a vertical one at the step where it fired. Empty if fewer than two values can be drawn."""
    drawn = _drawable(curves(evidence))
    wanted = [
        each.needed
        for each in compared(evidence)
        if each.curve in drawn and each.needed is not None and math.isfinite(each.needed)
    ]
    fired_at = decided_at(evidence)
    return _plot(drawn, wanted, fired_at, colour=colour)


def text_curves(curves: Mapping[str, Sequence[tuple[float, float]]], *, colour: bool) -> str:
    """The first curves of those that have at least two finite values, over each other. Empty if there is
    none."""
    return _plot(_drawable(curves), [], None, colour=colour)


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as one line of bars, at most `width` characters long; a gap where none is finite."""
    size = max(1, math.ceil(len(values) / width))
    parts = [values[first : first + size] for first in range(0, len(values), size)]
    heights = [[value for value in part if math.isfinite(value)] for part in parts]
    middles = [math.fsum(part) / len(part) if part else math.nan for part in heights]
    finite = [value for value in middles if math.isfinite(value)]
    if not finite:
        return ""
    low, span = min(finite), max(finite) - min(finite) or 1.0
    return "".join(
        _BARS[min(int((value - low) / span * len(_BARS)), len(_BARS) - 1)] if math.isfinite(value) else " "
        for value in middles
    )


Curves = Mapping[str, Sequence[tuple[float, float]]]


def _drawable(curves: Curves) -> dict[str, list[tuple[float, float]]]:
    finite = {
        name: [(step, value) for step, value in points if math.isfinite(value)]
        for name, points in curves.items()
    }
    return dict([(name, points) for name, points in finite.items() if len(points) > 1][:MAX_CURVES])


def _plot(drawn: Curves, wanted: Sequence[float], fired_at: int | None, *, colour: bool) -> str:
    if not drawn:
        return ""
    values = [value for points in drawn.values() for _, value in points] + list(wanted)
    in_powers = logarithmic(values)
    low, high = _height(min(values), in_powers), _height(max(values), in_powers)
    margin = (high - low) / 20 or abs(high) / 20 or 1.0
    if max(map(abs, values)) > MAX_VALUE or margin < 1 / MAX_VALUE:
        return ""
    steps = [float(step) for points in drawn.values() for step, _ in points]
    steps += [] if fired_at is None else [fired_at]
    side_margin = (max(steps) - min(steps)) / WIDTH or 1.0  # uniplot does not draw a line on the edge itself
    text: str = plot_to_string(
        xs=[[step for step, _ in points] for points in drawn.values()],
        ys=[[_height(value, in_powers) for _, value in points] for points in drawn.values()],
        lines=True,
        width=WIDTH,
        height=HEIGHT,
        color=colour and len(drawn) > 1,
        legend_labels=list(drawn),
        x_min=min(steps) - side_margin,
        x_max=max(steps) + side_margin,
        y_min=low - margin,
        y_max=high + margin,
        y_gridlines=[_height(value, in_powers) for value in wanted],
        x_gridlines=[] if fired_at is None else [fired_at],
    )
    top, *lines = text.splitlines()
    for row in range(HEIGHT):
        height = high + margin - (row + 0.5) * (high - low + 2 * margin) / HEIGHT
        lines[row] = _labelled(lines[row], row, 10**height if in_powers else height)
    marks = [f"─ the rule wants {value:.6g}" for value in wanted[:1]]
    marks += [] if fired_at is None else [f"│ fired at step {fired_at}"]
    marks += ["powers of ten"] if in_powers else []
    return "\n".join(line.rstrip() for line in (top, *lines, "   ".join(marks))).rstrip()


def _height(value: float, in_powers: bool) -> float:
    return math.log10(value) if in_powers else value


def _labelled(line: str, row: int, value: float) -> str:
    """The line, with a label at every third row. uniplot's own labels are not used, because it rounds them to
    whole numbers even if they are half a unit apart."""
    line = line[: line.rindex("│") + 1]
    return f"{line} {value:.4g}" if row % 3 == 0 else line
