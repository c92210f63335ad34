"""What `profile` prints for people: tables, histograms and a heat map over time, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from watcher.cli.tables import Table, print_facts, print_limited, print_line
from watcher.profiler_output.usage import Row, Usage, device, is_percentage, metric_name
from watcher.text import duration

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rules.profiler.data import Floats, SeriesKey
    from watcher.evaluation.profile import Profile

_BARS, _PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#%"
_SHADES, _PLAIN_SHADES = " ░▒▓█", " .:*#"
_NO_VALUE = "·"
_BIN_PAIRS = 2
"""How many bins of two points one character shows."""
MAX_LANES = 40
"""Lines of the heat map on a terminal without --all."""


def print_profile(profile: Profile, console: Console, *, show_all: bool) -> None:
    usage = profile.usage
    length = timedelta(seconds=round(usage.end - usage.begin))
    print_facts(
        [
            ("of", profile.name),
            ("from", profile.uri),
            ("time", f"{_time(usage.begin)} to {_time(usage.end)} UTC, {duration(length)}"),
            ("values", f"{usage.values:,}"),
            *(("note", note) for note in profile.notes),
            *(("left out", reason) for reason in profile.unreadable),
        ],
        console,
    )
    rows = [_row(row) for row in usage.rows()]
    if rows:
        columns = ("node", "metric", "device", "p5", "p50", "p95", "max", "values")
        print_limited(
            columns,
            rows,
            "devices: use --all",
            console,
            show_all=show_all,
            names=("node", "metric", "device"),
            optional=("values", "p5"),
        )
        _print_histograms(usage, console)
        _print_heat_map(usage, console, show_all=show_all)
    _print_rules(profile, console)


def _row(row: Row) -> tuple[str, ...]:
    show = _percent if is_percentage(row.key) else _number
    shown = (show(number) for number in (row.p5, row.p50, row.p95, row.greatest))
    return (row.key.node, metric_name(row.key), device(row.key), *shown, f"{row.count:,}")


def _percent(number: float) -> str:
    return f"{number:.2f} %"


def _number(number: float) -> str:
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.4g} {letter}"
    return f"{number:.4g}"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _lanes(usage: Usage) -> Iterator[tuple[str, str, list[SeriesKey]]]:
    """Node, metric and series of each percentage."""
    lanes: dict[tuple[str, str], list[SeriesKey]] = {}
    for key in usage.all_keys():
        if is_percentage(key):
            lanes.setdefault((key.node, metric_name(key)), []).append(key)
    yield from ((node, metric, keys) for (node, metric), keys in lanes.items())


def _print_histograms(usage: Usage, console: Console) -> None:
    rows = [(node, metric, bars(usage.histogram(node, metric), console)) for node, metric, _ in _lanes(usage)]
    if rows:
        title = "How often each percentage occurred, from 0 % (left) to 100 % (right)"
        Table(("node", "metric", "histogram"), rows, title=title, names=("node", "histogram")).print(console)


def bars(counts: NDArray[np.int64], console: Console) -> str:
    """A bar of one character for each four points; the highest bar is the most frequent."""
    levels = _BARS if _is_utf(console) else _PLAIN_BARS
    paired = counts.reshape(-1, _BIN_PAIRS).sum(axis=1)
    most = max(int(paired.max()), 1)
    heights = np.ceil(paired / most * (len(levels) - 1)).astype(int)
    return "|" + "".join(levels[height] for height in heights) + "|"


def _print_heat_map(usage: Usage, console: Console, *, show_all: bool) -> None:
    columns = usage.columns(60 if console.width >= 100 else 40)
    rows = [
        (key.node, metric, device(key), shades(usage.over_time([key], columns), console))
        for _, metric, keys in _lanes(usage)
        for key in keys
    ]
    if not rows:
        return
    shown = rows if show_all or not console.is_terminal else rows[:MAX_LANES]
    each = duration(timedelta(seconds=max(1, round((usage.end - usage.begin) / columns))))
    title = f"Means over time, {each} a character, from 0 % (light) to 100 % (dark)"
    headings = ("node", "metric", "device", "over time")
    Table(headings, shown, title=title, names=("node", "device", "over time")).print(console)
    if len(shown) < len(rows):
        print_line(console, f"… and {len(rows) - len(shown)} more devices: use --all")


def shades(means: Floats, console: Console) -> str:
    """A character for each mean of a percentage; a dot where there is none."""
    levels = _SHADES if _is_utf(console) else _PLAIN_SHADES
    gap = _NO_VALUE if _is_utf(console) else "_"
    return "|" + "".join(gap if np.isnan(mean) else levels[_level(mean, levels)] for mean in means) + "|"


def _level(mean: float, levels: Sequence[str]) -> int:
    return min(max(int(mean / 100 * len(levels)), 0), len(levels) - 1)


def _is_utf(console: Console) -> bool:
    return console.encoding.startswith("utf")


def _print_rules(profile: Profile, console: Console) -> None:
    rows = [
        (
            one.rule.name,
            one.verdict.status,
            one.verdict.explanation,
            one.rule.advice if one.verdict.status == "issues_found" else "",
        )
        for one in profile.judged
        if not one.rule.never_fires
    ]
    columns = ("rule", "verdict", "why", "advice")
    title = "Profiler rules"
    Table(columns, rows, title=title, names=("rule",), prose=("why", "advice")).print(console)
