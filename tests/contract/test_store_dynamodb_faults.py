"""DynamoDB throttles in the middle of a call to the store. The call has then done nothing or everything, and
repeating it gives the same result as an undisturbed call."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from botocore.config import Config

from tests.contract.samples import NOON, after, alert, arn, delivery, finding, look
from tests.contract.tables import TABLE, create_table
from watcher.errors import LeaseLost, StoreError
from watcher.model import DeliveryState, Evaluation, Reads
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.base import Look, Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.dynamodb.writes import MAX_TRANSACTION_ITEMS

LEASE_S = 60.0
ONCE = Config(retries={"total_max_attempts": 1})
THROTTLED = "ProvisionedThroughputExceededException"


def a_store(sandbox: Sandbox, table: str = TABLE) -> DynamoStore:
    """A store whose client tries once, and which does not wait."""
    return DynamoStore(create_table(sandbox, table, config=ONCE), table, wait=lambda seconds: None)


def cancel_transactions(sandbox: Sandbox, reason: str, **which: Any) -> None:
    sandbox.control.inject_fault(
        "dynamodb:TransactWriteItems",
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [None, {reason}]",
        CancellationReasons=[{"Code": "None"}, {"Code": reason, "Message": "…"}],
        **which,
    )


def contents(store: Store) -> Any:
    return (
        store.jobs(),
        store.watching(),
        store.findings(),
        store.deliveries(),
        store.next_due(),
        store.next_evaluation(),
        store.stop_of(arn("a")),
    )


def prepared(store: Store) -> None:
    evaluated = [
        replace(alert(job, "slack:#a", "console"), evaluation=Evaluation(due_at=NOON, reads=Reads.TENSORS))
        for job in ("a", "b")
    ]
    store.commit(evaluated)


def claimed(store: Store) -> None:
    prepared(store)
    store.claim("us", NOON, LEASE_S, 1)


def settle(store: Store) -> object:
    (taken,) = [each for each in store.deliveries() if each.attempts]
    then = replace(taken, id="then", state=DeliveryState.PENDING, attempts=0)
    return store.settle("us", replace(taken, state=DeliveryState.DELIVERED), [then])


def cancel(store: Store) -> object:
    one = store.deliveries()[0]
    return store.cancel(one.id, [replace(one, id="then")])


ISSUE = finding("c")
CALLS: list[tuple[Callable[[Store], None], Callable[[Store], object]]] = [
    (prepared, lambda store: store.commit([look("c", [ISSUE], [delivery(ISSUE, to="sns:arn")])])),
    (prepared, lambda store: store.unwatch(arn("a"))),
    (prepared, lambda store: store.claim("us", NOON, LEASE_S, 1)),
    (prepared, lambda store: store.claim_evaluations(NOON, LEASE_S, 1, Reads.TENSORS)),
    (prepared, lambda store: store.permit_stop(arn("a"), "me", NOON, 10)),
    (prepared, lambda store: store.take_turn("reconcile", 7)),
    (prepared, cancel),
    (claimed, settle),
]
NAMES = ["commit", "unwatch", "claim", "claim_evaluations", "permit_stop", "take_turn", "cancel", "settle"]


@pytest.mark.parametrize(("prepare", "call"), CALLS, ids=NAMES)
def test_a_throttled_call_has_no_effect_and_can_be_repeated(
    sandbox: Sandbox, prepare: Callable[[Store], None], call: Callable[[Store], object]
) -> None:
    undisturbed = a_store(sandbox, "undisturbed")
    prepare(undisturbed)
    before = contents(undisturbed)
    answer = call(undisturbed)
    done = contents(undisturbed)
    for number in count():
        store = a_store(sandbox, f"throttled-{number}")
        prepare(store)
        sandbox.control.inject_fault("dynamodb:*", THROTTLED, times=1, after=number)
        try:
            assert call(store) == answer
        except StoreError as error:
            assert "throttled" in str(error)
            assert contents(store) == before
            assert call(store) == answer
        was_asked_that_often = not sandbox.control.faults()
        sandbox.control.clear_faults()
        assert contents(store) == done
        if not was_asked_that_often:
            assert number > 0
            return


@pytest.mark.parametrize(
    "reason", ["ThrottlingError", "ProvisionedThroughputExceeded", "TransactionConflict"]
)
def test_a_cancelled_transaction_is_built_again_and_retried(sandbox: Sandbox, reason: str) -> None:
    waits: list[float] = []
    store = DynamoStore(create_table(sandbox, config=ONCE), TABLE, wait=waits.append)
    cancel_transactions(sandbox, reason, times=3)

    (issue,) = store.commit([alert("job", "console")])

    assert store.findings() == [issue]
    assert len(waits) == 3
    assert 0 <= min(waits) <= max(waits) < 1


def test_a_lease_or_turn_that_conflicts_with_a_transaction_is_not_treated_as_taken(sandbox: Sandbox) -> None:
    store = a_store(sandbox)
    for ask in (lambda: store.hold([arn("a")], "us", NOON, LEASE_S), lambda: store.take_turn("reconcile", 7)):
        sandbox.control.inject_fault("dynamodb:PutItem", "TransactionConflictException", times=2)
        assert ask()
        assert not sandbox.control.faults()


def test_the_daemons_own_client_retries_after_throttling(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    for operation in ("BatchGetItem", "TransactWriteItems"):
        aws_environment.control.inject_fault(f"dynamodb:{operation}", THROTTLED, times=1)

    (issue,) = store.commit([alert("job", "console")])

    assert store.findings() == [issue]


def test_items_claimed_before_a_throttle_are_returned(sandbox: Sandbox) -> None:
    store = a_store(sandbox)
    prepared(store)
    many = [arn(f"job-{number}") for number in range(MAX_TRANSACTION_ITEMS + 1)]
    sandbox.control.inject_fault("dynamodb:PutItem", THROTTLED)  # the last one is written separately
    assert store.hold(many, "us", NOON, LEASE_S) == set(many[:MAX_TRANSACTION_ITEMS])
    cancel_transactions(sandbox, "TransactionConflict", times=1)  # so that they are claimed one by one
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, after=1)
    assert len(store.claim("us", NOON, LEASE_S, 10).deliveries) == 1
    sandbox.control.clear_faults()
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, after=1)
    assert len(store.claim_evaluations(NOON, LEASE_S, 10, Reads.TENSORS)) == 1


def test_a_turn_is_taken_even_when_its_response_was_lost(sandbox: Sandbox) -> None:
    create_table(sandbox)
    client = sandbox.client("dynamodb")
    # The first response is discarded, and the client repeats the request.
    client.meta.events.register_first(
        "needs-retry.dynamodb.PutItem", lambda attempts, **_: 0 if attempts == 1 else None
    )
    sandbox.control.forget_calls()
    assert DynamoStore(client, TABLE).take_turn("reconcile", 7)
    assert sandbox.control.calls()["dynamodb:PutItem"] == 2
    assert not DynamoStore(client, TABLE).take_turn("reconcile", 7)


# -- commits of more than one transaction ---------------------------------------------------------


def of_many_jobs() -> list[Look]:
    """154 items: findings with two deliveries each, of 14 jobs."""
    return [alert(f"job-{number:02d}", "slack:#a", "console") for number in range(14)]


def of_one_job() -> list[Look]:
    """131 items: 16 rules of one job have fired at once."""
    issues = [finding("job", f"Rule{number}") for number in range(16)]
    rows = [delivery(issue, to) for issue in issues for to in ("slack:#a", "console")]
    return [look("job", issues, rows)]


@pytest.mark.parametrize("looks", [of_many_jobs(), of_one_job()], ids=["many jobs", "one job"])
def test_a_large_commit_that_fails_at_any_part_is_completed_by_a_retry(
    sandbox: Sandbox, looks: list[Look]
) -> None:
    arns = [each.snapshot.arn for each in looks]
    everything = {issue.id for each in looks for issue in each.findings}
    for part in count():
        store = a_store(sandbox, f"part-{part}")
        store.hold(arns, "us", NOON, LEASE_S)
        sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, times=1, after=part)
        try:
            store.commit(looks, "us")
        except StoreError:
            known = {issue.id for issue in store.findings()}
            rows = store.deliveries()
            assert len(rows) == 2 * len(known), "a finding and its deliveries are stored together"
            assert {row.finding_id for row in rows} == known
            seen = {job.arn for job in store.watching()}
            assert seen <= {issue.job_arn for issue in store.findings()}, (
                "jobs are stored after their findings"
            )
            store.hold(arns, "us", after(1), LEASE_S)
            store.commit(looks, "us")
        was_written_that_often = not sandbox.control.faults()
        sandbox.control.clear_faults()
        assert {issue.id for issue in store.findings()} == everything
        assert len(store.deliveries()) == 2 * len(everything)
        assert len(store.watching()) == len(looks)
        assert store.hold(arns, "them", after(2), LEASE_S) == set(arns), "every job was released"
        if not was_written_that_often:
            assert part > 1, "it was several transactions"
            return


def test_a_commit_of_more_than_4_mb_is_split(sandbox: Sandbox) -> None:
    """Random text hardly compresses."""
    rng = random.Random(4)
    noise = [b64encode(rng.randbytes(240_000)).decode() for _ in range(16)]
    looks = [look(f"job-{number}") for number in range(len(noise))]
    looks = [
        replace(each, snapshot=replace(each.snapshot, hyperparameters={"x": text}))
        for each, text in zip(looks, noise, strict=True)
    ]
    store = a_store(sandbox)
    sandbox.control.forget_calls()
    store.commit(looks)

    assert sandbox.control.calls()["dynamodb:TransactWriteItems"] > 1
    assert len(store.jobs()) == len(looks)


def test_a_job_that_is_taken_over_between_reading_and_writing_is_not_committed(sandbox: Sandbox) -> None:
    ours = sandbox.client("dynamodb")
    store, theirs = a_store(sandbox), DynamoStore(ours, TABLE)
    store.hold([arn("job")], "us", NOON, LEASE_S)
    client = store._table._dynamodb

    def take_over(**_: Any) -> None:
        theirs.hold([arn("job")], "them", after(LEASE_S), LEASE_S)

    client.meta.events.register("before-call.dynamodb.TransactWriteItems", take_over)
    with pytest.raises(LeaseLost):
        store.commit([alert("job", "console")], "us")

    assert theirs.findings() == []
    assert theirs.deliveries() == []
    assert theirs.commit([alert("job", "console")], "them")
