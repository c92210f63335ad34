"""The base class of the profiler rules. A rule gets a job's metrics in batches, and says what it found.

    rule = rules.profiler.load("LowGPUUtilization", {"patience": "100"})
    for batch in batches:                          # in the order of time
        if verdict := rule.observe(batch):
            break                                  # it fired, which ends the evaluation
    else:
        verdict = rule.verdict(ended=True)

It is pure and incremental: no I/O, and a small state that can be saved as JSON and restored by another
process. How the data are divided into batches changes nothing, because a rule judges at the end of each scan
interval (`scan_interval_us`, a minute; never less than a second). Intervals are multiples of their length
since the epoch, as the profiler's own files are. A snapshot that the end of an interval would cut belongs to
the next one.

Profiler rules advise. Debugger has no built-in action for them, and Watcher never stops a job because of
one. There is nothing like a recovery: what they judge is the job so far.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple

import numpy as np

from rules.base import Status
from rules.parameters import ParameterError, parameter, whole
from rules.profiler.data import (
    GPU,
    GPU_MEMORY,
    SECONDS_PER_VALUE,
    SNAPSHOT_S,
    Batch,
    Floats,
    Series,
    SeriesKey,
    Source,
    Span,
    snapshot_starts,
)
from rules.profiler.stored import pack, unpack

MIN_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """The parameter that every profiler rule has."""

    scan_interval_us: int = parameter(60_000_000, whole(at_least=1))


class Need(StrEnum):
    """Without this in the data, a rule has nothing to judge."""

    GPU = "gpu"
    CPU = "cpu"
    FRAMEWORK = "framework"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number that decided the verdict."""

    measure: str
    """What was measured, such as `p95 of GPUUtilization`."""
    value: float
    threshold: float | None = None
    """What it was compared with, in the same unit."""
    unit: str = "%"
    node: str = ""
    """Empty if it is about all nodes together."""
    gpu: str = ""
    """Empty if it is about no single GPU."""
    at: float | None = None
    """The time of the last value that went into it, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    reason: str = ""
    """One word to log and count, from the rule's own list; empty for `no_issues_found`."""
    explanation: str = ""
    """The reason with its numbers, in a sentence for people."""
    at: float | None = None
    """The time that decided, or of the newest value, in seconds since the epoch."""
    node: str = ""
    """Of the first evidence."""
    gpu: str = ""
    """Of the first evidence."""
    values_checked: int = 0
    """How many values (or steps) the rule has read."""
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()
    """How the rule read its input."""


