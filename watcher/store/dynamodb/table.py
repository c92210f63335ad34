"""One table, and the requests that are made to it. All reads are consistent."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from watcher.errors import StoreError
from watcher.store.dynamodb.coalesce import Coalesced
from watcher.store.dynamodb.writes import Item, ItemKey, attributes, fitting, key_attributes, plain

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS = {"pk": "HASH", "sk": "RANGE"}
MOST_READ = 100
"""Of one BatchGetItem."""
LINGER = 0.003
"""Seconds that a request waits for others to come along: less than DynamoDB takes to answer, and enough for
what a handful of events bring about."""
PATIENCE = 0.1
"""Seconds that requests wait for one that is under way: several times what DynamoDB takes to answer, so that
one that hangs does not hold up all others."""
ATTEMPTS = 20

T = TypeVar("T")


class Outrun(Exception):
    """Another process came first, or the table was asked too often in the middle: work it out anew."""

    def __init__(self, reasons: Sequence[str]) -> None:
        """Why each write was refused, or `None`, as DynamoDB writes it."""
        super().__init__()
        self.reasons = reasons

    def of(self, sizes: Sequence[int]) -> list[Outrun | None]:
        """The same of parts with so many writes each; None for those that were not refused."""
        if len(self.reasons) != sum(sizes) or set(self.reasons) == {"None"}:
            return [self] * len(sizes)
        parts = [self.reasons[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
        return [Outrun(part) if set(part) != {"None"} else None for part in parts]


class Table:
    """`dynamodb` is a client whose own retries see to throttling. Every method raises `StoreError` where the
    table cannot be read or written. Safe to use from several threads."""

    def __init__(self, dynamodb: DynamoDBClient, name: str, wait: Callable[[float], object]) -> None:
        self._dynamodb, self.name, self._wait = dynamodb, name, wait
        linger = partial(time.sleep, LINGER)
        self._reads = Coalesced(self._read_together, lambda _: MOST_READ, linger, PATIENCE)
        self._writes = Coalesced(self.write_each, fitting, linger, PATIENCE)

    def retried(self, attempt: Callable[[], T]) -> T:
        """The attempt's answer, however often it is outrun; `StoreError` where that does not end."""
        for number in range(ATTEMPTS):
            try:
                return attempt()
            except Outrun:
                self._wait(random.uniform(0, min(0.02 * 2**number, 1.0)))  # noqa: S311 - no secret
        raise StoreError(
            f"table {self.name}: other processes write the same items all the time; trying later"
        )

    # -- writes -----------------------------------------------------------------------------------

    def write(self, writes: Sequence[Item]) -> None:
        """All or nothing. Raises `Outrun` where a condition does not hold (any more)."""
        self._writes.ask(writes)

    def written(self, write: Item) -> bool:
        """False where its condition does not hold."""

        def attempt() -> bool:
            try:
                self.write([write])
            except Outrun as outrun:
                if set(outrun.reasons) & _REFUSED:
                    return False
                raise
            return True

        return self.retried(attempt)

    def write_each(self, transactions: Sequence[Sequence[Item]]) -> list[Outrun | None]:
        """Several transactions as one. Where some of them are refused, those are told so, and the others go
        without them."""
        refused: dict[int, Outrun] = {}
        while left := [number for number in range(len(transactions)) if number not in refused]:
            try:
                self._write([write for number in left for write in transactions[number]])
            except Outrun as outrun:
                of_these = outrun.of([len(transactions[number]) for number in left])
                refused |= {number: why for number, why in zip(left, of_these, strict=True) if why}
            else:
                break
        return [refused.get(number) for number in range(len(transactions))]

    def _write(self, writes: Sequence[Item]) -> None:
        """One by itself is billed half of what it is in a transaction."""
        named: list[Any] = [
            {action: {"TableName": self.name, **members} for action, members in write.items()}
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

    # -- reads ------------------------------------------------------------------------------------

    def get(self, key: ItemKey) -> Item | None:
        return self._reads.ask(key)

    def get_many(self, keys: Iterable[ItemKey]) -> dict[ItemKey, Item]:
        """Those that are there."""
        wanted = list(dict.fromkeys(keys))
        found: dict[ItemKey, Item] = {}
        while wanted:
            batch, wanted = wanted[:MOST_READ], wanted[MOST_READ:]
            asked: Any = {"Keys": [key_attributes(key) for key in batch], "ConsistentRead": True}
            with self._translated():
                answer = self._dynamodb.batch_get_item(RequestItems={self.name: asked})
            for item in map(plain, answer["Responses"].get(self.name, [])):
                found[item["pk"], item["sk"]] = item
            left: Any = answer["UnprocessedKeys"].get(self.name)
            if left:
                self._wait(random.uniform(0.05, 0.2))  # noqa: S311 - no secret
                wanted += [(key["pk"]["S"], key["sk"]["S"]) for key in left["Keys"]]
        return found

    def _read_together(self, keys: Sequence[ItemKey]) -> list[Item | None]:
        if len(keys) > 1:
            found = self.get_many(keys)
            return [dict(found[key]) if key in found else None for key in keys]  # to each its own
        key = key_attributes(keys[0])
        with self._translated():
            answer = self._dynamodb.get_item(TableName=self.name, Key=key, ConsistentRead=True)
        return [plain(answer["Item"]) if "Item" in answer else None]

    def query(
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
            ExpressionAttributeValues=attributes(values),
            **({"Limit": limit} if limit else {}),
        )
        for item in islice(pages, limit):
            if after and prefix and not item["sk"].startswith(prefix):
                return
            yield item

    def scan(self, sort_key: str) -> Iterator[Item]:
        return self._scan("sk = :sk", sort_key)

    def scan_prefix(self, prefix: str) -> Iterator[Item]:
        return self._scan("begins_with(sk, :sk)", prefix)

    def first(self) -> Item | None:
        """Any item."""
        return next(self._pages("scan", Limit=1), None)

    def _scan(self, condition: str, sort_key: str) -> Iterator[Item]:
        values = attributes({":sk": sort_key})
        return self._pages("scan", FilterExpression=condition, ExpressionAttributeValues=values)

    def _pages(self, operation: str, **arguments: Any) -> Iterator[Item]:
        ask = getattr(self._dynamodb, operation)
        while True:
            with self._translated():
                answer = ask(TableName=self.name, ConsistentRead=True, **arguments)
            yield from map(plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # -- what is wrong ----------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """DynamoDB's errors as ours; a condition that does not hold is `Outrun`."""
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            reasons = [reason["Code"] for reason in error.response.get("CancellationReasons", [])] or [code]
            if code in _OUTRUN or set(reasons) & _OUTRUN:
                raise Outrun(reasons) from error
            raise StoreError(f"table {self.name}: {_mend(code, error)}") from error
        except BotoCoreError as error:
            raise StoreError(f"table {self.name} cannot be reached: {error}") from error


_REFUSED = frozenset({"ConditionalCheckFailedException", "ConditionalCheckFailed"})
_OUTRUN = _REFUSED | {"TransactionConflict", "TransactionConflictException", "TransactionInProgressException"}
# Reasons for which a transaction is cancelled; the client tries again only what was refused as a whole.
_OUTRUN |= {"ThrottlingError", "ProvisionedThroughputExceeded"}


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
