"""Draws how a job used its instances: means over time as a heat map, and histograms.

Importing this module imports matplotlib, which the extra `plot` installs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from watcher.evaluation.profile import Profile
from watcher.profiler_output.usage import BIN_POINTS, COLUMNS, is_percentage, lane_label, metric_name
from watcher.text import one_line, truncated

MAX_LANES = 64
"""Lines of the heat map: more cannot be told apart."""

MINUTES_SUFFICE_S = 600
"""Of a shorter time, the axis shows seconds."""


def save(profile: Profile, file: Path) -> None:
    """The suffix chooses the format: `.png`, `.svg`, `.pdf`."""
    of_profile(profile).savefig(file, dpi=120)


def of_profile(profile: Profile) -> Figure:
    usage = profile.usage
    keys = [key for key in usage.all_keys() if is_percentage(key)]
    drawn = keys[:MAX_LANES]
    lanes = [(key.node, metric_name(key)) for key in keys]
    histograms = list(dict.fromkeys(lanes))[:6]
    figure = Figure(figsize=(12, 3.5 + 0.2 * max(len(drawn), 4)), layout="constrained")
    figure.suptitle(truncated(one_line(profile.name), 120), x=0.01, ha="left", parse_math=False)
    if not drawn:
        figure.text(0.5, 0.5, "no percentages to draw", ha="center")
        return figure
    grid = figure.add_gridspec(2, len(histograms), height_ratios=(0.2 * max(len(drawn), 4) + 0.5, 2.2))
    axes = figure.add_subplot(grid[0, :])
    columns = usage.columns(COLUMNS)
    heat = np.array([usage.over_time([key], columns) for key in drawn])
    image = axes.imshow(heat, aspect="auto", cmap="viridis", vmin=0, vmax=100, interpolation="nearest")
    labels = [truncated(one_line(lane_label(key)), 48) for key in drawn]
    axes.set_yticks(range(len(drawn)), labels, fontsize=7, parse_math=False)
    length = usage.end - usage.begin
    ticks = np.linspace(0, 1, 7)
    times = [datetime.fromtimestamp(usage.begin + tick * length, UTC) for tick in ticks]
    clock = "%H:%M:%S" if length < MINUTES_SUFFICE_S else "%H:%M"
    labels = [f"{time.strftime(clock)}\n{time:%d %b}" for time in times]
    axes.set_xticks(ticks * columns - 0.5, labels, fontsize=8)  # a column is drawn around its number
    more = f", {len(keys) - len(drawn)} more are not drawn" if len(keys) > len(drawn) else ""
    axes.set_title(f"means over time (UTC){more}", fontsize="medium")
    figure.colorbar(image, ax=axes, label="%")
    for number, (node, metric) in enumerate(histograms):
        plot = figure.add_subplot(grid[1, number])
        counts = usage.histogram(node, metric)
        plot.bar(np.arange(len(counts)) * BIN_POINTS, counts, width=BIN_POINTS, align="edge")
        plot.set_title(truncated(one_line(f"{node} {metric}"), 30), fontsize=8, parse_math=False)
        plot.set_xlim(0, 100)
        plot.set_xlabel("%", fontsize=7)
        plot.set_ylabel("values", fontsize=7)
        plot.tick_params(labelsize=7)
        plot.spines[["top", "right"]].set_visible(False)
    return figure
