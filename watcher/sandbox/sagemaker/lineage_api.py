"""SageMaker's API for lineages: artifacts, contexts, actions, associations and `QueryLineage`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from watcher.sandbox.sagemaker import lineage_query, shapes
from watcher.sandbox.sagemaker.api_errors import invalid
from watcher.sandbox.sagemaker.job_lineage import Pair
from watcher.sandbox.sagemaker.lineage import Kind, Lineage
from watcher.sandbox.sagemaker.listing import listed_entities
from watcher.sandbox.sagemaker.paging import page

Answer = str
_EQUAL = ("SourceArn", "DestinationArn", "SourceType", "DestinationType", "AssociationType")


class _HasLineage(Protocol):
    @property
    def lineage(self) -> Lineage: ...


class LineageApi:
    """A part of the API; `sagemaker_api.Api` has what it asks for."""

    @property
    def _backend(self) -> _HasLineage:
        raise NotImplementedError

    def _request(self, operation: str) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def _lineage(self) -> Lineage:
        return self._backend.lineage

    def create_artifact(self) -> Answer:
        return self._create("Artifact")

    def create_context(self) -> Answer:
        return self._create("Context")

    def create_action(self) -> Answer:
        return self._create("Action")

    def describe_artifact(self) -> Answer:
        request = self._request("DescribeArtifact")
        return json.dumps(self._lineage.entity("Artifact", request["ArtifactArn"]))

    def describe_context(self) -> Answer:
        return json.dumps(self._lineage.entity("Context", self._request("DescribeContext")["ContextName"]))

    def describe_action(self) -> Answer:
        return json.dumps(self._lineage.entity("Action", self._request("DescribeAction")["ActionName"]))

    def list_artifacts(self) -> Answer:
        return self._list("Artifact")

    def list_contexts(self) -> Answer:
        return self._list("Context")

    def list_actions(self) -> Answer:
        return self._list("Action")

    def update_artifact(self) -> Answer:
        return self._update("Artifact", "ArtifactArn")

    def update_context(self) -> Answer:
        return self._update("Context", "ContextName")

    def update_action(self) -> Answer:
        return self._update("Action", "ActionName")

    def delete_artifact(self) -> Answer:
        request = self._request("DeleteArtifact")
        if ("ArtifactArn" in request) == ("Source" in request):
            raise invalid("Either ArtifactArn or Source must be specified.")
        arn = request.get("ArtifactArn") or self._lineage.artifact_of(request["Source"])
        return json.dumps({"ArtifactArn": self._lineage.delete("Artifact", arn)})

    def delete_context(self) -> Answer:
        name = self._request("DeleteContext")["ContextName"]
        return json.dumps({"ContextArn": self._lineage.delete("Context", name)})

    def delete_action(self) -> Answer:
        name = self._request("DeleteAction")["ActionName"]
        return json.dumps({"ActionArn": self._lineage.delete("Action", name)})

    def add_association(self) -> Answer:
        request = self._request("AddAssociation")
        pair = _pair(request)
        self._lineage.associate(pair, request.get("AssociationType", "AssociatedWith"))
        return json.dumps({"SourceArn": pair.source, "DestinationArn": pair.destination})

    def delete_association(self) -> Answer:
        pair = _pair(self._request("DeleteAssociation"))
        self._lineage.disassociate(pair)
        return json.dumps({"SourceArn": pair.source, "DestinationArn": pair.destination})

    def list_associations(self) -> Answer:
        request = self._request("ListAssociations")
        for member in ("SourceArn", "DestinationArn"):
            if member in request:
                self._lineage.vertex(request[member])
        summaries = [
            {**summary, "Pair": f"{summary['SourceArn']} {summary['DestinationArn']}"}
            for summary in self._lineage.summaries()
            if all(request.get(member) in (None, summary.get(member)) for member in _EQUAL)
        ]
        found, following = listed_entities(request, summaries, name="Pair", unique="Pair")
        shown = [
            {member: value for member, value in summary.items() if member != "Pair"} for summary in found
        ]
        return json.dumps({"AssociationSummaries": shown, **following})

    def query_lineage(self) -> Answer:
        request = self._request("QueryLineage")
        for arn in request.get("StartArns", ()):
            self._lineage.vertex(arn)
        vertices, edges = lineage_query.query(request, self._lineage.vertices(), self._lineage.associations())
        shown, token = page(
            {(number,): vertex for number, vertex in enumerate(vertices)},
            descending=False,
            size=request.get("MaxResults", len(vertices)) or None,
            token=request.get("NextToken"),
        )
        answer: dict[str, Any] = {"Vertices": [vertex.record for vertex in shown], "Edges": edges}
        return json.dumps(answer | ({"NextToken": token} if token else {}))

    def _create(self, kind: Kind) -> Answer:
        return json.dumps({f"{kind}Arn": self._lineage.create(kind, self._request(f"Create{kind}"))})

    def _update(self, kind: Kind, named: str) -> Answer:
        request = self._request(f"Update{kind}")
        return json.dumps({f"{kind}Arn": self._lineage.update(kind, request[named], request)})

    def _list(self, kind: Kind) -> Answer:
        request = self._request(f"List{kind}s")
        wanted, type_ = request.get("SourceUri"), request.get(f"{kind}Type")
        records = [
            record
            for record in self._lineage.entities(kind).values()
            if wanted in (None, record["Source"]["SourceUri"]) and type_ in (None, record[f"{kind}Type"])
        ]
        found, following = listed_entities(request, records, name=f"{kind}Name", unique=f"{kind}Arn")
        members = shapes.members(f"{kind}Summary")
        summaries = [
            {member: value for member, value in record.items() if member in members} for record in found
        ]
        return json.dumps({f"{kind}Summaries": summaries, **following})


def _pair(request: Mapping[str, str]) -> Pair:
    return Pair(request["SourceArn"], request["DestinationArn"])
