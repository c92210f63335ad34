"""Stands for the built-in XGBoost algorithm: `python -m watcher.sandbox.containers.xgboost JOB.json`.

It really trains on the channels `train` and `validation` (CSV with the label first and no header, or libsvm),
with smdebug's hook if the job has a DebugHookConfig, and uploads `model.tar.gz`. JOB.json is the record of
the training job. If something is wrong with the job, it exits with code 1, and the last line of stderr
becomes the FailureReason.
"""

from __future__ import annotations

import io
import json
import re
import signal
import sys
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import xgboost
from numpy.typing import NDArray

from watcher.aws.session import translate
from watcher.errors import WatcherError
from watcher.sandbox.containers.xgboost_hook import create_hook

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_NOT_FOR_XGBOOST = frozenset({"num_round", "early_stopping_rounds", "eval_metric"})
"""Hyperparameters that SageMaker's container reads itself and does not pass on to XGBoost."""
_METRICS_BEFORE_1_3 = {
    "binary:logistic": "error",
    "binary:logitraw": "auc",
    "multi:softmax": "merror",
    "multi:softprob": "merror",
    "rank:pairwise": "map",
}
"""The metric that XGBoost before 1.3 evaluates for an objective, if a job names none. Others are the same."""


class ClientError(WatcherError):
    """SageMaker's name for a failure that the job's owner can fix."""


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        with TemporaryDirectory() as directory:
            train(job, boto3.client("s3"), Path(directory))
    except WatcherError as error:
        sys.stdout.flush()
        sys.exit(f"ClientError: {error}")


def train(job: Mapping[str, Any], s3: S3Client, directory: Path) -> None:
    channels = {channel["ChannelName"]: channel for channel in job.get("InputDataConfig") or ()}
    if "train" not in channels:
        raise ClientError(f"there is no channel train: the job has {', '.join(channels) or 'no channel'}")
    data = {"train": load(s3, channels["train"])}
    if "validation" in channels:
        data["validation"] = load(s3, channels["validation"], features=data["train"].num_col())
    say(f"Single node training with {', '.join(f'{m.num_row()} rows in {n}' for n, m in data.items())}.")

    given = job.get("HyperParameters") or {}
    if "sagemaker_program" in given or job.get("AlgorithmSpecification", {}).get("ContainerEntrypoint"):
        raise ClientError(
            "the sandbox trains with the built-in XGBoost, and runs no script: use Estimator with image_uri"
        )
    rounds = positive(given, "num_round")
    with ExitStack() as hooks:
        # The hook comes first: XGBoost skips the callbacks after one that stops training.
        callbacks: list[Any] = [Progress(), *early_stopping(given)]
        if job.get("DebugHookConfig"):
            hook = create_hook(job, directory, data["train"], data.get("validation"))
            # Without `closing`, the hook writes its collections while Python shuts down, and fails.
            callbacks.insert(0, hooks.enter_context(closing(hook)))
        try:
            booster = xgboost.train(
                parameters(given, job.get("AlgorithmSpecification", {}).get("TrainingImage", "")),
                data["train"],
                num_boost_round=rounds,
                evals=[(matrix, name) for name, matrix in data.items()],
                verbose_eval=False,
                callbacks=callbacks,
            )
        except (xgboost.core.XGBoostError, ValueError) as error:
            raise ClientError(f"XGBoost refuses the job: {first_sentence(error)}") from error
    upload(s3, booster, job)


