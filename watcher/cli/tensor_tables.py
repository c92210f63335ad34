"""What `tensors` and `evaluate` print for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_facts, print_limited, print_line

if TYPE_CHECKING:
    from rules import Verdict
    from watcher.debug_output.series import Series, Value
    from watcher.evaluation.backtest import Backtest


def print_tensors(series: Sequence[Series], console: Console, *, show_all: bool) -> None:
    """One line per series. Not every series was read, but a tensor has the same shape in all of them."""
    shapes = {one.tensor: one.shape for one in series if one.shape is not None}
    rows = [
        (
            one.tensor,
            one.mode,
            one.worker,
            str(len(one.steps)),
            f"{one.steps[0]}" if len(one.steps) == 1 else f"{one.steps[0]} to {one.steps[-1]}",
            _shape(shapes.get(one.tensor)),
        )
        for one in series
    ]
    columns = ("tensor", "mode", "worker", "steps", "global steps", "shape")
    more = "tensors: use --all or --name REGEX"
    print_limited(columns, rows, more, console, show_all=show_all, prose=("tensor",))


def print_values(series: Sequence[Series], console: Console, *, show_all: bool) -> None:
    """One line per value, in order of step; a terminal shows the newest."""
    rows = sorted(
        (
            (step, mode_step, one, value)
            for one in series
            for step, mode_step, value in zip(one.steps, one.mode_steps, one.values, strict=True)
        ),
        key=lambda row: row[0],
    )
    kept = rows if show_all or not console.is_terminal else rows[-TERMINAL_ROWS_LIMIT:]
    if len(kept) < len(rows):
        print_line(console, f"{len(rows) - len(kept)} earlier ones are not shown: use --all")
    lines = [
        (str(step), one.mode, str(mode_step), one.worker, one.tensor, _value(value))
        for step, mode_step, one, value in kept
    ]
    columns = ("step", "mode", "mode step", "worker", "tensor", "value")
    Table(columns, lines, prose=("tensor",)).print(console)


def _shape(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return ""
    return " × ".join(map(str, shape)) if shape else "scalar"


def _value(value: Value | None) -> str:
    match value:
        case None:
            return ""
        case float() | int():
            return _number(value)
        case tuple():
            shape, low, high, mean = value
            numbers = "" if low is None else f", {_number(low)} to {_number(high)}, mean {_number(mean)}"
            return _shape(shape) + numbers
        case _:
            return str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def print_evaluation(run: Backtest, verdict: Verdict, console: Console) -> None:
    place = run.saved.output.uri
    print_facts(
        [
            ("rule", run.rule),
            ("on", place if run.saved.job is None else f"{run.saved.name} ({place})"),
            ("parameters", _settings(run.settings[0])),
            ("verdict", verdict.status),
            ("why", verdict.explanation),
            ("step", "" if verdict.step is None else str(verdict.step)),
            ("steps checked", str(verdict.steps_checked)),
            ("tensors", ", ".join(verdict.tensors)),
            *(("note", note) for note in verdict.notes),
        ],
        console,
    )
    rows = [
        (
            row.tensor,
            str(row.step),
            _number(row.value),
            "" if row.previous_step is None else str(row.previous_step),
            _number(row.previous_value),
            _number(row.threshold),
            _number(row.missed_by),
        )
        for row in verdict.evidence
    ]
    if rows:
        columns = ("tensor", "step", "value", "compared with step", "its value", "threshold", "missed by")
        Table(columns, rows, title="Evidence", prose=("tensor",)).print(console)


def _settings(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in parameters.items())


def print_sweep(rows: Sequence[Mapping[str, Any]], swept: Sequence[str], console: Console) -> None:
    """`rows` are those of `watcher.evaluation.backtest.row`."""
    lines = [
        (
            row["job"],
            *(row["parameters"][name] for name in swept),
            row["verdict"],
            "" if row["step"] is None else str(row["step"]),
            row["reason"],
        )
        for row in rows
    ]
    Table(("job", *swept, "verdict", "fires at step", "reason"), lines).print(console)
