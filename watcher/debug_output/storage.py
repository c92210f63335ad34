"""Lists and reads files below a prefix on S3 or in a folder, in the same way for both.

Keys are relative to that place, with `/` between their parts, and are listed in S3's order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from botocore.exceptions import ClientError

from watcher.aws.session import translate
from watcher.errors import NotFound, UsageError, WatcherError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


class Stored(NamedTuple):
    key: str
    size: int
    """In bytes."""
    modified: float = 0.0
    """When it was written, in seconds since the epoch. S3 says so in whole seconds."""
    version: str = ""
    """Another one when it is written again with another content (S3), or in any case (folder)."""


class Storage(Protocol):
    """Safe to use from several threads. Raises `WatcherError` for a place that cannot be read."""

    @property
    def uri(self) -> str:
        """The place, for people. A `/` and a key can be appended."""

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        """The objects whose keys begin with `prefix` and come after the key `after`; none if there is no such
        place."""

    def folders(self, place: str) -> Sequence[str]:
        """The names of the folders at a place, sorted: at most a thousand."""

    def get(self, key: str, span: range | None = None) -> bytes | None:
        """The object, or these bytes of it (fewer if it is shorter); None if it does not exist."""


class S3Prefix:
    def __init__(self, s3: S3Client, uri: str, since: datetime | None = None) -> None:
        """`uri` is `s3://BUCKET/PATH/JOB/debug-output`. Objects that were written before `since` do not
        exist."""
        matched = re.fullmatch(r"s3://([^/]+)/*(.*?)/*", uri)
        if not matched:
            raise UsageError(
                f"{uri!r} is not a place on S3: it should look like s3://BUCKET/PATH/JOB/debug-output"
            )
        path = re.sub("/+", "/", matched[2])  # as smdebug does when it writes
        self._s3 = s3
        self._bucket = matched[1]
        self._root = f"{path}/" if path else ""
        self._since = since and since.replace(microsecond=0)  # S3 gives the time in whole seconds

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        start = {"StartAfter": self._root + after} if after else {}
        pages = self._s3.get_paginator("list_objects_v2")
        with translate("s3:ListBucket"):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix, **start):  # type: ignore[arg-type]
                for item in page.get("Contents", ()):
                    if self._since is None or item["LastModified"] >= self._since:
                        yield Stored(
                            item["Key"].removeprefix(self._root),
                            item["Size"],
                            item["LastModified"].timestamp(),
                            item["ETag"],
                        )

    def folders(self, place: str) -> Sequence[str]:
        prefix = self._root + (f"{place}/" if place else "")
        with translate("s3:ListBucket"):
            page = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, Delimiter="/")
        return [one["Prefix"].removeprefix(prefix)[:-1] for one in page.get("CommonPrefixes", ())]

    def get(self, key: str, span: range | None = None) -> bytes | None:
        part = {} if span is None else {"Range": f"bytes={span.start}-{span.stop - 1}"}
        try:
            with translate("s3:GetObject"):
                answer = self._s3.get_object(Bucket=self._bucket, Key=self._root + key, **part)  # type: ignore[arg-type]
                # A key that the caller knows from another file, such as an index file, may be an older one's.
                if self._since is not None and answer["LastModified"] < self._since:
                    answer["Body"].close()
                    return None
                return answer["Body"].read()
        except NotFound:
            return None
        except WatcherError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and cause.response["Error"]["Code"] == "InvalidRange":
                return b""  # the span begins after the object's end
            raise


class Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def uri(self) -> str:
        return str(self._path)

    def list(self, prefix: str, after: str = "") -> Iterator[Stored]:
        folder = prefix.rpartition("/")[0]
        try:
            for found in self._walk(f"{folder}/" if folder else "", after):
                if found.key.startswith(prefix):
                    yield found
        except OSError as error:
            raise WatcherError(f"{self._path} cannot be listed: {error}") from error

    def _walk(self, folder: str, after: str) -> Iterator[Stored]:
        try:
            entries = {
                f"{entry.name}/" if entry.is_dir() else entry.name: entry
                for entry in os.scandir(self._path / folder)
            }
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in sorted(entries):
            key = folder + name
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after and not name.endswith(".tmp"):  # smdebug renames a file when it is whole
                try:
                    found = entries[name].stat()
                    yield Stored(key, found.st_size, found.st_mtime, str(found.st_mtime_ns))
                except FileNotFoundError:
                    continue

    def folders(self, place: str) -> Sequence[str]:
        try:
            found = [entry.name for entry in os.scandir(self._path / place) if entry.is_dir()]
        except OSError:  # also one that may not be read
            return []
        return sorted(found)[:1000]

    def get(self, key: str, span: range | None = None) -> bytes | None:
        try:
            with (self._path / key).open("rb") as file:
                if span is None:
                    return file.read()
                file.seek(span.start)
                return file.read(len(span))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WatcherError(f"{self._path / key} cannot be read: {error}") from error
