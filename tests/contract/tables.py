"""A table for the DynamoDB store, in the sandbox."""

from __future__ import annotations

from typing import Any

from watcher.sandbox.process import Sandbox
from watcher.store.dynamodb.table import KEYS

TABLE = "watcher"


def create_table(sandbox: Sandbox, name: str = TABLE, **client: Any) -> Any:
    """Create the table of `deploy/ecs.yaml`. Returns a client made with the boto3 options `client`."""
    dynamodb = sandbox.client("dynamodb", **client)
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in KEYS],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in KEYS.items()],
        BillingMode="PAY_PER_REQUEST",
    )
    return dynamodb
