"""What is DynamoDB's own of its store."""

from __future__ import annotations

import pytest

from tests.contract.samples import look
from tests.contract.tables import TABLE, create_table
from watcher.errors import StoreError
from watcher.sandbox.process import Sandbox
from watcher.store import open_store


def test_the_url_names_the_table(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    store.commit([look("job")])

    assert store.check() == f"DynamoDB, table {TABLE}, watched jobs: 1"


def test_a_table_that_is_not_there_is_said_to_be_missing(aws_environment: Sandbox) -> None:
    with pytest.raises(StoreError, match="is not there; create it"):
        open_store("dynamodb://nowhere").watching()
