"""Reads one metric of many runs: from CloudWatch in as few requests as it allows, or from saved tensors.

CloudWatch keeps the least and the greatest value of each period, so both are exact however long the period
is. The last value is the one in the job's own record. What an experiment knows of a metric comes before both.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain

from rules.selection import Selection
from watcher.aws import metrics
from watcher.aws.accounts import Accounts
from watcher.aws.metrics import Metrics, MetricSeries, Query, Statistic
from watcher.aws.session import Aws
from watcher.comparison.runs import Measured, Point, Run, Source, same_metric
from watcher.debug_output import reader, series
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.errors import WatcherError
from watcher.evaluation.metric_window import ended_at
from watcher.model import JobSnapshot

MAX_VALUES = metrics.VALUES_PER_PAGE
"""About how many values of all curves together are read, so that the answer has one page."""
READERS = 8
"""How many runs' tensors are read at a time."""
STEPS_WITH_ALL_NAMES = 8
"""Among so many steps, one is likely to have the tensors that are saved less often, such as those of
validation."""
_WHOLE_S = 86_400
"""Seconds. A period so long that an answer says little more than whether there is a value."""
_STATISTICS = (Statistic.AVERAGE, Statistic.MINIMUM, Statistic.MAXIMUM)
_MODES = ("EVAL", "TRAIN", "GLOBAL", "PREDICT")
"""Which values of a tensor count if it has some of several modes: the first of these."""


def from_cloudwatch(
    runs: Iterable[Run], metric: str, accounts: Accounts, now: datetime
) -> dict[str, Measured]:
    """By the ids of the runs; those that have no value of the metric are left out.

    All runs of an account and region are read with one request for each 166 of them. Raises `AwsError`.
    """
    by_place: defaultdict[Aws, dict[str, JobSnapshot]] = defaultdict(dict)
    for run in runs:
        if run.job and metric in run.metrics:
            by_place[accounts.of(run.job.arn)][run.id] = run.job
    found: dict[str, Measured] = {}
    for place, jobs in by_place.items():
        read = _read(place, [(job, metric) for job in jobs.values()], now)
        found |= {id_: one for id_, one in zip(jobs, read, strict=True) if one}
    return found


def of_job(aws: Aws, job: JobSnapshot, names: Sequence[str], now: datetime) -> dict[str, Measured]:
    """Metrics of one job, by their names; those without a value are left out. Raises `AwsError`."""
    read = _read(aws, [(job, name) for name in names], now)
    return {name: one for name, one in zip(names, read, strict=True) if one}


def _read(aws: Aws, asked: Sequence[tuple[JobSnapshot, str]], now: datetime) -> list[Measured | None]:
    """In the order of `asked`."""
    spans = [_span(job, now) for job, _ in asked]
    period = common_period([span for span in spans if span], now)
    queries = [
        [query(job.name, metric, period, span, statistic) for statistic in _STATISTICS]
        # CloudWatch would refuse the whole request for a name that is not ASCII.
        if span and metric.isascii()
        else []
        for (job, metric), span in zip(asked, spans, strict=True)
    ]
    answers = Metrics(aws).read_whole(chain.from_iterable(queries))
    return [
        measured(job, metric, [answers[each] for each in of_metric])
        for (job, metric), of_metric in zip(asked, queries, strict=True)
    ]


def written_names(runs: Sequence[Run], accounts: Accounts, now: datetime) -> list[list[str]]:
    """Which of the metrics that the newest runs define have a value in CloudWatch, with one request for about
    500 of them. Empty for the other runs. Raises `AwsError`."""
    names: dict[str, list[str]] = {run.id: [] for run in runs}
    by_place: defaultdict[Aws, dict[Query, str]] = defaultdict(dict)
    newest_first = sorted((run for run in runs if run.job), key=lambda run: run.created_at, reverse=True)
    left = metrics.MAX_SERIES_PER_REQUEST
    for run in newest_first:
        job = run.job
        span = _span(job, now) if job else None
        if job is None or span is None:
            continue
        defined = [name for name in run.metrics if name.isascii()][:left]
        left -= len(defined)
        for name in defined:
            asked = query(job.name, name, _WHOLE_S, span, Statistic.AVERAGE)
            by_place[accounts.of(job.arn)][asked] = run.id
    for place, asked_of in by_place.items():
        for asked, series_read in Metrics(place).read_whole(asked_of).items():
            if series_read.averages:
                names[asked_of[asked]].append(asked.metric)
    return [names[run.id] for run in runs]


Span = tuple[datetime, datetime]


def _span(job: JobSnapshot, now: datetime) -> Span | None:
    """In which the job may have written values; None if it has not begun to train."""
    return None if job.started_at is None else (job.started_at, ended_at(job) or now)


