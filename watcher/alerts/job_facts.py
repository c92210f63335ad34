"""Collects what a message says about the training job, the same for every kind of finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from watcher.alerts.cost import Spend, remaining, runtime, spend
from watcher.alerts.hyperparameters import shown_hyperparameters
from watcher.model import Finding, JobSnapshot, Judge, Outcome
from watcher.redaction import without_secrets
from watcher.text import duration, truncated

MAX_LISTED = 8
"""Hyperparameters, and tags, in a message for people. A webhook gets all of them."""
MAX_LISTED_TEXT = 40
"""Characters of a listed name or value."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The job when the message was composed. Possible secrets are left out."""

    status: str
    secondary_status: str
    ended: bool
    runtime: timedelta | None
    """How long the job has trained; None if training has not begun."""
    max_runtime: timedelta | None
    """None if it has no such limit."""
    remaining: timedelta | None
    """How much longer the job can train; see `cost.remaining`."""
    instances: tuple[tuple[str, int], ...]
    """Type and count of each group."""
    spot: bool
    spend: Spend | None
    hyperparameters: Mapping[str, str]
    """Those that the job's owner chose, the most informative first."""
    experiment: str
    trial: str
    tags: Mapping[str, str] | None
    """The owner's, without those of AWS (`aws:…`); None if they were not read."""
    debug_output: str
    """`s3://bucket/path`, or empty."""


def facts(job: JobSnapshot, prices: Mapping[str, float], now: datetime) -> Facts:
    """`prices`: US dollars an hour, by instance type."""
    return Facts(
        status=job.status,
        secondary_status=job.secondary_status,
        ended=job.ended,
        runtime=runtime(job, now),
        max_runtime=timedelta(seconds=job.max_runtime) if job.max_runtime else None,
        remaining=remaining(job, now),
        instances=job.instances,
        spot=job.spot,
        spend=spend(job, prices, now),
        hyperparameters=shown_hyperparameters(job.hyperparameters),
        experiment=job.experiment,
        trial=job.trial,
        tags=None if job.tags is None else _own(job.tags),
        debug_output=job.debug_output,
    )


def debugger_outcome(finding: Finding, job: JobSnapshot) -> Outcome | None:
    """The outcome of the rule's processing job, even if Watcher found the issue itself.

    None if SageMaker has no job that evaluates the rule.
    """
    key = (finding.family, Judge.DEBUGGER, finding.rule)
    return next((outcome for outcome in job.outcomes if outcome.key == key), None)


def cost(facts: Facts) -> Iterator[tuple[str, str]]:
    """Label and value: how long, on which instances, what it costs, and what stopping saves."""
    if facts.runtime is not None:
        yield "Ran for" if facts.ended else "Running for", duration(facts.runtime)
    if facts.instances:
        groups = " and ".join(f"{count} × {type_}" for type_, count in facts.instances)
        yield "Instances", f"{groups} (spot)" if facts.spot else groups
    if (spend := facts.spend) is None:
        return
    so_far = f"{'at most ' if spend.at_most else ''}{spend.formatted(spend.so_far)}"
    rate = f", at {spend.formatted(spend.an_hour)} an hour" if spend.currency and not facts.ended else ""
    yield "Cost" if facts.ended else "Spend so far", so_far + rate
    if spend.saved_by_stopping and facts.remaining:
        label = "Stopping saved" if facts.ended else "Stopping now saves"
        left = f"{duration(facts.remaining)} until MaxRuntimeInSeconds"
        yield label, f"up to {spend.formatted(spend.saved_by_stopping)} ({left})"


def particulars(facts: Facts) -> Iterator[tuple[str, str]]:
    """Label and value: what distinguishes this run from others."""
    if facts.hyperparameters:
        yield "Hyperparameters", _listed(facts.hyperparameters)
    if facts.experiment:
        yield "Experiment", f"{facts.experiment}, trial {facts.trial}" if facts.trial else facts.experiment
    if facts.tags:
        yield "Tags", _listed(facts.tags)


def _own(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(without_secrets(tags).items()) if not key.startswith("aws:")}


def _listed(named: Mapping[str, str]) -> str:
    shown = [
        f"{truncated(name, MAX_LISTED_TEXT)} = {truncated(value, MAX_LISTED_TEXT)}"
        for name, value in islice(named.items(), MAX_LISTED)
    ]
    more = len(named) - len(shown)
    return " · ".join([*shown, f"and {more} more"] if more else shown)
