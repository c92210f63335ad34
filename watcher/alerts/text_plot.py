"""Draws curves as text, for a terminal or a log file.

Importing this module imports uniplot and numpy.
"""

from __future__ import annotations

import math

from uniplot import plot_to_string

from watcher.alerts.curves import compared, curves, decided_at, logarithmic
from watcher.model import AlertEvidence

WIDTH, HEIGHT = 60, 10
"""Characters, without the axes: fits into a panel on a terminal of 80 columns."""
CURVES_LIMIT = 4
VALUE_LIMIT = 1e100
"""With larger values, and with smaller differences than its inverse, uniplot's arithmetic overflows."""


def text_plot(evidence: AlertEvidence, *, colour: bool) -> str:
    """The last values of the tensors that decided, with a horizontal line at the value that the rule wants
    and a vertical one at the step where it fired. Empty if fewer than two values can be drawn."""
    finite = {
        name: [(step, value) for step, value in points if math.isfinite(value)]
        for name, points in curves(evidence).items()
    }
    drawn = dict([(name, points) for name, points in finite.items() if len(points) > 1][:CURVES_LIMIT])
    if not drawn:
        return ""
    wanted = [
        each.needed
        for each in compared(evidence)
        if each.curve in drawn and each.needed is not None and math.isfinite(each.needed)
    ]
    values = [value for points in drawn.values() for _, value in points] + wanted
    in_powers = logarithmic(values)
    low, high = _height(min(values), in_powers), _height(max(values), in_powers)
    margin = (high - low) / 20 or abs(high) / 20 or 1.0
    if max(map(abs, values)) > VALUE_LIMIT or margin < 1 / VALUE_LIMIT:
        return ""
    fired_at = decided_at(evidence)
    steps = [step for points in drawn.values() for step, _ in points]
    steps += [] if fired_at is None else [fired_at]
    beside = (max(steps) - min(steps)) / WIDTH or 1.0  # a line on the edge itself would not be drawn
    text: str = plot_to_string(
        xs=[[step for step, _ in points] for points in drawn.values()],
        ys=[[_height(value, in_powers) for _, value in points] for points in drawn.values()],
        lines=True,
        width=WIDTH,
        height=HEIGHT,
        color=colour and len(drawn) > 1,
        legend_labels=list(drawn),
        x_min=min(steps) - beside,
        x_max=max(steps) + beside,
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
    """The line with its value at every third row. uniplot rounds its own labels to whole numbers even when
    they are half a unit apart."""
    line = line[: line.rindex("│") + 1]
    return f"{line} {value:.4g}" if row % 3 == 0 else line
