"""ProfilerReport: all profiler rules together.

Parameters are those of the rules, as `<Rule>_<parameter>`, in any case: `CPUBottleneck_threshold`. It fires
when any of them did. That is known at the job's end only: until then it is in progress, and its explanation
says which rules have fired. There is no HTML; `reports` has what SageMaker writes as one JSON file for each
rule.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.base import Status
from rules.parameters import TEXT, ParameterError, parameter, parse
from rules.profiler.base import Breach, Interval, Piece, ProfilerRule, Verdict
from rules.profiler.batch_size import BatchSize
from rules.profiler.cpu_bottleneck import CPUBottleneck
from rules.profiler.data import Batch, SeriesKey, Source, Span
from rules.profiler.dataloader import Dataloader
from rules.profiler.gpu_memory_increase import GPUMemoryIncrease
from rules.profiler.io_bottleneck import IOBottleneck
from rules.profiler.load_balancing import LoadBalancing
from rules.profiler.low_gpu_utilization import LowGPUUtilization
from rules.profiler.max_initialization_time import MaxInitializationTime
from rules.profiler.overall_framework_metrics import OverallFrameworkMetrics
from rules.profiler.overall_system_usage import OverallSystemUsage
from rules.profiler.step_outlier import StepOutlier

PARTS: tuple[type[ProfilerRule], ...] = (
    BatchSize,
    CPUBottleneck,
    Dataloader,
    GPUMemoryIncrease,
    IOBottleneck,
    LoadBalancing,
    LowGPUUtilization,
    MaxInitializationTime,
    OverallFrameworkMetrics,
    OverallSystemUsage,
    StepOutlier,
)
_BY_NAME = {rule.name.lower(): rule for rule in PARTS}


@dataclass(frozen=True, slots=True)
class Parameters(Interval):
    opt_out_telemetry: str = parameter("False", TEXT)
    """Accepted, and without effect: nothing is reported to anybody."""


class ProfilerReport(ProfilerRule):
    name = "ProfilerReport"
    complaint = "Profiler rules found issues"
    advice = "See what each rule advises: `watcher profile JOB`."
    judges_instance_metrics = True
    instance_metrics_reading = "only the rules that can judge CloudWatch's instance metrics were evaluated"

    def __init__(self, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> None:
        super().__init__(parameters, source)
        own, of_parts = divided(parameters)
        self.parameters = parse(Parameters, own, self.name)
        interval = own.get("scan_interval_us", "")
        self.parts: tuple[ProfilerRule, ...] = tuple(
            part({"scan_interval_us": interval, **of_parts.get(part.name, {})}, source) for part in PARTS
        )

    def wants(self, key: SeriesKey) -> bool:
        return any(part.wants(key) for part in self.parts)

    def wants_span(self, span: Span) -> bool:
        return any(part.wants_span(span) for part in self.parts)

    def observe(self, batch: Batch) -> Verdict | None:
        """Never returns a verdict: see the module."""
        self._take(batch)
        self._times, self._pending, self._spans = self._times[:0], {}, []
        for part in self.parts:
            part.observe(batch)
        return None

    def verdict(self, *, ended: bool) -> Verdict:
        verdicts = {part: part.verdict(ended=ended) for part in self.parts}
        fired = {part: one for part, one in verdicts.items() if one.status is Status.ISSUES_FOUND}
        self._checked = max(one.values_checked for one in verdicts.values())
        found = "; ".join(f"{part.name}: {one.explanation}" for part, one in fired.items())
        if not ended:
            return self._verdict(Status.IN_PROGRESS, explanation=found)
        if fired:
            first = next(iter(fired.values()))
            return self._verdict(
                Status.ISSUES_FOUND,
                reason="rules_fired",
                explanation=found,
                evidence=tuple(evidence for one in fired.values() for evidence in one.evidence),
                at=max((one.at for one in fired.values() if one.at is not None), default=None),
                node=first.node,
                gpu=first.gpu,
            )
        unjudged = self._why_nothing_was_judged()
        if unjudged:
            return self._verdict(Status.NOT_EVALUATED, reason=unjudged[0], explanation=unjudged[1])
        return self._verdict(Status.NO_ISSUES_FOUND)

    def reports(self) -> dict[str, dict[str, Any]]:
        """The `report` of each rule, by its name."""
        return {part.name: part.report() for part in self.parts}

    def _judge(self, piece: Piece) -> Sequence[Breach]:  # noqa: ARG002 - its parts judge
        return ()

    def _details(self) -> dict[str, Any]:
        return {part.name: part.report() for part in self.parts}

    def _state(self) -> dict[str, Any]:
        return {"parts": {part.name: part.state() for part in self.parts}}

    def _restore(self, state: Mapping[str, Any]) -> None:
        for part in self.parts:
            part.restore(state["parts"][part.name])


def divided(parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The report's own parameters, and those of each rule. Raises `ParameterError`."""
    own: dict[str, str] = {}
    of_parts: dict[str, dict[str, str]] = {}
    for key, text in parameters.items():
        if key in ("scan_interval_us", "opt_out_telemetry"):
            own[key] = text
            continue
        word, underscore, name = key.partition("_")
        part = _BY_NAME.get(word.lower())
        if part is None or not underscore:
            close = difflib.get_close_matches(word.lower(), _BY_NAME, n=1)
            raise ParameterError(
                f"ProfilerReport has no parameter {key!r}: write <Rule>_<parameter>, such as "
                f"{_BY_NAME[close[0]].name if close else 'CPUBottleneck'}_scan_interval_us; the rules are "
                f"{', '.join(rule.name for rule in PARTS)}"
            )
        of_parts.setdefault(part.name, {})[name.lower()] = text
    return own, of_parts
