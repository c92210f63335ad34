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

from tests.contract.samples import (
    NOON,
    after,
    alert,
    arn,
    change,
    delivery,
    grows,
    look,
    rewrites,
    run,
    snapshot,
)
from tests.contract.tables import TABLE, create_table
from tests.doubles.clock import Clock
from watcher.arn import run_arn
from watcher.errors import LeaseLost, StoreError
from watcher.model import DeliveryState, Evaluation, Reads, incident_id
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.base import Amend, Look, Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.dynamodb.writes import MAX_TRANSACTION_ITEMS

LEASE_S = 60.0
ONCE = Config(retries={"total_max_attempts": 1})
THROTTLED = "ProvisionedThroughputExceededException"


def a_store(sandbox: Sandbox, table: str = TABLE, clock: Clock | None = None) -> DynamoStore:
    """A store whose client tries once, and which does not wait."""
    monotonic = (clock or Clock()).monotonic
    return DynamoStore(create_table(sandbox, table, config=ONCE), table, lambda seconds: None, monotonic)


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
        store.incidents(),
        store.findings(),
        store.deliveries(),
        list(store.history()),
        store.next_due(),
        store.next_evaluation(),
        store.stop_of(run("a")),
        store.mark("here"),
    )


def prepared(store: Store) -> None:
    evaluated = [
        alert(job, "slack:#a", "console", evaluations=(Evaluation(due_at=NOON, reads=Reads.TENSORS),))
        for job in ("a", "b")
    ]
    store.commit(evaluated)


def claimed(store: Store) -> None:
    prepared(store)
    store.claim("us", NOON, LEASE_S, 1)


def permitted(store: Store) -> None:
    store.permit_stop(run("a"), "me", NOON, 10)


def settle(store: Store, amend: Amend | None = None) -> object:
    (taken,) = [each for each in store.deliveries() if each.attempts]
    return store.settle("us", replace(taken, state=DeliveryState.DELIVERED, told=1), amend)


CALLS: dict[str, tuple[Callable[[Store], None], Callable[[Store], object]]] = {
    "commit": (prepared, lambda store: store.commit([alert("c", "sns:arn")])),
    "commit a change": (prepared, lambda store: store.commit([look("a", grows)])),
    "amend": (prepared, lambda store: store.amend(incident_id(run("a")), grows)),
    "record": (prepared, lambda store: store.record(change("healthy", 0, incident=""))),
    "unwatch": (prepared, lambda store: store.unwatch(arn("a"), grows)),
    "claim": (prepared, lambda store: store.claim("us", NOON, LEASE_S, 1).deliveries),
    "claim_evaluations": (
        prepared,
        lambda store: store.claim_evaluations(NOON, LEASE_S, 1, together=False),
    ),
    "permit_stop": (prepared, lambda store: store.permit_stop(run("a"), "me", NOON, 10)),
    "retract_stop": (
        permitted,
        lambda store: store.retract_stop(run("a")),
    ),
    "take_turn": (prepared, lambda store: store.take_turn("reconcile", 7)),
    "set_mark": (prepared, lambda store: store.set_mark("here", NOON)),
    "settle": (claimed, settle),
    "settle and amend": (claimed, lambda store: settle(store, grows)),
    "settle and add": (claimed, lambda store: settle(store, rewrites(delivery("a", "sns:arn")))),
}


@pytest.mark.parametrize(("prepare", "call"), CALLS.values(), ids=CALLS)
def test_a_throttled_call_has_no_effect_and_can_be_repeated(
    sandbox: Sandbox, prepare: Callable[[Store], None], call: Callable[[Store], object]
) -> None:
    clock = Clock()
    undisturbed = a_store(sandbox, "undisturbed", clock)
    prepare(undisturbed)
    before = contents(undisturbed)
    answer = call(undisturbed)
    done = contents(undisturbed)
    for number in count():
        store = a_store(sandbox, f"throttled-{number}", clock)
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

    (now,) = store.commit([alert("job", "console")])

    assert store.findings() == list(now.findings)
    assert len(waits) == 3
    assert 0 <= min(waits) <= max(waits) < 1


def test_a_lease_or_turn_that_conflicts_with_a_transaction_is_not_treated_as_taken(sandbox: Sandbox) -> None:
    store = a_store(sandbox)
    for ask in (lambda: store.hold([arn("a")], "us", LEASE_S), lambda: store.take_turn("reconcile", 7)):
        sandbox.control.inject_fault("dynamodb:PutItem", "TransactionConflictException", times=2)
        assert ask()
        assert not sandbox.control.faults()


