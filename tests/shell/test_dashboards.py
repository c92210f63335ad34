"""The dashboard and the alert rules use only what a daemon exports, in valid PromQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from watcher.aws.queue import Depth
from watcher.instruments import Instruments
from watcher.store.memory import MemoryStore
from watcher.web.gauges import Gauges
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana.json").read_text())
[GROUP] = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = GROUP["rules"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
FROM_PROMETHEUS = {"instance", "le", "job"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of each sample that a daemon can export, by name."""
    instruments = Instruments()
    loops = Loops(lambda: 0)
    loops.add("reconcile", 1)
    readiness = Readiness(MemoryStore(), lambda: Depth(0, 0, 0), lambda: None, lambda: 100)  # type: ignore[arg-type,return-value]
    instruments.registry.register(Gauges(loops, readiness, Queued()))  # type: ignore[arg-type]
    return dict(_samples(instruments.registry))


class Queued:
    oldest_s = 0.0


SUFFIXES = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}


def _samples(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    labels = {
        name: set(collector._labelnames)  # type: ignore[attr-defined]
        for collector, names in registry._collector_to_names.items()
        if hasattr(collector, "_labelnames")
        for name in names
    }
    for metric in registry.collect():
        exported = {label for sample in metric.samples for label in sample.labels}
        for suffix in SUFFIXES.get(metric.type, ("",)):
            yield metric.name + suffix, exported | labels.get(metric.name, set())


def queried(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric in a query, with the labels that the query uses."""
    expression = promql_parser.parse(query.replace("$__rate_interval", "5m")).prettify()
    grouped = {
        label
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        for label in re.findall(r"\w+", labels)
    }
    for name, matchers in re.findall(r"\b((?:watcher|process)_\w+)(?:\{([^}]*)\})?", expression):
        yield name, grouped | set(re.findall(r"(\w+)(?:=|!)", matchers))


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_queries_use_only_exported_metrics_and_labels(query: str, exported: dict[str, set[str]]):
    metrics = list(queried(query))

    assert metrics
    for name, labels in metrics:
        assert name in exported
        assert labels - FROM_PROMETHEUS <= exported[name]


def test_every_metric_of_watcher_is_on_the_dashboard_or_in_an_alert_rule(exported: dict[str, set[str]]):
    used = {name for query in [*QUERIES, *(rule["expr"] for rule in RULES)] for name, _ in queried(query)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}

    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported if name.startswith("watcher_")}
    assert ours <= families


def test_names_follow_prometheus_conventions(exported: dict[str, set[str]]):
    for metric in Instruments().registry.collect():
        assert metric.documentation.endswith(".")
        assert re.fullmatch(r"(watcher|process)_[a-z_]+", metric.name)
        if metric.type == "histogram":
            assert metric.name.endswith("_seconds")
        assert not re.search(r"_(ms|millis|minutes|kb)\b", metric.name)


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any], exported: dict[str, set[str]]):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Watcher[A-Z][A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    texts = " ".join(rule["annotations"].values())
    [*_, labels] = [labels for _, labels in queried(rule["expr"])]
    known = labels | set().union(*(exported[name] for name, _ in queried(rule["expr"]))) | FROM_PROMETHEUS
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known


def test_panels_do_not_overlap_and_each_has_a_title():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_a_counter_starts_at_zero_so_that_its_first_increase_is_visible():
    zeros = {
        tuple(sorted(sample.labels.values()))
        for metric in Instruments().registry.collect()
        if metric.name in ("watcher_deliveries", "watcher_findings")
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.value == 0
    }

    assert ("alert", "dead", "slack") in zeros
    assert ("rule_issue",) in zeros
