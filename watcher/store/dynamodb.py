"""The store in one DynamoDB table, for as many processes on as many machines as one likes.

Every item has a partition key `pk` and a sort key `sk`, both strings. All reads are consistent, and no index
is needed: what is asked for often stands in a partition of its own.

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

A write is a transaction of up to 100 items, each guarded by a condition; one that another process came
before is worked out anew. A commit of more than that is halved until its parts fit: each holds some of the
jobs with all that was found in them. What was found in one job and is too much by itself comes before the
job, so that whoever repeats it finds it told.

What this process has just read or written is not read again to be changed: the conditions tell when another
has changed it since.

`expires_at` is the table's time to live: a finding goes half a year after it was opened, and a delivery half
a year after it came, if it is closed.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter, ValidationError

from watcher.errors import LeaseLost, StoreError
from watcher.model import Delivery, DeliveryState, Evaluation, Finding, JobSnapshot, Reads
from watcher.recent import Recent
from watcher.store.base import Claimed, JobRecord, Look, StopRecord, WatchedJob, settled
from watcher.store.coalesce import Coalesced

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS = {"pk": "HASH", "sk": "RANGE"}
EXPIRES_AT = "expires_at"
KEPT = timedelta(days=180)
"""Longer than any training job may run, so that a finding is known for as long as it may be found again."""

MOST_ITEMS = 100
"""Of one transaction."""
MOST_BYTES = 3_500_000
"""Of one transaction, which takes 4 MB; a little is left for what DynamoDB counts besides."""
MOST_IN_ITEM = 190_000
"""Bytes of each of the two documents that a job's item holds, of the 400 KB that an item may have. Nearly all
are of a few kB; but SageMaker allows a job 2 MB of rule parameters."""
PART = 380_000
"""Bytes of a part of a larger one."""
MOST_READ = 100
"""Of one BatchGetItem."""
LINGER = 0.003
"""Seconds that a request waits for others to come along: less than DynamoDB takes to answer, and enough for
what a handful of events bring about."""
PATIENCE = 0.1
"""Seconds that requests wait for one that is under way: several times what DynamoDB takes to answer, so that
one that hangs does not hold up all others."""
MOST_CLAIMED = MOST_ITEMS // 2
ATTEMPTS = 20
REMEMBERED = 256
"""Deliveries: of what was found right now, more than wait to be told at a time."""

_SNAPSHOT = TypeAdapter(JobSnapshot)
_FINDING = TypeAdapter(Finding)
_DELIVERY = TypeAdapter(Delivery)
_EVALUATION = TypeAdapter(Evaluation)

T = TypeVar("T")
Item = dict[str, Any]
"""Attributes that are strings, whole numbers or bytes."""
Key = tuple[str, str]


class _Outrun(Exception):
    """Another process came first, or the table was asked too often in the middle: work it out anew."""

    def __init__(self, reasons: Sequence[str]) -> None:
        """Why each write was refused, or `None`, as DynamoDB writes it."""
        super().__init__()
        self.reasons = reasons

    def of(self, sizes: Sequence[int]) -> list[_Outrun | None]:
        """The same of parts with so many writes each; None for those that were not refused."""
        if len(self.reasons) != sum(sizes) or set(self.reasons) == {"None"}:
            return [self] * len(sizes)
        parts = [self.reasons[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
        return [_Outrun(part) if set(part) != {"None"} else None for part in parts]


class DynamoStore:
    """`dynamodb` is a client whose own retries see to throttling. Safe to use from several threads."""

    def __init__(
        self, dynamodb: DynamoDBClient, table: str, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._dynamodb, self._table, self._wait = dynamodb, table, wait
        linger = partial(time.sleep, LINGER)
        self._reads = Coalesced(self._read_together, lambda _: MOST_READ, linger, PATIENCE)
        self._writes = Coalesced(self._write_together, _fitting, linger, PATIENCE)
        self._positions = _Positions()
        self._deliveries = Recent[Item](REMEMBERED)
        """Items as this process wrote them last."""
        self._held: dict[str, list[Item] | None] = {}
        """Of each job that this process holds: its item, if it has one; None where it was not read since."""

    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        until = _text(now + timedelta(seconds=lease))
        leases = [{"pk": _job(arn), "sk": "LEASE", "owner": owner, "until": until} for arn in job_arns]
        free = "attribute_not_exists(pk) OR #owner = :owner OR #until <= :now"
        if len(leases) == 1:
            refused = [not self._put(leases[0], free, {"now": _text(now)})]
        else:
            writes = [[_put(lease, free, {"now": _text(now)})] for lease in leases]
            batches = (writes[start : start + MOST_ITEMS] for start in range(0, len(writes), MOST_ITEMS))
            refused = _as_far_as_it_goes(
                bool(each) for batch in batches for each in self._write_together(batch)
            )
        held = {arn for arn, no in zip(job_arns, refused, strict=False) if not no}
        self._held |= dict.fromkeys(held)
        return held

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        for arn in job_arns:
            self._held.pop(arn, None)
            write = _delete((_job(arn), "LEASE"), "#owner = :owner", {"owner": owner})
            with self._translated(), _unless_refused():
                self._dynamodb.delete_item(TableName=self._table, **write["Delete"])

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        """In one transaction as far as `MOST_ITEMS` and `MOST_BYTES` reach; see above for what is beyond."""
        new: list[Finding] = []
        for batch in _once_each(looks):
            new += self._commit(batch, holder)
        return tuple(new)

    def _commit(self, looks: Sequence[Look], holder: str, *, jobs: bool = True) -> list[Finding]:
        """`jobs` False: only what was found in them."""
        new = self._retried(lambda: self._commit_at_once(looks, holder, jobs))
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
                writes += [*_finding_writes(finding), *self._delivery_writes(rows[finding.id])]
            if jobs:
                writes += self._job_writes(look, known.get((_job(look.snapshot.arn), "JOB")), holder)
        if not _fits(writes) and (len(looks) > 1 or len(looks[0].findings) > 1):
            return None
        if writes:
            self._transact(writes)
        return new

    def _known_of(self, looks: Sequence[Look], holder: str) -> dict[Key, Item]:
        """What a commit changes, as far as it is there. What is held is not read twice; then no finding is
        expected to be there, and where one is, the next attempt reads it."""
        arns = [look.snapshot.arn for look in looks]
        held = [self._held.pop(arn, None) for arn in arns] if holder else []
        if held and None not in held:
            return {(item["pk"], item["sk"]): item for items in held for item in items or ()}
        keys = [(_job(arn), "JOB") for arn in arns] + [(_job(arn), "LEASE") for arn in arns if holder]
        keys += [(f"FINDING#{finding.id}", "FINDING") for look in looks for finding in look.findings]
        known = self._get_many(keys)
        if holder and any(known.get((_job(arn), "LEASE"), {}).get("owner") != holder for arn in arns):
            raise LeaseLost("another process has taken this job over, and handles it")
        return known

    def _job_writes(self, look: Look, before: Item | None, holder: str) -> list[Item]:
        arn = look.snapshot.arn
        unchanged = before is not None and before["fingerprint"] == look.fingerprint
        item: Item = {
            "pk": _job(arn),
            "sk": "JOB",
            "name": look.snapshot.name,
            "fingerprint": look.fingerprint,
            "describe_at": _text(look.describe_at) if look.describe_at else None,
            "watching": int(look.watching),
            "first_seen_at": before["first_seen_at"] if before else _text(look.seen_at),
            "changed_at": before["changed_at"] if before and unchanged else _text(look.seen_at),
            "evaluation": (before or {}).get("evaluation"),
            "due": (before or {}).get("due"),
            "version": (before or {}).get("version", 0) + 1,
        }
        writes = _document_writes(item, before, "snapshot", _SNAPSHOT.dump_json(look.snapshot))
        if look.evaluation is not None:
            writes += _document_writes(item, before, "evaluation", _EVALUATION.dump_json(look.evaluation))
            due = look.evaluation.due_at
            item["due"] = f"{look.evaluation.reads} {_text(due)}" if due else None
            writes += _due_writes(arn, (before or {}).get("due"), item["due"])
        version = before["version"] if before else None
        writes.append(_put_if_version(item, version))
        watched = {
            "pk": "WATCHING",
            "sk": arn,
            "name": look.snapshot.name,
            "status": look.snapshot.status,
            "fingerprint": look.fingerprint,
            "describe_at": item["describe_at"],
        }
        writes.append(_put(watched) if look.watching else _delete(("WATCHING", arn)))
        if holder:
            writes.append(_delete((_job(arn), "LEASE"), "#owner = :owner", {"owner": holder}))
        return writes

    def watching(self) -> list[WatchedJob]:
        return [
            WatchedJob(
                arn=item["sk"],
                name=item["name"],
                status=item["status"],
                fingerprint=item["fingerprint"],
                describe_at=_moment(item.get("describe_at")),
            )
            for item in self._query("WATCHING")
        ]

    def job(self, arn: str) -> JobRecord | None:
        def attempt() -> JobRecord | None:
            item = self._get((_job(arn), "JOB"))
            record = self._record(item) if item else None
            if arn in self._held:
                self._held[arn] = [item] if item else []
            return record

        return self._retried(attempt)

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        records = []
        for item in self._scan("JOB"):
            if name in (None, item["name"]):
                try:
                    records.append(self._record(item))
                except _Outrun:
                    records += filter(None, [self.job(item["pk"].removeprefix("JOB#"))])
        records.sort(key=lambda record: record.snapshot.arn)
        return sorted(records, key=lambda record: record.snapshot.created_at, reverse=True)

    def unwatch(self, arn: str) -> None:
        def attempt() -> None:
            item = self._get((_job(arn), "JOB"))
            if item:
                later = item | {"watching": 0, "version": item["version"] + 1}
                self._transact([_put_if_version(later, item["version"]), _delete(("WATCHING", arn))])

        self._retried(attempt)

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        later = f"{reads} {_text(now + timedelta(seconds=lease))}"
        waiting = self._query(f"EVALUATIONS#{reads}", until=f"{_text(now)}#\uffff", limit=limit)
        due = (item["sk"].split("#", 1) for item in waiting)
        return _as_far_as_it_goes(arn for at, arn in due if self._postpone(arn, f"{reads} {at}", later))

    def _postpone(self, arn: str, before: str, after: str) -> bool:
        """False where somebody else did."""
        job = self._get((_job(arn), "JOB"))
        if job is None or job.get("due") != before:
            return False
        later = job | {"due": after, "version": job["version"] + 1}
        try:
            self._transact([*_due_writes(arn, before, after), _put_if_version(later, job["version"])])
        except _Outrun:
            return False
        return True

    def next_evaluation(self) -> datetime | None:
        firsts = [next(self._query(f"EVALUATIONS#{reads}", limit=1), None) for reads in Reads]
        return min((datetime.fromisoformat(f["sk"].partition("#")[0]) for f in firsts if f), default=None)

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None:
        item = self._get((f"FINDING#{finding_id}", "FINDING"))
        return self._parsed(_FINDING, item["finding"]) if item else None

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        if job_arn is None:
            items = list(self._scan("FINDING"))
        else:
            items = list(self._query(_job(job_arn), prefix="FINDING#"))
        items.sort(key=lambda item: item["position"])
        found: list[Finding] = [self._parsed(_FINDING, item["finding"]) for item in reversed(items)]
        return sorted(found, key=lambda finding: finding.opened_at, reverse=True)

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        heads = sorted(self._heads(), key=lambda head: (head["ready_at"], head["sk"]))
        due = [head for head in heads[:limit] if head["ready_at"] <= _text(now)]
        until = now + timedelta(seconds=lease)
        batches = (due[start : start + MOST_CLAIMED] for start in range(0, len(due), MOST_CLAIMED))
        taken = dict(
            _as_far_as_it_goes(each for batch in batches for each in self._claim(batch, owner, until))
        )
        again = [_text(until) if head["sk"] in taken else head["ready_at"] for head in heads]
        return Claimed([taken[position] for position in sorted(taken)], _moment(min(again, default=None)))

    def _claim(self, heads: Sequence[Item], owner: str, until: datetime) -> Iterator[tuple[str, Delivery]]:
        """All at once, or as many as nobody else was first at. With their positions."""
        try:
            yield from self._claim_at_once(heads, owner, until)
        except _Outrun:
            for head in heads:
                with suppress(_Outrun):
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
                _put(head | {"ready_at": _text(until)}, "#ready_at = :before", {"before": head["ready_at"]})
            )
        self._transact(writes)
        return taken

    def _items_of(self, heads: Sequence[Item]) -> list[Item]:
        keys = [(f"FINDING#{head['finding_id']}", f"DELIVERY#{head['id']}") for head in heads]
        recent = {key: item for key in keys if (item := self._deliveries.pop(key[1]))}
        known = recent | self._get_many(key for key in keys if key not in recent)
        if len(known) < len(keys):
            raise _Outrun(["DynamoDB has let go of one meanwhile"])
        return [known[key] for key in keys]

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        key = (f"FINDING#{delivery.finding_id}", f"DELIVERY#{delivery.id}")

        def attempt() -> bool:
            item = self._deliveries.pop(key[1])
            if item is None or item.get("owner") != owner:
                item = self._get(key)
            if item is None:
                return False
            before = self._delivery(item)
            # A later claim counts another attempt, so an owner that comes late cannot pass for itself.
            held = before.state is DeliveryState.IN_FLIGHT and item.get("owner") == owner
            if not held or before.attempts != delivery.attempts:
                return False
            after = settled(before, delivery)
            self._transact([self._changed(item, after, None), _opened(item, after), *self._following(then)])
            return True

        return self._retried(attempt)

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        def attempt() -> bool:
            pointer = self._get((f"DELIVERY#{delivery_id}", "POINTER"))
            item = (
                self._get((f"FINDING#{pointer['finding_id']}", f"DELIVERY#{delivery_id}"))
                if pointer
                else None
            )
            if item is None or (before := self._delivery(item)).state is not DeliveryState.PENDING:
                return False
            after = replace(before, state=DeliveryState.CANCELLED)
            self._transact([self._changed(item, after, None), _opened(item, after), *self._following(then)])
            return True

        return self._retried(attempt)

    def next_due(self) -> datetime | None:
        return min((datetime.fromisoformat(head["ready_at"]) for head in self._heads()), default=None)

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        if finding_id is None:
            items = list(self._scan_prefix("DELIVERY#"))
        else:
            items = list(self._query(f"FINDING#{finding_id}", prefix="DELIVERY#"))
        items.sort(key=lambda item: item["position"])
        self._positions.seen(items[-1]["position"] if items else "")
        return [self._delivery(item) for item in items]

    def _heads(self) -> list[Item]:
        """Of each lane the oldest open delivery."""
        heads: dict[str, Item] = {}
        last = ""
        for item in self._query("OPEN"):
            heads.setdefault(item["lane"], item)
            last = item["sk"]
        self._positions.seen(last)
        return list(heads.values())

    def _following(self, deliveries: Sequence[Delivery]) -> list[Item]:
        """What puts those that are not there yet. Raises `StoreError` for one of an unknown finding."""
        keys = [(f"DELIVERY#{each.id}", "POINTER") for each in deliveries]
        known = self._get_many([*keys, *((f"FINDING#{each.finding_id}", "FINDING") for each in deliveries)])
        for each in deliveries:
            if (f"FINDING#{each.finding_id}", "FINDING") not in known:
                raise StoreError(f"table {self._table}: delivery {each.id} is of no finding that is known")
        new = [each for each in deliveries if (f"DELIVERY#{each.id}", "POINTER") not in known]
        return self._delivery_writes(new)

    def _delivery_writes(self, deliveries: Iterable[Delivery]) -> list[Item]:
        writes = []
        for delivery in {each.id: each for each in deliveries}.values():
            key = {"pk": f"FINDING#{delivery.finding_id}", "sk": f"DELIVERY#{delivery.id}"}
            item = key | _delivery_item(delivery) | {"position": self._positions.next(), "version": 1}
            pointer = {"pk": f"DELIVERY#{delivery.id}", "sk": "POINTER", "finding_id": delivery.finding_id}
            expiry = {EXPIRES_AT: _expiry(delivery.created_at)}
            writes += [_put(item), _put(pointer | expiry, "attribute_not_exists(pk)")]
            if delivery.open:
                writes.append(_opened(item, delivery))
        return writes

    def _changed(self, item: Item, delivery: Delivery, owner: str | None) -> Item:
        """The delivery's item as it is to be, if nobody else has changed it."""
        changed = item | _delivery_item(delivery) | {"owner": owner, "version": item["version"] + 1}
        return _put_if_version(changed, item["version"])

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        # A request whose answer is lost is sent again, and must find that the turn is its own.
        item = {"pk": "TURNS", "sk": what, "turn": turn, "by": uuid.uuid4().hex}
        return self._put(item, "attribute_not_exists(pk) OR #turn < :turn OR #by = :by", {})

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        def attempt() -> bool:
            if self.stop_of(job_arn):
                return True
            counted = self._get(("STOPS", "COUNTED")) or {"pk": "STOPS", "sk": "COUNTED"}
            since = f"AT#{_text(now - timedelta(hours=1))}#\uffff"
            if sum(1 for _ in self._query("STOPS", prefix="AT#", after=since)) >= max_per_hour:
                return False
            stop = {"pk": f"STOP#{job_arn}", "sk": "STOP", "actor": actor, "at": _text(now)}
            entry = {"pk": "STOPS", "sk": f"AT#{_text(now)}#{job_arn}", EXPIRES_AT: _expiry(now)}
            version = counted.get("version")
            counted["version"] = (version or 0) + 1
            self._transact([_put(stop), _put(entry), _put_if_version(counted, version)])
            return True

        return self._retried(attempt)

    def stop_of(self, job_arn: str) -> StopRecord | None:
        item = self._get((f"STOP#{job_arn}", "STOP"))
        return StopRecord(job_arn, item["actor"], datetime.fromisoformat(item["at"])) if item else None

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        """Makes each kind of request that the store makes, on an item of its own; it is gone afterwards."""
        key = ("PROBE", secrets.token_hex(8))
        named = {"pk": key[0], "sk": key[1]}
        self._put(named, "attribute_not_exists(pk)", {})
        kept = [self._get(key), self._get_many([key]).get(key)]
        some = next(self._pages("scan", Limit=1), None)
        with self._translated():
            self._dynamodb.delete_item(TableName=self._table, Key=_key(key))
        if some is None or kept != [named, named]:
            raise StoreError(f"table {self._table} does not keep what is written to it; change store.url")
        return f"DynamoDB, table {self._table}, watched jobs: {len(self.watching())}"

    def close(self) -> None:
        """There is nothing to close: the client is its maker's."""

    # -- requests ---------------------------------------------------------------------------------

    def _retried(self, attempt: Callable[[], T]) -> T:
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except _Outrun:
                self._wait(random.uniform(0, min(0.02 * 2**number, 1.0)))  # noqa: S311 - no secret
        raise StoreError(
            f"table {self._table}: other processes write the same items all the time; trying later"
        )

    def _transact(self, writes: Sequence[Item]) -> None:
        """All or nothing. Raises `_Outrun` where a condition does not hold (any more)."""
        self._writes.ask(writes)
        for write in writes:
            if "Put" in write and (sort_key := _written_key(write)[1]).startswith("DELIVERY#"):
                self._deliveries.put(sort_key, _plain(write["Put"]["Item"]))

    def _write_together(self, transactions: Sequence[Sequence[Item]]) -> list[_Outrun | None]:
        """Several transactions as one. Where some of them are refused, those are told so, and the others go
        without them."""
        refused: dict[int, _Outrun] = {}
        while left := [number for number in range(len(transactions)) if number not in refused]:
            try:
                self._write([write for number in left for write in transactions[number]])
            except _Outrun as outrun:
                of_these = outrun.of([len(transactions[number]) for number in left])
                refused |= {number: why for number, why in zip(left, of_these, strict=True) if why}
            else:
                break
        return [refused.get(number) for number in range(len(transactions))]

    def _write(self, writes: Sequence[Item]) -> None:
        """One by itself is billed half of what it is in a transaction."""
        named: list[Any] = [
            {action: {"TableName": self._table, **members} for action, members in write.items()}
            for write in writes
        ]
        with self._translated():
            match named:
                case [{"Put": put}]:
                    self._dynamodb.put_item(**put)
                case [{"Delete": delete}]:
                    self._dynamodb.delete_item(**delete)
                case _:
                    self._dynamodb.transact_write_items(TransactItems=named)

    def _put(self, item: Item, condition: str, values: Mapping[str, Any]) -> bool:
        """False where the condition does not hold; it may name each of the item's attributes."""

        def attempt() -> bool:
            try:
                self._writes.ask([_put(item, condition, values)])
            except _Outrun as outrun:
                if set(outrun.reasons) & _REFUSED:
                    return False
                raise
            return True

        return self._retried(attempt)

    def _get(self, key: Key) -> Item | None:
        return self._reads.ask(key)

    def _read_together(self, keys: Sequence[Key]) -> list[Item | None]:
        if len(keys) > 1:
            found = self._get_many(keys)
            return [dict(found[key]) if key in found else None for key in keys]  # to each its own
        with self._translated():
            answer = self._dynamodb.get_item(TableName=self._table, Key=_key(keys[0]), ConsistentRead=True)
            return [_plain(answer["Item"]) if "Item" in answer else None]

    def _get_many(self, keys: Iterable[Key]) -> dict[Key, Item]:
        """Those that are there."""
        wanted = list(dict.fromkeys(keys))
        found: dict[Key, Item] = {}
        while wanted:
            batch, wanted = wanted[:MOST_READ], wanted[MOST_READ:]
            with self._translated():
                answer = self._dynamodb.batch_get_item(
                    RequestItems={self._table: {"Keys": [_key(key) for key in batch], "ConsistentRead": True}}
                )
                for attributes in answer["Responses"].get(self._table, []):
                    item = _plain(attributes)
                    found[item["pk"], item["sk"]] = item
            left: Any = answer["UnprocessedKeys"].get(self._table)
            if left:
                self._wait(random.uniform(0.05, 0.2))  # noqa: S311 - no secret
                wanted += [(key["pk"]["S"], key["sk"]["S"]) for key in left["Keys"]]
        return found

    def _query(
        self, partition: str, *, prefix: str = "", after: str = "", until: str = "", limit: int | None = None
    ) -> Iterator[Item]:
        """Items of one partition in the order of their sort keys, a page at a time."""
        condition, values = "pk = :pk", {":pk": partition}
        if after:
            condition, values = f"{condition} AND sk > :after", values | {":after": after}
        elif until:
            condition, values = f"{condition} AND sk <= :until", values | {":until": until}
        elif prefix:
            condition, values = f"{condition} AND begins_with(sk, :prefix)", values | {":prefix": prefix}
        pages = self._pages(
            "query",
            KeyConditionExpression=condition,
            ExpressionAttributeValues=_attributes(values),
            ConsistentRead=True,
            **({"Limit": limit} if limit else {}),
        )
        for item in islice(pages, limit):
            if after and prefix and not item["sk"].startswith(prefix):
                return
            yield item

    def _scan(self, sort_key: str) -> Iterator[Item]:
        return self._pages(
            "scan",
            FilterExpression="sk = :sk",
            ExpressionAttributeValues=_attributes({":sk": sort_key}),
            ConsistentRead=True,
        )

    def _scan_prefix(self, prefix: str) -> Iterator[Item]:
        return self._pages(
            "scan",
            FilterExpression="begins_with(sk, :prefix)",
            ExpressionAttributeValues=_attributes({":prefix": prefix}),
            ConsistentRead=True,
        )

    def _pages(self, operation: str, **arguments: Any) -> Iterator[Item]:
        ask = getattr(self._dynamodb, operation)
        while True:
            with self._translated():
                answer = ask(TableName=self._table, **arguments)
            yield from map(_plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # -- items and values -------------------------------------------------------------------------

    def _record(self, item: Item) -> JobRecord:
        packed = self._document(item, "evaluation")
        return JobRecord(
            snapshot=self._parsed(_SNAPSHOT, self._document(item, "snapshot")),
            first_seen_at=datetime.fromisoformat(item["first_seen_at"]),
            changed_at=datetime.fromisoformat(item["changed_at"]),
            watching=bool(item["watching"]),
            describe_at=_moment(item.get("describe_at")),
            evaluation=self._parsed(_EVALUATION, packed) if packed else None,
        )

    def _document(self, item: Item, name: str) -> bytes:
        """Raises `_Outrun` where another process has just written a new one in its place."""
        kept = item.get(name) or b""
        if isinstance(kept, bytes):
            return kept
        keys = [(item["pk"], part) for part in _parts(kept)]
        found = self._get_many(keys)
        if len(found) < len(keys):
            raise _Outrun(["a new one has just been written"])
        return b"".join(found[key]["part"] for key in keys)

    def _delivery(self, item: Item) -> Delivery:
        found: Delivery = self._parsed(_DELIVERY, item["delivery"])
        return found

    def _parsed(self, kind: TypeAdapter[Any], packed: bytes) -> Any:
        try:
            return kind.validate_json(zlib.decompress(packed))
        except (ValidationError, zlib.error) as error:
            raise StoreError(
                f"table {self._table}: an item in it cannot be understood ({error}); restore a backup, or "
                "name another table in store.url (what was told may be told again)"
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """DynamoDB's errors as ours; a condition that does not hold is `_Outrun`."""
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])] or [code]
            if code in _OUTRUN or set(reasons) & _OUTRUN:
                raise _Outrun(reasons) from error
            raise StoreError(f"table {self._table}: {_mend(code, error)}") from error
        except BotoCoreError as error:
            raise StoreError(f"table {self._table} cannot be reached: {error}") from error


