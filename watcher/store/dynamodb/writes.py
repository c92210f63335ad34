"""Items, and writes of them, as DynamoDB's API has them, and how much one request takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_ITEMS = 100
"""Of one transaction."""
MOST_BYTES = 3_500_000
"""Of one transaction, which takes 4 MB; a little is left for what DynamoDB counts besides."""

Item = dict[str, Any]
"""Attributes that are strings, whole numbers or bytes; or a write, as `TransactWriteItems` takes it."""
ItemKey = tuple[str, str]


def put_if_version(item: Item, version: int | None) -> Item:
    """`version` None: if there is no such item yet."""
    if version is None:
        return put(item, "attribute_not_exists(pk)")
    return put(item, "#version = :expected", {"expected": version})


def put(item: Item, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    """A condition may name attributes as `#name`, and the item's own values as `:name`."""
    members: Item = {"Item": attributes(item)}
    return {"Put": members | _condition(condition, {**item, **(values or {})})}


def delete(key: ItemKey, condition: str = "", values: Mapping[str, Any] | None = None) -> Item:
    return {"Delete": {"Key": key_attributes(key)} | _condition(condition, values or {})}


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
    """How many of these one can hold, from the first on; it takes an item once."""
    keys: set[ItemKey] = set()
    size = 0
    for number, writes in enumerate(transactions):
        size += sum(map(_size, writes))
        before = len(keys)
        keys.update(map(written_key, writes))
        alone = len(keys) == before + len(writes)
        if number and not (alone and len(keys) <= MOST_ITEMS and size <= MOST_BYTES):
            return number
    return len(transactions)


def fits(writes: Sequence[Item]) -> bool:
    return len(writes) <= MOST_ITEMS and sum(map(_size, writes)) <= MOST_BYTES


def written_key(write: Item) -> ItemKey:
    ((_, members),) = write.items()
    key = members.get("Key") or members["Item"]
    return key["pk"]["S"], key["sk"]["S"]


def _size(write: Item) -> int:
    """In bytes, about."""
    return sum(
        len(name) + len(value.get("B", b"") or str(value))
        for members in write.values()
        for name, value in (members.get("Item") or members.get("Key") or {}).items()
    )


def attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """As DynamoDB's API writes them; what is None is left out."""
    kinds = {str: "S", int: "N", bytes: "B"}
    return {
        name: {kinds[type(value)]: str(value) if isinstance(value, int) else value}
        for name, value in item.items()
        if value is not None
    }


def plain(attributes: Mapping[str, Any]) -> Item:
    return {
        name: int(value["N"]) if "N" in value else value.get("S", value.get("B"))
        for name, value in attributes.items()
    }


def key_attributes(key: ItemKey) -> dict[str, Any]:
    return attributes({"pk": key[0], "sk": key[1]})
