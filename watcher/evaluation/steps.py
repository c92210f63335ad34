"""What a job's rules are fed: the tensors that it saves or, where it saves none, its metrics in CloudWatch.

Each goes on where an earlier one of the same job was, in whatever process that may have been.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rules import Collection, Rule
from watcher.aws import metrics
from watcher.aws.metrics import Metrics, MetricSeries, Query
from watcher.debug_output.collections import SavedCollections
from watcher.debug_output.event_files import SavedStep, UnreadableStep, Wanted
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.errors import WatcherError
from watcher.evaluation import metric_steps
from watcher.evaluation.metric_steps import STEP, minute_of
from watcher.model import JobSnapshot

METRICS_SETTLE_TIME = timedelta(minutes=2)
"""So old has a minute to be before its values are taken for all of its values: SageMaker puts them into
CloudWatch late, and an average that was shown to a rule must not change any more."""


class Steps(Protocol):
    """The steps of one job. Those of one number are of several workers, or of several modes."""

    place: str
    """Where they lie, in words."""
    ended: bool
    """Whether no step will follow those that `read` gives."""

    @property
    def cursor(self) -> str:
        """Where the next one goes on, as JSON."""
        ...

    def note(self, rule: Rule) -> str:
        """What belongs to a verdict on steps that are not smdebug's; else empty."""
        ...

    def collections(self) -> Mapping[str, Collection] | None:
        """None while nothing is saved."""
        ...

    def read(self, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        """What is new, in order of step."""
        ...

    def at(self, step: int, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        """One step again."""
        ...

    def known_until(self, now: datetime) -> datetime:
        """Up to when nothing was saved that `read` does not give."""
        ...


class Incomplete(WatcherError):
    """Not all that was asked for was given. A gap would be a step that the rules never see."""


class TensorSteps:
    """Raises `WatcherError` where the place cannot be read."""

    def __init__(
        self,
        output: DebugOutput,
        cursor: str,
        *,
        ended: bool,
        collections: Callable[[Reader], SavedCollections | None],
    ) -> None:
        self._output, self.ended, self._collections = output, ended, collections
        self._reader = Reader(output, json.loads(cursor) if cursor else None)
        self.place = output.uri

    @property
    def cursor(self) -> str:
        return json.dumps(self._reader.cursor)

    def note(self, rule: Rule) -> str:  # noqa: ARG002
        return ""

    def collections(self) -> Mapping[str, Collection] | None:
        found = self._collections(self._reader)
        return found.by_name if found else None

    def read(self, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        return self._reader.read(wanted=wanted, ended=self.ended)

    def at(self, step: int, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        return self._output.at(step, wanted)

    def known_until(self, now: datetime) -> datetime:
        return now


class MetricSteps:
    """Does no I/O, because many jobs are read together: gives `queries` to ask, and `take`s the answers."""

    def __init__(self, job: JobSnapshot, cursor: str, now: datetime, most: int | None = None) -> None:
        """`most` periods are read; the next one goes on from there."""
        self._names = metric_steps.names(job)
        self._job = job.name
        self._asked: list[Query] = []
        self._averages: dict[str, list[metrics.Average]] = {}
        self.place = place(job)
        known = {key: datetime.fromtimestamp(at, UTC) for key, at in json.loads(cursor or "{}").items()}
        # Steps count from here on, whatever becomes of TrainingStartTime when a spot instance is lost.
        self.began = known.get("began") or (job.started_at and minute_of(job.started_at))
        self._since = known.get("until") or self.began or now
        self._period = metrics.period(now - self._since)
        self._since = _full(self._since, self._period, up="until" in known)
        over = ended_at(job)
        self.ended = over is not None and over <= now - METRICS_SETTLE_TIME
        self._until = _full(
            over if over and self.ended else now - METRICS_SETTLE_TIME, self._period, up=self.ended
        )
        self._until = max(self._until, self._since)
        enough = self._since + timedelta(seconds=self._period * most) if most else self._until
        self.behind = enough < self._until
        """Whether there is more to be read right now."""
        if self.behind:
            self._until, self.ended = enough, False

    @property
    def cursor(self) -> str:
        if self.began is None:
            return ""
        return _cursor(self.began, self._until)

    def note(self, rule: Rule) -> str:
        return metric_steps.note(rule, self._period)

    def queries(self, wanted: Wanted) -> list[Query]:
        """None where there is nothing new."""
        if self.began is not None and self._since < self._until:
            self._asked = [
                Query(self._job, name, self._period, self._since, self._until)
                for name in self._names
                if wanted(name)
            ]
        return self._asked

    def take(self, answers: Mapping[Query, MetricSeries]) -> None:
        """The answers to its queries, among others. Raises `Incomplete`."""
        series = {query.metric: answers[query] for query in self._asked}
        for name, one in series.items():
            if one.problem:
                raise Incomplete(
                    f"CloudWatch gave only a part of {name} of {self._job} ({one.problem}): it may pass"
                )
        self._averages = {name: one.averages for name, one in series.items()}

    def collections(self) -> Mapping[str, Collection]:
        return metric_steps.collections(self._names)

    def read(self, wanted: Wanted) -> Iterator[SavedStep]:  # noqa: ARG002 - the queries were for the wanted ones
        if self.began:
            yield from metric_steps.steps(self._averages, metric_steps.modes(self._names), self.began)

    def at(self, step: int, wanted: Wanted) -> Iterator[SavedStep]:
        """Only rules on large tensors see a step again."""
        return (one for one in self.read(wanted) if one.step == step)

    def known_until(self, now: datetime) -> datetime:  # noqa: ARG002
        return self._until


class JobMetrics:
    """The metrics of one job in the place of its debug output, read whenever they are asked for."""

    def __init__(self, source: Metrics, job: JobSnapshot, clock: Callable[[], datetime]) -> None:
        self._source, self._job, self._clock = source, job, clock
        self.uri = place(job)
        self._steps: MetricSteps | None = None

    @property
    def ended(self) -> bool:
        """Whether no step will follow."""
        return MetricSteps(self._job, "", self._clock()).ended

    def note(self, rule: Rule) -> str:
        """What belongs to a verdict; known when `steps` was called."""
        return self._steps.note(rule) if self._steps else ""

    def collections(self) -> Mapping[str, Collection]:
        return metric_steps.collections(metric_steps.names(self._job))

    def steps(
        self, *, wanted: Wanted, until: int | None = None, last: int | None = None
    ) -> Iterator[SavedStep]:
        """All that there is up to and including `until`, and of that the `last` minutes.

        Raises `WatcherError`.
        """
        now, began = self._clock(), self._job.started_at
        since = ""
        if began and last is not None:
            newest = metric_steps.step_at(ended_at(self._job) or now, began) if until is None else until
            since = _cursor(minute_of(began), metric_steps.time_of(max(newest - last + 1, 0), began))
        steps = MetricSteps(self._job, since, now)
        self._steps = steps
        steps.take(self._source.read(steps.queries(wanted)))
        return (one for one in steps.read(wanted) if until is None or one.step <= until)


def place(job: JobSnapshot) -> str:
    return f"cloudwatch:{metrics.NAMESPACE}/{job.name}"


def _cursor(began: datetime, until: datetime) -> str:
    return json.dumps({"began": began.timestamp(), "until": until.timestamp()})


def ended_at(job: JobSnapshot) -> datetime | None:
    """When its last value may have been put; None while it goes on."""
    return (job.ended_at or job.modified_at) + STEP if job.ended else None


def _full(at: datetime, period: int, *, up: bool) -> datetime:
    """The end of the last full period, or of the one that has begun."""
    seconds = at.timestamp()
    return datetime.fromtimestamp((seconds // period + (1 if up and seconds % period else 0)) * period, UTC)
