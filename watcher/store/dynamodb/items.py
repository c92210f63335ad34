"""What the table holds: its keys, its items, and the writes that put them there.

Every item has a partition key `pk` and a sort key `sk`, both strings. No index is needed, because what is
read often has a partition of its own.

    pk                  sk                item
    JOB#<arn>           JOB               a job: snapshot, evaluation, and the rest of its `JobRecord`;
                                          `version` guards it
    JOB#<arn>           <document>#<n>    a part of a snapshot or evaluation that is too large for its item
    JOB#<arn>           FINDING#<id>      a finding, for `findings(job)`
    JOB#<arn>           LEASE             who handles the job, and until when
    WATCHING            <arn>             what a pass needs to know of a watched job
    EVALUATIONS#<reads> <due>#<arn>       an evaluation that is due
    FINDING#<id>        FINDING           the same finding, by its id
    FINDING#<id>        DELIVERY#<id>     a delivery
    DELIVERY#<id>       POINTER           the finding that a delivery belongs to
    OPEN                <position>        an open delivery: its lane, and when it may be handed out
    STOP#<arn>          STOP              a stop
    STOPS               AT#<time>#<arn>   the same stop, by its time
    STOPS               COUNTED           its `version` changes with each stop, so that two processes cannot
                                          both be the last that the limit allows
    TURNS               <what>            the last turn of some periodic work
    PROBE               <random>          what `check` writes, reads and deletes

A position is a time, but no two processes need to agree on the time: it comes from the clock of the process
that adds the delivery, and is later than all positions that this process has read.

`claim` and `next_due` read only open deliveries, however many are closed. `jobs()`, `findings()` and
`deliveries()` without an argument read the whole table; only commands for people call them.

`expires_at` is the table's time to live. A finding expires half a year after it was opened, and a delivery
half a year after it was created, if it is closed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from watcher.errors import StoreError
from watcher.model import Delivery, Finding
from watcher.store.documents import DELIVERY, FINDING, as_text
from watcher.store.dynamodb.writes import Item, ItemKey, delete, keyed, put

EXPIRES_AT = "expires_at"
RETENTION = timedelta(days=180)
"""Longer than any training job may run, so a finding is known for as long as it can be found again."""
MAX_INLINE_BYTES = 190_000
"""The limit for a document in a job's item, which has two of them. DynamoDB's limit for an item is 400 KB.
Nearly all documents have a few kB, but SageMaker allows a job 2 MB of rule parameters."""
PART_BYTES = 380_000
"""Size of the parts of a larger document."""

OPEN = "OPEN"
WATCHING = "WATCHING"
STOPS_COUNTED_KEY = ("STOPS", "COUNTED")


# -- keys -----------------------------------------------------------------------------------------


def job_key(arn: str) -> ItemKey:
    return f"JOB#{arn}", "JOB"


def job_arn(item: Item) -> str:
    """The ARN in the key of a job's item."""
    return str(item["pk"]).removeprefix("JOB#")


def lease_key(arn: str) -> ItemKey:
    return f"JOB#{arn}", "LEASE"


def watched_key(arn: str) -> ItemKey:
    return WATCHING, arn


def finding_key(finding_id: str) -> ItemKey:
    return f"FINDING#{finding_id}", "FINDING"


def delivery_key(finding_id: str, delivery_id: str) -> ItemKey:
    return f"FINDING#{finding_id}", f"DELIVERY#{delivery_id}"


def pointer_key(delivery_id: str) -> ItemKey:
    return f"DELIVERY#{delivery_id}", "POINTER"


def stop_key(arn: str) -> ItemKey:
    return f"STOP#{arn}", "STOP"


# -- findings and deliveries ----------------------------------------------------------------------


