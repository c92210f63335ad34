"""Writes objects to moto's S3, from within its process."""

from __future__ import annotations

from contextlib import suppress

from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends


class ObjectWriter:
    """Writes as this account."""

    def __init__(self, account: str) -> None:
        self._account = account

    def put(self, uri: str, content: bytes) -> None:
        """`uri`: `s3://BUCKET/KEY`. Nothing is written if the bucket is gone: what writes here goes on, as at
        AWS."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        with suppress(MissingBucket):
            s3_backends[self._account]["aws"].put_object(bucket, key, content)
