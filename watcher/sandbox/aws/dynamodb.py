"""Replaces parts of moto's DynamoDB that are not atomic or too slow.

- moto checks a condition and writes in two steps, and another thread may write in between. Here, requests run
  one after the other.
- For a transaction, moto copies whole tables to be able to undo it. Here, only the items that it writes are
  copied.
- For a query, moto goes through the whole table. Here, it sees only the partition in question.
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

_request_lock = threading.RLock()
_call_action = DynamoHandler.call_action
_transact_write_items = DynamoDBBackend.transact_write_items
_query = Table.query

_ARGUMENTS_TO_INDEX_NAME = 7
"""The arguments of `Table.query` after the key, up to and including `index_name`."""


def install() -> None:
    DynamoHandler.call_action = call_action
    DynamoDBBackend.transact_write_items = transact_write_items
    Table.query = query
    moto.dynamodb.models.copy = SimpleNamespace(deepcopy=_copy_except_tables)


def call_action(self: DynamoHandler) -> Any:
    with _request_lock:
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
    everything = self.items  # the lock above keeps other requests from seeing the table reduced
    *_, index_name = arguments[:_ARGUMENTS_TO_INDEX_NAME]
    if not index_name:
        self.items = {hash_key: everything.get(hash_key, {})}
    try:
        return _query(self, hash_key, *arguments, **named)
    finally:
        self.items = everything


def _copy_except_tables(value: Any) -> Any:
    return value if isinstance(value, Table) else copy.deepcopy(value)
