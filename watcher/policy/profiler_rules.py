"""The names of SageMaker's built-in profiler rules. Pure.

`rules.profiler` has the rules themselves, and imports numpy; a test compares the names.
"""

from __future__ import annotations

from typing import Final

PROFILER_RULES: Final = (
    "BatchSize",
    "CPUBottleneck",
    "Dataloader",
    "GPUMemoryIncrease",
    "IOBottleneck",
    "LoadBalancing",
    "LowGPUUtilization",
    "MaxInitializationTime",
    "OverallFrameworkMetrics",
    "OverallSystemUsage",
    "ProfilerReport",
    "StepOutlier",
)
_LOWER = frozenset(map(str.lower, PROFILER_RULES))


def is_profiler_rule(name: str) -> bool:
    """The case does not matter: the pages of AWS spell some names in two ways."""
    return name.lower() in _LOWER
