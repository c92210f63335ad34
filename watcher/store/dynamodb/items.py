"""What the table holds: its keys, its items, and the writes that put them there.

Every item has a partition key `pk` and a sort key `sk`, both strings. No index is needed, because what is
read often has a partition of its own.

    pk                  sk                     item
    RUN#<run>           RUN                    a run: snapshot, evaluations, and the rest of its `JobRecord`;
                                               `version` guards it, `incident` is 1 once it has an incident,
                                               `has_earlier` is 1 if the job has an earlier run, 0 if not
    RUN#<run>           <document>#<n>         a part of a snapshot or evaluation that is too large for it
    RUN#<run>           STOP                   its stop
    NAME#<job name>     <run>                  for `jobs(name)`
    WATCHED             <run>                  what a pass needs to know of a watched run
    DUE#<how>           <due>#<family>#<run>   an evaluation that is due; `how` is ALONE or TOGETHER
    INCIDENT#<id>       INCIDENT               an incident with its findings; `version` guards it,
                                               `deliveries` has the ids of its deliveries
    INCIDENT#<id>       case#<n>               a part of that, if it is too large for the item
    INCIDENT#<id>       CHANGES#<revision>     changes that were made in one write, from this revision on
    INCIDENT#<id>       ROW#<id>               a delivery; `version` guards it
    OUTBOX              <position>             a delivery that can be claimed at some time: its lane and when
    LEASE#<name>        LEASE                  who holds it; `token` changes with each renewal
    STOPPED             AT#<time>#<run>        a stop by its time
    STOPPED             COUNTED                its `version` changes with each stop, so that two processes
                                               cannot both be the last that the limit allows
    HISTORY             <time>#<random>        an action that concerns no incident
    MARKS               <place>                the start of the last pass that succeeded
    TURNS               <what>                 the last turn of some periodic work
    SCHEMA              SCHEMA                 the version of this layout (`upgrade`)
    PROBE               <random>               what `check` writes, reads and deletes

A case is changed by one write that puts its incident, so the incident's version guards the whole case. Its
deliveries have versions of their own, so that a delivery is claimed and settled without its incident.

A position is a time, but no two processes need to agree on the time: it comes from the clock of the process
that opens the delivery, and is later than all positions that this process has read.

`claim` and `next_due` read only what can be claimed, however many deliveries are over. `jobs()`,
`incidents()`, `findings()`, `deliveries()` without an argument and `history()` read the whole table; only
commands for people call them.

`expires_at` is the table's time to live. An incident and its deliveries expire half a year after it was
resolved; an open one never. A part of a history expires a year after it was written.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from watcher.errors import StoreError
from watcher.model import Case, Change, Delivery, Evaluation, IncidentState, RuleFamily
from watcher.store.amendments import CLAIMABLE
from watcher.store.documents import DELIVERY, as_text
from watcher.store.dynamodb.writes import Item, ItemKey, delete, keyed, put, put_if_version

CASE = TypeAdapter(Case)
CHANGES = TypeAdapter(tuple[Change, ...])

EXPIRES_AT = "expires_at"
RETENTION = timedelta(days=180)
"""Longer than any training job may run, so a finding is known for as long as it can be found again."""
HISTORY_RETENTION = 2 * RETENTION
MAX_INLINE_BYTES = 125_000
"""The limit for a document in a job's item, which has three of them. DynamoDB's limit for an item is 400 KB.
Nearly all documents have a few kB, but SageMaker allows a job 2 MB of rule parameters."""
PART_BYTES = 380_000
"""Size of the parts of a larger document."""
MAX_CHANGES_TOGETHER = 50
"""Changes in one item. A look at a run makes one or two, and at most two for each of its rules."""

WATCHED = "WATCHED"
OUTBOX = "OUTBOX"
STOPPED = "STOPPED"
STOPS_COUNTED_KEY = (STOPPED, "COUNTED")
INCIDENT = "INCIDENT"
ROW = "ROW#"
AFTER_CHANGES = "CHANGES$"
"""Sorts after all changes, and before the other items of an incident."""


# -- keys -----------------------------------------------------------------------------------------


def job_key(run: str) -> ItemKey:
    return f"RUN#{run}", "RUN"


def run_of(item: Item) -> str:
    """The run in the key of a job's item."""
    return str(item["pk"]).removeprefix("RUN#")


def name_key(job_name: str, run: str) -> ItemKey:
    return f"NAME#{job_name}", run


def watched_key(run: str) -> ItemKey:
    return WATCHED, run


def lease_key(name: str) -> ItemKey:
    return f"LEASE#{name}", "LEASE"


def incident_key(incident: str) -> ItemKey:
    return f"INCIDENT#{incident}", INCIDENT


def delivery_key(incident: str, delivery_id: str) -> ItemKey:
    return f"INCIDENT#{incident}", f"{ROW}{delivery_id}"


def stop_key(run: str) -> ItemKey:
    return f"RUN#{run}", "STOP"


