"""OverallFrameworkMetrics: sums up where the framework's time went. It never fires: see its report.

Times of events are added up by phase, and shown as shares of their group: steps by mode, forward and backward
pass (PyTorch), Horovod's operations, operators on CPU and GPU, and everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rules.parameters import parse
from rules.profiler.base import Breach, Interval, Need, Piece, ProfilerRule
from rules.profiler.data import Source, Span

MAX_NAMES = 1000
"""In a group; the time of further names is added up as `(others)`. A job's owner chooses the names."""
_PASSES = {"Forward-SubModuleInternal": "Forward pass", "Backward-SubModuleInternal": "Backward pass"}


class OverallFrameworkMetrics(ProfilerRule):
    name = "OverallFrameworkMetrics"
    complaint = "Sums up where the framework's time went"
    never_fires = True
    needs = frozenset({Need.FRAMEWORK})

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        self.parameters = parse(Interval, parameters, self.name)
        self._totals: dict[str, dict[str, int]] = {}
        """Microseconds by group and name."""

    def wants_span(self, span: Span) -> bool:  # noqa: ARG002 - all of them
        return True

    def _judge(self, piece: Piece) -> Sequence[Breach]:
        for span in piece.spans:
            group, name = _place(span)
            totals = self._totals.setdefault(group, {})
            if name not in totals and len(totals) >= MAX_NAMES:
                name = "(others)"
            totals[name] = totals.get(name, 0) + span.duration_us
            self._checked += 1
        return ()

    def _details(self) -> dict[str, Any]:
        return {
            group: {name: time * 100 / max(1, sum(totals.values())) for name, time in sorted(totals.items())}
            for group, totals in sorted(self._totals.items())
        }

    def _state(self) -> dict[str, Any]:
        return {"totals": {group: dict(totals) for group, totals in self._totals.items()}}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._totals = {group: dict(totals) for group, totals in state["totals"].items()}


def _place(span: Span) -> tuple[str, str]:
    """Group, with the names of SageMaker's report, and name in it."""
    phase = span.phase.lower()
    if span.is_step:
        return "phase", span.name
    if span.phase in _PASSES:
        return "forward_backward", _PASSES[span.phase]
    if span.timeline == "horovod_timeline":
        return "horovod", span.name
    if "gpu" in phase:
        return "GPU", span.name
    if "cpu" in phase:
        return "CPU", span.name
    return "general", span.phase
