"""Asks SageMaker what was made from a training job's model or checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from watcher.aws.sagemaker import RECORDS_PER_PAGE
from watcher.aws.session import Aws, translate


@dataclass(frozen=True, slots=True)
class Association:
    """Something that SageMaker's lineage tracking associates with an artifact."""

    arn: str
    kind: str
    """Such as `ModelPackage`, `Action` or `TrialComponent`."""
    name: str
    how: str
    """Such as `ContributedTo`."""


def jobs_reading(aws: Aws, uri: str) -> tuple[list[Mapping[str, Any]], bool]:
    """The records of the training jobs with a channel whose place contains `uri`, newest first; and whether
    there are more. One request, through `Search`."""
    with translate("sagemaker:Search"):
        answer = aws.sagemaker.search(
            Resource="TrainingJob",
            SearchExpression={
                "NestedFilters": [
                    {
                        "NestedPropertyName": "InputDataConfig",
                        "Filters": [
                            {
                                "Name": "InputDataConfig.DataSource.S3DataSource.S3Uri",
                                "Operator": "Contains",
                                "Value": uri,
                            }
                        ],
                    }
                ]
            },
            SortBy="CreationTime",
            SortOrder="Descending",
            MaxResults=RECORDS_PER_PAGE,
        )
    return [result["TrainingJob"] for result in answer["Results"]], bool(answer.get("NextToken"))


def made_from(aws: Aws, uri: str) -> Iterator[Association]:
    """What lineage tracking has as made from the artifact at `uri`: one request, and one for each artifact
    (there is seldom more than one). A page of each."""
    with translate("sagemaker:ListArtifacts"):
        artifacts = aws.sagemaker.list_artifacts(SourceUri=uri)["ArtifactSummaries"]
    for artifact in artifacts:
        with translate("sagemaker:ListAssociations"):
            listed = aws.sagemaker.list_associations(SourceArn=artifact["ArtifactArn"])
        for each in listed["AssociationSummaries"]:
            yield Association(
                each["DestinationArn"],
                each.get("DestinationType", ""),
                each.get("DestinationName", ""),
                each.get("AssociationType", ""),
            )
