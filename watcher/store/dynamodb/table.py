"""Makes the requests to the table. All reads are consistent."""

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
from watcher.store.dynamodb.items import parts
from watcher.store.dynamodb.writes import Item, ItemKey, attributes, fitting, key_attributes, plain

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS = {"pk": "HASH", "sk": "RANGE"}
"""The table's key schema."""
MAX_KEYS_READ_TOGETHER = 100
"""DynamoDB's limit for one `BatchGetItem`."""
LINGER_S = 0.003
"""How long a request waits for others to go with it: less than DynamoDB takes to answer, and long enough for
what a handful of events lead to."""
MAX_WAIT_S = 0.1
"""How long a request waits for one that is under way: several times what DynamoDB takes to answer, so that
one that hangs does not hold up all others."""
MAX_ATTEMPTS = 20
"""How often one write is attempted while other processes keep changing its items."""
MAX_BACKOFF_S = 1.0
"""Between two of these attempts."""

REFUSED = frozenset({"ConditionalCheckFailedException", "ConditionalCheckFailed"})
"""The reasons of a `Conflict` that mean that a condition does not hold."""

T = TypeVar("T")


class Conflict(Exception):
    """Nothing was written, because another process was faster or DynamoDB throttled one of the items. The
    caller reads the items again and tries again."""

    def __init__(self, reasons: Sequence[str], found: Sequence[Item | None] = ()) -> None:
        """`reasons` are DynamoDB's, one for each write; the string `None` for a write that was not the
        cause. `found` are what the table has instead, for the writes that ask for it (`writes.showing`)."""
        super().__init__()
        self.reasons = reasons
        self.found = found or [None] * len(reasons)

    def of(self, sizes: Sequence[int]) -> list[Conflict | None]:
        """The conflict of each transaction, if transactions of these sizes were sent as one; None for those
        that were not refused."""
        if len(self.reasons) != sum(sizes) or set(self.reasons) == {"None"}:
            return [self] * len(sizes)
        parts = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
        conflicts = [Conflict(self.reasons[part], self.found[part]) for part in parts]
        return [conflict if set(conflict.reasons) != {"None"} else None for conflict in conflicts]