def finding_writes(finding: Finding) -> list[Item]:
    item = {
        "finding": pack(FINDING.dump_json(finding)),
        # Orders findings that were opened at the same time.
        "position": time.time_ns(),
        EXPIRES_AT: expiry_after(finding.opened_at),
    }
    by_job = (job_key(finding.job_arn)[0], f"FINDING#{finding.id}")
    return [
        put(keyed(finding_key(finding.id), **item), "attribute_not_exists(pk)"),
        put(keyed(by_job, **item)),
    ]


def delivery_item(delivery: Delivery) -> Item:
    """The attributes that change with the delivery. An open one never expires."""
    expiry = None if delivery.open else expiry_after(delivery.created_at)
    return {"delivery": pack(DELIVERY.dump_json(delivery)), EXPIRES_AT: expiry}


def new_delivery_writes(delivery: Delivery, position: str) -> list[Item]:
    key = delivery_key(delivery.finding_id, delivery.id)
    item = keyed(key, position=position, version=1) | delivery_item(delivery)
    pointer = keyed(
        pointer_key(delivery.id),
        finding_id=delivery.finding_id,
        **{EXPIRES_AT: expiry_after(delivery.created_at)},
    )
    writes = [put(item), put(pointer, "attribute_not_exists(pk)")]
    return [*writes, open_write(item, delivery)] if delivery.open else writes


def open_write(item: Item, delivery: Delivery) -> Item:
    """Writes the entry among the open deliveries, or deletes it if the delivery is closed. `item` is the
    delivery's item, which has the position."""
    key = (OPEN, item["position"])
    if not delivery.open:
        return delete(key)
    return put(
        keyed(
            key,
            id=delivery.id,
            finding_id=delivery.finding_id,
            lane=delivery.lane,
            ready_at=as_text(delivery.due_at),
        )
    )


# -- evaluations, and documents of any size -------------------------------------------------------


def due_writes(arn: str, before: str | None, after: str | None) -> list[Item]:
    """Move a job's entry among the due evaluations. `before` and `after` are what it reads and when it is
    due, with a space between."""
    if before == after:
        return []
    writes = []
    if before:
        reads, due = before.split(" ", 1)
        writes.append(delete((f"EVALUATIONS#{reads}", f"{due}#{arn}")))
    if after:
        reads, due = after.split(" ", 1)
        writes.append(put(keyed((f"EVALUATIONS#{reads}", f"{due}#{arn}"))))
    return writes


def document_writes(item: Item, before: Item | None, name: str, document: bytes) -> list[Item]:
    """Sets a document in the job's item. A document that is too large is put into items of its own. Returns
    the writes for these, and those that delete the parts which `before` refers to."""
    writes = [delete((item["pk"], part)) for part in parts((before or {}).get(name))]
    packed = pack(document)
    if len(packed) <= MAX_INLINE_BYTES:
        item[name] = packed
        return writes
    chunks = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
    # The names of the parts contain the version, so that a reader never mixes parts of two versions.
    item[name] = f"{name}#{item['version']}#{len(chunks)}"
    for part, chunk in zip(parts(item[name]), chunks, strict=True):
        writes.append(put(keyed((item["pk"], part), part=chunk)))
    return writes


def parts(stored: Any) -> list[str]:
    """The sort keys of a document's parts; none if the document is in the job's item."""
    if not isinstance(stored, str):
        return []
    prefix, _, count = stored.rpartition("#")
    return [f"{prefix}#{number}" for number in range(int(count))]


def pack(document: bytes) -> bytes:
    return zlib.compress(document)


def unpack(packed: bytes) -> bytes:
    """Raises `zlib.error`."""
    return zlib.decompress(packed)


@contextmanager
def parsing(table: str) -> Iterator[None]:
    """Turns the errors of `unpack` and of pydantic into `StoreError`."""
    try:
        yield
    except (ValidationError, zlib.error) as error:
        raise StoreError(
            f"table {table}: an item cannot be parsed ({error}); restore a backup, "
            "or name another table in store.url (then alerts may be sent again)"
        ) from error


def expiry_after(moment: datetime) -> int:
    return int((moment + RETENTION).timestamp())
