"""Artifacts, contexts, actions and their associations in one account and region.

Those of training jobs are computed from the jobs when they are read (`job_lineage.py`); the others were
created by requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

from watcher.sandbox.sagemaker import job_lineage, trial_components
from watcher.sandbox.sagemaker.api_errors import ApiError, already_exists, in_use, invalid, missing
from watcher.sandbox.sagemaker.experiments import Experiments
from watcher.sandbox.sagemaker.job_lineage import Pair
from watcher.sandbox.sagemaker.lineage_query import Vertex
from watcher.sandbox.sagemaker.training_job import Record, TrainingJob
from watcher.sandbox.sagemaker.training_jobs import TrainingJobs

Kind = Literal["Artifact", "Context", "Action"]
KINDS: Mapping[str, Kind] = {"artifact": "Artifact", "context": "Context", "action": "Action"}
"""By the type of the resource in an ARN."""

_COMPONENT = ":experiment-trial-component/"
_OF_EXPERIMENTS = (_COMPONENT, ":experiment-trial/", ":experiment/")


class Lineage:
    def __init__(self, jobs: TrainingJobs, experiments: Experiments, *, clock: Callable[[], float]) -> None:
        self._jobs, self._experiments, self._clock = jobs, experiments, clock
        self._lock = threading.RLock()
        self._entities: dict[str, Record] = {}
        """By ARN; also what requests changed in the artifacts of jobs."""
        self._deleted: set[str] = set()
        self._associations: dict[Pair, Record] = {}
        self._removed: set[Pair] = set()
        self._tags: dict[str, Mapping[str, str]] = {}

    # -- artifacts, contexts and actions --------------------------------------------------------------

    def create(self, kind: Kind, request: Mapping[str, Any]) -> str:
        """Returns the ARN. The artifact of a source that has one already is that one, because SageMaker
        reuses it."""
        with self._lock:
            arn = self._arn(kind, request)
            if arn in self.entities(kind):
                if kind == "Artifact":
                    return arn
                raise already_exists(kind, request[f"{kind}Name"], arn)
            now = self._clock()
            self._entities[arn] = {
                f"{kind}Arn": arn,
                "Properties": {},
                "CreationTime": now,
                "CreatedBy": {},
                "LastModifiedTime": now,
                "LastModifiedBy": {},
                **{member: value for member, value in request.items() if member != "Tags"},
            }
            self._deleted.discard(arn)
            self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags") or ()}
            return arn

    def entities(self, kind: Kind) -> dict[str, Record]:
        """By ARN."""
        with self._lock:
            return {arn: record for arn, record in self._all().items() if f"{kind}Arn" in record}

    def entity(self, kind: Kind, name: str) -> Record:
        """By its ARN or, except for an artifact, by its name. Raises `ApiError` if there is none."""
        arn = name if name.startswith("arn:") else f"{self._prefix}{kind.lower()}/{name}"
        try:
            return self.entities(kind)[arn]
        except KeyError:
            raise missing(kind, name) from None

    def artifact_of(self, source: Mapping[str, Any]) -> str:
        """The ARN of the artifact with this Source. Raises `ApiError` if there is none."""
        arn = self._arn("Artifact", {"Source": source})
        return str(self.entity("Artifact", arn)["ArtifactArn"])

    def update(self, kind: Kind, name: str, request: Mapping[str, Any]) -> str:
        with self._lock:
            old = self.entity(kind, name)
            gone = request.get("PropertiesToRemove", ())
            properties = {
                key: value
                for key, value in (old["Properties"] | request.get("Properties", {})).items()
                if key not in gone
            }
            given = {member: value for member, value in request.items() if member != "PropertiesToRemove"}
            record = {**old, **given, "Properties": properties, "LastModifiedTime": self._clock()}
            self._entities[old[f"{kind}Arn"]] = record
            return str(old[f"{kind}Arn"])

    def delete(self, kind: Kind, name: str) -> str:
        with self._lock:
            arn = str(self.entity(kind, name)[f"{kind}Arn"])
            if any(arn in pair for pair in self.associations()):
                raise in_use(kind, arn, "entities")
            self._entities.pop(arn, None)
            self._tags.pop(arn, None)
            self._deleted.add(arn)
            return arn

    # -- associations ---------------------------------------------------------------------------------

    def associate(self, pair: Pair, kind: str) -> None:
        with self._lock:
            for arn in pair:
                self.vertex(arn)
            if all(any(part in arn for part in _OF_EXPERIMENTS) for arn in pair):
                raise invalid("Associations cannot be created between two experiment entities.")
            if pair in self.associations():
                raise invalid(f"An association from {pair.source} to {pair.destination} already exists.")
            self._associations[pair] = {"AssociationType": kind, "CreationTime": self._clock()}
            self._removed.discard(pair)

    def disassociate(self, pair: Pair) -> None:
        with self._lock:
            if pair not in self.associations():
                raise ApiError(
                    "ResourceNotFound",
                    f"There is no association from {pair.source} to {pair.destination}.",
                )
            self._associations.pop(pair, None)
            self._removed.add(pair)

    def associations(self) -> dict[Pair, Record]:
        with self._lock:
            _, of_jobs = self._of_jobs()
            found = {pair: record for pair, record in of_jobs.items() if pair not in self._removed}
            return found | self._associations

    def summaries(self) -> list[Record]:
        """The associations as `ListAssociations` shows them."""
        with self._lock:
            everything = self._all()
            summaries = []
            for pair, record in self.associations().items():
                summary = {"SourceArn": pair.source, "DestinationArn": pair.destination, **record}
                for side, arn in zip(("Source", "Destination"), pair, strict=True):
                    type_, name = self._type_and_name(arn, everything)
                    summary |= {f"{side}Type": type_} if type_ else {}
                    summary |= {f"{side}Name": name} if name else {}
                summaries.append(summary)
            return summaries

    def vertex(self, arn: str) -> Vertex:
        """Raises `ApiError` if there is no such entity."""
        return self._vertex(arn, self._all())

    def vertices(self) -> dict[str, Vertex]:
        """What has an association, by ARN."""
        with self._lock:
            everything = self._all()
            arns = dict.fromkeys(arn for pair in self.associations() for arn in pair)
            return {arn: self._vertex(arn, everything) for arn in arns if self._exists(arn, everything)}

    # -- jobs and tags --------------------------------------------------------------------------------

    def keep(self, job: TrainingJob) -> None:
        """Store the lineage of a job that is deleted now."""
        if self._experiments.is_deleted(job):
            return
        with self._lock:
            artifacts, associations = job_lineage.lineage_of([job])
            for arn, record in artifacts.items():
                if arn not in self._deleted:
                    self._entities.setdefault(arn, record)
            for pair, record in associations.items():
                if pair not in self._removed:
                    self._associations.setdefault(pair, record)

    def tags(self, arn: str) -> Mapping[str, str] | None:
        """None if the ARN is not that of an artifact, a context or an action."""
        kind = KINDS.get(arn.rpartition(":")[2].partition("/")[0])
        if kind is None:
            return None
        self.entity(kind, arn)
        return self._tags.get(arn, {})

    def change_tags(self, arn: str, how: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        with self._lock:
            self._tags[arn] = how(self._tags.get(arn, {}))

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _prefix(self) -> str:
        return f"arn:aws:sagemaker:{self._jobs.region}:{self._jobs.account}:"

    def _arn(self, kind: Kind, request: Mapping[str, Any]) -> str:
        if kind != "Artifact":
            return f"{self._prefix}{kind.lower()}/{request[f'{kind}Name']}"
        source = request["Source"]
        return job_lineage.artifact_arn(self._prefix, source["SourceUri"], source.get("SourceTypes") or ())

    def _of_jobs(self) -> tuple[dict[str, Record], dict[Pair, Record]]:
        return job_lineage.lineage_of(
            job for job in self._jobs.all() if not self._experiments.is_deleted(job)
        )

    def _all(self) -> dict[str, Record]:
        of_jobs, _ = self._of_jobs()
        found = {arn: record for arn, record in of_jobs.items() if arn not in self._deleted}
        return found | self._entities

    def _exists(self, arn: str, everything: Mapping[str, Record]) -> bool:
        try:
            self._vertex(arn, everything)
        except ApiError:
            return False
        return True

    def _vertex(self, arn: str, everything: Mapping[str, Record]) -> Vertex:
        if arn in everything:
            record = everything[arn]
            kind = next(kind for kind in KINDS.values() if f"{kind}Arn" in record)
            times = (record["CreationTime"], record["LastModifiedTime"])
            return Vertex(arn, record[f"{kind}Type"], kind, *times, record["Properties"])
        if _COMPONENT in arn:
            record = self._experiments.component(arn).record
            source = record.get("Source", {}).get("SourceType", "")
            times = (record["CreationTime"], record["LastModifiedTime"])
            return Vertex(arn, source.removeprefix("SageMaker"), "TrialComponent", *times)
        if any(part in arn for part in _OF_EXPERIMENTS):
            self._experiments.tags(arn)  # raises if it does not exist
            return Vertex(arn, "", "TrialComponent")
        raise missing("Entity", arn)

    def _type_and_name(self, arn: str, everything: Mapping[str, Record]) -> tuple[str, str]:
        if arn in everything:
            record = everything[arn]
            kind = next(kind for kind in KINDS.values() if f"{kind}Arn" in record)
            return record[f"{kind}Type"], record.get(f"{kind}Name", "")
        if _COMPONENT in arn:
            name = arn.rpartition("/")[2]
            if name.endswith(trial_components.TRAINING_SUFFIX):
                return "SageMakerTrainingJob", name
            return "SageMakerProcessingJob" if name.endswith(trial_components.PROCESSING_SUFFIX) else "", name
        return "", arn.rpartition("/")[2]