class _Positions:
    """Gives each new delivery its place: a text that no other has, and that sorts after all that were seen.

    A hybrid logical clock (Kulkarni et al., 2014): what follows from what was read comes after it, even where
    another machine's clock is ahead.
    """

    def __init__(self) -> None:
        self._last = 0
        self._mine = secrets.token_hex(4)
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return f"{self._last:020d}-{self._mine}"

    def seen(self, position: str) -> None:
        """Nothing, where it is empty."""
        with self._lock:
            self._last = max(self._last, int(position.partition("-")[0] or 0))


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


# -- what is written ------------------------------------------------------------------------------


def _fitting(transactions: Sequence[Sequence[Item]]) -> int:
    """How many of these one can hold, from the first on; it takes an item once."""
    keys: set[Key] = set()
    size = 0
    for number, writes in enumerate(transactions):
        size += sum(map(_size, writes))
        before = len(keys)
        keys.update(map(_written_key, writes))
        alone = len(keys) == before + len(writes)
        if number and not (alone and len(keys) <= MOST_ITEMS and size <= MOST_BYTES):
            return number
    return len(transactions)


def _written_key(write: Item) -> Key:
    ((_, members),) = write.items()
    key = members.get("Key") or members["Item"]
    return key["pk"]["S"], key["sk"]["S"]


