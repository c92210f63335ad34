"""What is DynamoDB's own of its store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.samples import NOON, alert, look
from tests.contract.tables import TABLE, create_table
from watcher.errors import ConfigError, StoreError
from watcher.model import DeliveryState, Reads
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.dynamodb import DynamoStore


def test_the_url_names_the_table(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    store.commit([look("job")])

    assert store.check() == f"DynamoDB, table {TABLE}, watched jobs: 1"


def test_a_table_that_is_not_there_is_said_to_be_missing(aws_environment: Sandbox) -> None:
    with pytest.raises(StoreError, match="is not there; create it"):
        open_store("dynamodb://nowhere").watching()


def test_the_table_is_looked_for_in_the_configured_region(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table(aws_environment, region_name="eu-central-1")
    with pytest.raises(StoreError, match="is not there"):
        open_store(f"dynamodb://{TABLE}").watching()
    assert open_store(f"dynamodb://{TABLE}", region="eu-central-1").watching() == []

    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    with pytest.raises(ConfigError, match="region = "):
        open_store(f"dynamodb://{TABLE}")


def test_what_is_asked_all_the_time_costs_the_same_however_many_jobs_have_ended(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)

    def ask() -> dict[str, int]:
        sandbox.control.forget_calls()
        assert len(store.watching()) == 1
        assert store.claim("us", NOON, 60, 10) == []
        assert store.next_due() is None
        assert store.next_evaluation() is None
        assert store.claim_evaluations(NOON, 300, 1, Reads.TENSORS) == []
        assert store.job(look("going-on").snapshot.arn)
        return sandbox.control.calls()

    store.commit([look("going-on")])
    few = ask()
    for start in range(0, 40, 10):
        ended = [replace(alert(f"job-{start + n}", "console"), watching=False) for n in range(10)]
        store.commit(ended)
        for _ in ended:
            for taken in store.claim("us", NOON, 60, 1):
                store.settle("us", replace(taken, state=DeliveryState.DELIVERED))
    assert ask() == few


def test_more_watched_jobs_than_one_answer_holds_are_read_page_by_page(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)
    # An answer holds 1 MB.
    looks = [replace(look(f"job-{number:04d}"), fingerprint="f" * 20_000) for number in range(80)]
    store.commit(looks)
    sandbox.control.forget_calls()

    assert [job.name for job in store.watching()] == [each.snapshot.name for each in looks]
    assert sandbox.control.calls() == {"dynamodb:Query": 2}
