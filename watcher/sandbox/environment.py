"""What a shell, or a container, exports to work with a sandbox instead of AWS."""

from __future__ import annotations

from pathlib import Path

ACCESS_KEY = SECRET_KEY = "sandbox"  # noqa: S105 - moto takes anything
SDK_CONFIG = """\
# The SageMaker Python SDK would report each call to AWS.
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      TelemetryOptOut: true
"""


def variables(endpoint: str, region: str, directory: Path) -> dict[str, str]:
    """`directory` holds the settings file of the SageMaker Python SDK; see `write_sdk_config`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": region,
        "AWS_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(directory / "sagemaker.yaml"),
    }


def write_sdk_config(directory: Path) -> None:
    (directory / "sagemaker.yaml").write_text(SDK_CONFIG)
