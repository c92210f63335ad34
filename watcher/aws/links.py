"""Links to the AWS console, made from ARNs.

CloudWatch's page needs its path percent-encoded twice, with `$` for the `%` of the outer encoding, so the `/`
of a log group becomes `$252F`. In the query inside the fragment, `?` is `$3F` and `=` is `$3D`.
"""

from __future__ import annotations

from functools import cache
from urllib.parse import quote

from watcher.arn import Arn, job_name

TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
PROCESSING_LOGS = "/aws/sagemaker/ProcessingJobs"

_HOSTS = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-eusc": "console.amazonaws-eusc.eu",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""Those that have another domain than the APIs of their partition, which is what botocore knows."""


def training_job(job_arn: str) -> str:
    return f"{_page(job_arn, 'sagemaker')}#/jobs/{_name(job_arn)}"


def processing_job(job_arn: str) -> str:
    return f"{_page(job_arn, 'sagemaker')}#/processing-jobs/{_name(job_arn)}"


def log_stream(job_arn: str, group: str, stream: str) -> str:
    """`job_arn` is used for its partition and region, here and below."""
    return f"{_log_group(job_arn, group)}/log-events/{_twice(stream)}"


def log_streams(job_arn: str, group: str, prefix: str) -> str:
    """The list of a group's streams whose names begin with `prefix`."""
    return f"{_log_group(job_arn, group)}$3FlogStreamNameFilter$3D{_twice(prefix)}"


def s3_prefix(job_arn: str, uri: str) -> str:
    """The objects below `s3://bucket/path`."""
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    region = Arn.parse(job_arn).region
    prefix = _quoted(f"{path.rstrip('/')}/" if path else "")
    return f"https://{_host(job_arn)}/s3/buckets/{_quoted(bucket)}?region={region}&prefix={prefix}"


def _log_group(job_arn: str, group: str) -> str:
    return f"{_page(job_arn, 'cloudwatch')}#logsV2:log-groups/log-group/{_twice(group)}"


def _page(arn: str, service: str) -> str:
    return f"https://{_host(arn)}/{service}/home?region={Arn.parse(arn).region}"


def _host(arn: str) -> str:
    parts = Arn.parse(arn)
    return f"{parts.region}.{_HOSTS.get(parts.partition) or _of_partition(parts.partition)}"


@cache
def _of_partition(partition: str) -> str:
    from botocore.loaders import create_loader

    known = create_loader().load_data("partitions")["partitions"]
    suffixes = (one["outputs"]["dnsSuffix"] for one in known if one["id"] == partition)
    return next((f"console.{suffix}" for suffix in suffixes), _HOSTS["aws"])


def _name(arn: str) -> str:
    return _quoted(job_name(arn))


def _twice(text: str) -> str:
    return _quoted(_quoted(text)).replace("%", "$")


def _quoted(text: str) -> str:
    """A lone surrogate, which JSON may hold and UTF-8 has no bytes for, becomes a question mark."""
    return quote(text, safe="", errors="replace")
