"""SageMaker's built-in profiler rules, evaluated locally, and their catalogue.

They judge system metrics and framework events, not tensors, so they are not among `rules.RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping

from rules import FOR_THE_SERVICE, UnknownRule
from rules.base import Status
from rules.profiler.base import Breach, Evidence, Need, Piece, ProfilerRule, Verdict
from rules.profiler.data import Batch, Series, SeriesKey, Source, Span, of_instance
from rules.profiler.profiler_report import PARTS, ProfilerReport

__all__ = [
    "FOR_THE_SERVICE",
    "PROFILER_RULES",
    "Batch",
    "Breach",
    "Evidence",
    "Need",
    "Piece",
    "ProfilerReport",
    "ProfilerRule",
    "Series",
    "SeriesKey",
    "Source",
    "Span",
    "Status",
    "Verdict",
    "find",
    "find_or_none",
    "load",
    "of_instance",
]

_RULES: tuple[type[ProfilerRule], ...] = (*PARTS, ProfilerReport)
PROFILER_RULES: Mapping[str, type[ProfilerRule]] = {rule.name: rule for rule in _RULES}
"""By SageMaker's name, as in `rule_to_invoke`."""

_BY_LOWER_NAME = {name.lower(): rule for name, rule in PROFILER_RULES.items()}


def find_or_none(name: str) -> type[ProfilerRule] | None:
    """The class of the rule, which describes it. The case of the name does not matter: the pages of AWS spell
    some names in two ways, such as `DataLoader`."""
    return _BY_LOWER_NAME.get(name.lower())


def find(name: str) -> type[ProfilerRule]:
    """As `find_or_none`. Raises `UnknownRule`, which lists the rules."""
    rule = find_or_none(name)
    if rule is None:
        raise UnknownRule(f"there is no profiler rule {name!r}; there are {', '.join(PROFILER_RULES)}")
    return rule


def load(name: str, parameters: Mapping[str, str], source: Source = Source.PROFILER) -> ProfilerRule:
    """A new evaluation of the rule, with RuleParameters as a job has them. Defaults are those that the SDK
    sends. Raises `UnknownRule`, or `ParameterError`."""
    given = {key: text for key, text in parameters.items() if key not in FOR_THE_SERVICE}
    return find(name)(given, source)
