"""Items and writes in the form of DynamoDB's API, and how many of them fit into one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_TRANSACTION_ITEMS = 100
"""DynamoDB's limit."""
MAX_TRANSACTION_BYTES = 3_500_000
"""DynamoDB's limit is 4 MB, and it counts a little more than `_size` does."""

Item = dict[str, Any]
"""Attributes that are strings, whole numbers or bytes; or a write, as `TransactWriteItems` takes it."""
ItemKey = tuple[str, str]
"""Partition key and sort key."""


class Postponable(Item):
    """A write that only sets when an item expires. The next change of its incident makes up for it if it is
    lost."""


def keyed(key: ItemKey, **attributes: Any) -> Item:
    return {"pk": key[0], "sk": key[1], **attributes}


def put_if_version(item: Item, version: int | None) -> Item:
    """Write the item if the table has it in this version, or if `version` is None and the table has none."""
    if version is None:
        return put(item, "attribute_not_exists(pk)")
    return put(item, "#version = :expected", {"expected": version})


def put(item: Item, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    """Write the item. A condition refers to attributes of the stored item as `#name`, and to attributes of
    `item`, or `values`, as `:name`."""
    members: Item = {"Item": attributes(item)}
    return {"Put": members | _condition(condition, {**item, **(values or {})})}


def delete(key: ItemKey, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    return {"Delete": {"Key": key_attributes(key)} | _condition(condition, values or {})}


def showing(write: Item) -> Item:
    """The same write; if its condition does not hold, the answer has the stored item (`Conflict.found`)."""
    ((action, members),) = write.items()
    return {action: members | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}}


def _condition(condition: str, values: Mapping[str, Any]) -> Item:
    if not condition:
        return {}
    members: Item = {"ConditionExpression": condition}
    names = {word.strip("()") for word in condition.split() if word.startswith("#")}
    used = {word.strip("()") for word in condition.split() if word.startswith(":")}
    if names:
        members["ExpressionAttributeNames"] = {name: name[1:] for name in names}
    if used:
        members["ExpressionAttributeValues"] = attributes({name: values[name[1:]] for name in used})
    return members


def fitting(transactions: Sequence[Sequence[Item]]) -> int:
    """How many of these transactions, from the first on, can be sent as one: at least one.

    A transaction may not name an item twice, so two that write the same item never go together.
    """
    keys: set[ItemKey] = set()
    size = 0
    for number, writes in enumerate(transactions):
        size += sum(map(_size, writes))
        before = len(keys)
        keys.update(map(written_key, writes))
        distinct = len(keys) == before + len(writes)
        fit = distinct and len(keys) <= MAX_TRANSACTION_ITEMS and size <= MAX_TRANSACTION_BYTES
        if number and not fit:
            return number
    return len(transactions)


def fits(writes: Sequence[Item]) -> bool:
    """Whether these writes can be one transaction."""
    return len(writes) <= MAX_TRANSACTION_ITEMS and sum(map(_size, writes)) <= MAX_TRANSACTION_BYTES


def batches(writes: Sequence[Item], size: int = MAX_TRANSACTION_ITEMS) -> Iterator[list[Item]]:
    """The writes in their order, in parts of at most `size` that can each be one transaction."""
    batch: list[Item] = []
    for write in writes:
        if batch and (len(batch) == size or not fits([*batch, write])):
            yield batch
            batch = []
        batch.append(write)
    if batch:
        yield batch


def written_key(write: Item) -> ItemKey:
    ((_, members),) = write.items()
    key = members.get("Key") or members["Item"]
    return key["pk"]["S"], key["sk"]["S"]


def _size(write: Item) -> int:
    """About how many bytes the write takes."""
    return sum(
        len(name) + len(value.get("B", b"") or str(value))
        for members in write.values()
        for name, value in (members.get("Item") or members.get("Key") or {}).items()
    )


def attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item in the form of DynamoDB's API, without attributes that are None."""
    kinds = {str: "S", int: "N", bytes: "B"}
    return {
        name: {kinds[type(value)]: str(value) if isinstance(value, int) else value}
        for name, value in item.items()
        if value is not None
    }


def plain(attributes: Mapping[str, Any]) -> Item:
    """The reverse of `attributes`."""
    return {
        name: int(value["N"]) if "N" in value else value.get("S", value.get("B"))
        for name, value in attributes.items()
    }


def key_attributes(key: ItemKey) -> dict[str, Any]:
    return attributes(keyed(key))
