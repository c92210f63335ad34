"""StepOutlier: many steps take much longer than the others.

For each node and mode with more than 100 steps: more than `n_outliers` of their durations lie beyond the mean
plus `stddev` standard deviations of all. `mode` limits it to steps of one mode, such as `TRAIN` or
`ModeKeys.TRAIN`.

More than n durations lie beyond a limit exactly when the (n + 1)-th largest does, so sums and the largest
durations are all that is kept. Sums are of whole microseconds, and exact.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.parameters import TEXT, number, parameter, parse, whole
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule
from rules.profiler.data import Source, Span

MIN_STEPS = 100


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    stddev: float = parameter(3.0, number(above=0))
    mode: str = parameter("None", TEXT)
    n_outliers: int = parameter(10, whole(at_least=1))


@dataclass(slots=True)
class _Durations:
    """In microseconds."""

    count: int = 0
    total: int = 0
    squares: int = 0
    largest: list[int] = field(default_factory=list)
    """A heap: the smallest first."""

    def add(self, duration: int, keep: int) -> None:
        self.count += 1
        self.total += duration
        self.squares += duration * duration
        if len(self.largest) < keep:
            heapq.heappush(self.largest, duration)
        else:
            heapq.heappushpop(self.largest, duration)

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def deviation(self) -> float:
        return math.sqrt(self.count * self.squares - self.total**2) / self.count


class StepOutlier(ProfilerRule):
    name = "StepOutlier"
    complaint = "Many steps take much longer than the others"
    advice = "Look at what happens at these steps: checkpoints, evaluation, a loader or network that stalls."
    needs = frozenset({Need.FRAMEWORK})

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        mode = self.parameters.mode.rpartition(".")[2].upper()
        self._mode = "" if mode == "NONE" else mode
        self._durations: dict[tuple[str, str], _Durations] = {}

    def wants_span(self, span: Span) -> bool:
        return span.is_step and (not self._mode or mode_of(span) == self._mode)

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        for span in piece.spans:
            durations = self._durations.setdefault((span.node, mode_of(span)), _Durations())
            durations.add(span.duration_us, self.parameters.n_outliers + 1)
            self._checked += 1
        at = max((span.end_us / 1e6 for span in piece.spans), default=None)
        breaches = []
        for (node, mode), one in sorted(self._durations.items()):
            if one.count <= MIN_STEPS:
                continue
            limit = one.mean + self.parameters.stddev * one.deviation
            # Without any spread, rounding alone may put the mean below every duration.
            if one.deviation and one.largest[0] > limit:
                sentence = (
                    f"more than {self.parameters.n_outliers} of {one.count:,} {mode} steps on {node} took "
                    f"longer than {limit / 1e6:.3g} s (mean {one.mean / 1e6:.3g} s and "
                    f"{self.parameters.stddev:g} standard deviations of {one.deviation / 1e6:.3g} s); the "
                    f"longest took {max(one.largest) / 1e6:.3g} s"
                )
                evidence = Evidence(
                    f"duration of the outlier number {self.parameters.n_outliers + 1}, {mode}",
                    one.largest[0] / 1e6,
                    limit / 1e6,
                    "s",
                    node,
                    at=at,
                )
                breaches.append(Breach("step_outliers", sentence, (evidence,)))
        return breaches

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        most = max((one.count for one in self._durations.values()), default=0)
        yield most == 0, "no_steps", f"the framework metrics have no {self._mode or 'training'} step"
        yield (
            most <= MIN_STEPS,
            "too_few_values",
            f"{most} steps were saved; the rule judges after more than {MIN_STEPS}",
        )

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = {}
        for (node, mode), one in sorted(self._durations.items()):
            details.setdefault(node, {})[mode] = {
                "steps": one.count,
                "mean": one.mean / 1e6,
                "stddev": one.deviation / 1e6,
                "max": max(one.largest) / 1e6,
            }
        return {"step_details": details}

    def _state(self) -> dict[str, Any]:
        return {
            "durations": [
                [*key, one.count, one.total, one.squares, sorted(one.largest)]
                for key, one in self._durations.items()
            ]
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        # A sorted list is a heap.
        self._durations = {(node, mode): _Durations(*one) for node, mode, *one in state["durations"]}


def mode_of(span: Span) -> str:
    """`TRAIN` for `Step:ModeKeys.TRAIN`."""
    return span.name.rpartition(".")[2].upper()
