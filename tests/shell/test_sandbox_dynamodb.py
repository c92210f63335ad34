"""The sandbox's DynamoDB, where it differs from moto."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.contract.tables import TABLE, create_table
from watcher.sandbox.process import Sandbox


def put(pk: str, sk: str, condition: str = "", **attributes: str) -> dict[str, Any]:
    item = {name: {"S": value} for name, value in {"pk": pk, "sk": sk, **attributes}.items()}
    members: dict[str, Any] = {"TableName": TABLE, "Item": item}
    return {"Put": members | ({"ConditionExpression": condition} if condition else {})}


def test_a_cancelled_transaction_leaves_every_item_unchanged(sandbox: Sandbox) -> None:
    dynamodb = create_table(sandbox)
    dynamodb.transact_write_items(TransactItems=[put("a", "1", is_="kept"), put("a", "2")])
    before = dynamodb.scan(TableName=TABLE)["Items"]
    delete = {"Delete": {"TableName": TABLE, "Key": {"pk": {"S": "a"}, "sk": {"S": "2"}}}}

    with pytest.raises(ClientError) as refused:
        dynamodb.transact_write_items(
            TransactItems=[
                put("a", "1", is_="changed"),
                delete,
                put("b", "1"),
                put("c", "1", "attribute_exists(pk)"),
            ]
        )

    codes = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
    assert codes == ["None", "None", "None", "ConditionalCheckFailed"]
    assert dynamodb.scan(TableName=TABLE)["Items"] == before


def test_a_query_returns_its_partition_in_order_and_page_by_page(sandbox: Sandbox) -> None:
    dynamodb = create_table(sandbox)
    for start in range(0, 200, 100):
        numbers = range(start, start + 50)
        dynamodb.transact_write_items(
            TransactItems=[put(pk, f"{n:03d}", filling="x" * 20_000) for n in numbers for pk in "ab"]
        )
    pages = list(
        dynamodb.get_paginator("query").paginate(
            TableName=TABLE,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": "a"}},
        )
    )
    found = [(item["pk"]["S"], item["sk"]["S"]) for page in pages for item in page["Items"]]
    assert found == [("a", f"{number:03d}") for number in (*range(50), *range(100, 150))]
    assert len(pages) > 1
