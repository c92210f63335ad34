"""What is DynamoDB's own of its store."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

import pytest

from tests.contract.samples import NOON, alert, look, snapshot
from tests.contract.tables import TABLE, create_table
from watcher.errors import ConfigError, StoreError
from watcher.evaluate import MOST_STATE
from watcher.model import (
    DeliveryState,
    Evaluation,
    HookConfiguration,
    JobSnapshot,
    Outcome,
    Reads,
    RuleConfiguration,
    RuleSource,
)
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


# -- what is too large for an item ----------------------------------------------------------------


@pytest.fixture
def store(sandbox: Sandbox) -> DynamoStore:
    return DynamoStore(create_table(sandbox), TABLE)


def text(chance: random.Random, length: int) -> str:
    """That nothing can compress much."""
    return base64.b85encode(chance.randbytes(length)).decode()[:length]


def largest_snapshot(chance: random.Random) -> JobSnapshot:
    """With all that SageMaker's documented limits allow: 20 rules of each kind with 100 parameters, 100
    hyperparameters, 50 tags."""

    def pairs(count: int, key: int, value: int) -> dict[str, str]:
        return {text(chance, key): text(chance, value) for _ in range(count)}

    kinds = [source for source in (RuleSource.DEBUGGER, RuleSource.PROFILER) for _ in range(20)]
    names = [text(chance, 256) for _ in kinds]
    return snapshot(
        "j" * 63,
        rules=tuple(RuleConfiguration(n, s, pairs(100, 256, 256)) for n, s in zip(names, kinds, strict=True)),
        outcomes=tuple(
            Outcome(n, s, "IssuesFound", text(chance, 1024), text(chance, 256))
            for n, s in zip(names, kinds, strict=True)
        ),
        hook=HookConfiguration("s3://" + text(chance, 1024), pairs(20, 256, 256), ()),
        hyperparameters=pairs(100, 256, 2500),
        tags=pairs(50, 128, 256),
        failure_reason=text(chance, 1024),
    )


def largest_evaluation(chance: random.Random) -> Evaluation:
    states = {rule: text(chance, MOST_STATE // 20) for rule in map(str, range(20))}
    return Evaluation(due_at=NOON, cursor=text(chance, 2000), states=states)


def items(sandbox: Sandbox) -> dict[tuple[str, str], int]:
    """How many bytes each takes, by its key; names and values of attributes both count."""
    pages = sandbox.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
    return {
        (item["pk"]["S"], item["sk"]["S"]): sum(
            len(name) + len(value.get("B") or str(next(iter(value.values()))).encode())
            for name, value in item.items()
        )
        for page in pages
        for item in page["Items"]
    }


def test_a_job_with_all_that_sagemaker_allows_and_all_that_rules_may_remember_fits(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    chance = random.Random(7)
    job, evaluation = largest_snapshot(chance), largest_evaluation(chance)

    store.commit([look("any", snapshot=job, evaluation=evaluation)])

    record = store.job(job.arn)
    assert record is not None
    assert (record.snapshot, record.evaluation) == (job, evaluation)
    assert store.jobs() == [record]
    assert store.claim_evaluations(NOON, 60, 1, Reads.TENSORS) == [job.arn]
    sizes = items(sandbox)
    assert sum(sizes.values()) > 2_000_000
    assert max(sizes.values()) < 400_000


def test_what_was_too_large_leaves_nothing_behind_when_it_is_small_again(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    chance = random.Random(7)
    job, small = largest_snapshot(chance), Evaluation(due_at=NOON, states={"rule": "{}"})
    store.commit([look("any", snapshot=snapshot(job.name), evaluation=small)])
    few = items(sandbox).keys()

    store.commit([look("any", snapshot=job, evaluation=largest_evaluation(chance))])
    store.commit([look("any", snapshot=job)])  # the evaluation stays as it was
    store.unwatch(job.arn)
    assert len(items(sandbox)) > len(few) + 5
    store.commit([look("any", snapshot=snapshot(job.name), evaluation=small)])

    assert items(sandbox).keys() == few
    record = store.job(job.arn)
    assert record is not None
    assert record.evaluation == small
