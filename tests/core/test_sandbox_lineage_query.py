"""`QueryLineage` on a small lineage: two jobs of one image, the second trained from what the first made."""

from __future__ import annotations

from typing import Any

import pytest

from watcher.sandbox.sagemaker.job_lineage import Pair
from watcher.sandbox.sagemaker.lineage_query import Vertex, query

KINDS = {
    "data": ("DataSet", "Artifact"),
    "image": ("Image", "Artifact"),
    "first": ("TrainingJob", "TrialComponent"),
    "model": ("Model", "Artifact"),
    "second": ("TrainingJob", "TrialComponent"),
    "best": ("Model", "Artifact"),
}
VERTICES = {
    arn: Vertex(arn, *kinds, created=float(number), modified=float(number), properties={"n": str(number)})
    for number, (arn, kinds) in enumerate(KINDS.items())
}
PAIRS = {
    Pair(*ends.split()): {"AssociationType": "Produced"}
    for ends in (
        "data first",
        "image first",
        "first model",
        "model second",
        "image second",
        "second best",
    )
}


def found(start: str, **request: Any) -> list[str]:
    vertices, edges = query({"StartArns": [start], **request}, VERTICES, PAIRS)
    assert edges == []
    return [vertex.arn for vertex in vertices]


def test_descendants_come_nearest_first() -> None:
    assert found("data", Direction="Descendants") == ["first", "model", "second", "best"]


def test_ascendants_are_what_led_to_the_start() -> None:
    assert found("model", Direction="Ascendants") == ["first", "data", "image"]


def test_both_directions_do_not_lead_to_jobs_that_only_share_an_image() -> None:
    assert found("first") == ["data", "image", "model", "second", "best"]
    assert "data" not in found("second", MaxDepth=2, Direction="Descendants")
    assert found("data", Direction="Both") == ["first", "model", "second", "best"]


def test_the_depth_counts_associations() -> None:
    assert found("data", Direction="Descendants", MaxDepth=2) == ["first", "model"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"Types": ["Model"]}, ["model", "best"]),
        ({"LineageTypes": ["TrialComponent"]}, ["first", "second"]),
        ({"CreatedAfter": 4}, ["second", "best"]),
        ({"ModifiedBefore": 3}, ["first", "model"]),
        ({"Properties": {"n": "3", "other": "x"}}, ["model"]),
    ],
)
def test_filters_choose_what_is_shown_not_what_is_passed(
    filters: dict[str, Any], expected: list[str]
) -> None:
    assert found("data", Direction="Descendants", Filters=filters) == expected


def test_with_edges_the_ways_to_the_matches_are_shown_and_nothing_else() -> None:
    request = {"StartArns": ["model"], "Direction": "Descendants", "IncludeEdges": True}
    vertices, edges = query({**request, "Filters": {"LineageTypes": ["TrialComponent"]}}, VERTICES, PAIRS)
    assert {vertex.arn for vertex in vertices} == {"model", "second"}
    assert edges == [
        {"SourceArn": "model", "DestinationArn": "second", "AssociationType": "Produced"},
    ]
    vertices, edges = query(request, VERTICES, PAIRS)
    assert {vertex.arn for vertex in vertices} == {"model", "second", "best"}
    assert len(edges) == 2


def test_a_circle_ends() -> None:
    circle = {Pair("data", "first"): {}, Pair("first", "data"): {}}
    vertices, _ = query({"StartArns": ["data"]}, VERTICES, circle)
    assert [vertex.arn for vertex in vertices] == ["first"]
