"""A curve as text, for a terminal or a log file.

Importing this module imports uniplot, and numpy with it.
"""

from __future__ import annotations

import math

from uniplot import plot_to_string

from watcher.model import Evidence

WIDTH, HEIGHT = 60, 10
"""In characters, without the axes: a panel on a terminal of 80 columns holds it."""
MOST_CURVES = 4
LARGEST = 1e100
"""Beyond it, uniplot's arithmetic overflows."""


def text_plot(evidence: Evidence, step: int | None, *, colour: bool) -> str:
    """The last values of the tensors that decided; a line across at what the rule wants, and one upwards at
    the step where it fired. Empty where there are not two numbers to draw a line between, or none that
    can be drawn."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for reading in evidence.curve:
        if math.isfinite(reading.value):
            curves.setdefault(reading.tensor, []).append((reading.step, reading.value))
    drawn = {name: points for name, points in curves.items() if len(points) > 1}
    drawn = dict(list(drawn.items())[:MOST_CURVES])
    if not drawn:
        return ""
    steps = [[step for step, _ in points] for points in drawn.values()]
    values = [[value for _, value in points] for points in drawn.values()]
    wanted = [each.value for each in evidence.needed if each.tensor in drawn and math.isfinite(each.value)]
    low, high = min(map(min, [*values, wanted or values[0]])), max(map(max, [*values, wanted or values[0]]))
    margin = (high - low) / 20 or abs(high) / 20 or 1.0
    if max(abs(low), abs(high)) > LARGEST or margin < 1 / LARGEST:
        return ""
    text: str = plot_to_string(
        xs=steps,
        ys=values,
        lines=True,
        width=WIDTH,
        height=HEIGHT,
        color=colour and len(drawn) > 1,
        legend_labels=list(drawn),
        y_min=low - margin,
        y_max=high + margin,
        y_gridlines=wanted,
        x_gridlines=[] if step is None else [step],
    )
    top, *rows, bottom = text.splitlines()[: HEIGHT + 2]
    below = text.splitlines()[HEIGHT + 2 :]
    rows = [_labelled(row, high + margin, low - margin, number) for number, row in enumerate(rows)]
    marks = [f"─ what the rule wants: {value:.6g}" for value in wanted[:1]]
    marks += [] if step is None else [f"│ step {step}: the rule fires"]
    lines = [top, *rows, bottom, *below, "   ".join(marks)]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _labelled(row: str, top: float, bottom: float, number: int) -> str:
    """With the value at every third row. uniplot's own labels are whole numbers where the step is half of
    one."""
    row = row[: row.rindex("│") + 1]
    value = top - (number + 0.5) * (top - bottom) / HEIGHT
    return f"{row} {value:.4g}" if number % 3 == 0 else row
