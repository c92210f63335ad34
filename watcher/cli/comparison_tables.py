"""What `compare` and `metrics` print for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.text import Text

from watcher.cli.tables import Table, print_limited, print_line, print_text
from watcher.text import duration

if TYPE_CHECKING:
    from rich.console import Console

    from watcher.comparison.document import ComparisonView, RunView
    from watcher.comparison.runs import Measured

SPARKLINE_CELLS = 24


def print_comparison(shown: ComparisonView, console: Console, *, show_all: bool) -> None:
    rows = [
        (
            str(run["rank"]),
            run["job"],
            run["status"],
            *_numbers(run),
            "" if run["duration"] is None else duration(timedelta(seconds=run["duration"])),
            _cost(run),
            *(run["hyperparameters"].get(name, "") for name in shown["differing"]),
            ", ".join(run["findings"]),
        )
        for run in shown["runs"]
    ]
    print_line(console, _ranking(shown))
    columns = ("#", "job", "status", "last", "best", "duration", "cost", *shown["differing"], "findings")
    # The least telling of the hyperparameters, which come in the order of what people tune, go first, and the
    # number that the runs are ranked by goes last.
    unranked, ranked = ("best", "last") if shown["by"] == "last" else ("last", "best")
    optional = ("cost", "duration", *reversed(shown["differing"]), unranked, "status", ranked)
    print_limited(
        columns,
        rows,
        "runs: use --all",
        console,
        show_all=show_all,
        names=("#", "job"),
        prose=("findings",),
        optional=optional,
    )
    for run in shown["runs"]:
        if run["problem"]:
            print_line(console, f"{run['job']}: its tensors could not be read: {run['problem']}")


def _ranking(shown: ComparisonView) -> str:
    if shown["metric"] is None:
        return "none of these runs has values in CloudWatch, or has saved losses: the newest comes first"
    better = "higher" if shown["direction"] == "rises" else "lower"
    by = {"last": "last value", "min": "least value", "max": "greatest value"}[shown["by"]]
    assumed = " (assumed: --maximize says otherwise)" if shown["direction_assumed"] else ""
    return f"{shown['metric']}: {better} is better{assumed}, ranked by the {by}"


def _numbers(run: RunView) -> tuple[str, str]:
    metric = run["metric"]
    return (_number(metric["last"]), _number(metric["best"])) if metric else ("", "")


def _cost(run: RunView) -> str:
    if run["cost"] is None:
        return ""
    return f"${run['cost']:,.2f}" if run["currency"] else f"{run['cost']:,.2f} instance-hours"


def print_curves(curves: Mapping[str, Sequence[tuple[float, float]]], over: str, console: Console) -> None:
    """Only on a terminal: in a file, the numbers are of more use."""
    if not console.is_terminal:
        return
    from watcher.alerts.text_plot import MAX_CURVES, text_curves

    drawn = text_curves(curves, colour=console.color_system is not None)
    if drawn:
        print_line(console, f"\nover {over}")
        print_text(Text.from_ansi(drawn), console)
        if len(curves) > MAX_CURVES:
            print_line(console, f"{MAX_CURVES} of {len(curves)} curves are drawn: --plot FILE draws more")


def print_metrics(metrics: Mapping[str, Measured], console: Console) -> None:
    """One line for each metric, with its curve as bars where the terminal has them."""
    from watcher.alerts.text_plot import sparkline

    utf = console.encoding.startswith("utf")
    values = {name: [value for _, value in one.curve] for name, one in metrics.items()}
    rows = [
        (
            name,
            str(len(values[name])),
            _number(values[name][0] if values[name] else None),
            _number(one.last),
            _number(one.min),
            _number(one.max),
            *([sparkline(values[name], SPARKLINE_CELLS)] if utf else []),
        )
        for name, one in metrics.items()
    ]
    columns = ("metric", "values", "first", "last", "min", "max", *(["curve"] if utf else []))
    Table(columns, rows, names=("metric",), optional=("curve",)).print(console)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