def _fits(writes: Sequence[Item]) -> bool:
    return len(writes) <= MOST_ITEMS and sum(map(_size, writes)) <= MOST_BYTES


def _size(write: Item) -> int:
    """In bytes, about."""
    return sum(
        len(name) + len(value.get("B", b"") or str(value))
        for members in write.values()
        for name, value in (members.get("Item") or members.get("Key") or {}).items()
    )


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


def _document_writes(item: Item, before: Item | None, name: str, document: bytes) -> list[Item]:
    """Puts a document into its item or, where it is too large, beside it; takes away what was beside it."""
    writes = [_delete((item["pk"], part)) for part in _parts((before or {}).get(name))]
    packed = _pack(document)
    if len(packed) <= MOST_IN_ITEM:
        item[name] = packed
        return writes
    chunks = [packed[start : start + PART] for start in range(0, len(packed), PART)]
    item[name] = f"{name}#{item['version']}#{len(chunks)}"
    for part, chunk in zip(_parts(item[name]), chunks, strict=True):
        writes.append(_put({"pk": item["pk"], "sk": part, "part": chunk}))
    return writes


def _parts(kept: Any) -> list[str]:
    """The sort keys of the parts of a document that is kept beside its item."""
    if not isinstance(kept, str):
        return []
    prefix, _, count = kept.rpartition("#")
    return [f"{prefix}#{number}" for number in range(int(count))]


