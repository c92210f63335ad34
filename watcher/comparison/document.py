"""A comparison as a document: for JSON, for CSV, and for the tables that people read. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypedDict

from watcher.alerts.cost import spend
from watcher.alerts.hyperparameters import shown_hyperparameters
from watcher.comparison.compare import Comparison
from watcher.comparison.runs import Run, Source, differing
from watcher.model import ISSUES_FOUND
from watcher.text import in_row, instances


class MetricView(TypedDict):
    source: str
    last: float | None
    min: float | None
    max: float | None
    best: float | None
    curve: list[tuple[float, float]]
    """Over minutes of training, or over steps if the source is `tensors`."""


class RunView(TypedDict):
    rank: int
    job: str
    arn: str | None
    """None for a run that no training job made."""
    status: str
    created_at: datetime
    duration: float | None
    """Seconds."""
    cost: float | None
    currency: str | None
    """`USD`; empty if the cost is in instance-hours."""
    instances: str
    hyperparameters: Mapping[str, str]
    """Without possible secrets."""
    metric: MetricView | None
    findings: list[str]
    """The rules that found an issue."""
    problem: str | None
    """Why its tensors could not be read."""


class ComparisonView(TypedDict):
    metric: str | None
    """None if no run has one; then the newest run comes first."""
    direction: str
    """`rises` or `falls`: what is better."""
    direction_assumed: bool
    by: str
    differing: list[str]
    """The hyperparameters whose values differ."""
    runs: list[RunView]


class Around(NamedTuple):
    """What is known besides the runs themselves."""

    findings: Mapping[str, Sequence[str]]
    """The rules of the findings that the store has, by the identity of the run."""
    prices: Mapping[str, float]
    """US dollars an hour, by instance type."""
    now: datetime


def document(comparison: Comparison, around: Around) -> ComparisonView:
    goal = comparison.goal
    runs = [_run(rank, run, comparison, around) for rank, run in enumerate(comparison.runs, start=1)]
    return {
        "metric": goal.metric or None,
        "direction": "rises" if goal.rises else "falls",
        "direction_assumed": goal.assumed,
        "by": goal.by,
        "differing": differing([run["hyperparameters"] for run in runs]),
        "runs": runs,
    }


def _run(rank: int, run: Run, comparison: Comparison, around: Around) -> RunView:
    job = run.job
    money = spend(job, around.prices, around.now) if job else None
    lasted = run.duration(around.now)
    one = comparison.measured.get(run.id)
    found = [outcome.rule for outcome in job.outcomes if outcome.status == ISSUES_FOUND] if job else []
    return {
        "rank": rank,
        "job": run.name,
        "arn": job.arn if job else None,
        "status": run.status,
        "created_at": run.created_at,
        "duration": None if lasted is None else lasted.total_seconds(),
        "cost": money.so_far if money else None,
        "currency": money.currency if money else None,
        "instances": ", ".join(instances(*each) for each in job.instances) if job else "",
        "hyperparameters": shown_hyperparameters(run.parameters),
        "metric": {
            "source": one.source,
            "last": one.last,
            "min": one.min,
            "max": one.max,
            "best": one.by(comparison.goal.best),
            "curve": list(one.curve),
        }
        if one
        else None,
        "findings": list(dict.fromkeys([*found, *(around.findings.get(job.run, ()) if job else ())])),
        "problem": comparison.problems.get(run.id),
    }


_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def _in_csv(value: Any) -> Any:
    """Text on one line. An apostrophe precedes what a spreadsheet would take for a formula; numbers stay
    numbers."""
    if not isinstance(value, str):
        return value
    text = in_row(value).strip()
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def as_csv(shown: ComparisonView) -> str:
    """One line for each run, and one column for each hyperparameter that differs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")

    def write(cells: Iterable[Any]) -> None:
        writer.writerow(["" if cell is None else _in_csv(cell) for cell in cells])

    numbers = ("last", "min", "max", "best")
    write(
        ["rank", "job", "status", "created_at", "duration", "cost", "currency", "instances"]
        + [f"{shown['metric'] or 'metric'} {number}" for number in numbers]
        + shown["differing"]
        + ["findings"]
    )
    for run in shown["runs"]:
        metric: Mapping[str, Any] = run["metric"] or {}
        cells: list[Any] = [run["rank"], run["job"], run["status"], run["created_at"].isoformat()]
        cells += [run["duration"], run["cost"], run["currency"], run["instances"]]
        cells += [metric.get(number) for number in numbers]
        cells += [run["hyperparameters"].get(name) for name in shown["differing"]]
        write((*cells, " ".join(run["findings"])))
    return text.getvalue()


Curves = dict[str, list[tuple[float, float]]]
"""By rank and name of the run."""


def curves(shown: ComparisonView) -> tuple[Curves, str]:
    """The curves that can be drawn over each other, the best run first, and what they are drawn over. Minutes
    and steps do not go on one axis: what most runs have is drawn."""
    with_curves = [(run, run["metric"]) for run in shown["runs"] if run["metric"] and run["metric"]["curve"]]
    over_steps = [metric["source"] == Source.TENSORS for _, metric in with_curves]
    steps = sum(over_steps) * 2 > len(over_steps)
    drawn = {
        f"{run['rank']}. {run['job']}": metric["curve"]
        for (run, metric), by_step in zip(with_curves, over_steps, strict=True)
        if by_step == steps
    }
    return drawn, "step" if steps else "minutes of training"