def load(s3: S3Client, channel: Mapping[str, Any], features: int = 0) -> xgboost.DMatrix:
    """Read the files of a channel into one matrix. An empty cell is a missing value.

    A libsvm file shows only the features that its lines have; it gets at least `features`.
    """
    name = channel["ChannelName"]
    kind = (channel.get("ContentType") or "text/csv").split(";")[0]
    if kind not in _READERS:
        raise ClientError(
            f"channel {name} has ContentType {kind!r}; the sandbox reads text/csv and text/libsvm"
        )
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    tables: list[NDArray[np.float64]] = []
    with translate(f"reading channel {name} from {uri}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for key in [item["Key"] for page in pages for item in page.get("Contents", ()) if item["Size"]]:
            say(f"Downloading s3://{bucket}/{key}")
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            tables.append(_READERS[kind](body, f"channel {name}, s3://{bucket}/{key}"))
    if not tables:
        raise ClientError(f"channel {name} is empty: there is nothing at {uri}")
    if _READERS[kind] is libsvm:
        columns = max(features + 1, *(table.shape[1] for table in tables))
        missing = [np.full((len(table), columns - table.shape[1]), np.nan) for table in tables]
        tables = [np.hstack(pair) for pair in zip(tables, missing, strict=True)]
    if len({table.shape[1] for table in tables}) > 1 or tables[0].shape[1] < 2:
        raise ClientError(
            f"each file of channel {name} at {uri} needs a label and the same number of features"
        )
    table = np.concatenate(tables)
    return xgboost.DMatrix(table[:, 1:], label=table[:, 0])


def csv(text: bytes, where: str) -> NDArray[np.float64]:
    """A row for each line: the label, then the features."""
    try:
        return np.loadtxt(
            io.StringIO(text.decode()),
            delimiter=",",
            ndmin=2,
            converters=lambda cell: float(cell or "nan"),
        )
    except ValueError as error:
        raise ClientError(
            f"{where} is not a CSV file of numbers with the label first and no header: {error}"
        ) from error


def libsvm(text: bytes, where: str) -> NDArray[np.float64]:
    """A row for each line: the label, then the features. A feature that a line leaves out is missing."""
    try:
        lines = [line.split() for line in text.decode().splitlines() if line.strip()]
        rows = [
            {
                -1: float(label),
                **{int(index): float(value) for index, value in (cell.split(":") for cell in cells)},
            }
            for label, *cells in lines
        ]
    except ValueError as error:
        raise ClientError(f"{where} is not a libsvm file: {error}") from error
    table = np.full((len(rows), max(max(row) for row in rows) + 2), np.nan)
    for number, row in enumerate(rows):
        table[number, [index + 1 for index in row]] = list(row.values())
    return table


_READERS = {
    **dict.fromkeys(("text/csv", "csv"), csv),
    **dict.fromkeys(("text/libsvm", "text/x-libsvm", "libsvm"), libsvm),
}
"""By the ContentType of a channel."""


def positive(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "")
    if not text.isdecimal() or int(text) < 1:
        raise ClientError(f"hyperparameter {name} must be a whole number of at least 1, not {text!r}")
    return int(text)


def early_stopping(given: Mapping[str, str]) -> list[Any]:
    name = "early_stopping_rounds"
    return [xgboost.callback.EarlyStopping(rounds=positive(given, name))] if name in given else []


def parameters(given: Mapping[str, str], image: str) -> dict[str, Any]:
    """XGBoost's parameters. XGBoost parses numbers itself, but needs several metrics as a list."""
    made: dict[str, Any] = {"nthread": "1"}  # several jobs share the machine
    made |= {name: text for name, text in given.items() if name not in _NOT_FOR_XGBOOST}
    if metrics := given.get("eval_metric"):
        made["eval_metric"] = [metric.strip(" []'\"") for metric in metrics.split(",")]
    elif is_before_1_3(image) and (metric := _METRICS_BEFORE_1_3.get(given.get("objective", ""))):
        made["eval_metric"] = [metric]
    return made


def is_before_1_3(image: str) -> bool:
    """Whether the image has such an XGBoost. Tags are `1.7-1` or `0.90-2-cpu-py3`; the first image, named
    `xgboost` and not `sagemaker-xgboost`, has version 0.72 and the tags `1` and `latest`."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    version = re.match(r"(\d+)\.(\d+)", tag)
    return name == "xgboost" if version is None else (int(version[1]), int(version[2])) < (1, 3)


class Progress(xgboost.callback.TrainingCallback):  # type: ignore[misc] # it has no types
    """Prints the metrics of each round as SageMaker's container does. SIGTERM ends training after a round.

    So a stopped job leaves complete debug output and a model, as with the real algorithm.
    """

    def __init__(self) -> None:
        self._stopping = False

    def before_training(self, model: Any) -> Any:
        signal.signal(signal.SIGTERM, self._stop)
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's
        metrics = (
            f"{data}-{metric}:{values[-1]:.5f}"
            for data, logged in evals_log.items()
            for metric, values in logged.items()
        )
        print("#011".join([f"[{epoch}]", *metrics]), flush=True)  # noqa: T201 - as CloudWatch shows a tab
        return self._stopping

    def _stop(self, _signal: int, _frame: Any) -> None:
        self._stopping = True


def upload(s3: S3Client, booster: xgboost.Booster, job: Mapping[str, Any]) -> None:
    output = job["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://").rstrip("/")
    bucket, _, prefix = f"{output}/{job['TrainingJobName']}/output/model.tar.gz".partition("/")
    model = bytes(booster.save_raw())
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("xgboost-model")
        entry.size = len(model)
        tar.addfile(entry, io.BytesIO(model))
    with translate(f"uploading the model to s3://{bucket}/{prefix}"):
        s3.put_object(Bucket=bucket, Key=prefix, Body=archive.getvalue())
    say(f"Uploaded the model to s3://{bucket}/{prefix}")


def first_sentence(error: Exception) -> str:
    """The message of an error of XGBoost, without its source file and stack trace."""
    text = re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", str(error).strip())
    return text.partition("\nStack trace")[0].partition("\n")[0].strip()


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a container's log is its stdout


if __name__ == "__main__":
    main()