def _finding_writes(finding: Finding) -> list[Item]:
    item = {
        "finding": _pack(_FINDING.dump_json(finding)),
        # Of two that opened at the same time, the one that came later is the newer.
        "position": time.time_ns(),
        EXPIRES_AT: _expiry(finding.opened_at),
    }
    by_id = {"pk": f"FINDING#{finding.id}", "sk": "FINDING", **item}
    by_job = {"pk": _job(finding.job_arn), "sk": f"FINDING#{finding.id}", **item}
    return [_put(by_id, "attribute_not_exists(pk)"), _put(by_job)]


def _delivery_item(delivery: Delivery) -> Item:
    """What of the item changes with the delivery. One that is open never expires."""
    expiry = None if delivery.open else _expiry(delivery.created_at)
    return {"delivery": _pack(_DELIVERY.dump_json(delivery)), EXPIRES_AT: expiry}


def _opened(item: Item, delivery: Delivery) -> Item:
    """The entry among what is open, which goes when the delivery is closed."""
    if not delivery.open:
        return _delete(("OPEN", item["position"]))
    return _put(
        {
            "pk": "OPEN",
            "sk": item["position"],
            "id": delivery.id,
            "finding_id": delivery.finding_id,
            "lane": delivery.lane,
            "ready_at": _text(delivery.due_at),
        }
    )