class Breach(NamedTuple):
    """One thing for which a rule fires."""

    reason: str
    explanation: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The data of one scan interval."""

    series: Mapping[SeriesKey, Series]
    """Only those that the rule reads and that have values; by their keys, so that sums do not depend on the
    order in which the series came."""
    snapshots: Floats
    """When each snapshot of the interval begins."""
    spans: Sequence[Span]
    """The spans that ended in the interval."""

    def of(self, dimension: str) -> Iterator[tuple[SeriesKey, Series]]:
        return ((key, series) for key, series in self.series.items() if key.dimension == dimension)

    def all_of(self, dimension: str) -> Series:
        """The values of all devices and nodes, one after another: not in the order of time."""
        found = [series for _, series in self.of(dimension)] or [Series(np.empty(0), np.empty(0))]
        return Series(
            np.concatenate([one.times for one in found]), np.concatenate([one.values for one in found])
        )

    def snapshot_of(self, times: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
        """The index of the snapshot that each of these values is part of."""
        return self.snapshots.searchsorted(times, side="right") - 1


class ProfilerRule(ABC):
    """One evaluation of one rule on one job. A new evaluation needs a new object."""

    name: ClassVar[str]
    """SageMaker's name for the rule, as in `rule_to_invoke`."""
    complaint: ClassVar[str]
    """What is wrong when it fires, in a few words."""
    advice: ClassVar[str] = ""
    """What to do when it fires: a sentence for the person who reads the alert."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    judges_instance_metrics: ClassVar[bool] = False
    """Whether it can also judge `Source.INSTANCE_METRICS`.

    Its values are means over cores or GPUs, one a minute. `patience` and `window` count values. At their
    defaults, which SageMaker's SDK always sends, they are converted to the same time (1,000 values of 500 ms
    are 9 minutes); any other number counts minutes.
    """
    instance_metrics_reading: ClassVar[str] = ""
    """What it judges there instead, in a few words."""
    never_fires: ClassVar[bool] = False
    """Whether it only sums up what it read: see `report`."""
    parameters: Interval

    @abstractmethod
    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        """Takes RuleParameters as SageMaker has them: strings. Raises `ParameterError`."""
        self.source = source
        self._given = dict(parameters)
        self._newest: float | None = None
        self._judged_until = self._judged_window = -math.inf
        self._times: Floats = np.empty(0)
        self._pending: dict[SeriesKey, Series] = {}
        self._spans: list[Span] = []
        self._checked = 0
        self._met: set[str] = set()
        self._late = 0
        self._breaches: tuple[Breach, ...] = ()

    # -- the same for every rule ------------------------------------------------------------------

    def observe(self, batch: Batch) -> Verdict | None:
        """Judge the scan intervals that this batch completes. Returns a verdict when the rule fires."""
        if self._breaches:
            return self._fired()
        self._take(batch)
        return self._judge_until(batch.until, batch)

    def verdict(self, *, ended: bool) -> Verdict:
        """The verdict so far. `ended`: whether the job has ended; then the last interval is judged as well,
        though it is not complete, and no batch may follow."""
        if ended and not self._breaches:
            self._judge_until(math.inf, None)
        if self._breaches:
            return self._fired()
        if not ended:
            return self._verdict(Status.IN_PROGRESS)
        unjudged = self._why_nothing_was_judged()
        if unjudged:
            reason, explanation = unjudged
            return self._verdict(Status.NOT_EVALUATED, reason=reason, explanation=explanation)
        return self._verdict(Status.NO_ISSUES_FOUND)

    def report(self) -> dict[str, Any]:
        """What the rule read and found, for `json.dumps`, with the keys of SageMaker's ProfilerReport."""
        parameters = (
            f"{one.name}:{getattr(self.parameters, one.name)}"
            for one in fields(self.parameters)
            if one.name != "scan_interval_us"
        )
        return {
            "RuleTriggered": int(bool(self._breaches)),
            "Violations": len(self._breaches),
            "Datapoints": self._checked,
            "RuleParameters": "\n".join(parameters),
            "Details": {
                **self._details(),
                **({"found": [breach.explanation for breach in self._breaches]} if self._breaches else {}),
            },
        }

    def state(self) -> dict[str, Any]:
        """The rule's state, for `json.dumps`. Small, if batches end with a scan interval: what belongs to an
        interval that is not complete is part of it."""
        return {
            "source": self.source.value,
            "newest": self._newest,
            "judged": [_or_none(self._judged_until), _or_none(self._judged_window)],
            "times": pack(self._times),
            "pending": [[*key, pack(one.times), pack(one.values)] for key, one in self._pending.items()],
            "spans": [list(span) for span in self._spans],
            "checked": self._checked,
            "met": sorted(self._met),
            "late": self._late,
            "breaches": [
                [one.reason, one.explanation, [_document(evidence) for evidence in one.evidence]]
                for one in self._breaches
            ],
            **self._state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from the `state` of a rule with the same parameters and source."""
        if state["source"] != self.source.value:
            raise ValueError(f"the state is of {state['source']}, the rule judges {self.source.value}")
        self._newest = state["newest"]
        self._judged_until, self._judged_window = (
            -math.inf if one is None else one for one in state["judged"]
        )
        self._times = unpack(state["times"])
        self._pending = {
            SeriesKey(*key): Series(unpack(times), unpack(values)) for *key, times, values in state["pending"]
        }
        self._spans = [Span(*span) for span in state["spans"]]
        self._checked, self._met, self._late = state["checked"], set(state["met"]), state["late"]
        self._breaches = tuple(
            Breach(reason, explanation, tuple(Evidence(**one) for one in evidence))
            for reason, explanation, evidence in state["breaches"]
        )
        self._restore(state)

    # -- what a rule must have, and its own state --------------------------------------------------

    def wants(self, key: SeriesKey) -> bool:  # noqa: ARG002 - some read spans only
        """Whether the rule reads this series."""
        return False

    def wants_span(self, span: Span) -> bool:  # noqa: ARG002 - most read metrics only
        """Whether the rule reads this span."""
        return False

    @abstractmethod
    def _judge(self, piece: Piece) -> Sequence[Breach]:
        """Take in the data of one scan interval, and return the breaches at its end. Adds the values that it
        reads to `_checked`."""

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        """Possible reasons why nothing was judged, though there was what the rule needs: whether the reason
        holds, one word, a sentence."""
        yield from ()

    def _notes(self) -> Iterator[str]:
        yield from ()

    def _details(self) -> dict[str, Any]:
        """The rule's own part of the report."""
        return {}

    def _state(self) -> dict[str, Any]:
        return {}

    def _restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - some need none
        """The counterpart of `_state`."""

    def _count(self, name: str, *, at_least: int = 1) -> int:
        """A parameter that counts values, in values of this source (`judges_instance_metrics`)."""
        value: int = getattr(self.parameters, name)
        default = next(one.default for one in fields(self.parameters) if one.name == name)
        if value != default:
            return value
        seconds = SECONDS_PER_VALUE[Source.PROFILER] / SECONDS_PER_VALUE[self.source]
        return max(at_least, math.ceil(value * seconds)) if self.source is not Source.PROFILER else value

    # ---------------------------------------------------------------------------------------------

    @property
    def _interval(self) -> float:
        return max(MIN_INTERVAL_S, self.parameters.scan_interval_us / 1e6)

    def _interval_of(self, span: Span) -> float:
        """The number of the scan interval in which the span ended."""
        return span.end_us / 1e6 // self._interval

    def _take(self, batch: Batch) -> None:
        times = batch.times
        if len(times):
            self._newest = max(float(times[-1]), self._newest or 0.0)
            fresh = times[np.searchsorted(times, self._judged_until) :]
            self._times = (
                np.sort(np.concatenate((self._times, fresh)), kind="stable") if len(self._times) else fresh
            )
        for key, series in batch.series.items():
            if key.dimension in (GPU, GPU_MEMORY):
                self._met.add(Need.GPU)
            if key.type == "cpu":
                self._met.add(Need.CPU)
            if not self.wants(key):
                continue
            late = int(np.searchsorted(series.times, self._judged_until))
            self._late += late
            fresh_part = Series(series.times[late:], series.values[late:])
            before = self._pending.get(key)
            self._pending[key] = _joined(before, fresh_part) if before else fresh_part
        for span in batch.spans:
            self._met.add(Need.FRAMEWORK)
            self._newest = max(span.end_us / 1e6, self._newest or 0.0)
            if self.wants_span(span):
                if self._interval_of(span) <= self._judged_window:
                    self._late += 1
                else:
                    self._spans.append(span)

    def _judge_until(self, until: float, batch: Batch | None) -> Verdict | None:
        for piece in self._pieces(until, batch):
            breaches = tuple(self._judge(piece))
            if breaches:
                self._breaches = breaches
                self._times, self._pending, self._spans = np.empty(0), {}, []
                return self._fired()
        return None

    def _pieces(self, until: float, batch: Batch | None) -> Iterator[Piece]:
        """The complete scan intervals that have data. What follows them is kept."""
        interval = self._interval
        whole_batch = batch is not None and len(self._times) == len(batch.times)
        starts = batch.snapshots if batch is not None and whole_batch else snapshot_starts(self._times)
        # A snapshot that begins less than 20 ms before the end of an interval may reach into the next one.
        windows = np.floor((starts + SNAPSHOT_S) / interval)
        last = math.inf if math.isinf(until) else math.floor(until / interval) - 1
        spans: dict[float, list[Span]] = {}
        for span in self._spans:
            spans.setdefault(self._interval_of(span), []).append(span)
        due = sorted({*np.unique(windows[windows <= last]).tolist(), *(one for one in spans if one <= last)})
        edges = np.searchsorted(windows, due, side="right")
        ends = np.append(starts, math.inf)[edges]  # the time at which the values of the next piece begin
        pending = dict(sorted(self._pending.items(), key=itemgetter(0)))
        cuts = {key: np.searchsorted(one.times, ends).tolist() for key, one in pending.items()}
        if due:
            kept = float(ends[-1])
            self._judged_window = due[-1]
            self._judged_until = min(kept, (due[-1] + 1) * interval)
            self._times = self._times[np.searchsorted(self._times, kept) :].copy()
            self._pending = {
                key: Series(one.times[cuts[key][-1] :].copy(), one.values[cuts[key][-1] :].copy())
                for key, one in pending.items()
                if cuts[key][-1] < len(one.times)
            }
            self._spans = [span for span in self._spans if self._interval_of(span) > last]
        begins = dict.fromkeys(cuts, 0)
        first = 0
        for number, window in enumerate(due):
            series = {}
            for key, cut in cuts.items():
                begin, end = begins[key], cut[number]
                if begin < end:
                    one = pending[key]
                    series[key] = Series(one.times[begin:end], one.values[begin:end])
                    begins[key] = end
            ended = sorted(spans.get(window, ()), key=lambda one: (one.end_us, one))
            yield Piece(series, starts[first : edges[number]], ended)
            first = int(edges[number])

    def _why_nothing_was_judged(self) -> tuple[str, str] | None:
        causes = (
            (
                self.source is Source.INSTANCE_METRICS and not self.judges_instance_metrics,
                "instance_metrics",
                "it judges the profiler's output, and the job has only CloudWatch's instance metrics",
            ),
            (self._newest is None, "nothing_saved", "the job saved no metrics"),
            (Need.GPU in self.needs - self._met, "no_gpu", "the metrics are of no GPU"),
            (Need.CPU in self.needs - self._met, "no_cpu", "the metrics are of no CPU"),
            (
                Need.FRAMEWORK in self.needs - self._met,
                "no_framework_metrics",
                "the job saved no framework metrics: its profiler records system metrics only",
            ),
            *self._unjudged(),
        )
        return next(((reason, explanation) for holds, reason, explanation in causes if holds), None)

    def _fired(self) -> Verdict:
        first = self._breaches[0]
        evidence = tuple(one for breach in self._breaches for one in breach.evidence)
        lead = evidence[0] if evidence else None
        return self._verdict(
            Status.ISSUES_FOUND,
            reason=first.reason,
            explanation="; ".join(breach.explanation for breach in self._breaches),
            evidence=evidence,
            at=max((one.at for one in evidence if one.at is not None), default=self._newest),
            node=lead.node if lead else "",
            gpu=lead.gpu if lead else "",
        )

    def _verdict(
        self,
        status: Status,
        *,
        reason: str = "",
        explanation: str = "",
        evidence: tuple[Evidence, ...] = (),
        at: float | None = None,
        node: str = "",
        gpu: str = "",
    ) -> Verdict:
        late = f"{self._late} values came too late and were left out" if self._late else ""
        notes = (*((self._reading(),) if self._reading() else ()), *self._notes(), *((late,) if late else ()))
        return Verdict(
            status,
            reason=reason,
            explanation=explanation,
            at=self._newest if at is None else at,
            node=node,
            gpu=gpu,
            values_checked=self._checked,
            evidence=evidence,
            notes=notes,
        )

    def _reading(self) -> str:
        return self.instance_metrics_reading if self.source is Source.INSTANCE_METRICS else ""


def gpu_name(key: SeriesKey) -> str:
    """How a verdict calls the GPU of this series: `gpu0`, or empty for the mean of all."""
    return "" if key.name == "gpu" else key.name


def where(node: str, gpu: str = "") -> str:
    """For a sentence: `gpu0 of algo-1`, or `the GPUs of algo-1`."""
    return f"{gpu} of {node}" if gpu else f"the GPUs of {node}"


def clock(at: float) -> str:
    """For a sentence; the year 9999 is later than any time that a file's name can hold."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{at:g}"


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ParameterError(message)


def _joined(first: Series, second: Series) -> Series:
    times = np.concatenate((first.times, second.times))
    values = np.concatenate((first.values, second.values))
    if len(first.times) and len(second.times) and second.times[0] < first.times[-1]:
        order = np.argsort(times, kind="stable")  # a batch may have values from after its end
        times, values = times[order], values[order]
    return Series(times, values)


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _document(evidence: Evidence) -> dict[str, Any]:
    return {one.name: getattr(evidence, one.name) for one in fields(evidence)}