def test_the_daemons_own_client_retries_after_throttling(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    for operation in ("BatchGetItem", "TransactWriteItems"):
        aws_environment.control.inject_fault(f"dynamodb:{operation}", THROTTLED, times=1)

    (now,) = store.commit([alert("job", "console")])

    assert store.findings() == list(now.findings)


def test_items_claimed_before_a_throttle_are_returned(sandbox: Sandbox) -> None:
    store = a_store(sandbox)
    prepared(store)
    many = [arn(f"job-{number}") for number in range(MAX_TRANSACTION_ITEMS + 1)]
    sandbox.control.inject_fault("dynamodb:PutItem", THROTTLED)  # the last one is written separately
    assert store.hold(many, "us", LEASE_S) == set(many[:MAX_TRANSACTION_ITEMS])
    cancel_transactions(sandbox, "TransactionConflict", times=1)  # so that they are claimed one by one
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, after=1)
    assert len(store.claim("us", NOON, LEASE_S, 10).deliveries) == 1
    sandbox.control.clear_faults()
    sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, after=1)
    assert len(store.claim_evaluations(NOON, LEASE_S, 10, together=False)) == 1


def loses_first_responses(client: Any) -> None:
    """Each first response to a `PutItem` is discarded, and the client repeats the request."""
    client.meta.events.register_first(
        "needs-retry.dynamodb.PutItem", lambda attempts, **_: 0 if attempts == 1 else None
    )


def test_a_turn_is_taken_even_when_its_response_was_lost(sandbox: Sandbox) -> None:
    create_table(sandbox)
    client = sandbox.client("dynamodb")
    loses_first_responses(client)
    sandbox.control.forget_calls()
    assert DynamoStore(client, TABLE).take_turn("reconcile", 7)
    assert sandbox.control.calls()["dynamodb:PutItem"] == 2
    assert not DynamoStore(client, TABLE).take_turn("reconcile", 7)


def test_a_lease_is_taken_over_even_when_the_response_was_lost(sandbox: Sandbox) -> None:
    a_store(sandbox).hold([arn("job")], "them", LEASE_S)
    clock, client = Clock(), sandbox.client("dynamodb")
    loses_first_responses(client)
    store = DynamoStore(client, TABLE, monotonic=clock.monotonic)
    assert not store.hold([arn("job")], "us", LEASE_S)
    clock.turn(LEASE_S)

    assert store.hold([arn("job")], "us", LEASE_S) == {arn("job")}


# -- commits of more than one transaction ---------------------------------------------------------


def of_many_jobs() -> list[Look]:
    """180 items: incidents with two deliveries each, of 20 jobs."""
    return [alert(f"job-{number:02d}", "slack:#a", "console") for number in range(20)]


def test_a_large_commit_that_fails_at_any_part_is_completed_by_a_retry(sandbox: Sandbox) -> None:
    looks = of_many_jobs()
    arns = [each.snapshot.arn for each in looks]
    everything = {run_arn(each.snapshot.run) for each in looks}
    for part in count():
        store = a_store(sandbox, f"part-{part}")
        store.hold(arns, "us", LEASE_S)
        sandbox.control.inject_fault("dynamodb:TransactWriteItems", THROTTLED, times=1, after=part)
        try:
            store.commit(looks, "us")
        except StoreError:
            known = {incident.run for incident in store.incidents()}
            assert {job.run for job in store.watching()} == known, "a job and its incident go together"
            assert len(store.deliveries()) == 2 * len(known)
            store.hold(arns, "us", LEASE_S)
            store.commit(looks, "us")
        was_written_that_often = not sandbox.control.faults()
        sandbox.control.clear_faults()
        assert {run_arn(incident.run) for incident in store.incidents()} == everything
        assert len(store.deliveries()) == 2 * len(everything)
        assert len(list(store.history())) == len(everything), "no incident was opened twice"
        assert store.hold(arns, "them", LEASE_S) == set(arns), "every job was released"
        if not was_written_that_often:
            assert part > 1, "it was several transactions"
            return


def test_two_runs_of_one_job_are_committed_by_its_holder(sandbox: Sandbox) -> None:
    store = a_store(sandbox)
    earlier = look("job", snapshot=snapshot("job", created_at=after(-3600)), watching=False)
    store.hold([arn("job")], "us", LEASE_S)

    store.commit([earlier, alert("job", "console")], "us")

    assert [record.watching for record in store.jobs("job")] == [True, False]
    assert store.hold([arn("job")], "them", LEASE_S), "it was released"


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
    clock = Clock()
    store = a_store(sandbox)
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE, monotonic=clock.monotonic)
    store.hold([arn("job")], "us", LEASE_S)
    client = store._table._dynamodb

    def take_over(**_: Any) -> None:
        theirs.hold([arn("job")], "them", LEASE_S)
        clock.turn(LEASE_S)
        theirs.hold([arn("job")], "them", LEASE_S)

    client.meta.events.register("before-call.dynamodb.TransactWriteItems", take_over)
    with pytest.raises(LeaseLost):
        store.commit([alert("job", "console")], "us")

    assert theirs.findings() == []
    assert theirs.deliveries() == []
    assert theirs.commit([alert("job", "console")], "them")