def _due_writes(arn: str, before: str | None, after: str | None) -> list[Item]:
    """Move a job's entry among the due evaluations from `before` to `after`: what it reads, and when."""
    if before == after:
        return []
    writes = []
    if before:
        reads, due = before.split(" ", 1)
        writes.append(_delete((f"EVALUATIONS#{reads}", f"{due}#{arn}")))
    if after:
        reads, due = after.split(" ", 1)
        writes.append(_put({"pk": f"EVALUATIONS#{reads}", "sk": f"{due}#{arn}"}))
    return writes


def _put_if_version(item: Item, version: int | None) -> Item:
    """`version` None: if there is no such item yet."""
    if version is None:
        return _put(item, "attribute_not_exists(pk)")
    return _put(item, "#version = :expected", {"expected": version})


def _put(item: Item, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    """A condition may name attributes as `#name`, and the item's own values as `:name`."""
    members: Item = {"Item": _attributes(item)}
    return {"Put": members | _condition(condition, {**item, **(values or {})})}


def _delete(key: Key, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    return {"Delete": {"Key": _key(key)} | _condition(condition, values or {})}


def _condition(condition: str, values: Mapping[str, Any]) -> Item:
    if not condition:
        return {}
    members: Item = {"ConditionExpression": condition}
    names = {word.strip("()") for word in condition.split() if word.startswith("#")}
    used = {word.strip("()") for word in condition.split() if word.startswith(":")}
    if names:
        members["ExpressionAttributeNames"] = {name: name[1:] for name in names}
    if used:
        members["ExpressionAttributeValues"] = _attributes({name: values[name[1:]] for name in used})
    return members


def _attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """As DynamoDB's API writes them; what is None is left out."""
    kinds = {str: "S", int: "N", bytes: "B"}
    return {
        name: {kinds[type(value)]: str(value) if isinstance(value, int) else value}
        for name, value in item.items()
        if value is not None
    }


def _plain(attributes: Mapping[str, Any]) -> Item:
    return {
        name: int(value["N"]) if "N" in value else value.get("S", value.get("B"))
        for name, value in attributes.items()
    }


def _key(key: Key) -> dict[str, Any]:
    return _attributes({"pk": key[0], "sk": key[1]})


def _job(arn: str) -> str:
    return f"JOB#{arn}"


def _pack(document: bytes) -> bytes:
    return zlib.compress(document)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _expiry(moment: datetime) -> int:
    return int((moment + KEPT).timestamp())


# -- what is wrong, and how to mend it ------------------------------------------------------------

_REFUSED = frozenset({"ConditionalCheckFailedException", "ConditionalCheckFailed"})
_OUTRUN = _REFUSED | {"TransactionConflict", "TransactionConflictException", "TransactionInProgressException"}
# Reasons for which a transaction is cancelled; the client tries again only what was refused as a whole.
_OUTRUN |= {"ThrottlingError", "ProvisionedThroughputExceeded"}


@contextmanager
def _unless_refused() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in _OUTRUN:
            raise


def _mend(code: str, error: ClientError) -> str:
    said = error.response.get("Error", {}).get("Message", "")
    match code:
        case "ResourceNotFoundException":
            return "is not there; create it (deploy/ecs.yaml does), or name another in store.url"
        case "AccessDeniedException":
            return (
                f"no permission for dynamodb:{error.operation_name} ({said}). Allow it in the role's policy"
            )
        case "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded":
            return f"asked too often ({said}); nothing is lost, it is tried again"
        case _:
            return f"{code}: {said}"
