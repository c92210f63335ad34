"""Answers `ListTrainingJobs` and `ListProcessingJobs`: filters, order, pages, summaries. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from watcher.sandbox import shapes
from watcher.sandbox.api_errors import invalid
from watcher.sandbox.training_job import Record

DEFAULT_PAGE_SIZE = 10


def listed(
    kind: Literal["TrainingJob", "ProcessingJob"], request: Mapping[str, Any], records: Iterable[Record]
) -> Record:
    """The answer. As documented, `StatusEquals` filters a page after it was fetched, so a page may be empty
    although a later one is not."""
    order = {"Name": f"{kind}Name", "Status": f"{kind}Status"}.get(request.get("SortBy", ""), "CreationTime")
    fetched = sorted(
        (record for record in records if _chosen(kind, request, record)),
        key=lambda record: (record[order], record[f"{kind}Name"]),
        reverse=request.get("SortOrder", "Ascending") == "Descending",
    )
    start, size = _offset(request.get("NextToken")), request.get("MaxResults", DEFAULT_PAGE_SIZE)
    wanted = request.get("StatusEquals")
    members = shapes.members(f"{kind}Summary")
    answer: Record = {
        f"{kind}Summaries": [
            {member: value for member, value in record.items() if member in members}
            for record in fetched[start : start + size]
            if wanted in (None, record[f"{kind}Status"])
        ]
    }
    if start + size < len(fetched):
        answer["NextToken"] = str(start + size)
    return answer


def _chosen(kind: str, request: Mapping[str, Any], record: Record) -> bool:
    if request.get("NameContains", "").lower() not in record[f"{kind}Name"].lower():
        return False
    for time in ("CreationTime", "LastModifiedTime"):
        if record[time] <= request.get(f"{time}After", float("-inf")):
            return False
        if record[time] >= request.get(f"{time}Before", float("inf")):
            return False
    return True


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise invalid("Invalid NextToken.")
    return int(token)
