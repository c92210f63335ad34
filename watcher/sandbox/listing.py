"""Answers `ListTrainingJobs` and `ListProcessingJobs`: filters, order, pages, summaries. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from watcher.sandbox import shapes
from watcher.sandbox.api_errors import invalid
from watcher.sandbox.training_job import Record

DEFAULT_PAGE_SIZE = 10


def listed(
    kind: Literal["TrainingJob", "ProcessingJob"], request: Mapping[str, Any], records: Iterable[Record]
) -> Record:
    """The answer. Times of creation choose what is fetched; the other filters choose what is shown of a
    fetched page, so a page may be empty although a later one is not. The API reference says so for
    `StatusEquals`, and users report the same for `NameContains` and `LastModifiedTimeAfter`."""
    order = {"Name": f"{kind}Name", "Status": f"{kind}Status"}.get(request.get("SortBy", ""), "CreationTime")
    fetched = sorted(
        (record for record in records if _between("CreationTime", request, record)),
        key=lambda record: (record[order], record[f"{kind}Name"]),
        reverse=request.get("SortOrder", "Ascending") == "Descending",
    )
    start, size = _offset(request.get("NextToken")), request.get("MaxResults", DEFAULT_PAGE_SIZE)
    members = shapes.members(f"{kind}Summary")
    answer: Record = {
        f"{kind}Summaries": [
            {member: value for member, value in record.items() if member in members}
            for record in fetched[start : start + size]
            if _shown(kind, request, record)
        ]
    }
    if start + size < len(fetched):
        answer["NextToken"] = str(start + size)
    return answer


def _shown(kind: str, request: Mapping[str, Any], record: Record) -> bool:
    return (
        request.get("StatusEquals") in (None, record[f"{kind}Status"])
        and request.get("NameContains", "").lower() in record[f"{kind}Name"].lower()
        and _between("LastModifiedTime", request, record)
    )


def _between(time: str, request: Mapping[str, Any], record: Record) -> bool:
    after, before = request.get(f"{time}After", -math.inf), request.get(f"{time}Before", math.inf)
    return bool(after < record[time] < before)


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise invalid("Invalid NextToken.")
    return int(token)
