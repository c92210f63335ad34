"""The environment variables that make the AWS tools in a shell or a container use a sandbox."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from watcher.errors import WatcherError

START_TIMEOUT_S = 10.0
"""How long `of_running` waits for a sandbox that is starting."""

ACCESS_KEY = SECRET_KEY = "sandbox"  # noqa: S105 - moto accepts any key

ACCOUNT = "123456789012"  # moto's
ROLE_NAME = "training"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/{ROLE_NAME}"
"""The role of notebooks and of their training jobs."""
DEFAULT_BUCKET = "sagemaker-sandbox"
"""Not `sagemaker-REGION-ACCOUNT`, because the SDK asks STS who owns a bucket of that name, at each use."""

SDK_CONFIG = f"""\
# Without these settings, the SageMaker Python SDK would report each call to AWS, and ask STS for the account
# to find the name of the default bucket.
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
      Session:
        DefaultS3Bucket: {DEFAULT_BUCKET}
  TrainingJob:
    RoleArn: {ROLE}
"""


def variables(endpoint: str, region: str, directory: Path) -> dict[str, str]:
    """`directory` holds the configuration file of the SageMaker Python SDK; see `write_sdk_config`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_ROLE": ROLE,
        # The SDK would warn at each import and each estimator that its version 2 is not the newest.
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(directory / "sagemaker.yaml"),
    }


def write_sdk_config(directory: Path) -> None:
    (directory / "sagemaker.yaml").write_text(SDK_CONFIG)


def exports(variables: Mapping[str, str]) -> str:
    """Lines for the `eval` of a shell."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def of_running(port: int, timeout_s: float = START_TIMEOUT_S) -> dict[str, str]:
    """The variables of the sandbox that listens on this port of the machine.

    Raises `WatcherError` if none answers within the timeout.
    """
    deadline = time.monotonic() + timeout_s
    with httpx.Client(trust_env=False, timeout=timeout_s) as client:
        while True:
            try:
                answer = client.get(f"http://127.0.0.1:{port}/sandbox/environment").raise_for_status().json()
                return {str(name): str(value) for name, value in answer.items()}
            except (httpx.HTTPError, ValueError, AttributeError):  # nothing, or something else, listens there
                if time.monotonic() > deadline:
                    raise WatcherError(
                        f"no sandbox answers on port {port}: start `watcher sandbox` in another terminal"
                    ) from None
            time.sleep(0.1)
