"""The store in one DynamoDB table, for as many processes on as many machines as one likes.

`items` says what stands in the table, `table` makes the requests, `writes` knows how DynamoDB's API has them.

A write is a transaction of up to 100 items, each guarded by a condition; one that another process came
before is worked out anew. A commit of more than that is halved until its parts fit: each holds some of the
jobs with all that was found in them. What was found in one job and is too much by itself comes before the
job, so that whoever repeats it finds it told.

What this process has just read or written is not read again to be changed: the conditions tell when another
has changed it since.
"""

from __future__ import annotations

import secrets
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from watcher.errors import LeaseLost, StoreError
from watcher.lru import LruCache
from watcher.model import Delivery, DeliveryState, Finding, Reads
from watcher.store.base import Claimed, JobRecord, Look, StopRecord, WatchedJob, settled
from watcher.store.documents import (
    DELIVERY,
    EVALUATION,
    FINDING,
    SNAPSHOT,
    as_optional_text,
    as_text,
    from_optional_text,
    from_text,
    job_record,
)
from watcher.store.dynamodb.items import (
    EXPIRES_AT,
    delivery_item,
    document_writes,
    due_writes,
    expiry_after,
    finding_writes,
    job_key,
    opened,
    parts,
    unpack,
)
from watcher.store.dynamodb.positions import Positions
from watcher.store.dynamodb.table import Outrun, Table
from watcher.store.dynamodb.writes import (
    MOST_ITEMS,
    Item,
    ItemKey,
    delete,
    fits,
    plain,
    put,
    put_if_version,
    written_key,
)

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

MOST_CLAIMED = MOST_ITEMS // 2
DELIVERY_CACHE_SIZE = 256
"""More than are usually waiting to be sent at one time."""

T = TypeVar("T")


