"""What only the DynamoDB store does."""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.samples import NOON, after, alert, arn, look, snapshot
from tests.contract.tables import TABLE, create_table
from watcher.errors import ConfigError, LeaseLost, StoreError
from watcher.evaluation.rule_run import MAX_STATE_CHARS
from watcher.model import (
    Delivery,
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
from watcher.store.base import Store
from watcher.store.dynamodb.store import DynamoStore


def test_the_url_names_the_table(aws_environment: Sandbox) -> None:
    create_table(aws_environment)
    store = open_store(f"dynamodb://{TABLE}")
    store.commit([look("job")])

    assert store.check() == f"DynamoDB, table {TABLE}, watched jobs: 1"


def test_a_missing_table_is_reported_as_missing(aws_environment: Sandbox) -> None:
    with pytest.raises(StoreError, match="does not exist; create it"):
        open_store("dynamodb://nowhere").watching()


def test_the_table_is_in_the_configured_region(
    aws_environment: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table(aws_environment, region_name="eu-central-1")
    with pytest.raises(StoreError, match="does not exist"):
        open_store(f"dynamodb://{TABLE}").watching()
    assert open_store(f"dynamodb://{TABLE}", region="eu-central-1").watching() == []

    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    with pytest.raises(ConfigError, match="region = "):
        open_store(f"dynamodb://{TABLE}")


def test_frequent_requests_cost_the_same_for_any_number_of_ended_jobs(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)

    def ask() -> dict[str, int]:
        sandbox.control.forget_calls()
        assert len(store.watching()) == 1
        assert store.claim("us", NOON, 60, 10).deliveries == []
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
            for taken in store.claim("us", NOON, 60, 1).deliveries:
                store.settle("us", replace(taken, state=DeliveryState.DELIVERED))
    assert ask() == few


def test_watched_jobs_are_read_page_by_page(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)
    # A response holds at most 1 MB.
    looks = [replace(look(f"job-{number:04d}"), fingerprint="f" * 20_000) for number in range(80)]
    store.commit(looks)
    sandbox.control.forget_calls()

    assert [job.name for job in store.watching()] == [each.snapshot.name for each in looks]
    assert sandbox.control.calls() == {"dynamodb:Query": 2}


# -- records too large for an item ----------------------------------------------------------------


@pytest.fixture
def store(sandbox: Sandbox) -> DynamoStore:
    return DynamoStore(create_table(sandbox), TABLE)


def text(chance: random.Random, length: int) -> str:
    """Text that hardly compresses."""
    return base64.b85encode(chance.randbytes(length)).decode()[:length]


def largest_snapshot(chance: random.Random) -> JobSnapshot:
    """A snapshot at SageMaker's documented limits: 20 rules of each kind with 100 parameters, 100
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
    states = {rule: text(chance, MAX_STATE_CHARS // 20) for rule in map(str, range(20))}
    return Evaluation(due_at=NOON, cursor=text(chance, 2000), states=states)


def items(sandbox: Sandbox) -> dict[tuple[str, str], int]:
    """The size of each item in bytes, by key; attribute names and values both count."""
    pages = sandbox.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True)
    return {
        (item["pk"]["S"], item["sk"]["S"]): sum(
            len(name) + len(value.get("B") or str(next(iter(value.values()))).encode())
            for name, value in item.items()
        )
        for page in pages
        for item in page["Items"]
    }


def test_a_job_at_all_limits_of_sagemaker_and_of_rule_states_fits(
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


def test_overflow_items_are_removed_when_a_record_shrinks(store: DynamoStore, sandbox: Sandbox) -> None:
    chance = random.Random(7)
    job, small = largest_snapshot(chance), Evaluation(due_at=NOON, states={"rule": "{}"})
    store.commit([look("any", snapshot=snapshot(job.name), evaluation=small)])
    few = items(sandbox).keys()

    store.commit([look("any", snapshot=job, evaluation=largest_evaluation(chance))])
    store.commit([look("any", snapshot=job)])  # the evaluation is unchanged
    store.unwatch(job.arn)
    assert len(items(sandbox)) > len(few) + 5
    store.commit([look("any", snapshot=snapshot(job.name), evaluation=small)])

    assert items(sandbox).keys() == few
    record = store.job(job.arn)
    assert record is not None
    assert record.evaluation == small


# -- the cache of what this process has read or written -------------------------------------------


def claim_one_finding(store: Store, job: str = "job", owner: str = "us") -> Delivery:
    """Handle a job, find one issue in it, and claim its delivery."""
    assert store.hold([arn(job)], owner, NOON, 60)
    store.job(arn(job))
    assert store.commit([alert(job, "console")], owner)
    (taken,) = store.claim(owner, NOON, 60, 10).deliveries
    return taken


def test_recently_read_or_written_items_are_not_read_again(store: DynamoStore, sandbox: Sandbox) -> None:
    store.commit([look("job")])
    sandbox.control.forget_calls()

    taken = claim_one_finding(store)
    assert store.settle("us", replace(taken, state=DeliveryState.DELIVERED))

    assert sandbox.control.calls() == {
        "dynamodb:PutItem": 1,
        "dynamodb:GetItem": 1,
        "dynamodb:Query": 1,
        "dynamodb:TransactWriteItems": 3,
    }


def test_a_job_that_was_taken_over_since_it_was_read_is_not_committed(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE)
    store.commit([look("job")])
    store.hold([arn("job")], "us", NOON, 60)
    store.job(arn("job"))
    assert theirs.hold([arn("job")], "them", after(60), 60)

    with pytest.raises(LeaseLost):
        store.commit([alert("job", "console")], "us")

    assert store.findings() == []
    theirs.job(arn("job"))
    assert theirs.commit([alert("job", "console")], "them")


def test_a_job_that_was_changed_since_it_was_read_is_read_again(store: DynamoStore, sandbox: Sandbox) -> None:
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE)
    due = look("job", evaluation=Evaluation(due_at=NOON, reads=Reads.TENSORS))
    store.commit([due])
    store.hold([arn("job")], "us", NOON, 60)
    store.job(arn("job"))
    assert theirs.claim_evaluations(NOON, 300, 1, Reads.TENSORS) == [arn("job")]

    assert store.commit([alert("job", "console")], "us")

    assert store.next_evaluation() == after(300), "the other's write is kept"


def test_a_late_response_to_another_thread_does_not_affect_the_holder_of_the_job(
    store: DynamoStore,
) -> None:
    """A thread that only reads gets the job as it was before the last commit, but only after the holder has
    read it again."""
    store.commit([look("job")])
    store.hold([arn("job")], "us", NOON, 60)
    events = store._table._dynamodb.meta.events
    evaluation = Evaluation(due_at=NOON, reads=Reads.TENSORS)

    def overtake(**_: Any) -> None:
        events.unregister("after-call.dynamodb.GetItem", overtake)
        store.commit([look("job", evaluation=evaluation)], "us")
        store.hold([arn("job")], "us", NOON, 60)
        store.job(arn("job"))

    events.register("after-call.dynamodb.GetItem", overtake)
    late = store.job(arn("job"))
    store.commit([look("job", fingerprint="changed")], "us")

    assert late is not None
    assert late.evaluation is None
    record = store.job(arn("job"))
    assert record is not None
    assert record.evaluation == evaluation, "the commit in between is kept"


def test_a_known_finding_gets_no_second_delivery_from_a_cache_without_it(
    store: DynamoStore,
) -> None:
    taken = claim_one_finding(store)
    store.settle("us", replace(taken, state=DeliveryState.DELIVERED))
    store.hold([arn("job")], "us", NOON, 60)
    store.job(arn("job"))

    assert store.commit([alert("job", "console")], "us") == ()
    assert store.claim("us", NOON, 60, 10).deliveries == []
    assert store.hold([arn("job")], "them", NOON, 60), "it was still released"


def test_a_delivery_that_another_owner_claimed_meanwhile_is_read_again(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE)
    store.commit([alert("job", "console")])
    (first,) = theirs.claim("them", NOON, 60, 10).deliveries

    (second,) = store.claim("us", after(60), 60, 10).deliveries

    assert (first.attempts, first.uncertain) == (1, False)
    assert (second.attempts, second.uncertain) == (2, True)
    assert not theirs.settle("them", replace(first, state=DeliveryState.DELIVERED))
    assert store.settle("us", replace(second, state=DeliveryState.DELIVERED))


def test_a_claim_takes_the_lanes_that_no_other_owner_took_first(store: DynamoStore, sandbox: Sandbox) -> None:
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE)
    lanes = ["slack:#a", "slack:#b", "slack:#c"]
    store.commit([alert("job", *lanes)])
    first_at: list[Delivery] = []

    def outrun(**_: Any) -> None:
        if not first_at:
            first_at.extend(theirs.claim("them", NOON, 60, 1).deliveries)

    store._table._dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", outrun)
    taken = store.claim("us", NOON, 60, 10)

    assert [delivery.lane for delivery in (*first_at, *taken.deliveries)] == lanes
    assert taken.next_due == NOON, "the lane taken by the other is checked again"


@pytest.fixture
def slow_transaction(store: DynamoStore) -> Iterator[threading.Event]:
    """The first transaction runs until the event is set; writes made meanwhile are sent together."""
    under_way, go_on = threading.Event(), threading.Event()

    def wait(**_: Any) -> None:
        if not under_way.is_set():
            under_way.set()
            go_on.wait(60)

    store._table._writes._max_wait = 60
    store._table._dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", wait)
    slow = threading.Thread(target=store.commit, args=([look("slow")],))
    slow.start()
    under_way.wait(60)
    yield go_on
    slow.join()


def test_concurrent_writes_share_a_transaction_and_only_conflicting_ones_are_repeated(
    store: DynamoStore, sandbox: Sandbox, slow_transaction: threading.Event
) -> None:
    jobs = [f"job-{number}" for number in range(6)]
    DynamoStore(sandbox.client("dynamodb"), TABLE).hold([arn("job-3")], "them", NOON, 60)
    sandbox.control.forget_calls()
    with ThreadPoolExecutor(6) as pool:
        committed = [pool.submit(store.commit, [alert(job, "console")]) for job in jobs]
        held = pool.submit(store.hold, [arn("job-3")], "us", NOON, 60)
        while len(store._table._writes._queue) < 6:  # the pool has six threads; `hold` runs when one is free
            time.sleep(0.001)
        slow_transaction.set()
        assert all(future.result() for future in committed)
        assert held.result() == set()

    assert len(store.findings()) == 6
    assert sandbox.control.calls()["dynamodb:TransactWriteItems"] < 6


def test_a_follow_up_delivery_comes_later_even_when_its_clock_is_behind(
    store: DynamoStore, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine's clock is an hour ahead of the other's, and positions come from the clock."""
    behind = DynamoStore(sandbox.client("dynamodb"), TABLE)
    hour = 3600 * 10**9
    now = time.time_ns()
    monkeypatch.setattr("watcher.store.dynamodb.positions.time.time_ns", lambda: now + hour)
    store.commit([alert("job", "console")])
    monkeypatch.setattr("watcher.store.dynamodb.positions.time.time_ns", lambda: now)

    (first,) = behind.claim("us", NOON, 60, 1).deliveries
    update = replace(first, id="update", state=DeliveryState.PENDING, attempts=0)
    assert behind.settle("us", replace(first, state=DeliveryState.DELIVERED), [update])

    assert [delivery.id for delivery in store.deliveries()] == [first.id, "update"]


def test_every_read_including_that_of_the_check_is_consistent(store: DynamoStore) -> None:
    read = set()

    def listen(model: Any, params: Any, **_: Any) -> None:
        if model.name in ("GetItem", "Query", "Scan"):
            read.add((model.name, json.loads(params["body"]).get("ConsistentRead")))

    store._table._dynamodb.meta.events.register("before-call.dynamodb", listen)
    store.check()
    store.jobs()
    store.deliveries()

    assert read == {("GetItem", True), ("Query", True), ("Scan", True)}


def test_two_threads_that_read_the_same_item_get_separate_copies(store: DynamoStore) -> None:
    store.commit([look("job")])
    key = (f"JOB#{arn('job')}", "JOB")
    one, other = store._table._read_together([key, key])

    assert one == other
    assert one is not other
