"""Finds profiler output at a place that a person named: a folder or a prefix on S3."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from watcher.aws.session import translate
from watcher.debug_output.storage import Folder, S3Prefix
from watcher.errors import UsageError
from watcher.profiler_output.reader import ProfilerOutput

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PROFILER_OUTPUT = "profiler-output"
"""What SageMaker calls the folder below that of the job."""
MAX_NEIGHBOURS = 1000


def in_folder(folder: Path) -> ProfilerOutput:
    """Raises `UsageError` if nothing lies there; it says what may have been meant."""
    for path in (folder, folder / PROFILER_OUTPUT):
        output = ProfilerOutput(Folder(path))
        if output.exists():
            return output
    beside = [path for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    names = [path.name for path in beside if path != folder]
    raise UsageError(_nothing(str(folder), _close(folder.name, names, f"{folder.parent}/")))


def on_s3(s3: S3Client, uri: str) -> ProfilerOutput:
    """The same for `s3://BUCKET/PATH`."""
    here = S3Prefix(s3, uri)
    for place in (here.uri, f"{here.uri}/{PROFILER_OUTPUT}"):
        output = ProfilerOutput(S3Prefix(s3, place))
        if output.exists():
            return output
    bucket, _, path = here.uri.removeprefix("s3://").partition("/")
    above, _, name = path.rpartition("/")
    above = f"{above}/" if above else ""
    with translate("s3:ListBucket"):
        answer = s3.list_objects_v2(Bucket=bucket, Prefix=above, Delimiter="/", MaxKeys=MAX_NEIGHBOURS)
    names = [one["Prefix"].removeprefix(above).rstrip("/") for one in answer.get("CommonPrefixes", ())]
    names = [one for one in names if one != name]
    raise UsageError(_nothing(here.uri, _close(name, names, f"s3://{bucket}/{above}")))


def _close(name: str, names: list[str], above: str) -> str:
    found = difflib.get_close_matches(name, names, n=1)
    return f"{above}{found[0]}" if found else ""


def _nothing(place: str, meant: str) -> str:
    return f"no profiler output lies in {place}" + (f"; did you mean {meant}?" if meant else "")
