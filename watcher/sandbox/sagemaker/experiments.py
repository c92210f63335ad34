"""Experiments, trials and trial components of one account and region.

The components of jobs are computed from the jobs (`trial_components.py`); only what requests change in them
is stored. A job that is deleted leaves its component as it was.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from watcher.sandbox.aws.metrics import Measured
from watcher.sandbox.sagemaker import metric_series, trial_components
from watcher.sandbox.sagemaker.api_errors import ApiError, already_exists, in_use, invalid, missing
from watcher.sandbox.sagemaker.metric_series import Point
from watcher.sandbox.sagemaker.training_job import Record, TrainingJob
from watcher.sandbox.sagemaker.training_jobs import TrainingJobs

MAPS = ("Parameters", "InputArtifacts", "OutputArtifacts")
"""The members of a component that an update changes key by key."""
_OF_THE_JOB = ("Status", "StartTime", "EndTime")
"""The members that a request cannot change in the component of a job."""


@dataclass(frozen=True)
class Entity:
    """An experiment or a trial."""

    record: Record
    tags: Mapping[str, str]

    @property
    def searchable(self) -> Record:
        return self.record | {"Tags": tag_list(self.tags)}


@dataclass(frozen=True)
class Stored:
    """A component that a request created, or what requests changed in that of a job."""

    record: Record = field(default_factory=dict)
    removed: frozenset[tuple[str, str]] = frozenset()
    """Members and keys of the job's maps that an update removed."""
    tags: Mapping[str, str] = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True)
class Component:
    """A component as it is now."""

    record: Record
    """As `DescribeTrialComponent` returns it."""
    tags: Mapping[str, str]
    parents: tuple[tuple[str, str], ...]
    """Trial and experiment."""
    job: TrainingJob | None = None

    @property
    def name(self) -> str:
        return str(self.record["TrialComponentName"])

    @property
    def arn(self) -> str:
        return str(self.record["TrialComponentArn"])

    @property
    def source(self) -> str:
        """The ARN of its job; empty if it has none."""
        return str(self.record.get("Source", {}).get("SourceArn", ""))

    @property
    def searchable(self) -> Record:
        record = self.record | {
            "Tags": tag_list(self.tags),
            "Parents": [
                {"TrialName": trial, "ExperimentName": experiment} for trial, experiment in self.parents
            ],
        }
        if self.job:
            record["SourceDetail"] = {"SourceArn": self.job.arn, "TrainingJob": self.job.searchable}
            if run := self.job.record.get("ExperimentConfig", {}).get("RunName"):
                record["RunName"] = run
        return record


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _tags(request: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in request.get("Tags") or ()}


