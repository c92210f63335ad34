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
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.samples import (
    NOON,
    after,
    alert,
    arn,
    case,
    change,
    delivery,
    due,
    finding,
    grows,
    incident,
    look,
    opens,
    rewrites,
    run,
    snapshot,
    unchanged,
)
from tests.contract.tables import TABLE, create_table
from tests.doubles.clock import Clock
from watcher.errors import ConfigError, LeaseLost, StoreError
from watcher.evaluation.rule_states import MAX_CHARS
from watcher.model import (
    Case,
    Delivery,
    DeliveryState,
    Evaluation,
    HookConfiguration,
    IncidentState,
    JobSnapshot,
    Judge,
    Outcome,
    Reads,
    RuleConfiguration,
    RuleFamily,
    incident_id,
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
        assert not store.has_open()
        assert store.refused() == []
        assert store.next_evaluation() is None
        assert store.claim_evaluations(NOON, 300, 1, together=False) == []
        assert store.job(run("going-on"))
        assert len(store.jobs("going-on")) == 1
        assert store.case(incident_id(run("going-on"))) is None
        assert store.unwatch(arn("never seen"), unchanged) == {}
        return sandbox.control.calls()

    store.commit([look("going-on")])
    few = ask()
    for start in range(0, 40, 10):
        ended = [alert(f"job-{start + n}", "console", watching=False) for n in range(10)]
        store.commit(ended)
        for _ in ended:
            for taken in store.claim("us", NOON, 60, 1).deliveries:
                store.settle("us", delivered(taken))
    assert ask() == few
    assert "dynamodb:Scan" not in few


def test_the_fingerprints_of_a_page_are_read_with_one_request(sandbox: Sandbox) -> None:
    store = DynamoStore(create_table(sandbox), TABLE)
    jobs = [f"job-{number:03d}" for number in range(100)]
    for start in range(0, 100, 30):
        store.commit([look(job) for job in jobs[start : start + 30]])
    sandbox.control.forget_calls()

    found = store.fingerprints([run(job) for job in jobs])

    assert found == {run(job): "as first seen" for job in jobs}
    assert sandbox.control.calls() == {"dynamodb:BatchGetItem": 1}


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


def delivered(delivery: Delivery) -> Delivery:
    return replace(delivery, state=DeliveryState.DELIVERED, told=delivery.trying)


def text(chance: random.Random, length: int) -> str:
    """Text that hardly compresses."""
    return base64.b85encode(chance.randbytes(length)).decode()[:length]


def largest_snapshot(chance: random.Random) -> JobSnapshot:
    """A snapshot at SageMaker's documented limits: 20 rules of each kind with 100 parameters, 100
    hyperparameters, 50 tags."""

    def pairs(count: int, key: int, value: int) -> dict[str, str]:
        return {text(chance, key): text(chance, value) for _ in range(count)}

    kinds = [family for family in RuleFamily for _ in range(20)]
    names = [text(chance, 256) for _ in kinds]
    return snapshot(
        "j" * 63,
        rules=tuple(RuleConfiguration(n, f, pairs(100, 256, 256)) for n, f in zip(names, kinds, strict=True)),
        outcomes=tuple(
            Outcome(n, f, Judge.DEBUGGER, "IssuesFound", text(chance, 1024), text(chance, 256))
            for n, f in zip(names, kinds, strict=True)
        ),
        hook=HookConfiguration("s3://" + text(chance, 1024), pairs(20, 256, 256), ()),
        hyperparameters=pairs(100, 256, 2500),
        tags=pairs(50, 128, 256),
        failure_reason=text(chance, 1024),
    )


def largest_evaluation(chance: random.Random) -> Evaluation:
    states = {rule: text(chance, MAX_CHARS // 20) for rule in map(str, range(20))}
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

    profile = replace(largest_evaluation(chance), reads=Reads.INSTANCE_METRICS)

    store.commit([look("any", snapshot=job, evaluations=(evaluation,))])
    store.commit([look("any", snapshot=job, evaluations=(profile,))])

    record = store.job(job.run)
    assert record is not None
    assert (record.snapshot, record.evaluations) == (job, (evaluation, profile))
    assert store.jobs() == [record]
    assert store.claim_evaluations(NOON, 60, 1, together=False) == [due(job.run)]
    sizes = items(sandbox)
    assert sum(sizes.values()) > 2_000_000
    assert max(sizes.values()) < 400_000


def test_overflow_items_are_removed_when_a_record_shrinks(store: DynamoStore, sandbox: Sandbox) -> None:
    chance = random.Random(7)
    job, small = largest_snapshot(chance), Evaluation(due_at=NOON, states={"rule": "{}"})
    store.commit([look("any", snapshot=snapshot(job.name), evaluations=(small,))])
    few = items(sandbox).keys()

    store.commit([look("any", snapshot=job, evaluations=(largest_evaluation(chance),))])
    store.commit([look("any", snapshot=job)])  # the evaluation is unchanged
    store.unwatch(job.arn, unchanged)
    assert len(items(sandbox)) > len(few) + 5
    store.commit([look("any", snapshot=snapshot(job.name), evaluations=(small,))])

    assert items(sandbox).keys() == few
    record = store.job(job.run)
    assert record is not None
    assert record.evaluations == (small,)


def test_an_incident_with_more_findings_than_fit_into_an_item_is_kept(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    chance = random.Random(7)
    many = case(
        "job",
        delivery("job"),
        findings=tuple(finding("job", str(number), reason=text(chance, 3000)) for number in range(200)),
        changes=tuple(change("job", number, text=text(chance, 1000)) for number in range(1, 201)),
    )
    store.commit([look("job", opens(many))])

    assert store.case(many.incident.id) == many
    assert len(store.findings()) == len(store.findings(run("job"))) == 200
    assert max(items(sandbox).values()) < 400_000
    (taken,) = store.claim("us", NOON, 60, 1).deliveries
    assert store.settle("us", delivered(taken), grows)
    assert len(store.findings()) == 200


# -- what a new finding costs ---------------------------------------------------------------------


def test_a_new_incident_of_a_job_that_was_read_is_one_transaction(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    store.commit([look("job")])
    store.hold([arn("job")], "us", 60)
    store.job(run("job"))
    sandbox.control.forget_calls()

    assert store.commit([alert("job", "console")], "us")

    assert sandbox.control.calls() == {"dynamodb:TransactWriteItems": 1}


def test_recently_read_or_written_items_are_not_read_again(store: DynamoStore, sandbox: Sandbox) -> None:
    store.commit([look("job")])
    for amend in (None, grows):
        sandbox.control.forget_calls()

        taken = claim_one_alert(store)
        assert store.settle("us", delivered(taken), amend)

        assert sandbox.control.calls() == {
            "dynamodb:PutItem": 1,
            "dynamodb:GetItem": 1,
            "dynamodb:Query": 1,
            "dynamodb:TransactWriteItems": 3,
        }


def test_settling_without_an_amendment_writes_only_the_delivery(store: DynamoStore) -> None:
    taken = claim_one_alert(store)
    written: list[str] = []

    def listen(params: Any, **_: Any) -> None:
        for write in json.loads(params["body"])["TransactItems"]:
            ((_, members),) = write.items()
            written.append((members.get("Key") or members["Item"])["pk"]["S"])

    store._table._dynamodb.meta.events.register("before-call.dynamodb.TransactWriteItems", listen)
    store.settle("us", delivered(taken))

    assert sorted(written) == [f"INCIDENT#{taken.incident}", "OUTBOX"]


def test_runs_with_and_without_an_incident_are_committed_together(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    store.commit([alert("old", "console"), look("new"), look("quiet")])
    sandbox.control.forget_calls()

    changed = store.commit([look("old", grows), alert("new", "console"), look("quiet")])

    assert [each.incident.job for each in changed] == ["old", "new"]
    assert sandbox.control.calls() == {"dynamodb:BatchGetItem": 1, "dynamodb:TransactWriteItems": 1}


def test_a_lease_that_another_process_has_is_seen_without_reading_it(
    store: DynamoStore, theirs: DynamoStore, sandbox: Sandbox
) -> None:
    both = [arn("job"), arn("other")]
    assert theirs.hold(both, "them", 60) == set(both)
    sandbox.control.forget_calls()

    assert not store.hold([arn("job")], "us", 60)
    assert sandbox.control.calls() == {"dynamodb:PutItem": 1}

    sandbox.control.forget_calls()
    assert store.hold([*both, arn("free")], "us", 60) == {arn("free")}
    assert "dynamodb:BatchGetItem" not in sandbox.control.calls()


# -- whether a run has an earlier one --------------------------------------------------------------


@pytest.fixture
def second(store: DynamoStore) -> JobSnapshot:
    """The second run of a job; both are stored."""
    second = snapshot("job", created_at=after(60))
    store.commit([look("job")])
    store.commit([look("job", snapshot=second)])
    return second


def test_whether_a_run_has_an_earlier_one_is_known_once_it_was_read_or_committed(
    store: DynamoStore, theirs: DynamoStore, second: JobSnapshot, sandbox: Sandbox
) -> None:
    assert theirs.job(second.run)
    assert theirs.job(run("job"))
    sandbox.control.forget_calls()

    for each in (store, theirs):
        assert each.has_earlier_run(second.run)
        assert not each.has_earlier_run(run("job"))

    assert sandbox.control.calls() == {}


def test_whether_a_run_has_an_earlier_one_is_asked_at_its_first_look_alone(
    store: DynamoStore, second: JobSnapshot, sandbox: Sandbox
) -> None:
    sandbox.control.forget_calls()

    store.commit([look("job", snapshot=second)])

    assert sandbox.control.calls() == {"dynamodb:BatchGetItem": 1, "dynamodb:TransactWriteItems": 1}


def test_of_an_item_that_does_not_say_it_is_asked_once_more(
    store: DynamoStore, theirs: DynamoStore, second: JobSnapshot, sandbox: Sandbox
) -> None:
    dynamodb = sandbox.client("dynamodb")
    for each in (run("job"), second.run):
        dynamodb.update_item(  # as a version wrote it that did not ask
            TableName=TABLE,
            Key={"pk": {"S": f"RUN#{each}"}, "sk": {"S": "RUN"}},
            UpdateExpression="REMOVE has_earlier",
        )
    assert theirs.job(second.run)
    assert theirs.has_earlier_run(second.run)
    assert not theirs.has_earlier_run(run("job"))

    theirs.commit([look("job")])
    theirs.commit([look("job", snapshot=second)])
    sandbox.control.forget_calls()

    assert theirs.has_earlier_run(second.run)
    assert not theirs.has_earlier_run(run("job"))
    assert sandbox.control.calls() == {}


# -- the cache of what this process has read or written -------------------------------------------


def claim_one_alert(store: Store, job: str = "job", owner: str = "us") -> Delivery:
    """Handle a job, change its incident, and claim its alert."""
    assert store.hold([arn(job)], owner, 60)
    store.job(run(job))
    new = case(job, delivery(job))
    assert store.commit([look(job, lambda known: grows(known) if known else new)], owner)
    (taken,) = store.claim(owner, NOON, 60, 10).deliveries
    return taken


@pytest.fixture
def theirs(store: DynamoStore, sandbox: Sandbox) -> DynamoStore:
    """Another process."""
    return DynamoStore(sandbox.client("dynamodb"), TABLE)


def test_a_job_that_was_taken_over_since_it_was_read_is_not_committed(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    clock = Clock()
    theirs = DynamoStore(sandbox.client("dynamodb"), TABLE, monotonic=clock.monotonic)
    store.commit([look("job")])
    store.hold([arn("job")], "us", 60)
    store.job(run("job"))
    assert not theirs.hold([arn("job")], "them", 60)
    clock.turn(60)
    assert theirs.hold([arn("job")], "them", 60)

    with pytest.raises(LeaseLost):
        store.commit([alert("job", "console")], "us")

    assert store.findings() == []
    theirs.job(run("job"))
    assert theirs.commit([alert("job", "console")], "them")


def test_a_job_that_was_changed_since_it_was_read_is_read_again(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    store.commit([look("job", evaluations=(Evaluation(due_at=NOON, reads=Reads.TENSORS),))])
    store.hold([arn("job")], "us", 60)
    store.job(run("job"))
    assert theirs.claim_evaluations(NOON, 300, 1, together=False) == [due(run("job"))]

    assert store.commit([alert("job", "console")], "us")

    assert store.next_evaluation() == after(300), "the other's write is kept"


def test_an_evaluation_that_another_process_has_claimed_is_not_claimed_with_its_runs_other_one(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    both = (Evaluation(NOON), Evaluation(NOON, Reads.PROFILER_OUTPUT))
    store.commit([look("job", evaluations=both)])
    first = store.claim_evaluations(NOON, 300, 1, together=False)
    assert first == [due(run("job"))]
    assert theirs.claim_evaluations(NOON, 300, 9, together=False) == [due(run("job"), RuleFamily.PROFILER)]
    assert store.claim_evaluations(NOON, 300, 9, together=False) == []


def test_a_late_response_to_another_thread_does_not_affect_the_holder_of_the_job(
    store: DynamoStore,
) -> None:
    """A thread that only reads gets the job as it was before the last commit, but only after the holder has
    read it again."""
    store.commit([look("job")])
    store.hold([arn("job")], "us", 60)
    events = store._table._dynamodb.meta.events
    evaluation = Evaluation(due_at=NOON, reads=Reads.TENSORS)

    def overtake(**_: Any) -> None:
        events.unregister("after-call.dynamodb.GetItem", overtake)
        store.commit([look("job", evaluations=(evaluation,))], "us")
        store.hold([arn("job")], "us", 60)
        store.job(run("job"))

    events.register("after-call.dynamodb.GetItem", overtake)
    late = store.job(run("job"))
    store.commit([look("job", fingerprint="changed")], "us")

    assert late is not None
    assert late.evaluations == ()
    record = store.job(run("job"))
    assert record is not None
    assert record.evaluations == (evaluation,), "the commit in between is kept"


def test_an_incident_that_another_process_opened_meanwhile_is_amended(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    store.commit([look("job")])
    store.hold([arn("job")], "us", 60)
    store.job(run("job"))
    theirs.commit([alert("job", "console")])
    shown: list[Case | None] = []

    def amend(known: Case | None) -> Case | None:
        shown.append(known)
        return grows(known) if known else case("job", delivery("job"))

    (now,) = store.commit([look("job", amend)], "us")

    assert [known and known.incident.revision for known in shown] == [None, 1]
    assert now.incident.revision == 2
    assert theirs.hold([arn("job")], "them", 60), "it was released"


def test_an_incident_that_was_opened_without_a_look_is_known_to_the_next_look(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    store.commit([look("job")])
    store.hold([arn("job")], "us", 60)
    store.job(run("job"))
    theirs.amend(incident_id(run("job")), opens(case("job")))

    assert store.commit([look("job", lambda known: grows(known) if known else None)], "us")


@pytest.mark.parametrize("declines", [True, False])
def test_an_amendment_is_shown_what_another_process_has_written(
    store: DynamoStore, theirs: DynamoStore, declines: bool
) -> None:
    """This process has the incident in its cache."""
    store.commit([alert("job", "console")])
    theirs.amend(incident_id(run("job")), grows)

    def amend(known: Case | None) -> Case | None:
        assert known is not None
        return None if declines and known.incident.revision == 1 else grows(known)

    now = store.amend(incident_id(run("job")), amend)

    assert now is not None
    assert now.incident.revision == 3


def test_of_two_alerts_that_are_settled_at_once_one_amendment_sees_both(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    store.commit([alert("job", "console", "slack:#a")])
    console, slack = store.claim("us", NOON, 60, 10).deliveries
    seen: list[list[DeliveryState]] = []

    def amend(known: Case | None) -> Case | None:
        assert known is not None
        seen.append([each.state for each in known.deliveries])
        return None

    def settle_other(known: Case | None) -> Case | None:
        if not seen:
            assert theirs.settle("us", delivered(slack), amend)
        return amend(known)

    assert store.settle("us", delivered(console), settle_other)

    assert [DeliveryState.DELIVERED] * 2 in seen


def test_a_delivery_that_another_owner_claimed_meanwhile_is_read_again(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    clock = Clock()
    ours = DynamoStore(sandbox.client("dynamodb"), TABLE, monotonic=clock.monotonic)
    ours.commit([alert("job", "console")])
    (first,) = store.claim("them", NOON, 60, 10).deliveries
    assert ours.claim("us", NOON, 60, 10).deliveries == []
    clock.turn(60)

    (second,) = ours.claim("us", after(60), 60, 10).deliveries

    assert (first.attempts, first.uncertain) == (1, False)
    assert (second.attempts, second.uncertain) == (2, True)
    assert not store.settle("them", delivered(first))
    assert ours.settle("us", delivered(second))


def test_a_claim_takes_the_lanes_that_no_other_owner_took_first(
    store: DynamoStore, theirs: DynamoStore
) -> None:
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


def test_a_delivery_that_moved_since_the_open_ones_were_read_is_not_claimed_at_its_old_place(
    store: DynamoStore, theirs: DynamoStore
) -> None:
    store.commit([alert("job", "console")])

    def move(**_: Any) -> None:
        events.unregister("after-call.dynamodb.Query", move)
        (row,) = store.deliveries()
        theirs.amend(row.incident, rewrites(replace(row, lane="another", due_at=after(600))))

    events = store._table._dynamodb.meta.events
    events.register("after-call.dynamodb.Query", move)

    assert store.claim("us", NOON, 60, 10).deliveries == []
    assert store.next_due() == after(600)


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
    DynamoStore(sandbox.client("dynamodb"), TABLE).hold([arn("job-3")], "them", 60)
    sandbox.control.forget_calls()
    with ThreadPoolExecutor(6) as pool:
        committed = [pool.submit(store.commit, [alert(job, "console")]) for job in jobs]
        held = pool.submit(store.hold, [arn("job-3")], "us", 60)
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
    other = delivery("job", "slack:#a")
    assert behind.settle("us", delivered(first), rewrites(other))

    assert [each.id for each in store.deliveries()] == [first.id, other.id]


def test_a_delivery_in_flight_holds_back_one_that_was_added_in_front_of_it(
    store: DynamoStore, theirs: DynamoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose clock is behind adds one, and does not know of the other."""
    store.commit([alert("first", "console")])
    assert len(store.claim("us", NOON, 60, 10).deliveries) == 1
    earlier = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr("watcher.store.dynamodb.positions.time.time_ns", lambda: earlier)
    theirs.commit([alert("second", "console")])

    assert theirs.claim("us", NOON, 60, 10).deliveries == []


# -- how long items are kept ----------------------------------------------------------------------


def expiries(sandbox: Sandbox) -> dict[str, datetime | None]:
    """When the items of an incident expire, and the entries of the outbox; by what they are."""
    found = {}
    for item in sandbox.client("dynamodb").scan(TableName=TABLE, ConsistentRead=True)["Items"]:
        if item["pk"]["S"].startswith(("INCIDENT#", "OUTBOX")):
            expiry = item.get("expires_at")
            kind = "OUTBOX" if item["pk"]["S"] == "OUTBOX" else item["sk"]["S"].partition("#")[0]
            found[kind] = datetime.fromtimestamp(int(expiry["N"]), UTC) if expiry else None
    return found


def resolves(known: Case | None) -> Case | None:
    assert known is not None
    over = replace(known.incident, state=IncidentState.RESOLVED, resolved_at=after(60))
    return replace(known, incident=over)


def test_an_open_incident_and_what_is_to_be_sent_never_expire(store: DynamoStore, sandbox: Sandbox) -> None:
    store.commit([alert("job", "console")])
    assert expiries(sandbox) | {"CHANGES": None} == dict.fromkeys(("INCIDENT", "ROW", "OUTBOX", "CHANGES"))
    store.amend(incident_id(run("job")), resolves)
    assert expiries(sandbox)["ROW"] is None
    assert expiries(sandbox)["OUTBOX"] is None


def test_a_resolved_incident_expires_half_a_year_later_unless_it_opens_again(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    taken = claim_one_alert(store)
    store.amend(taken.incident, resolves)
    store.settle("us", delivered(taken))
    half_a_year_later = (after(60) + timedelta(days=180)).replace(microsecond=0)
    kept = expiries(sandbox)
    assert kept["INCIDENT"] == kept["ROW"] == half_a_year_later
    assert kept["CHANGES"] == (NOON + timedelta(days=360)).replace(microsecond=0)

    store.amend(taken.incident, lambda known: replace(known, incident=incident("job")) if known else None)

    assert expiries(sandbox)["INCIDENT"] is None
    assert expiries(sandbox)["ROW"] is None


def test_an_incident_with_more_deliveries_than_fit_into_a_transaction_expires_whole(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    store.commit([alert("job", "console")])
    for start in range(0, 120, 40):
        numbers = range(start, start + 40)
        rows = [delivery("job", str(number), state=DeliveryState.DELIVERED) for number in numbers]
        store.amend(incident("job").id, rewrites(*rows))

    def expiring() -> list[bool]:
        kept = sandbox.client("dynamodb").scan(TableName=TABLE, ConsistentRead=True)["Items"]
        return ["expires_at" in item for item in kept if item["sk"]["S"].startswith("ROW#")]

    assert store.amend(incident("job").id, resolves)
    assert expiring().count(True) == 120
    (taken,) = store.claim("us", NOON, 60, 1).deliveries
    assert store.settle(
        "us", delivered(taken), lambda known: known and replace(known, incident=incident("job"))
    )
    assert expiring().count(False) == 121
    known = store.case(incident("job").id)
    assert known is not None
    assert len(known.deliveries) == 121


def test_an_incident_whose_deliveries_have_expired_first_can_still_be_read(
    store: DynamoStore, sandbox: Sandbox
) -> None:
    taken = claim_one_alert(store)
    store.settle("us", delivered(taken), resolves)
    key = {"pk": {"S": f"INCIDENT#{taken.incident}"}, "sk": {"S": f"ROW#{taken.id}"}}
    sandbox.client("dynamodb").delete_item(TableName=TABLE, Key=key)

    known = store.case(taken.incident)

    assert known is not None
    assert known.deliveries == ()


# -------------------------------------------------------------------------------------------------


def test_every_read_including_that_of_the_check_is_consistent(store: DynamoStore) -> None:
    read = set()

    def listen(model: Any, params: Any, **_: Any) -> None:
        if model.name in ("GetItem", "Query", "Scan"):
            read.add((model.name, json.loads(params["body"]).get("ConsistentRead")))

    store._table._dynamodb.meta.events.register("before-call.dynamodb", listen)
    store.check()
    store.jobs()
    store.deliveries()
    list(store.history())

    assert read == {("GetItem", True), ("Query", True), ("Scan", True)}


def test_two_threads_that_read_the_same_item_get_separate_copies(store: DynamoStore) -> None:
    store.commit([look("job")])
    key = (f"RUN#{run('job')}", "RUN")
    one, other = store._table._read_together([key, key])

    assert one == other
    assert one is not other