def common_period(spans: Sequence[Span], now: datetime) -> int:
    """One period, in seconds, for all runs: as fine as CloudWatch has it for the oldest, and coarse enough
    for an answer of one page."""
    if not spans:
        return metrics.period(timedelta(0))
    finest = metrics.period(now - min(begin for begin, _ in spans))
    seconds = sum((end - begin).total_seconds() for begin, end in spans)
    return finest * max(1, math.ceil(seconds * len(_STATISTICS) / MAX_VALUES / finest))


def query(job: str, metric: str, period: int, span: Span, statistic: Statistic) -> Query:
    """The whole periods around the span."""
    begin, end = (moment.timestamp() for moment in span)
    return Query(
        job,
        metric,
        period,
        datetime.fromtimestamp(begin // period * period, span[0].tzinfo),
        datetime.fromtimestamp((end // period + 1) * period, span[1].tzinfo),
        statistic=statistic,
    )


def measured(job: JobSnapshot, metric: str, answers: Sequence[MetricSeries]) -> Measured | None:
    """What CloudWatch's averages, minima and maxima say, together with the last value in the job's record.
    None if there is no value at all. Pure."""
    averages, least, greatest = (
        [(each.at, each.value) for each in one.averages] for one in answers or (MetricSeries(),) * 3
    )
    final = next((each.value for each in job.final_metrics if each.name == metric), None)
    values = [value for _, value in (*least, *greatest)] + ([] if final is None else [final])
    if not values:
        return None
    began = job.started_at or job.created_at
    return Measured(
        Source.CLOUDWATCH,
        last=averages[-1][1] if final is None and averages else final,
        min=min(values),
        max=max(values),
        curve=[(max((at - began) / timedelta(minutes=1), 0.0), value) for at, value in averages],
    )


# -- tensors --------------------------------------------------------------------------------------


def saved_names(runs: Sequence[Run], accounts: Accounts, *, losses_only: bool) -> list[list[str]]:
    """The names of the tensors in the last steps of each run, or only of those in its collections of losses
    and metrics. Raises `WatcherError`."""

    def of_run(run: Run) -> list[str]:
        output = _output(run, accounts)
        collections = output.collections() if output else None
        if output is None or collections is None:
            return []
        selection = Selection(optional=("losses", "metrics"))
        selection.learn(collections.by_name)
        newest = output.steps(last=STEPS_WITH_ALL_NAMES, wanted=lambda _: False)
        names = {name for step in newest if isinstance(step, SavedStep) for name in step.names}
        return sorted(name for name in names if not losses_only or name in selection)

    with ThreadPoolExecutor(READERS, thread_name_prefix="names") as threads:
        return list(threads.map(of_run, runs))


def from_tensors(
    runs: Iterable[Run], metric: str, accounts: Accounts, progress: Callable[[str, SavedStep], object]
) -> tuple[dict[str, Measured], dict[str, str]]:
    """What runs saved under the metric's name, and why some could not be read; both by the runs' ids.

    Reads several runs at a time, in threads of which each calls `progress` with the name of its run.
    """
    found: dict[str, Measured] = {}
    problems: dict[str, str] = {}

    def read(run: Run) -> None:
        try:
            one = _of_tensors(run, metric, accounts, progress)
        except WatcherError as error:
            problems[run.id] = str(error)
        else:
            if one:
                found[run.id] = one

    with ThreadPoolExecutor(READERS, thread_name_prefix="tensors") as threads:
        for done in [threads.submit(read, run) for run in runs]:
            done.result()
    return found, problems


def _output(run: Run, accounts: Accounts) -> DebugOutput | None:
    job = run.job
    return reader.of_job(accounts.of(job.arn).s3, job, job.created_at) if job and job.debug_output else None


def _of_tensors(
    run: Run, metric: str, accounts: Accounts, progress: Callable[[str, SavedStep], object]
) -> Measured | None:
    output = _output(run, accounts)
    if output is None or run.job is None:
        return None
    collector = series.Collector(lambda name: same_metric(name, metric))
    for step in Reader(output).read(wanted=lambda name: same_metric(name, metric), ended=run.job.ended):
        if isinstance(step, SavedStep):
            collector.add(step)
            progress(run.name, step)
    curve = _curve(collector.series())
    values = [value for _, value in curve if math.isfinite(value)]
    if not curve:
        return None
    return Measured(
        Source.TENSORS,
        last=curve[-1][1],
        min=min(values, default=None),
        max=max(values, default=None),
        curve=curve,
    )


def _curve(found: Sequence[series.Series]) -> list[Point]:
    """The values of one mode, as the first worker saved them that has it."""
    curves = [(one.mode, [(float(step), value) for step, value in series.curve(one)]) for one in found]
    for mode in _MODES:
        for of_mode, curve in curves:
            if of_mode == mode and curve:
                return curve
    return []


def together(known: Mapping[str, Measured], curves: Mapping[str, Measured]) -> dict[str, Measured]:
    """What experiments know of runs, with the curves that CloudWatch has of them."""
    return {
        **curves,
        **{id_: replace(one, curve=curves[id_].curve if id_ in curves else ()) for id_, one in known.items()},
    }
