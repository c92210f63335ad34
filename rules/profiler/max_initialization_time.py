"""MaxInitializationTime: no training step has begun within `threshold` minutes.

Time counts from the first metric or event that the job saved. A job that saves no framework metrics is not
judged: its steps are not known. A step is known when it has ended, so a first step that takes very long looks
as if none had begun, once other framework metrics have come. It does not judge after the first step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.parameters import number, parameter, parse
from rules.profiler.base import Breach, Evidence, Interval, Need, Piece, ProfilerRule, clock
from rules.profiler.data import Source, Span


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    threshold: float = parameter(20.0, number(above=0))


class MaxInitializationTime(ProfilerRule):
    name = "MaxInitializationTime"
    complaint = "Training takes long to begin"
    advice = "Look at what runs before the first step: downloads, unpacking, building the model."
    needs = frozenset({Need.FRAMEWORK})

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters: Parameters = parse(Parameters, parameters, self.name)
        self._began: float | None = None
        self._reached: float | None = None
        self._framework = False
        self._first_step: float | None = None

    def wants_span(self, span: Span) -> bool:  # noqa: ARG002
        return True

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        # What a span's beginning says counts when the span has ended.
        begun = [float(piece.snapshots[0])] if len(piece.snapshots) else []
        begun += [span.start_us / 1e6 for span in piece.spans]
        ends = [float(piece.snapshots[-1])] if len(piece.snapshots) else []
        ends += [span.end_us / 1e6 for span in piece.spans]
        steps = [span.start_us / 1e6 for span in piece.spans if span.is_step]
        self._framework |= bool(piece.spans)
        self._checked += len(piece.spans)
        if self._began is None:
            self._began = min(begun, default=None)
        self._reached = max([*ends, *([] if self._reached is None else [self._reached])], default=None)
        if self._first_step is not None or self._began is None or self._reached is None:
            return ()
        if steps:
            self._first_step = min(steps)
        if not self._framework:
            return ()
        waited = (self._reached if self._first_step is None else self._first_step) - self._began
        if waited <= self.parameters.threshold * 60:
            return ()
        words = (
            f"no step had begun by {clock(self._reached)}"
            if self._first_step is None
            else f"the first step began at {clock(self._first_step)}"
        )
        sentence = (
            f"{words}, {waited / 60:.3g} minutes after the job began; the rule allows "
            f"{self.parameters.threshold:g}"
        )
        at = self._reached if self._first_step is None else self._first_step
        evidence = Evidence("time to the first step", waited / 60, self.parameters.threshold, "min", at=at)
        return [Breach("slow_start", sentence, (evidence,))]

    def _details(self) -> dict[str, Any]:
        return {"job_start": self._began, "step_num": {"first": self._first_step}, "job_end": self._reached}

    def _state(self) -> dict[str, Any]:
        return {
            "began": self._began,
            "reached": self._reached,
            "framework": self._framework,
            "first_step": self._first_step,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._began, self._reached = state["began"], state["reached"]
        self._framework, self._first_step = state["framework"], state["first_step"]
