"""The properties that `Search` knows of each resource: where their values are, and of which type. Pure.

Follows the API reference of `Filter`. Names are those of the members of a record, joined by dots. A few are
shorter: `Tags.<key>`, `Metrics.<name>` of a training job, `Metrics.<name>.<statistic>` and
`Parameters.<name>` of a trial component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from watcher.sandbox.sagemaker import shapes
from watcher.sandbox.sagemaker.api_errors import invalid

Kind = Literal["text", "hyperparameter", "numeric", "timestamp", "Boolean", "structured"]
"""The types of properties that the reference distinguishes. A trial component's parameter is a number or
text, and is compared as a hyperparameter is."""

_KINDS: Mapping[str | None, Kind] = {
    "string": "text",
    "integer": "numeric",
    "long": "numeric",
    "float": "numeric",
    "double": "numeric",
    "timestamp": "timestamp",
    "boolean": "Boolean",
}
_FREE_KEYS = frozenset({"HyperParameters", "Environment"})
"""Maps whose keys may themselves contain dots."""
METRIC_SUMMARY = "TrialComponentMetricSummary"
_STATISTICS = ("Min", "Max", "Avg", "StdDev", "Last", "Count")


@dataclass(frozen=True)
class Resource:
    structure: str
    """The name of the record's structure in the API's model, which is also its member in a result."""
    name: str
    """The member that names a record, and orders records that are equal otherwise."""


RESOURCES: Mapping[str, Resource] = {
    "TrainingJob": Resource("TrainingJob", "TrainingJobName"),
    "Experiment": Resource("Experiment", "ExperimentName"),
    "ExperimentTrial": Resource("Trial", "TrialName"),
    "ExperimentTrialComponent": Resource("TrialComponent", "TrialComponentName"),
}


@dataclass(frozen=True)
class Where:
    """A step of a path: to the items of a list whose member has this value."""

    member: str
    value: str


@dataclass(frozen=True)
class Only:
    """A step of a path: to the one value that a structure has, whichever member it is."""


Path = tuple[str | Where | Only, ...]


@dataclass(frozen=True)
class Property:
    path: Path
    kind: Kind


@cache
def property_of(resource: Resource, name: str) -> Property:
    """Raises `ApiError` if the resource has no such property."""
    head, _, rest = name.partition(".")
    match resource.structure, head.capitalize():
        case _, "Tags" if head == "Tags":
            return Property(("Tags", Where("Key", rest), "Value") if rest else ("Tags", "Key"), "text")
        case "TrainingJob", "Metrics" if rest:
            return Property(("FinalMetricDataList", Where("MetricName", rest), "Value"), "numeric")
        case "TrialComponent", "Metrics" if rest and rest not in shapes.members(
            "TrialComponentMetricSummary"
        ):
            return _metric(name, rest)
        case "TrialComponent", "Parameters" if rest:
            key, _, member = rest.rpartition(".")
            if member in {"NumberValue", "StringValue"}:
                return Property(("Parameters", key, member), "hyperparameter")
            return Property(("Parameters", rest, Only()), "hyperparameter")
    if head in {"InputArtifacts", "OutputArtifacts"} and rest:
        key, _, member = rest.rpartition(".")
        if member not in {"Value", "MediaType"}:
            key, member = rest, "Value"
        return Property((head, key, member), "text")
    parts = (rest,) if head in _FREE_KEYS else tuple(rest.split("."))
    path = (head, *parts) if rest else (head,)
    type_ = shapes.value_type(resource.structure, path)
    if type_ is None:
        raise invalid(f"Unknown property name: {name}")
    if head == "HyperParameters" and rest:
        return Property(path, "hyperparameter")
    return Property(path, _KINDS.get(type_, "structured"))


def _metric(name: str, rest: str) -> Property:
    """AWS's own examples write `metrics.test:accuracy.max`, so case does not matter in what AWS named."""
    metric, _, statistic = rest.rpartition(".")
    for known in _STATISTICS:
        if metric and known.lower() == statistic.lower():
            return Property(("Metrics", Where("MetricName", metric), known), "numeric")
    raise invalid(f"Unknown property name: {name}")


def values(record: Any, path: Path) -> Sequence[Any]:
    """The values at the path: none, one, or several if the path leads through lists."""
    if not path:
        return record if isinstance(record, list) else (record,)
    step, rest = path[0], path[1:]
    if isinstance(record, list):
        items = record
        if isinstance(step, Where):
            return [
                found for item in items if item.get(step.member) == step.value for found in values(item, rest)
            ]
        return [found for item in items for found in values(item, path)]
    if isinstance(step, Only):
        return [found for value in record.values() for found in values(value, rest)]
    if isinstance(record, dict) and step in record:
        return values(record[step], rest)
    return ()
