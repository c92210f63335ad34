"""The page that `profile --html` writes: one file, without scripts, and without anything from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment

from watcher.profiler_output.usage import device, is_percentage, lane_label, metric_name
from watcher.text import shown

if TYPE_CHECKING:
    from watcher.evaluation.profile import Profile

COLUMNS, WIDTH = 120, 720
"""At most so many columns of the heat map, which together are so wide."""
_PERCENT, _NUMBER = "{:.2f} %", "{:,.4g}"


def page(profile: Profile) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=shown)
    template = resources.files("watcher.cli").joinpath("profile.html").read_text(encoding="utf-8")
    usage = profile.usage
    return environment.from_string(template).render(
        profile=profile,
        begin=_time(usage.begin),
        end=_time(usage.end),
        rows=[
            {
                "node": row.key.node,
                "metric": metric_name(row.key),
                "device": device(row.key),
                "numbers": [
                    (_PERCENT if is_percentage(row.key) else _NUMBER).format(number)
                    for number in (row.p5, row.p50, row.p95, row.greatest)
                ],
                "count": f"{row.count:,}",
            }
            for row in usage.rows()
        ],
        lanes=_lanes(profile),
        histograms=_histograms(profile),
        judged=[one for one in profile.judged if not one.rule.never_fires],
        width=WIDTH,
        cell=WIDTH // usage.columns(COLUMNS),
    )


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _lanes(profile: Profile) -> list[dict[str, Any]]:
    lanes, columns = [], profile.usage.columns(COLUMNS)
    for key in profile.usage.all_keys():
        if is_percentage(key):
            means = profile.usage.over_time([key], columns)
            cells = [(index, float(mean)) for index, mean in enumerate(means) if not np.isnan(mean)]
            lanes.append({"label": lane_label(key), "cells": cells})
    return lanes


def _histograms(profile: Profile) -> list[dict[str, Any]]:
    keys = (key for key in profile.usage.all_keys() if is_percentage(key))
    histograms = []
    for node, metric in dict.fromkeys((key.node, metric_name(key)) for key in keys):
        counts = profile.usage.histogram(node, metric)
        most = max(int(counts.max()), 1)
        heights = [(index, float(count) / most * 100) for index, count in enumerate(counts) if count]
        histograms.append({"label": f"{node} {metric}", "bars": heights})
    return histograms