class DynamoStore:
    """`dynamodb` is a client whose own retries see to throttling. Safe to use from several threads."""

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._table = Table(dynamodb, table, wait)
        self._positions = Positions()
        self._deliveries = LruCache[Item](DELIVERY_CACHE_SIZE)
        """Items as this process wrote them last."""
        self._held: dict[str, list[Item] | None] = {}
        """Of each job that this process holds: its item, if it has one; None where it was not read since."""

    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        until = as_text(now + timedelta(seconds=lease))
        leases = [{"pk": job_key(arn), "sk": "LEASE", "owner": owner, "until": until} for arn in job_arns]
        free = "attribute_not_exists(pk) OR #owner = :owner OR #until <= :now"
        writes = [put(lease, free, {"now": as_text(now)}) for lease in leases]
        if len(writes) == 1:
            refused = [not self._table.written(writes[0])]
        else:
            alone = [[write] for write in writes]
            batches = (alone[start : start + MOST_ITEMS] for start in range(0, len(alone), MOST_ITEMS))
            refused = _as_far_as_it_goes(
                bool(each) for batch in batches for each in self._table.write_each(batch)
            )
        held = {arn for arn, no in zip(job_arns, refused, strict=False) if not no}
        self._held |= dict.fromkeys(held)
        return held

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        for arn in job_arns:
            self._held.pop(arn, None)
            self._table.written(delete((job_key(arn), "LEASE"), "#owner = :owner", {"owner": owner}))

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        """In one transaction as far as `MOST_ITEMS` and `MOST_BYTES` reach; see above for what is beyond."""
        new: list[Finding] = []
        for batch in _once_each(looks):
            new += self._commit(batch, holder)
        return tuple(new)

    def _commit(self, looks: Sequence[Look], holder: str, *, jobs: bool = True) -> list[Finding]:
        """`jobs` False: only what was found in them."""
        new = self._table.retried(lambda: self._commit_at_once(looks, holder, jobs))
        if new is not None:
            return new
        if len(looks) > 1:
            middle = len(looks) // 2
            return [*self._commit(looks[:middle], holder), *self._commit(looks[middle:], holder)]
        (look,) = looks
        middle = len(look.findings) // 2
        halves = [replace(look, findings=part) for part in (look.findings[:middle], look.findings[middle:])]
        new = [finding for half in halves for finding in self._commit([half], holder, jobs=False)]
        return [*new, *self._commit(looks, holder)] if jobs else new

    def _commit_at_once(self, looks: Sequence[Look], holder: str, jobs: bool) -> list[Finding] | None:
        """What is new of the findings; None, and nothing written, where it is too much for one transaction,
        and can be less."""
        known = self._known_of(looks, holder)
        new: list[Finding] = []
        writes: list[Item] = []
        for look in looks:
            told = [each for each in look.findings if (f"FINDING#{each.id}", "FINDING") not in known]
            new += told
            rows = {
                finding.id: [d for d in look.deliveries if d.finding_id == finding.id] for finding in told
            }
            for finding in told:
                writes += [*finding_writes(finding), *self._delivery_writes(rows[finding.id])]
            if jobs:
                writes += self._job_writes(look, known.get((job_key(look.snapshot.arn), "JOB")), holder)
        if not fits(writes) and (len(looks) > 1 or len(looks[0].findings) > 1):
            return None
        if writes:
            self._transact(writes)
        return new

    def _known_of(self, looks: Sequence[Look], holder: str) -> dict[ItemKey, Item]:
        """What a commit changes, as far as it is there. What is held is not read twice; then no finding is
        expected to be there, and where one is, the next attempt reads it."""
        arns = [look.snapshot.arn for look in looks]
        held = [self._held.pop(arn, None) for arn in arns] if holder else []
        if held and None not in held:
            return {(item["pk"], item["sk"]): item for items in held for item in items or ()}
        keys = [(job_key(arn), "JOB") for arn in arns] + [(job_key(arn), "LEASE") for arn in arns if holder]
        keys += [(f"FINDING#{finding.id}", "FINDING") for look in looks for finding in look.findings]
        known = self._table.get_many(keys)
        if holder and any(known.get((job_key(arn), "LEASE"), {}).get("owner") != holder for arn in arns):
            raise LeaseLost("another process has taken this job over, and handles it")
        return known

    def _job_writes(self, look: Look, before: Item | None, holder: str) -> list[Item]:
        arn = look.snapshot.arn
        unchanged = before is not None and before["fingerprint"] == look.fingerprint
        item: Item = {
            "pk": job_key(arn),
            "sk": "JOB",
            "name": look.snapshot.name,
            "fingerprint": look.fingerprint,
            "describe_at": as_optional_text(look.describe_at),
            "watching": int(look.watching),
            "first_seen_at": before["first_seen_at"] if before else as_text(look.seen_at),
            "changed_at": before["changed_at"] if before and unchanged else as_text(look.seen_at),
            "evaluation": (before or {}).get("evaluation"),
            "due": (before or {}).get("due"),
            "version": (before or {}).get("version", 0) + 1,
        }
        writes = document_writes(item, before, "snapshot", SNAPSHOT.dump_json(look.snapshot))
        if look.evaluation is not None:
            writes += document_writes(item, before, "evaluation", EVALUATION.dump_json(look.evaluation))
            due = look.evaluation.due_at
            item["due"] = f"{look.evaluation.reads} {as_text(due)}" if due else None
            writes += due_writes(arn, (before or {}).get("due"), item["due"])
        version = before["version"] if before else None
        writes.append(put_if_version(item, version))
        watched = {
            "pk": "WATCHING",
            "sk": arn,
            "name": look.snapshot.name,
            "status": look.snapshot.status,
            "fingerprint": look.fingerprint,
            "describe_at": item["describe_at"],
        }
        writes.append(put(watched) if look.watching else delete(("WATCHING", arn)))
        if holder:
            writes.append(delete((job_key(arn), "LEASE"), "#owner = :owner", {"owner": holder}))
        return writes

    def watching(self) -> list[WatchedJob]:
        return [
            WatchedJob(
                arn=item["sk"],
                name=item["name"],
                status=item["status"],
                fingerprint=item["fingerprint"],
                describe_at=from_optional_text(item.get("describe_at")),
            )
            for item in self._table.query("WATCHING")
        ]

    def job(self, arn: str) -> JobRecord | None:
        def attempt() -> JobRecord | None:
            item = self._table.get((job_key(arn), "JOB"))
            record = self._record(item) if item else None
            if arn in self._held:
                self._held[arn] = [item] if item else []
            return record

        return self._table.retried(attempt)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        records = []
        for item in self._table.scan("JOB"):
            if name in (None, item["name"]):
                try:
                    records.append(self._record(item))
                except Outrun:
                    records += filter(None, [self.job(item["pk"].removeprefix("JOB#"))])
        records.sort(key=lambda record: record.snapshot.arn)
        return sorted(records, key=lambda record: record.snapshot.created_at, reverse=True)

    def unwatch(self, arn: str) -> None:
        def attempt() -> None:
            item = self._table.get((job_key(arn), "JOB"))
            if item:
                later = item | {"watching": 0, "version": item["version"] + 1}
                self._transact([put_if_version(later, item["version"]), delete(("WATCHING", arn))])

        self._table.retried(attempt)

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        later = f"{reads} {as_text(now + timedelta(seconds=lease))}"
        waiting = self._table.query(f"EVALUATIONS#{reads}", until=f"{as_text(now)}#\uffff", limit=limit)
        due = (item["sk"].split("#", 1) for item in waiting)
        return _as_far_as_it_goes(arn for at, arn in due if self._postpone(arn, f"{reads} {at}", later))

    def _postpone(self, arn: str, before: str, after: str) -> bool:
        """False where somebody else did."""
        job = self._table.get((job_key(arn), "JOB"))
        if job is None or job.get("due") != before:
            return False
        later = job | {"due": after, "version": job["version"] + 1}
        try:
            self._transact([*due_writes(arn, before, after), put_if_version(later, job["version"])])
        except Outrun:
            return False
        return True

    def next_evaluation(self) -> datetime | None:
        firsts = [next(self._table.query(f"EVALUATIONS#{reads}", limit=1), None) for reads in Reads]
        return min((from_text(f["sk"].partition("#")[0]) for f in firsts if f), default=None)

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None:
        item = self._table.get((f"FINDING#{finding_id}", "FINDING"))
        return self._finding(item) if item else None

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        if job_arn is None:
            items = list(self._table.scan("FINDING"))
        else:
            items = list(self._table.query(job_key(job_arn), prefix="FINDING#"))
        items.sort(key=lambda item: item["position"])
        found = [self._finding(item) for item in reversed(items)]
        return sorted(found, key=lambda finding: finding.opened_at, reverse=True)

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        heads = sorted(self._heads(), key=lambda head: (head["ready_at"], head["sk"]))
        due = [head for head in heads[:limit] if head["ready_at"] <= as_text(now)]
        until = now + timedelta(seconds=lease)
        batches = (due[start : start + MOST_CLAIMED] for start in range(0, len(due), MOST_CLAIMED))
        taken = dict(
            _as_far_as_it_goes(each for batch in batches for each in self._claim(batch, owner, until))
        )
        again = [as_text(until) if head["sk"] in taken else head["ready_at"] for head in heads]
        return Claimed(
            [taken[position] for position in sorted(taken)], from_optional_text(min(again, default=None))
        )

    def _claim(self, heads: Sequence[Item], owner: str, until: datetime) -> Iterator[tuple[str, Delivery]]:
        """All at once, or as many as nobody else was first at. With their positions."""
        try:
            yield from self._claim_at_once(heads, owner, until)
        except Outrun:
            for head in heads:
                with suppress(Outrun):
                    yield from self._claim_at_once([head], owner, until)

    def _claim_at_once(
        self, heads: Sequence[Item], owner: str, until: datetime
    ) -> list[tuple[str, Delivery]]:
        taken: list[tuple[str, Delivery]] = []
        writes: list[Item] = []
        for head, item in zip(heads, self._items_of(heads), strict=True):
            before = self._delivery(item)
            delivery = replace(
                before,
                state=DeliveryState.IN_FLIGHT,
                attempts=before.attempts + 1,
                uncertain=before.uncertain or before.state is DeliveryState.IN_FLIGHT,
            )
            taken.append((head["sk"], delivery))
            writes.append(self._changed(item, delivery, owner))
            writes.append(
                put(head | {"ready_at": as_text(until)}, "#ready_at = :before", {"before": head["ready_at"]})
            )
        self._transact(writes)
        return taken

    def _items_of(self, heads: Sequence[Item]) -> list[Item]:
        keys = [(f"FINDING#{head['finding_id']}", f"DELIVERY#{head['id']}") for head in heads]
        recent = {key: item for key in keys if (item := self._deliveries.pop(key[1]))}
        known = recent | self._table.get_many(key for key in keys if key not in recent)
        if len(known) < len(keys):
            raise Outrun(["DynamoDB has let go of one meanwhile"])
        return [known[key] for key in keys]

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        key = (f"FINDING#{delivery.finding_id}", f"DELIVERY#{delivery.id}")

        def attempt() -> bool:
            item = self._deliveries.pop(key[1])
            if item is None or item.get("owner") != owner:
                item = self._table.get(key)
            if item is None:
                return False
            before = self._delivery(item)
            # A later claim counts another attempt, so an owner that comes late cannot pass for itself.
            held = before.state is DeliveryState.IN_FLIGHT and item.get("owner") == owner
            if not held or before.attempts != delivery.attempts:
                return False
            after = settled(before, delivery)
            self._transact([self._changed(item, after, None), opened(item, after), *self._following(then)])
            return True

        return self._table.retried(attempt)

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        def attempt() -> bool:
            pointer = self._table.get((f"DELIVERY#{delivery_id}", "POINTER"))
            item = (
                self._table.get((f"FINDING#{pointer['finding_id']}", f"DELIVERY#{delivery_id}"))
                if pointer
                else None
            )
            if item is None or (before := self._delivery(item)).state is not DeliveryState.PENDING:
                return False
            after = replace(before, state=DeliveryState.CANCELLED)
            self._transact([self._changed(item, after, None), opened(item, after), *self._following(then)])
            return True

        return self._table.retried(attempt)

    def next_due(self) -> datetime | None:
        return min((from_text(head["ready_at"]) for head in self._heads()), default=None)

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        if finding_id is None:
            items = list(self._table.scan_prefix("DELIVERY#"))
        else:
            items = list(self._table.query(f"FINDING#{finding_id}", prefix="DELIVERY#"))
        items.sort(key=lambda item: item["position"])
        self._positions.seen(items[-1]["position"] if items else "")
        return [self._delivery(item) for item in items]

    def _heads(self) -> list[Item]:
        """Of each lane the oldest open delivery."""
        heads: dict[str, Item] = {}
        last = ""
        for item in self._table.query("OPEN"):
            heads.setdefault(item["lane"], item)
            last = item["sk"]
        self._positions.seen(last)
        return list(heads.values())

    def _following(self, deliveries: Sequence[Delivery]) -> list[Item]:
        """What puts those that are not there yet. Raises `StoreError` for one of an unknown finding."""
        keys = [(f"DELIVERY#{each.id}", "POINTER") for each in deliveries]
        known = self._table.get_many(
            [*keys, *((f"FINDING#{each.finding_id}", "FINDING") for each in deliveries)]
        )
        for each in deliveries:
            if (f"FINDING#{each.finding_id}", "FINDING") not in known:
                raise StoreError(
                    f"table {self._table.name}: delivery {each.id} is of no finding that is known"
                )
        new = [each for each in deliveries if (f"DELIVERY#{each.id}", "POINTER") not in known]
        return self._delivery_writes(new)

    def _delivery_writes(self, deliveries: Iterable[Delivery]) -> list[Item]:
        writes = []
        for delivery in {each.id: each for each in deliveries}.values():
            key = {"pk": f"FINDING#{delivery.finding_id}", "sk": f"DELIVERY#{delivery.id}"}
            item = key | delivery_item(delivery) | {"position": self._positions.next(), "version": 1}
            pointer = {"pk": f"DELIVERY#{delivery.id}", "sk": "POINTER", "finding_id": delivery.finding_id}
            expiry = {EXPIRES_AT: expiry_after(delivery.created_at)}
            writes += [put(item), put(pointer | expiry, "attribute_not_exists(pk)")]
            if delivery.open:
                writes.append(opened(item, delivery))
        return writes

    def _changed(self, item: Item, delivery: Delivery, owner: str | None) -> Item:
        """The delivery's item as it is to be, if nobody else has changed it."""
        changed = item | delivery_item(delivery) | {"owner": owner, "version": item["version"] + 1}
        return put_if_version(changed, item["version"])

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        # A request whose answer is lost is sent again, and must find that the turn is its own.
        item = {"pk": "TURNS", "sk": what, "turn": turn, "by": uuid.uuid4().hex}
        return self._table.written(put(item, "attribute_not_exists(pk) OR #turn < :turn OR #by = :by"))

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        def attempt() -> bool:
            if self.stop_of(job_arn):
                return True
            counted = self._table.get(("STOPS", "COUNTED")) or {"pk": "STOPS", "sk": "COUNTED"}
            since = f"AT#{as_text(now - timedelta(hours=1))}#\uffff"
            if sum(1 for _ in self._table.query("STOPS", prefix="AT#", after=since)) >= max_per_hour:
                return False
            stop = {"pk": f"STOP#{job_arn}", "sk": "STOP", "actor": actor, "at": as_text(now)}
            entry = {"pk": "STOPS", "sk": f"AT#{as_text(now)}#{job_arn}", EXPIRES_AT: expiry_after(now)}
            version = counted.get("version")
            counted["version"] = (version or 0) + 1
            self._transact([put(stop), put(entry), put_if_version(counted, version)])
            return True

        return self._table.retried(attempt)

    def stop_of(self, job_arn: str) -> StopRecord | None:
        item = self._table.get((f"STOP#{job_arn}", "STOP"))
        return StopRecord(job_arn, item["actor"], from_text(item["at"])) if item else None

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Makes each kind of request that the store makes, on an item of its own; it is gone afterwards."""
        key = ("PROBE", secrets.token_hex(8))
        named = {"pk": key[0], "sk": key[1]}
        self._table.written(put(named, "attribute_not_exists(pk)"))
        kept = [self._table.get(key), self._table.get_many([key]).get(key)]
        some = self._table.first()
        self._table.written(delete(key))
        if some is None or kept != [named, named]:
            raise StoreError(
                f"table {self._table.name} does not keep what is written to it; change store.url"
            )
        return f"DynamoDB, table {self._table.name}, watched jobs: {len(self.watching())}"

    def close(self) -> None:
        """There is nothing to close: the client is its maker's."""

    def _transact(self, writes: Sequence[Item]) -> None:
        """All or nothing, and what is put of deliveries is remembered. Raises `Outrun`."""
        self._table.write(writes)
        for write in writes:
            if "Put" in write and (sort_key := written_key(write)[1]).startswith("DELIVERY#"):
                self._deliveries.put(sort_key, plain(write["Put"]["Item"]))

    # -- items and values -------------------------------------------------------------------------

    def _record(self, item: Item) -> JobRecord:
        snapshot, evaluation = self._document(item, "snapshot"), self._document(item, "evaluation")
        with self._understood():
            return job_record(item, unpack(snapshot), unpack(evaluation) if evaluation else None)

    def _document(self, item: Item, name: str) -> bytes:
        """Raises `Outrun` where another process has just written a new one in its place."""
        kept = item.get(name) or b""
        if isinstance(kept, bytes):
            return kept
        keys = [(item["pk"], part) for part in parts(kept)]
        found = self._table.get_many(keys)
        if len(found) < len(keys):
            raise Outrun(["a new one has just been written"])
        return b"".join(found[key]["part"] for key in keys)

    def _delivery(self, item: Item) -> Delivery:
        with self._understood():
            return DELIVERY.validate_json(unpack(item["delivery"]))

    def _finding(self, item: Item) -> Finding:
        with self._understood():
            return FINDING.validate_json(unpack(item["finding"]))

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (ValidationError, zlib.error) as error:
            raise StoreError(
                f"table {self._table.name}: an item in it cannot be understood ({error}); restore a backup, "
                "or name another table in store.url (what was told may be told again)"
            ) from error


def _as_far_as_it_goes(results: Iterable[T]) -> list[T]:
    """What was taken before the store refused to go on is given out: else it would be nobody's until its
    lease ends. Raises `StoreError` where nothing was."""
    taken: list[T] = []
    try:
        for result in results:
            taken.append(result)
    except StoreError:
        if not taken:
            raise
    return taken


def _once_each(looks: Sequence[Look]) -> Iterator[list[Look]]:
    """In their order, no job and no finding twice in one batch: a transaction takes an item once."""
    batch: list[Look] = []
    seen: set[str] = set()
    for look in looks:
        names = {look.snapshot.arn, *(finding.id for finding in look.findings)}
        if names & seen:
            yield batch
            batch, seen = [], set()
        batch.append(look)
        seen |= names
    if batch:
        yield batch