class Experiments:
    def __init__(self, jobs: TrainingJobs, *, clock: Callable[[], float]) -> None:
        self._jobs, self._clock = jobs, clock
        self._lock = threading.RLock()
        self._experiments: dict[str, Entity] = {}
        self._trials: dict[str, Entity] = {}
        self._stored: dict[str, Stored] = {}
        self._members: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """The keys of the components of each trial, in the order in which they joined it."""
        self._joined: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """The trials of each component, by its key."""
        self._metrics: defaultdict[str, dict[str, list[Point]]] = defaultdict(dict)
        """By a component's key and a metric's name. SageMaker's names of components have no case."""

    # -- experiments ----------------------------------------------------------------------------------

    def create_experiment(self, request: Mapping[str, Any]) -> Record:
        return self._create("Experiment", self._experiments, request)

    def experiment(self, name: str) -> Entity:
        return self._get("Experiment", self._experiments, name)

    def experiments(self) -> list[Entity]:
        with self._lock:
            return list(self._experiments.values())

    def update_experiment(self, request: Mapping[str, Any]) -> Record:
        return self._update("Experiment", self._experiments, request)

    def delete_experiment(self, name: str) -> Record:
        with self._lock:
            experiment = self.experiment(name)
            if any(trial.record["ExperimentName"] == name for trial in self._trials.values()):
                raise in_use("Experiment", experiment.record["ExperimentArn"], "trials")
            return self._experiments.pop(name).record

    # -- trials ---------------------------------------------------------------------------------------

    def create_trial(self, request: Mapping[str, Any]) -> Record:
        with self._lock:
            self.experiment(request["ExperimentName"])
            return self._create("Trial", self._trials, request, type_="experiment-trial")

    def trial(self, name: str) -> Entity:
        return self._get("Trial", self._trials, name)

    def trials(self, *, experiment: str | None = None, component: str | None = None) -> list[Entity]:
        """Raises `ApiError` if there is no such experiment or component."""
        with self._lock:
            if experiment is not None:
                self.experiment(experiment)
            key = self.component(component).name.lower() if component is not None else None
            return [
                trial
                for name, trial in self._trials.items()
                if experiment in (None, trial.record["ExperimentName"])
                and (key is None or key in self._members[name])
            ]

    def searchable_trials(self) -> list[Entity]:
        """With the summaries of their components."""
        with self._lock:
            components = {component.name.lower(): component.record for component in self.components()}
            return [
                replace(
                    trial,
                    record=trial.record
                    | {
                        "TrialComponentSummaries": [
                            _simple_summary(components[key])
                            for key in self._members[name]
                            if key in components
                        ]
                    },
                )
                for name, trial in self._trials.items()
            ]

    def update_trial(self, request: Mapping[str, Any]) -> Record:
        return self._update("Trial", self._trials, request)

    def delete_trial(self, name: str) -> Record:
        with self._lock:
            trial = self.trial(name)
            if self._members.get(name):
                raise in_use("Trial", trial.record["TrialArn"], "trial components")
            return self._trials.pop(name).record

    def associate(self, component: str, trial: str) -> tuple[str, str]:
        """Returns the ARNs of both. An association that exists stays."""
        with self._lock:
            found, parent = self.component(component), self.trial(trial)
            self._members[trial][found.name.lower()] = None
            self._joined[found.name.lower()][trial] = None
            return found.arn, parent.record["TrialArn"]

    def disassociate(self, component: str, trial: str) -> tuple[str, str]:
        with self._lock:
            found, parent = self.component(component), self.trial(trial)
            if found.name.lower() not in self._members[trial]:
                raise ApiError(
                    "ResourceNotFound", f"Trial component {component} is not associated with {trial}."
                )
            del self._members[trial][found.name.lower()]
            del self._joined[found.name.lower()][trial]
            return found.arn, parent.record["TrialArn"]

    # -- trial components -----------------------------------------------------------------------------

    def create_component(self, request: Mapping[str, Any]) -> Record:
        with self._lock:
            name = request["TrialComponentName"]
            if existing := self._find(name.lower()):
                raise already_exists("Trial component", name, existing.arn)
            now = self._clock()
            record = {
                "TrialComponentName": name,
                "TrialComponentArn": f"{self._prefix}experiment-trial-component/{name}",
                "DisplayName": name,
                "CreationTime": now,
                "CreatedBy": {},
                "LastModifiedTime": now,
                "LastModifiedBy": {},
                **{member: {} for member in MAPS},
                **{member: value for member, value in request.items() if member != "Tags"},
            }
            self._stored[name.lower()] = Stored(record, tags=_tags(request))
            return record

    def component(self, name: str) -> Component:
        """By name or ARN. Raises `ApiError` if there is none."""
        with self._lock:
            found = self._find(name.rpartition("/")[2].lower())
        if found is None:
            raise missing("TrialComponent", name)
        return found

    def _find(self, key: str) -> Component | None:
        stored, base = self._stored.get(key, Stored()), self._base(key)
        if stored.deleted or (base is None and "TrialComponentName" not in stored.record):
            return None
        record, job = base or ({}, None)
        return self._now(key, record, job, stored)

    def components(
        self, *, experiment: str | None = None, trial: str | None = None, source: str | None = None
    ) -> list[Component]:
        """Raises `ApiError` if there is no such experiment or trial."""
        with self._lock:
            if trial is not None:
                self.trial(trial)
            if trial is not None or experiment is not None:
                trials = [trial] if trial is not None else self._trials_of(experiment or "")
                keys = dict.fromkeys(key for each in trials for key in self._members[each])
                return [found for key in keys if (found := self._find(key))]
            return [component for component in self._all() if source in (None, component.source)]

    def update_component(self, request: Mapping[str, Any]) -> Record:
        with self._lock:
            component = self.component(request["TrialComponentName"])
            key = component.name.lower()
            stored = self._stored.get(key, Stored())
            record = dict(stored.record)
            of_job = component.source and "TrialComponentName" not in record
            for member, value in request.items():
                if member == "TrialComponentName":
                    continue
                if member in MAPS:
                    record[member] = record.get(member, {}) | value
                elif not (member.endswith("ToRemove") or (of_job and member in _OF_THE_JOB)):
                    record[member] = value
            removed = set(stored.removed)
            for member in MAPS:
                removed -= {(member, name) for name in request.get(member, ())}
                gone = request.get(f"{member}ToRemove", ())
                removed |= {(member, name) for name in gone}
                if gone and member in record:
                    record[member] = {
                        name: value for name, value in record[member].items() if name not in gone
                    }
            record["LastModifiedTime"] = self._clock()
            self._stored[key] = replace(stored, record=record, removed=frozenset(removed))
            return component.record

    def delete_component(self, name: str) -> Record:
        with self._lock:
            component = self.component(name)
            if component.parents:
                raise in_use("TrialComponent", component.arn, "trials")
            key = component.name.lower()
            self._metrics.pop(key, None)
            self._stored[key] = Stored(deleted=True)
            return component.record

    # -- what jobs do ---------------------------------------------------------------------------------

    def check(self, config: Mapping[str, str]) -> None:
        """Raise the `ApiError` with which a job is refused whose ExperimentConfig names what is missing."""
        if "ExperimentName" in config:
            self.experiment(config["ExperimentName"])
        if "TrialName" in config:
            trial = self.trial(config["TrialName"])
            experiment = config.get("ExperimentName", trial.record["ExperimentName"])
            if trial.record["ExperimentName"] != experiment:
                raise invalid(f"Trial {config['TrialName']} is not part of experiment {experiment}.")

    def adopt(self, job: TrainingJob) -> None:
        """Give a new job its component, as its ExperimentConfig says. What that names is created if it does
        not exist; `check` refuses it before."""
        config = job.record.get("ExperimentConfig", {})
        key = trial_components.name_of(job).lower()
        with self._lock:
            self._forget(key)
            if display_name := config.get("TrialComponentDisplayName"):
                self._stored[key] = Stored({"DisplayName": display_name})
            if not config.keys() & {"ExperimentName", "TrialName"}:
                return
            trial = config.get("TrialName", f"{job.name}-aws-trial")
            if trial not in self._trials:
                experiment = config.get("ExperimentName", trial)
                if experiment not in self._experiments:
                    self.create_experiment({"ExperimentName": experiment})
                self.create_trial({"TrialName": trial, "ExperimentName": experiment})
            self.associate(key, trial)

    def keep(self, job: TrainingJob) -> None:
        """Store the component of a job that is deleted now."""
        key = trial_components.name_of(job).lower()
        with self._lock:
            stored = self._stored.get(key, Stored())
            if stored.deleted:
                return
            record = self._now(key, trial_components.of_training_job(job), job, stored).record
            self._stored[key] = Stored(
                {member: value for member, value in record.items() if member != "Metrics"}, tags=stored.tags
            )
            for metric in job.record.get("FinalMetricDataList", ()):
                points = self._metrics[key].setdefault(metric["MetricName"], [])
                points += () if points else [Point(metric["Value"], metric["Timestamp"])]

    def is_deleted(self, job: TrainingJob) -> bool:
        """Whether the component of this job was deleted."""
        with self._lock:
            return self._stored.get(trial_components.name_of(job).lower(), Stored()).deleted

    def measured(self, job: TrainingJob, values: Iterable[Measured]) -> None:
        key = trial_components.name_of(job).lower()
        with self._lock:
            for name, value, at in values:
                self._metrics[key].setdefault(name, []).append(Point(value, at))

    def put_metrics(self, component: str, points: Iterable[tuple[str, Point]]) -> None:
        """Raises `ApiError` if there is no such component."""
        with self._lock:
            key = self.component(component).name.lower()
            for name, point in points:
                self._metrics[key].setdefault(name, []).append(point)

    def series(self, component: str, metric: str) -> list[Point]:
        with self._lock:
            key = self.component(component).name.lower()
            return list(self._metrics.get(key, {}).get(metric, ()))

    # -- tags -----------------------------------------------------------------------------------------

    def tags(self, arn: str) -> Mapping[str, str] | None:
        """None if the ARN is not that of an experiment, a trial or a component."""
        kind, _, name = arn.rpartition(":")[2].partition("/")
        match kind:
            case "experiment":
                return self.experiment(name).tags
            case "experiment-trial":
                return self.trial(name).tags
            case "experiment-trial-component":
                return self.component(name).tags
        return None

    def change_tags(self, arn: str, how: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        kind, _, name = arn.rpartition(":")[2].partition("/")
        with self._lock:
            if kind == "experiment-trial-component":
                key = self.component(name).name.lower()
                stored = self._stored.get(key, Stored())
                self._stored[key] = replace(stored, tags=how(stored.tags))
            else:
                entities = self._experiments if kind == "experiment" else self._trials
                entities[name] = replace(entities[name], tags=how(entities[name].tags))

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _prefix(self) -> str:
        return f"arn:aws:sagemaker:{self._jobs.region}:{self._jobs.account}:"

    def _create(
        self, kind: str, entities: dict[str, Entity], request: Mapping[str, Any], type_: str = "experiment"
    ) -> Record:
        with self._lock:
            name = request[f"{kind}Name"]
            if name in entities:
                raise already_exists(kind, name, entities[name].record[f"{kind}Arn"])
            now = self._clock()
            record = {
                f"{kind}Arn": f"{self._prefix}{type_}/{name}",
                "DisplayName": name,
                "CreationTime": now,
                "CreatedBy": {},
                "LastModifiedTime": now,
                "LastModifiedBy": {},
                **{member: value for member, value in request.items() if member != "Tags"},
            }
            entities[name] = Entity(record, _tags(request))
            return record

    def _get(self, kind: str, entities: Mapping[str, Entity], name: str) -> Entity:
        with self._lock:
            try:
                return entities[name]
            except KeyError:
                raise missing(kind, name) from None

    def _update(self, kind: str, entities: dict[str, Entity], request: Mapping[str, Any]) -> Record:
        with self._lock:
            name = request[f"{kind}Name"]
            old = self._get(kind, entities, name)
            record = {**old.record, **request, "LastModifiedTime": self._clock()}
            entities[name] = replace(old, record=record)
            return record

    def _trials_of(self, experiment: str) -> list[str]:
        self.experiment(experiment)
        return [name for name, trial in self._trials.items() if trial.record["ExperimentName"] == experiment]

    def _forget(self, key: str) -> None:
        """What a component of an earlier job of this name has left."""
        self._stored.pop(key, None)
        self._metrics.pop(key, None)
        for trial in self._joined.pop(key, ()):
            del self._members[trial][key]

    def _base(self, key: str) -> tuple[Record, TrainingJob | None] | None:
        """The component of the job that it belongs to, and the job if it is a training job."""
        if key.endswith(trial_components.TRAINING_SUFFIX):
            name = key.removesuffix(trial_components.TRAINING_SUFFIX)
            job = self._jobs.find(name)
            return (trial_components.of_training_job(job), job) if job else None
        if key.endswith(trial_components.PROCESSING_SUFFIX):
            rule = self._jobs.rule_job(key.removesuffix(trial_components.PROCESSING_SUFFIX))
            return (trial_components.of_rule_job(rule), None) if rule else None
        return None

    def _all(self) -> Iterator[Component]:
        of_jobs: dict[str, tuple[Record, TrainingJob | None]] = {}
        for job in self._jobs.all():
            record = trial_components.of_training_job(job)
            of_jobs[record["TrialComponentName"].lower()] = record, job
        for rule in self._jobs.rule_jobs():
            record = trial_components.of_rule_job(rule)
            of_jobs[record["TrialComponentName"].lower()] = record, None
        for key, (record, training_job) in of_jobs.items():
            stored = self._stored.get(key, Stored())
            if not stored.deleted:
                yield self._now(key, record, training_job, stored)
        for key, stored in self._stored.items():
            if key not in of_jobs and stored.record.get("TrialComponentName"):
                yield self._now(key, {}, None, stored)

    def _parents(self, key: str) -> tuple[tuple[str, str], ...]:
        trials = self._joined.get(key, ())
        return tuple((trial, self._trials[trial].record["ExperimentName"]) for trial in trials)

    def _now(self, key: str, base: Record, job: TrainingJob | None, stored: Stored) -> Component:
        record = base | stored.record
        for member in MAPS:
            kept = {
                name: value
                for name, value in base.get(member, {}).items()
                if (member, name) not in stored.removed
            }
            record[member] = kept | stored.record.get(member, {})
        if base:
            changed = stored.record.get("LastModifiedTime", 0)
            record["LastModifiedTime"] = max(base["LastModifiedTime"], changed)
        source = record.get("Source", {}).get("SourceArn", "")
        metrics = self._metrics.get(key, {})
        record["Metrics"] = [
            metric_series.summary(name, points, source or record["TrialComponentArn"])
            for name, points in metrics.items()
        ]
        if job:
            final = job.record.get("FinalMetricDataList", ())
            alone = [metric for metric in final if metric["MetricName"] not in metrics]
            record["Metrics"] += metric_series.of_final_metrics(alone, source)
        return Component(record, stored.tags, self._parents(key), job)


def _simple_summary(record: Record) -> Record:
    members = ("TrialComponentName", "TrialComponentArn", "CreationTime", "CreatedBy")
    summary = {member: record[member] for member in members}
    if "Source" in record:
        summary["TrialComponentSource"] = record["Source"]
    return summary
