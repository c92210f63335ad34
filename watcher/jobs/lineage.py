"""Traces what a training job was made of, what it made, and what was made from that.

Each item is read by itself: what is refused is said where it belongs, and the rest is shown. SageMaker's
records name the places; S3 is asked what lies there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, TypedDict

from watcher.aws.lineage import jobs_reading, made_from
from watcher.aws.objects import usage
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.errors import NotFound, WatcherError
from watcher.jobs.find import DescribedJob
from watcher.model import JobSnapshot

REQUESTS_AT_ONCE = 8
COMPONENT_SUFFIX = "-aws-training-job"
"""The end of the name of a training job's trial component; the name of the job is before it."""

_MADE_BY = re.compile(r"/([a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62})/(?:output|checkpoints)(?=/|$)")
"""The job in a place as SageMaker and its SDK name them: `…/JOB/output/model.tar.gz`, `…/JOB/checkpoints`."""


class PlaceView(TypedDict):
    """A place, and what lies there."""

    uri: str
    exists: bool | None
    """None if it was not read."""
    objects: int | None
    bytes: int | None
    more: bool
    """There are more objects than were counted, and so more bytes."""
    not_read: str
    """Why it was not read; else empty."""


class InputView(PlaceView):
    channel: str
    kind: str
    """`S3Prefix`, `ManifestFile`, `AugmentedManifestFile`; or `FileSystem`, which is not read."""


class MakerView(TypedDict):
    channel: str
    uri: str
    job: str
    arn: str | None
    """None if SageMaker no longer has the job, so that only the place names it."""


class UserView(TypedDict):
    kind: str
    """`TrainingJob`, or a type of lineage tracking such as `ModelPackage`."""
    name: str
    arn: str
    what: str
    """`model`, `output` or `checkpoints`."""
    how: str
    """The channel of a training job, or the kind of association."""
    status: str


class LineageView(TypedDict):
    job: str
    arn: str
    status: str
    created_at: datetime
    image: str
    role: str
    program: str
    source: PlaceView | None
    inputs: list[InputView]
    trained_from: list[MakerView]
    """The jobs whose model or checkpoints a channel reads."""
    experiment: str
    trial: str
    tuning_job: str
    model: PlaceView | None
    output: PlaceView | None
    """`JOB/output/` below the job's output path: the model, and what the script left in `/opt/ml/output`."""
    checkpoints: PlaceView | None
    debug_output: PlaceView | None
    profiler_output: PlaceView | None
    tensorboard_output: PlaceView | None
    used_by: list[UserView]
    """What was trained or made from it, newest first."""
    not_read: list[str]
    """What else could not be read, and why."""


def trace(job: DescribedJob) -> LineageView:
    """Reads at most three pages of objects for each place, a page of `Search` for the output and one for the
    checkpoints, a page of artifacts and one of associations; and describes each job after which the place of
    a channel is named."""
    record, snapshot, aws = job.record, job.snapshot, job.aws
    program, source = _script(record.get("HyperParameters", {}))
    output = _below(record.get("OutputDataConfig"), snapshot.name, "output/")
    model = record.get("ModelArtifacts", {}).get("S3ModelArtifacts")
    checkpoints = record.get("CheckpointConfig", {}).get("S3Uri")
    not_read: list[str] = []
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:

        def place(uri: str | None) -> Callable[[], PlaceView | None]:
            return pool.submit(_place, aws, uri).result if uri else lambda: None

        channels = [
            (channel, pool.submit(_place, aws, _uri(channel)))
            for channel in record.get("InputDataConfig", ())
        ]
        places = {
            "source": place(source),
            "model": place(model),
            "output": place(output),
            "checkpoints": place(checkpoints),
            "debug_output": place(snapshot.debug_output),
            "profiler_output": place(_profiler_output(record, snapshot)),
            "tensorboard_output": place(
                _below(record.get("TensorBoardOutputConfig"), snapshot.name, "tensorboard-output")
            ),
        }
        makers = pool.submit(_trained_from, aws, snapshot, record, not_read)
        users = [
            pool.submit(_reading, aws, snapshot, "output", output, not_read),
            pool.submit(_reading, aws, snapshot, "checkpoints", checkpoints, not_read),
            pool.submit(_made_from, aws, model, not_read),
        ]
        read = {name: found() for name, found in places.items()}
        return {
            "job": snapshot.name,
            "arn": snapshot.arn,
            "status": snapshot.status,
            "created_at": snapshot.created_at,
            "image": snapshot.image,
            "role": record.get("RoleArn", ""),
            "program": program,
            "source": read["source"],
            "inputs": [_input(channel, found.result()) for channel, found in channels],
            "trained_from": makers.result(),
            "experiment": snapshot.experiment,
            "trial": snapshot.trial,
            "tuning_job": record.get("TuningJobArn", "").rpartition("/")[2],
            "model": read["model"],
            "output": read["output"],
            "checkpoints": read["checkpoints"],
            "debug_output": read["debug_output"],
            "profiler_output": read["profiler_output"],
            "tensorboard_output": read["tensorboard_output"],
            "used_by": _distinct(user for found in users for user in found.result()),
            "not_read": not_read,
        }


# -- places ---------------------------------------------------------------------------------------


