"""An XGBoost training job on two overlapping blobs, and the sandbox's containers run on it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

BUCKET = "watcher-tensors"
DEMO_RULE = {"collection_names": "metrics", "diff_percent": "5", "num_steps": "2"}


def csv(rows: int, seed: int) -> bytes:
    """Two overlapping classes as CSV, with the label first."""
    random = np.random.default_rng(seed)
    label = np.arange(rows) % 2
    table = np.column_stack([label, random.normal(0, 1.5, (rows, 2)) + label[:, None] * 3])
    text = io.StringIO()
    np.savetxt(text, table, delimiter=",", fmt="%.6f")
    return text.getvalue().encode()


def put_blobs(sandbox: Sandbox) -> None:
    s3 = sandbox.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="data/train/blobs.csv", Body=csv(400, 1))
    s3.put_object(Bucket=BUCKET, Key="data/validation/blobs.csv", Body=csv(100, 2))


def channel(name: str, uri: str = "", content_type: str = "text/csv") -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri or f"s3://{BUCKET}/data/{name}/"}
    return {"ChannelName": name, "ContentType": content_type, "DataSource": {"S3DataSource": source}}


def collection(name: str, **parameters: str) -> dict[str, Any]:
    return {"CollectionName": name, "CollectionParameters": parameters}


def job(name: str, hyperparameters: dict[str, str] | None = None, **members: Any) -> dict[str, Any]:
    """The part of a CreateTrainingJob request that the container reads."""
    given = {"objective": "binary:logistic", "num_round": "10", "max_depth": "16", **(hyperparameters or {})}
    hook = {
        "S3OutputPath": f"s3://{BUCKET}/debug/",
        "CollectionConfigurations": [collection("metrics", save_interval="2")],
    }
    return {
        "TrainingJobName": name,
        "HyperParameters": given,
        "InputDataConfig": [channel("train"), channel("validation")],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
        "DebugHookConfig": hook,
        **members,
    }


def rule_job(name: str, ended: Path, rule: str = "LossNotDecreasing", **parameters: str) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}",
        "RuleConfigurationName": "my-rule",
        "RuleParameters": {"rule_to_invoke": rule, **(parameters or DEMO_RULE)},
        "S3OutputPath": debug_output(name),
        "RuleOutputPath": f"s3://{BUCKET}/out/{name}/rule-output/my-rule",
        "TrainingJobEndedFile": str(ended),
    }


def debug_output(name: str) -> str:
    return f"s3://{BUCKET}/debug/{name}/debug-output"


def start(
    sandbox: Sandbox, container: str, document: dict[str, Any], directory: Path, stdout: int | IO[str]
) -> subprocess.Popen[str]:
    """Start a container as the sandbox does."""
    path = directory / f"{container}.json"
    path.write_text(json.dumps(document))
    return subprocess.Popen(
        [sys.executable, "-m", f"watcher.sandbox.containers.{container}", str(path)],
        env={**os.environ, **sandbox.env, "TRAINING_JOB_NAME": document["TrainingJobName"]},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    sandbox: Sandbox, container: str, document: dict[str, Any], directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a container to its end."""
    process = start(sandbox, container, document, directory, subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=WAIT_LIMIT_S)
    finally:
        process.kill()
        process.wait()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
