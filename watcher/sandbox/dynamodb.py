"""DynamoDB where moto stops short.

moto's server looks at conditions and writes in two steps, between which another thread may write. Here one
request is over before the next begins. And moto copies the whole table for each write of a transaction, to
go back to if one fails, and goes through all of it for each query; here it is only the items that the one
touches, and the partition that the other asks for.
"""

from __future__ import annotations

import copy
import threading
from types import SimpleNamespace
from typing import Any

import moto.dynamodb.models
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler

_one_at_a_time = threading.RLock()
_call_action = DynamoHandler.call_action
_transact_write_items = DynamoDBBackend.transact_write_items
_query = Table.query

INDEX_NAME = 7
"""Where it stands among what `Table.query` is given after the key."""


def install() -> None:
    DynamoHandler.call_action = call_action
    DynamoDBBackend.transact_write_items = transact_write_items
    Table.query = query
    moto.dynamodb.models.copy = SimpleNamespace(deepcopy=_copy_but_tables)


def call_action(self: DynamoHandler) -> Any:
    with _one_at_a_time:
        return _call_action(self)


def transact_write_items(self: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    before = []
    for action in transact_items:
        (members,) = action.values()
        table = self.tables.get(members["TableName"])
        if table:
            attributes = members.get("Item") or members["Key"]
            key = {name: attributes[name] for name in table.table_key_attrs if name in attributes}
            before.append((table, key, copy.deepcopy(self.get_item(table.name, key))))
    try:
        _transact_write_items(self, transact_items)
    except Exception:
        for table, key, item in before:
            if item:
                table.put_item(item.to_json()["Attributes"])
            else:
                self.delete_item(table.name, key)
        raise


def query(self: Table, hash_key: DynamoType, *arguments: Any, **named: Any) -> Any:
    everything = self.items
    *_, index_name = arguments[:INDEX_NAME]
    if not index_name:
        self.items = {hash_key: everything.get(hash_key, {})}
    try:
        return _query(self, hash_key, *arguments, **named)
    finally:
        self.items = everything


def _copy_but_tables(value: Any) -> Any:
    return value if isinstance(value, Table) else copy.deepcopy(value)