# -- incidents and deliveries ---------------------------------------------------------------------


def incident_writes(case: Case, before: Item | None, position: str) -> list[Item]:
    """The incident, its findings and its new changes. `before` is the incident's item, if it has one;
    `position` orders incidents that were opened at the same time."""
    version = before["version"] if before else None
    item = keyed(
        incident_key(case.incident.id),
        created=before["created"] if before else position,
        deliveries=" ".join(delivery.id for delivery in case.deliveries),
        version=(version or 0) + 1,
        **{EXPIRES_AT: case_expiry(case)},
    )
    document = CASE.dump_json(Case(case.incident, case.findings))
    writes = document_writes(item, before, "case", document)
    writes.append(put_if_version(item, version))
    return writes + change_writes(case.changes)


def renewed(item: Item) -> Item:
    """Write an item that has a version as it is, so that whoever else has read it must read it again."""
    return put_if_version(item | {"version": item["version"] + 1}, item["version"])


def change_writes(changes: Sequence[Change]) -> list[Item]:
    """The changes of one incident."""
    writes = []
    for start in range(0, len(changes), MAX_CHANGES_TOGETHER):
        some = tuple(changes[start : start + MAX_CHANGES_TOGETHER])
        key = (incident_key(some[0].incident)[0], _changes_from(some[0].revision))
        writes.append(put(changes_item(key, some)))
    return writes


def _changes_from(revision: int) -> str:
    return f"CHANGES#{revision:08d}"


def before_changes(revision: int) -> str:
    """Sorts before all changes after this revision. The first one may be in an item with earlier ones."""
    return _changes_from(max(revision + 1 - MAX_CHANGES_TOGETHER, 0))


def changes_item(key: ItemKey, changes: tuple[Change, ...]) -> Item:
    expiry = expiry_after(changes[-1].at, HISTORY_RETENTION)
    return keyed(key, changes=pack(CHANGES.dump_json(changes)), **{EXPIRES_AT: expiry})


def case_expiry(case: Case) -> int | None:
    """When the case expires; None if it is open."""
    incident = case.incident
    resolved = incident.state is IncidentState.RESOLVED
    return expiry_after(incident.resolved_at or incident.opened_at) if resolved else None


def delivery_item(key_and_guards: Item, delivery: Delivery) -> Item:
    """The delivery's item; `key_and_guards` are its other attributes. One that is under way never expires."""
    expiry = None if delivery.open else key_and_guards.get("case_expires_at")
    return key_and_guards | {"delivery": pack(DELIVERY.dump_json(delivery)), EXPIRES_AT: expiry}


def outbox_item(item: Item, delivery: Delivery) -> Item:
    """The entry of a delivery that can be claimed. `item` is the delivery's."""
    return keyed(
        (OUTBOX, item["position"]),
        id=delivery.id,
        incident=delivery.incident,
        created=item["created"],
        lane=delivery.lane,
        state=delivery.state.value,
        due_at=as_text(delivery.due_at),
        token=item.get("token"),
        **{EXPIRES_AT: item.get(EXPIRES_AT)},
    )


def has_place(delivery: Delivery) -> bool:
    """Whether the delivery has an entry in the outbox."""
    return delivery.state in CLAIMABLE


# -- evaluations, and documents of any size -------------------------------------------------------


def evaluation_name(family: RuleFamily) -> str:
    """The attribute of a run's item that holds its evaluation of this family."""
    return f"evaluation_{family}"


def due_name(family: RuleFamily) -> str:
    """The attribute of a run's item that has this evaluation's `due_entry`."""
    return f"due_{family}"


def due_partition(together: bool) -> str:
    """The evaluations that read many jobs in one request, or those that read one job."""
    return "DUE#TOGETHER" if together else "DUE#ALONE"


def due_entry(evaluation: Evaluation) -> str | None:
    """Where an evaluation is among those that are due: the partition and the time; None if it has ended."""
    due = evaluation.due_at
    return f"{due_partition(evaluation.reads.together)} {as_text(due)}" if due else None


def due_writes(run: str, family: RuleFamily, before: str | None, after: str | None) -> list[Item]:
    """Move an evaluation among those that are due. `before` and `after` are `due_entry`s."""
    if before == after:
        return []
    old, new = (_due_key(entry, family, run) if entry else None for entry in (before, after))
    return [*([delete(old)] if old else ()), *([put(keyed(new))] if new else ())]


def _due_key(entry: str, family: RuleFamily, run: str) -> ItemKey:
    partition, due = entry.split(" ", 1)
    return partition, f"{due}#{family}#{run}"


def document_writes(item: Item, before: Item | None, name: str, document: bytes) -> list[Item]:
    """Sets a document in an item that has a version. A document that is too large is put into items of its
    own. Returns the writes for these, and those that delete the parts which `before` refers to."""
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
    """The sort keys of a document's parts; none if the document is in the item itself."""
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


def expiry_after(moment: datetime, retention: timedelta = RETENTION) -> int:
    return int((moment + retention).timestamp())
