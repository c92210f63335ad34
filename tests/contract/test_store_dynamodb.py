"""What is DynamoDB's own of its store."""

from __future__ import annotations

import base64
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.contract.samples import NOON, arn, delivery, finding, look, snapshot
from tests.contract.tables import TABLE, create_table
from watcher.errors import StoreError
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
from watcher.store.base import Look
from watcher.store.dynamodb import DynamoStore


@pytest.fixture
def store(sandbox: Sandbox) -> DynamoStore:
    return DynamoStore(create_table(sandbox), TABLE)


def test_the_url_names_the_table(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    store.commit([look("job")])

    assert store.check() == f"DynamoDB, table {TABLE}, watched jobs: 1"


def test_a_table_that_is_not_there_is_said_to_be_missing(aws_environment: Sandbox) -> None:
    with pytest.raises(StoreError, match="is not there; create it"):
        open_store("dynamodb://nowhere").watching()


# -- what is too large for an item ----------------------------------------------------------------


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


# -- what is too much for a transaction -----------------------------------------------------------


def many_looks(jobs: int = 12) -> list[Look]:
    """60 findings with their deliveries: several transactions."""
    looks = []
    for number in range(jobs):
        name = f"job-{number}"
        found = [finding(name, f"rule-{rule}") for rule in range(5)]
        looks.append(look(name, found, [delivery(each) for each in found]))
    return looks


def told(store: DynamoStore) -> Counter[str]:
    """How many open deliveries each finding has."""
    return Counter(each.finding_id for each in store.deliveries() if each.open)


def test_a_commit_that_fails_between_any_two_of_its_transactions_is_completed_by_repeating_it(
    aws_environment: Sandbox,
) -> None:
    sandbox, looks = aws_environment, many_looks()
    wanted = {each.id for one in looks for each in one.findings}
    sandbox.control.forget_calls()
    transactions, failures = 0, 0
    while transactions == 0 or failures < transactions:
        sandbox.control.reset()
        store = DynamoStore(create_table(sandbox), TABLE)
        sandbox.control.inject_fault(
            "dynamodb:TransactWriteItems", "AccessDeniedException", "gone", after=failures, times=1
        )
        with pytest.raises(StoreError):
            store.commit(looks)
        sandbox.control.clear_faults()
        known = {record.snapshot.name for record in store.jobs()}
        found = {each.id for each in store.findings()}
        # A job that is remembered would not be looked at again: its findings have to be there before it.
        assert {each.id for one in looks if one.snapshot.name in known for each in one.findings} <= found

        sandbox.control.forget_calls()
        store.commit(looks)
        transactions = transactions or sandbox.control.calls()["dynamodb:TransactWriteItems"]
        assert told(store) == Counter(wanted)
        assert len(store.watching()) == len(looks)
        failures += 1

    assert transactions > 3


# -- throttling -----------------------------------------------------------------------------------

READS = ("GetItem", "BatchGetItem", "Query", "Scan")
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems")
OPERATIONS = READS + WRITES


def a_round(store: DynamoStore) -> None:
    """Everything that a store does, once."""
    issue = finding("job")
    assert store.hold([arn("job")], "us", NOON, 60) == {arn("job")}
    assert store.commit([look("job", [issue], [delivery(issue)])], "us") == (issue,)
    (claimed,) = store.claim("us", NOON, 60, 10)
    assert store.settle("us", replace(claimed, state=DeliveryState.DELIVERED, delivered_at=NOON))
    assert store.take_turn("reconcile", 1)
    assert store.permit_stop(arn("job"), "route", NOON, 10)
    assert store.next_due() is None
    assert store.findings() == [issue]
    assert store.check()


def test_throttling_of_every_operation_is_waited_out(aws_environment: Sandbox) -> None:
    code = "ProvisionedThroughputExceededException"
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    for operation in OPERATIONS:
        aws_environment.control.inject_fault(f"dynamodb:{operation}", code, "slow down", times=1)

    a_round(store)  # type: ignore[arg-type]

    assert set(aws_environment.control.calls()) >= {f"dynamodb:{operation}" for operation in OPERATIONS}


def test_throttling_without_an_end_is_said_and_has_changed_nothing(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    store.commit([look("job")])
    before = items(sandbox)
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", "ThrottlingException", "slow down")

    with pytest.raises(StoreError, match=r"asked too often \(slow down\); nothing is lost"):
        store.commit([look("job", [finding("job")], fingerprint="another")])

    sandbox.control.clear_faults()
    assert items(sandbox) == before


# -- growth ---------------------------------------------------------------------------------------


def requests(store: DynamoStore, sandbox: Sandbox) -> dict[str, int]:
    """What a quiet look around costs."""
    sandbox.control.forget_calls()
    store.watching()
    store.next_due()
    store.next_evaluation()
    store.claim("us", NOON, 60, 32)
    store.claim_evaluations(NOON, 60, 10, Reads.TENSORS)
    store.take_turn("reconcile", 1)
    return sandbox.control.calls()


def test_what_is_over_costs_nothing_more(store: DynamoStore, sandbox: Sandbox) -> None:
    def end(names: Iterable[str]) -> None:
        done = {"state": DeliveryState.DELIVERED, "delivered_at": NOON}
        for name in names:
            issue = finding(name)
            store.commit([look(name, [issue], [delivery(issue, **done)], watching=False)])

    end(f"early-{number}" for number in range(3))
    few = requests(store, sandbox)
    end(f"late-{number}" for number in range(20))

    assert requests(store, sandbox) == few


def test_more_jobs_than_a_page_holds_are_read_page_by_page(store: DynamoStore, sandbox: Sandbox) -> None:
    store.commit([look(f"job-{number}", fingerprint="f" * 30_000) for number in range(50)])

    sandbox.control.forget_calls()

    assert len(store.watching()) == 50
    assert sandbox.control.calls() == {"dynamodb:Query": 2}
