"""Answers the operations that list: filters, order, pages, summaries. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from watcher.sandbox.sagemaker import shapes
from watcher.sandbox.sagemaker.api_errors import invalid
from watcher.sandbox.sagemaker.paging import page
from watcher.sandbox.sagemaker.training_job import Record

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


def listed_entities(
    request: Mapping[str, Any], records: Iterable[Record], *, name: str, unique: str
) -> tuple[list[Record], dict[str, str]]:
    """One page of a list of experiments, trials, components, or parts of a lineage, and the member NextToken
    if there is another page. The newest comes first, unless the request says otherwise. `name` is the member
    for the order `Name`, and the member `unique` is another one in each record."""
    by = request.get("SortBy", "CreationTime")
    order = name if by == "Name" else by
    after, before = request.get("CreatedAfter", -math.inf), request.get("CreatedBefore", math.inf)
    shown, token = page(
        {
            (record.get(order, ""), record[unique]): record
            for record in records
            if after <= record["CreationTime"] <= before
        },
        descending=request.get("SortOrder", "Descending") == "Descending",
        size=request.get("MaxResults"),
        token=request.get("NextToken"),
    )
    return shown, {"NextToken": token} if token else {}
