"""The steps that rules judge: the tensors that a job saves or, if it saves none, its metrics in CloudWatch.

Each source continues at the cursor of an earlier one of the same job, also in another process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from rules import Collection, Rule
from watcher.aws import metrics
from watcher.aws.metrics import Metrics, MetricSeries, Query
from watcher.debug_output.collections import SavedCollections
from watcher.debug_output.event_files import SavedStep, UnreadableStep, Wanted
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.evaluation import metric_steps, metric_window
from watcher.evaluation.metric_steps import minute_of
from watcher.evaluation.metric_window import Incomplete, MetricWindow, ended_at
from watcher.model import JobSnapshot


class Steps(Protocol):
    """The steps of one job. Steps with the same number are from different workers or modes."""

    place: str
    """Where they are, for people."""
    ended: bool
    """Whether no step will follow those that `read` returns."""

    @property
    def cursor(self) -> str:
        """Where the next source continues, as JSON."""
        ...

    def note(self, rule: Rule) -> str:
        """What to add to a verdict on steps that are not smdebug's; empty for those that are."""
        ...

    def collections(self) -> Mapping[str, Collection] | None:
        """None while nothing is saved."""
        ...

    def read(self, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        """The steps that are new, in their order."""
        ...

    def at(self, step: int, wanted: Wanted) -> Iterator[SavedStep | UnreadableStep]:
        """One step, which may have been read before."""
        ...

    @property
    def saved_again(self) -> bool:
        """Whether the job has written again what was read before."""
        ...

    def known_until(self, now: datetime) -> datetime:
        """The time up to which `read` returns everything that was saved."""
        ...


class TensorSteps:
    """Raises `WatcherError` if the place cannot be read."""

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

    @property
    def saved_again(self) -> bool:
        return self._reader.saved_again

    def known_until(self, now: datetime) -> datetime:
        return now


class MetricSteps:
    """Does no I/O, because many jobs are read in one request. The caller makes the `queries`, and passes the
    answers to `take` before `read`."""

    def __init__(self, job: JobSnapshot, cursor: str, now: datetime, max_periods: int | None = None) -> None:
        """Reads at most `max_periods` values of each metric; the next source continues after these."""
        self._names = metric_steps.names(job)
        self._job = job.name
        self._asked: list[Query] = []
        self._averages: dict[str, list[metrics.Average]] = {}
        self.place = place(job)
        self._window = MetricWindow(job, cursor, now, max_periods)
        self.ended, self.behind = self._window.ended, self._window.behind

    @property
    def cursor(self) -> str:
        return self._window.cursor

    @property
    def began(self) -> datetime | None:
        return self._window.began

    def note(self, rule: Rule) -> str:
        return metric_steps.note(rule, self._window.period)

    def queries(self, wanted: Wanted) -> list[Query]:
        """What to ask CloudWatch for the wanted metrics; empty if there is nothing new."""
        window = self._window
        if not window.empty:
            self._asked = [
                Query(self._job, name, window.period, window.since, window.until)
                for name in self._names
                if wanted(name)
            ]
        return self._asked

    def take(self, answers: Mapping[Query, MetricSeries]) -> None:
        """Take the answers to its queries out of all `answers`. Raises `Incomplete`."""
        series = {query.metric: answers[query] for query in self._asked}
        for name, one in series.items():
            if one.problem:
                raise Incomplete(
                    f"CloudWatch returned only a part of {name} of {self._job} ({one.problem}); "
                    "the next attempt may succeed"
                )
        self._averages = {name: one.averages for name, one in series.items()}

    def collections(self) -> Mapping[str, Collection]:
        return metric_steps.collections(self._names)

    def read(self, wanted: Wanted) -> Iterator[SavedStep]:  # noqa: ARG002 - the queries were for the wanted ones
        if self.began:
            yield from metric_steps.steps(self._averages, metric_steps.modes(self._names), self.began)

    def at(self, step: int, wanted: Wanted) -> Iterator[SavedStep]:
        """Only rules about large tensors need to see a step again, so this is not used in practice."""
        return (one for one in self.read(wanted) if one.step == step)

    @property
    def saved_again(self) -> bool:
        return False

    def known_until(self, now: datetime) -> datetime:  # noqa: ARG002
        return self._window.until


class JobMetrics:
    """The metrics of one job, with the methods of its debug output. Each call of `steps` reads them again."""

    def __init__(self, source: Metrics, job: JobSnapshot, clock: Callable[[], datetime]) -> None:
        self._source, self._job, self._clock = source, job, clock
        self.uri = place(job)
        self._steps: MetricSteps | None = None

    @property
    def ended(self) -> bool:
        """Whether no step will follow."""
        return MetricSteps(self._job, "", self._clock()).ended

    def note(self, rule: Rule) -> str:
        """What to add to a verdict; empty until `steps` was called."""
        return self._steps.note(rule) if self._steps else ""

    def collections(self) -> Mapping[str, Collection]:
        return metric_steps.collections(metric_steps.names(self._job))

    def steps(
        self, *, wanted: Wanted, until: int | None = None, last: int | None = None
    ) -> Iterator[SavedStep]:
        """All steps up to and including `until`, or only the `last` minutes of these.

        Raises `WatcherError`.
        """
        now, began = self._clock(), self._job.started_at
        since = ""
        if began and last is not None:
            newest = metric_steps.step_at(ended_at(self._job) or now, began) if until is None else until
            since = metric_window.cursor(
                minute_of(began), metric_steps.time_of(max(newest - last + 1, 0), began)
            )
        steps = MetricSteps(self._job, since, now)
        self._steps = steps
        steps.take(self._source.read(steps.queries(wanted)))
        return (one for one in steps.read(wanted) if until is None or one.step <= until)


def place(job: JobSnapshot) -> str:
    return f"cloudwatch:{metrics.NAMESPACE}/{job.name}"