class Table:
    """`dynamodb` is a client that retries throttled requests itself. Every method raises `StoreError` if the
    table cannot be read or written. Safe to use from several threads."""

    def __init__(self, dynamodb: DynamoDBClient, name: str, wait: Callable[[float], object]) -> None:
        self._dynamodb, self.name, self._wait = dynamodb, name, wait
        linger = partial(time.sleep, LINGER_S)
        self._reads = Coalesced(self._read_together, lambda _: MAX_KEYS_READ_TOGETHER, linger, MAX_WAIT_S)
        self._writes = Coalesced(self.write_each, fitting, linger, MAX_WAIT_S)

    def retried(self, attempt: Callable[[], T]) -> T:
        """Repeats `attempt` after each `Conflict`. Raises `StoreError` after `MAX_ATTEMPTS`."""
        return self.retried_afresh(lambda _: attempt())

    def retried_afresh(self, attempt: Callable[[bool], T]) -> T:
        """The same for an attempt that may rely on what this process remembers, except if its argument is
        True, because another attempt was refused."""
        for number in range(MAX_ATTEMPTS):
            try:
                return attempt(number > 0)
            except Conflict:
                self._wait(random.uniform(0, min(0.02 * 2**number, MAX_BACKOFF_S)))  # noqa: S311 - no secret
        raise StoreError(
            f"table {self.name}: other processes keep changing the same items; trying again later"
        )

    # -- writes -----------------------------------------------------------------------------------

    def write(self, writes: Sequence[Item]) -> None:
        """All or nothing. Raises `Conflict` if a condition does not hold."""
        self._writes.ask(writes)

    def written(self, write: Item) -> bool:
        """Make one write. False if its condition does not hold."""
        return self.attempted(write) is None

    def attempted(self, write: Item) -> Conflict | None:
        """The same; returns the conflict if the condition does not hold."""

        def attempt() -> Conflict | None:
            try:
                self.write([write])
            except Conflict as conflict:
                if set(conflict.reasons) & REFUSED:
                    return conflict
                raise
            return None

        return self.retried(attempt)

    def write_each(self, transactions: Sequence[Sequence[Item]]) -> list[Conflict | None]:
        """Sends several transactions as one. If some of them are refused, the others are sent again without
        them, because DynamoDB writes all or nothing.

        Returns the conflict of each transaction; None for those that were written.
        """
        refused: dict[int, Conflict] = {}
        while left := [number for number in range(len(transactions)) if number not in refused]:
            try:
                self._write([write for number in left for write in transactions[number]])
            except Conflict as conflict:
                of_these = conflict.of([len(transactions[number]) for number in left])
                refused |= {number: why for number, why in zip(left, of_these, strict=True) if why}
            else:
                break
        return [refused.get(number) for number in range(len(transactions))]

    def _write(self, writes: Sequence[Item]) -> None:
        """A single write is not sent as a transaction, which is billed twice."""
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

    def get_many(self, keys: Iterable[ItemKey], *, only: str = "") -> dict[ItemKey, Item]:
        """The items that exist, by key; if `only` is given, with just this attribute."""
        wanted = list(dict.fromkeys(keys))
        found: dict[ItemKey, Item] = {}
        while wanted:
            batch, wanted = wanted[:MAX_KEYS_READ_TOGETHER], wanted[MAX_KEYS_READ_TOGETHER:]
            asked: Any = {"Keys": [key_attributes(key) for key in batch], "ConsistentRead": True}
            if only:
                asked["ProjectionExpression"] = f"pk, sk, {only}"
            with self._translated():
                answer = self._dynamodb.batch_get_item(RequestItems={self.name: asked})
            for item in map(plain, answer["Responses"].get(self.name, [])):
                found[item["pk"], item["sk"]] = item
            left: Any = answer["UnprocessedKeys"].get(self.name)
            if left:  # DynamoDB was throttled, or the answer would be too large
                self._wait(random.uniform(0.05, 0.2))  # noqa: S311 - no secret
                wanted += [(key["pk"]["S"], key["sk"]["S"]) for key in left["Keys"]]
        return found

    def _read_together(self, keys: Sequence[ItemKey]) -> list[Item | None]:
        if len(keys) > 1:
            found = self.get_many(keys)
            # Each thread gets a copy, because it may change the item, and two may have asked for the same
            # one.
            return [dict(found[key]) if key in found else None for key in keys]
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

    def scan(self, partitions: str = "", prefix: str = "") -> Iterator[Item]:
        """The items whose keys begin with these, in no order."""
        conditions = {":pk": ("begins_with(pk, :pk)", partitions), ":sk": ("begins_with(sk, :sk)", prefix)}
        given = {name: (condition, value) for name, (condition, value) in conditions.items() if value}
        if not given:
            return self._pages("scan")
        return self._pages(
            "scan",
            FilterExpression=" AND ".join(condition for condition, _ in given.values()),
            ExpressionAttributeValues=attributes({name: value for name, (_, value) in given.items()}),
        )

    def first(self) -> Item | None:
        """Any item."""
        return next(self._pages("scan", Limit=1), None)

    def document(self, item: Item, name: str) -> bytes:
        """A document that `items.document_writes` has set, as it is packed; empty if there is none. Raises
        `Conflict` if another process has just replaced it."""
        stored = item.get(name) or b""
        if isinstance(stored, bytes):
            return stored
        keys = [(item["pk"], part) for part in parts(stored)]
        found = self.get_many(keys)
        if len(found) < len(keys):
            raise Conflict(["a new document has just been written"])
        return b"".join(found[key]["part"] for key in keys)

    def _pages(self, operation: str, **arguments: Any) -> Iterator[Item]:
        ask = getattr(self._dynamodb, operation)
        while True:
            with self._translated():
                answer = ask(TableName=self.name, ConsistentRead=True, **arguments)
            yield from map(plain, answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    # -- errors -----------------------------------------------------------------------------------

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises DynamoDB's errors as ours; a condition that does not hold as `Conflict`."""
        try:
            yield
        except ClientError as error:
            response: Any = error.response
            code = response.get("Error", {}).get("Code", "")
            refused = response.get("CancellationReasons") or [{"Code": code, "Item": response.get("Item")}]
            reasons = [reason["Code"] for reason in refused]
            if code in _CONFLICTS or set(reasons) & _CONFLICTS:
                found = [plain(reason["Item"]) if reason.get("Item") else None for reason in refused]
                raise Conflict(reasons, found) from error
            raise StoreError(f"table {self.name}: {_explained(code, error)}") from error
        except BotoCoreError as error:
            raise StoreError(f"table {self.name} cannot be reached: {error}") from error


_CONFLICTS = REFUSED | {
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
    # Why a transaction is cancelled if one of its items is throttled. The client does not retry that: it
    # retries only requests that are throttled as a whole.
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
}


def _explained(code: str, error: ClientError) -> str:
    said = error.response.get("Error", {}).get("Message", "")
    match code:
        case "ResourceNotFoundException":
            return "does not exist; create it (deploy/ecs.yaml does), or name another in store.url"
        case "AccessDeniedException":
            return (
                f"no permission for dynamodb:{error.operation_name} ({said}); allow it in the role's policy"
            )
        case "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded":
            return f"throttled ({said}); nothing is lost, it is tried again"
        case _:
            return f"{code}: {said}"


def until_refused(results: Iterable[T]) -> list[T]:
    """The results up to the first `StoreError`, which is raised only if there are none.

    What was claimed before the error must be returned: otherwise it would wait until its lease ends.
    """
    taken: list[T] = []
    try:
        for result in results:
            taken.append(result)
    except StoreError:
        if not taken:
            raise
    return taken