def _place(aws: Aws, uri: str) -> PlaceView:
    view: PlaceView = {
        "uri": uri,
        "exists": None,
        "objects": None,
        "bytes": None,
        "more": False,
        "not_read": "",
    }
    if not uri.startswith("s3://"):
        return {**view, "not_read": "not on S3"}
    try:
        found = usage(aws.s3, uri)
    except WatcherError as error:
        return {**view, "not_read": str(error)}
    return {
        **view,
        "exists": found.objects > 0,
        "objects": found.objects,
        "bytes": found.size,
        "more": found.more,
    }


def _input(channel: Mapping[str, Any], place: PlaceView) -> InputView:
    data = channel.get("DataSource", {})
    kind = data.get("S3DataSource", {}).get("S3DataType") or next(
        (name.removesuffix("DataSource") for name in data), ""
    )
    return {**place, "channel": channel.get("ChannelName", ""), "kind": kind}


def _uri(channel: Mapping[str, Any]) -> str:
    """Where a channel reads from: `s3://…`, or a file system and the folder in it."""
    data = channel.get("DataSource", {})
    if source := data.get("S3DataSource"):
        return str(source.get("S3Uri", ""))
    if source := data.get("FileSystemDataSource"):
        return f"{source.get('FileSystemId', '')}:{source.get('DirectoryPath', '')}"
    return str(data.get("DatasetSource", {}).get("DatasetArn", ""))


def _below(configured: Mapping[str, Any] | None, job: str, what: str) -> str | None:
    """The job's own folder below the output path of `configured`."""
    path = configured.get("S3OutputPath") if configured else None
    return f"{path.rstrip('/')}/{job}/{what}" if path else None


def _profiler_output(record: Mapping[str, Any], job: JobSnapshot) -> str | None:
    profiler = record.get("ProfilerConfig", {})
    return None if profiler.get("DisableProfiler") else _below(profiler, job.name, "profiler-output")


def _script(hyperparameters: Mapping[str, str]) -> tuple[str, str | None]:
    """The script and the place of its source, of a job in script mode. The SDK sends both as JSON."""
    return (
        _unquoted(hyperparameters.get("sagemaker_program", "")),
        _unquoted(hyperparameters.get("sagemaker_submit_directory", "")) or None,
    )


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        with suppress(ValueError):
            return str(json.loads(value))
    return value


# -- other jobs -----------------------------------------------------------------------------------


def _trained_from(
    aws: Aws, job: JobSnapshot, record: Mapping[str, Any], not_read: list[str]
) -> list[MakerView]:
    return [
        maker
        for channel in record.get("InputDataConfig", ())
        if (maker := _maker(aws, job, channel.get("ChannelName", ""), _uri(channel), not_read))
    ]


def _maker(aws: Aws, job: JobSnapshot, channel: str, uri: str, not_read: list[str]) -> MakerView | None:
    """The job that made what a channel reads; None if the place is not named after a job."""
    named = _MADE_BY.search(uri) if uri.startswith("s3://") else None
    if named is None or named[1] == job.name:
        return None
    found: MakerView = {"channel": channel, "uri": uri, "job": named[1], "arn": None}
    try:
        record = TrainingJobs(aws).record(named[1])
    except NotFound:
        return found
    except WatcherError as error:
        not_read.append(f"which job made {uri}: {error}")
        return None
    made = (
        _below(record.get("OutputDataConfig"), named[1], "output"),
        record.get("CheckpointConfig", {}).get("S3Uri"),
    )
    return (
        {**found, "arn": record["TrainingJobArn"]}
        if any(_overlap(uri, each) for each in made if each)
        else None
    )


def _reading(
    aws: Aws, job: JobSnapshot, what: str, uri: str | None, not_read: list[str]
) -> Sequence[UserView]:
    """The jobs with a channel that reads what lies at `uri`."""
    if not uri:
        return ()
    try:
        records, more = jobs_reading(aws, uri.rstrip("/"))
    except WatcherError as error:
        not_read.append(f"what was trained from its {what}: {error}")
        return ()
    if more:
        not_read.append(f"all that was trained from its {what}: SageMaker has more than {len(records)} jobs")
    return [
        {
            "kind": "TrainingJob",
            "name": record["TrainingJobName"],
            "arn": record["TrainingJobArn"],
            "what": what,
            "how": f"channel {channel.get('ChannelName', '')}",
            "status": record["TrainingJobStatus"],
        }
        for record in records
        if record["TrainingJobArn"] != job.arn
        for channel in record.get("InputDataConfig", ())
        if _overlap(_uri(channel), uri)
    ]


def _made_from(aws: Aws, model: str | None, not_read: list[str]) -> Sequence[UserView]:
    if not model:
        return ()
    try:
        return [
            {
                "kind": each.kind,
                "name": each.name,
                "arn": each.arn,
                "what": "model",
                "how": each.how,
                "status": "",
            }
            for each in made_from(aws, model)
        ]
    except WatcherError as error:
        not_read.append(f"what was made from its model: {error}")
        return ()


def _overlap(one: str, other: str) -> bool:
    """Whether one place is the other, or lies in it."""
    one, other = (f"{place.rstrip('/')}/" for place in (one, other))
    return one.startswith(other) or other.startswith(one)


def _distinct(users: Iterable[UserView]) -> list[UserView]:
    """Without the trial components of lineage tracking that stand for training jobs which Search has found:
    SageMaker names them after their jobs."""
    found = list(users)
    jobs = {user["name"] for user in found if user["kind"] == "TrainingJob"}
    return [
        user
        for user in found
        if user["kind"] == "TrainingJob" or user["name"].removesuffix(COMPONENT_SUFFIX) not in jobs
    ]
