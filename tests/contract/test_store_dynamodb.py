"""What is DynamoDB's own of its store."""

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


def test_a_table_that_is_not_there_is_said_to_be_missing(aws_environment: Sandbox) -> None:
    with pytest.raises(StoreError, match="does not exist; create it"):
        open_store("dynamodb://nowhere").watching()


def test_the_table_is_looked_for_in_the_configured_region(
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


def test_what_is_asked_all_the_time_costs_the_same_however_many_jobs_have_ended(sandbox: Sandbox) -> None:
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
    states = {rule: text(chance, MAX_STATE_CHARS // 20) for rule in map(str, range(20))}
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


# -- what is remembered of what this process has read or written ----------------------------------


def of_one_finding(store: Store, job: str = "job", owner: str = "us") -> Delivery:
    """A job is handled, one issue found in it, and claimed."""
    assert store.hold([arn(job)], owner, NOON, 60)
    store.job(arn(job))
    assert store.commit([alert(job, "console")], owner)
    (taken,) = store.claim(owner, NOON, 60, 10).deliveries
    return taken


def test_what_was_just_read_or_written_is_not_read_again(store: DynamoStore, sandbox: Sandbox) -> None:
    store.commit([look("job")])
    sandbox.control.forget_calls()

    taken = of_one_finding(store)
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

    assert store.next_evaluation() == after(300), "what the other has written stays"


def test_a_late_answer_to_another_thread_does_not_disturb_the_one_that_holds_the_job(
    store: DynamoStore,
) -> None:
    """A thread that only reads gets the job as it was before the last commit, and after the holder has read
    it again."""
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
    assert record.evaluation == evaluation, "what was committed in between stays"


def test_a_finding_that_is_known_already_is_not_told_again_by_who_has_not_looked_for_it(
    store: DynamoStore,
) -> None:
    taken = of_one_finding(store)
    store.settle("us", replace(taken, state=DeliveryState.DELIVERED))
    store.hold([arn("job")], "us", NOON, 60)
    store.job(arn("job"))

    assert store.commit([alert("job", "console")], "us") == ()
    assert store.claim("us", NOON, 60, 10).deliveries == []
    assert store.hold([arn("job")], "them", NOON, 60), "it was let go of all the same"


def test_a_delivery_that_another_has_had_since_is_read_again(store: DynamoStore, sandbox: Sandbox) -> None:
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE)
    store.commit([alert("job", "console")])
    (first,) = theirs.claim("them", NOON, 60, 10).deliveries

    (second,) = store.claim("us", after(60), 60, 10).deliveries

    assert (first.attempts, first.uncertain) == (1, False)
    assert (second.attempts, second.uncertain) == (2, True)
    assert not theirs.settle("them", replace(first, state=DeliveryState.DELIVERED))
    assert store.settle("us", replace(second, state=DeliveryState.DELIVERED))


def test_of_several_lanes_those_are_claimed_at_which_nobody_was_first(
    store: DynamoStore, sandbox: Sandbox
) -> None:
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
    assert taken.next_due == NOON, "the lane of the first is looked at again"


@pytest.fixture
def one_is_slow(store: DynamoStore) -> Iterator[threading.Event]:
    """The first transaction is under way until the event is set; what is written meanwhile goes together."""
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


def test_what_several_threads_write_at_the_same_time_is_one_transaction_and_only_what_is_outrun_is_repeated(
    store: DynamoStore, sandbox: Sandbox, one_is_slow: threading.Event
) -> None:
    jobs = [f"job-{number}" for number in range(6)]
    DynamoStore(sandbox.client("dynamodb"), TABLE).hold([arn("job-3")], "them", NOON, 60)
    sandbox.control.forget_calls()
    with ThreadPoolExecutor(6) as pool:
        committed = [pool.submit(store.commit, [alert(job, "console")]) for job in jobs]
        held = pool.submit(store.hold, [arn("job-3")], "us", NOON, 60)
        while len(store._table._writes._queue) < 6:  # the pool has six threads; `hold` comes when one is free
            time.sleep(0.001)
        one_is_slow.set()
        assert all(future.result() for future in committed)
        assert held.result() == set()

    assert len(store.findings()) == 6
    assert sandbox.control.calls()["dynamodb:TransactWriteItems"] < 6


def test_where_a_deliverys_place_comes_from_the_clock_what_follows_it_comes_later_all_the_same(
    store: DynamoStore, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine's clock is an hour ahead of the other's."""
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


def test_every_read_is_consistent_that_of_the_check_too(store: DynamoStore) -> None:
    read = set()

    def listen(model: Any, params: Any, **_: Any) -> None:
        if model.name in ("GetItem", "Query", "Scan"):
            read.add((model.name, json.loads(params["body"]).get("ConsistentRead")))

    store._table._dynamodb.meta.events.register("before-call.dynamodb", listen)
    store.check()
    store.jobs()
    store.deliveries()

    assert read == {("GetItem", True), ("Query", True), ("Scan", True)}


def test_two_threads_that_read_the_same_item_can_each_change_theirs(store: DynamoStore) -> None:
    store.commit([look("job")])
    key = (f"JOB#{arn('job')}", "JOB")
    one, other = store._table._read_together([key, key])

    assert one == other
    assert one is not other
