"""What stands in the table, and the writes that put it there.

Every item has a partition key `pk` and a sort key `sk`, both strings. No index is needed: what is asked for
often stands in a partition of its own.

    pk                  sk                item
    JOB#<arn>           JOB               snapshot, evaluation, and all that `job` tells; `version` guards it
    JOB#<arn>           <document>#<n>    a part of a snapshot or evaluation that is too large for its item
    JOB#<arn>           FINDING#<id>      a finding, for `findings(job)`
    JOB#<arn>           LEASE             who handles the job
    WATCHING            <arn>             what a pass needs to know of a watched job
    EVALUATIONS#<reads> <due>#<arn>       an evaluation that is due
    FINDING#<id>        FINDING           the same finding, by its id
    FINDING#<id>        DELIVERY#<id>     a delivery
    DELIVERY#<id>       POINTER           whose finding it belongs to
    OPEN                <position>        a delivery that is open: its lane, and when it may be handed out
    STOP#<arn>, STOPS   …                 stops, and those of the last hour
    TURNS               <what>            the last turn of some periodic work
    PROBE               …

A position is a time, for which no two processes have to agree: by the clock of whoever adds the delivery,
and later than all positions that it has read.

`claim` and `next_due` read what is open: as much as is open right now, however much has been closed.
`jobs()`, `findings()` and `deliveries()` without an argument are for people, and read the whole table.

`expires_at` is the table's time to live: a finding goes half a year after it was opened, and a delivery half
a year after it came, if it is closed.
"""

from __future__ import annotations

import time
import zlib
from datetime import datetime, timedelta
from typing import Any

from watcher.model import Delivery, Finding
from watcher.store.documents import DELIVERY, FINDING, as_text
from watcher.store.dynamodb.writes import Item, delete, put

EXPIRES_AT = "expires_at"
KEPT = timedelta(days=180)
"""Longer than any training job may run, so that a finding is known for as long as it may be found again."""
MOST_IN_ITEM = 190_000
"""Bytes of each of the two documents that a job's item holds, of the 400 KB that an item may have. Nearly all
are of a few kB; but SageMaker allows a job 2 MB of rule parameters."""
PART = 380_000
"""Bytes of a part of a larger one."""


def finding_writes(finding: Finding) -> list[Item]:
    item = {
        "finding": pack(FINDING.dump_json(finding)),
        # Of two that opened at the same time, the one that came later is the newer.
        "position": time.time_ns(),
        EXPIRES_AT: expiry_after(finding.opened_at),
    }
    by_id = {"pk": f"FINDING#{finding.id}", "sk": "FINDING", **item}
    by_job = {"pk": job_key(finding.job_arn), "sk": f"FINDING#{finding.id}", **item}
    return [put(by_id, "attribute_not_exists(pk)"), put(by_job)]


def delivery_item(delivery: Delivery) -> Item:
    """What of the item changes with the delivery. One that is open never expires."""
    expiry = None if delivery.open else expiry_after(delivery.created_at)
    return {"delivery": pack(DELIVERY.dump_json(delivery)), EXPIRES_AT: expiry}


def opened(item: Item, delivery: Delivery) -> Item:
    """The entry among what is open, which goes when the delivery is closed."""
    if not delivery.open:
        return delete(("OPEN", item["position"]))
    return put(
        {
            "pk": "OPEN",
            "sk": item["position"],
            "id": delivery.id,
            "finding_id": delivery.finding_id,
            "lane": delivery.lane,
            "ready_at": as_text(delivery.due_at),
        }
    )


def due_writes(arn: str, before: str | None, after: str | None) -> list[Item]:
    """Move a job's entry among the due evaluations from `before` to `after`: what it reads, and when."""
    if before == after:
        return []
    writes = []
    if before:
        reads, due = before.split(" ", 1)
        writes.append(delete((f"EVALUATIONS#{reads}", f"{due}#{arn}")))
    if after:
        reads, due = after.split(" ", 1)
        writes.append(put({"pk": f"EVALUATIONS#{reads}", "sk": f"{due}#{arn}"}))
    return writes


def document_writes(item: Item, before: Item | None, name: str, document: bytes) -> list[Item]:
    """Puts a document into its item or, where it is too large, beside it; takes away what was beside it."""
    writes = [delete((item["pk"], part)) for part in parts((before or {}).get(name))]
    packed = pack(document)
    if len(packed) <= MOST_IN_ITEM:
        item[name] = packed
        return writes
    chunks = [packed[start : start + PART] for start in range(0, len(packed), PART)]
    item[name] = f"{name}#{item['version']}#{len(chunks)}"
    for part, chunk in zip(parts(item[name]), chunks, strict=True):
        writes.append(put({"pk": item["pk"], "sk": part, "part": chunk}))
    return writes


def parts(kept: Any) -> list[str]:
    """The sort keys of the parts of a document that is kept beside its item."""
    if not isinstance(kept, str):
        return []
    prefix, _, count = kept.rpartition("#")
    return [f"{prefix}#{number}" for number in range(int(count))]


def job_key(arn: str) -> str:
    return f"JOB#{arn}"


def pack(document: bytes) -> bytes:
    return zlib.compress(document)


def unpack(packed: bytes) -> bytes:
    """Raises `zlib.error`."""
    return zlib.decompress(packed)


def expiry_after(moment: datetime) -> int:
    return int((moment + KEPT).timestamp())
