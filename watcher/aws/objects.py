"""Counts what lies at a place on S3, with few requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from watcher.aws.session import translate
from watcher.errors import NotFound, UsageError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

MAX_PAGES = 3
"""Requests for one place."""
PAGE_SIZE = 1000
"""Objects; S3 returns no more at once."""

_URI = re.compile(r"s3://([^/]+)/*(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Usage:
    objects: int
    size: int
    """Bytes of these objects."""
    more: bool = False
    """There are more objects than were counted."""


def usage(s3: S3Client, uri: str) -> Usage:
    """The objects whose keys begin with `uri`, as SageMaker reads a channel of type `S3Prefix`. A bucket that
    does not exist has none.

    Raises `UsageError` for what is no place on S3, and `AwsError`.
    """
    place = _URI.fullmatch(uri)
    if place is None:
        raise UsageError(f"{uri!r} is not a place on S3")
    objects = size = 0
    more = False
    try:
        with translate("s3:ListBucket"):
            pages = s3.get_paginator("list_objects_v2").paginate(
                Bucket=place[1], Prefix=place[2], PaginationConfig={"PageSize": PAGE_SIZE}
            )
            for page in islice(pages, MAX_PAGES):
                found = page.get("Contents", ())
                objects += len(found)
                size += sum(item["Size"] for item in found)
                more = page["IsTruncated"]
    except NotFound:
        return Usage(0, 0)
    return Usage(objects, size, more)
