"""What every store guarantees (`watcher.store.base`), tested on each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.samples import (
    FULL_SNAPSHOT,
    NOON,
    after,
    alert,
    arn,
    delivery,
    finding,
    look,
    snapshot,
)
from tests.contract.tables import TABLE, create_table
from watcher.errors import LeaseLost, StoreError
from watcher.model import Delivery, DeliveryKind, DeliveryState, Evaluation, Outcome, Reads, RuleSource
from watcher.store.base import JobRecord, Look, StopRecord, Store, WatchedJob
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

LEASE_S = 60.0


@pytest.fixture(params=["memory", "sqlite", "dynamodb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store: Store
    match request.param:
        case "memory":
            store = MemoryStore()
        case "sqlite":
            store = SqliteStore(tmp_path / "watcher.db")
        case _:
            store = DynamoStore(create_table(request.getfixturevalue("sandbox")), TABLE)
    yield store
    store.close()


def claim_one(store: Store, owner: str = "us", seconds: float = 0) -> Delivery:
    (claimed,) = store.claim(owner, after(seconds), LEASE_S, 10).deliveries
    return claimed


def delivered(delivery: Delivery) -> Delivery:
    return replace(delivery, state=DeliveryState.DELIVERED, delivered_at=after(1), receipt="ts 1")


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


# -- who handles a job ----------------------------------------------------------------------------


def test_a_job_is_held_by_one_owner_at_a_time(store: Store) -> None:
    assert store.hold([arn("job"), arn("other")], "us", NOON, LEASE_S) == {arn("job"), arn("other")}
    assert store.hold([arn("job"), arn("third")], "them", after(1), LEASE_S) == {arn("third")}
    assert store.hold([arn("job")], "us", after(1), LEASE_S) == {arn("job")}


def test_a_job_is_free_after_it_is_released_or_its_lease_has_expired(store: Store) -> None:
    store.hold([arn("job")], "us", NOON, LEASE_S)
    store.release([arn("job")], "them")
    assert store.hold([arn("job")], "them", after(LEASE_S - 1), LEASE_S) == set()
    assert store.hold([arn("job")], "them", after(LEASE_S), LEASE_S) == {arn("job")}

    store.release([arn("job")], "them")

    assert store.hold([arn("job")], "us", after(LEASE_S), LEASE_S) == {arn("job")}


def test_a_commit_releases_its_jobs(store: Store) -> None:
    store.hold([arn("job")], "us", NOON, LEASE_S)
    store.commit([look("job")], "us")

    assert store.hold([arn("job")], "them", after(1), LEASE_S) == {arn("job")}


def test_an_owner_that_lost_its_lease_commits_nothing(store: Store) -> None:
    issue = finding("job")
    store.hold([arn("job"), arn("ours")], "us", NOON, LEASE_S)
    store.hold([arn("job")], "them", after(LEASE_S), LEASE_S)

    with pytest.raises(LeaseLost):
        store.commit([look("ours"), look("job", [issue], [delivery(issue)])], "us")

    assert store.job(arn("job")) is None
    assert store.job(arn("ours")) is None
    assert store.commit([look("job", [issue])], "them") == (issue,)


def test_an_owner_that_lost_its_lease_commits_nothing_even_after_the_new_owner_finished(store: Store) -> None:
    store.hold([arn("job")], "us", NOON, LEASE_S)
    store.hold([arn("job")], "them", after(LEASE_S), LEASE_S)
    store.commit([look("job")], "them")

    with pytest.raises(LeaseLost):
        store.commit([look("job", fingerprint="older")], "us")


def test_one_of_many_simultaneous_owners_gets_a_job(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda n: store.hold([arn("job")], f"owner {n}", NOON, LEASE_S), range(24)))

    assert sorted(map(len, held)) == [0] * 23 + [1]


def test_each_turn_is_given_to_one_owner(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: store.take_turn("reconcile", 7), range(24))) == 1
    assert not store.take_turn("reconcile", 7)
    assert not store.take_turn("reconcile", 6)
    assert store.take_turn("reconcile", 8)
    assert store.take_turn("clean", 7)


# -- jobs -----------------------------------------------------------------------------------------


def test_a_snapshot_comes_back_exactly_as_it_was_given(store: Store) -> None:
    store.commit([look("any", snapshot=FULL_SNAPSHOT)])

    record = store.job(FULL_SNAPSHOT.arn)

    assert record == JobRecord(FULL_SNAPSHOT, first_seen_at=NOON, changed_at=NOON, watching=True)


def test_unknown_tags_and_empty_tags_stay_different(store: Store) -> None:
    store.commit([look("untold", snapshot=snapshot("untold", tags=None))])
    store.commit([look("none", snapshot=snapshot("none", tags={}))])

    assert [record.snapshot.tags for record in store.jobs()] == [{}, None]


def test_an_unknown_job_is_none(store: Store) -> None:
    assert store.job(arn("never")) is None
    assert store.jobs("never") == []


def test_a_later_look_replaces_the_snapshot_and_keeps_when_the_job_was_first_seen(store: Store) -> None:
    stopped = snapshot("job", status="Stopped", created_at=NOON)
    store.commit([look("job")])
    store.commit([look("job", snapshot=stopped, fingerprint="another", seen_at=after(30), watching=False)])

    assert store.jobs() == [JobRecord(stopped, first_seen_at=NOON, changed_at=after(30), watching=False)]


def test_a_look_that_finds_nothing_new_does_not_count_as_a_change(store: Store) -> None:
    store.commit([look("job")])
    store.commit([look("job", seen_at=after(30))])

    record = store.job(arn("job"))

    assert record is not None
    assert record.changed_at == NOON


def test_the_last_of_two_looks_in_one_commit_counts(store: Store) -> None:
    store.commit([look("job"), look("job", fingerprint="later", seen_at=after(1))])

    assert [job.fingerprint for job in store.watching()] == ["later"]


def test_jobs_are_listed_newest_first_and_can_be_selected_by_name(store: Store) -> None:
    ages = {"middle": 1, "oldest": 0, "newest": 2}
    store.commit([look(name, snapshot=snapshot(name, created_at=after(age))) for name, age in ages.items()])

    assert [record.snapshot.name for record in store.jobs()] == ["newest", "middle", "oldest"]
    assert [record.snapshot.name for record in store.jobs("middle")] == ["middle"]


def test_jobs_with_one_name_in_two_regions_are_two_jobs(store: Store) -> None:
    elsewhere = snapshot("job", arn=arn("job").replace("us-east-1", "eu-west-1"))
    store.commit([look("job"), look("job", snapshot=elsewhere)])

    assert {record.snapshot.region for record in store.jobs("job")} == {"us-east-1", "eu-west-1"}


def test_watching_returns_the_watched_jobs_only_with_what_a_pass_needs(store: Store) -> None:
    store.commit([look("a", describe_at=after(600)), look("b"), look("over", watching=False)])

    assert sorted(store.watching(), key=lambda job: job.name) == [
        WatchedJob(arn("a"), "a", "InProgress", "as first seen", after(600)),
        WatchedJob(arn("b"), "b", "InProgress", "as first seen", None),
    ]


def test_an_unwatched_job_is_kept_but_no_longer_watched(store: Store) -> None:
    store.commit([look("gone"), look("there")])

    store.unwatch(arn("gone"))
    store.unwatch(arn("never seen"))

    assert [job.name for job in store.watching()] == ["there"]
    assert [record.watching for record in store.jobs("gone")] == [False]


# -- evaluations ----------------------------------------------------------------------------------

EVALUATION = Evaluation(
    due_at=after(10),
    interval=5.0,
    cursor='{"after": 14}',
    states={"Loss": '{"saved": [[14, NaN]]}'},
    outcomes=(Outcome("Loss", RuleSource.LOCAL, "InProgress", step=14),),
)


def evaluated(job: str, evaluation: Evaluation | None) -> Look:
    return replace(look(job), evaluation=evaluation)


def test_an_evaluation_comes_back_exactly_as_it_was_given(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    record = store.job(arn("job"))
    assert record is not None
    assert record.evaluation == EVALUATION


def test_a_look_without_an_evaluation_leaves_it_as_it_was(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.commit([look("job", fingerprint="another")])
    assert [record.evaluation for record in store.jobs()] == [EVALUATION]
    assert store.next_evaluation() == after(10)


def test_due_evaluations_are_claimed_once_and_the_longest_waiting_first(store: Store) -> None:
    for job, seconds in (("second", 5), ("first", 2), ("later", 60), ("over", None)):
        due_at = None if seconds is None else after(seconds)
        store.commit([evaluated(job, replace(EVALUATION, due_at=due_at))])
    assert store.claim_evaluations(after(10), LEASE_S, 1, Reads.TENSORS) == [arn("first")]
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS) == [arn("second")]
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS) == []
    assert store.next_evaluation() == after(60)


def test_evaluations_of_tensors_and_of_metrics_are_claimed_separately(store: Store) -> None:
    for job, reads in (("saves", Reads.TENSORS), ("logs", Reads.METRICS), ("logs too", Reads.METRICS)):
        store.commit([evaluated(job, replace(EVALUATION, reads=reads))])
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.METRICS) == [arn("logs"), arn("logs too")]
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS) == [arn("saves")]


def test_an_evaluation_can_change_what_it_reads(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.commit([evaluated("job", replace(EVALUATION, reads=Reads.METRICS))])
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS) == []
    assert store.claim_evaluations(after(10), LEASE_S, 9, Reads.METRICS) == [arn("job")]


def test_an_unfinished_evaluation_is_due_again_after_its_lease(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS)
    assert store.claim_evaluations(after(10 + LEASE_S - 1), LEASE_S, 9, Reads.TENSORS) == []
    assert store.claim_evaluations(after(10 + LEASE_S), LEASE_S, 9, Reads.TENSORS) == [arn("job")]


def test_a_commit_says_when_an_evaluation_is_due_next(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.claim_evaluations(after(10), LEASE_S, 9, Reads.TENSORS)
    store.commit([evaluated("job", replace(EVALUATION, due_at=after(15)))])
    assert store.next_evaluation() == after(15)
    store.commit([evaluated("job", replace(EVALUATION, due_at=None))])
    assert store.next_evaluation() is None


# -- findings -------------------------------------------------------------------------------------


def test_a_finding_comes_back_exactly_as_it_was_given(store: Store) -> None:
    given = finding("job", step=120, reason="at step <120> 🚂", source=RuleSource.LOCAL)
    store.commit([look("job", [given])])

    assert store.finding(given.id) == given
    assert store.findings() == [given]
    assert store.finding("another") is None


def test_a_commit_returns_the_findings_that_were_not_known_before(store: Store) -> None:
    known, new = finding("job", "Overfit"), finding("job", "LossNotDecreasing")
    assert store.commit([look("job", [known])]) == (known,)

    assert store.commit([look("job", [known, new])]) == (new,)
    assert store.commit([look("job", [known, new])]) == ()


def test_a_finding_in_two_looks_of_one_commit_is_stored_once(store: Store) -> None:
    assert store.commit([look("job", [finding("job")])] * 2) == (finding("job"),)
    assert store.findings() == [finding("job")]


def test_a_known_finding_keeps_its_text_and_gets_no_further_deliveries(store: Store) -> None:
    first = finding("job")
    store.commit([look("job", [first], [delivery(first, "console")])])

    again = replace(first, reason="in other words")
    store.commit([look("job", [again], [delivery(again, "console"), delivery(again, "slack:#new")])])

    assert store.findings() == [first]
    assert [delivery.to for delivery in store.deliveries()] == ["console"]


def test_findings_are_listed_newest_first_and_can_be_limited_to_one_job(store: Store) -> None:
    early = finding("a", "early", opened_at=after(1))
    late = finding("a", "late", opened_at=after(1.000001))
    other = finding("b", "other", opened_at=after(0))
    same_time = finding("b", "same time", opened_at=after(0))
    store.commit([look("a", [late, early]), look("b", [other, same_time])])

    assert store.findings() == [late, early, same_time, other]
    assert store.findings(arn("a")) == [late, early]


# -- deliveries: claiming -------------------------------------------------------------------------


def test_a_delivery_comes_back_exactly_as_it_was_given(store: Store) -> None:
    issue = finding("job")
    given = delivery(
        issue,
        "webhook:https://example.com/?a=ü",
        kind=DeliveryKind.UPDATE,
        due_at=after(0.000001),
        uncertain=True,
        receipt='{"ts": "1.2"}',
        text="Stopped by Watcher.",
    )
    store.commit([look("job", [issue], [given])])

    assert store.deliveries() == [given]
    assert store.deliveries(issue.id) == [given]
    assert store.deliveries("another") == []


def test_a_claimed_delivery_is_in_flight_and_its_attempt_is_counted(store: Store) -> None:
    store.commit([alert("job", "console")])

    claimed = claim_one(store)

    assert (claimed.state, claimed.attempts, claimed.uncertain) == (DeliveryState.IN_FLIGHT, 1, False)
    assert store.deliveries() == [claimed]


def test_a_delivery_that_is_not_due_yet_is_not_claimed(store: Store) -> None:
    issue = finding("job")
    store.commit([look("job", [issue], [delivery(issue, due_at=after(10))])])

    assert store.claim("us", after(9.999999), LEASE_S, 10).deliveries == []
    assert len(store.claim("us", after(10), LEASE_S, 10).deliveries) == 1


def test_a_lane_gives_out_one_delivery_at_a_time_in_order(store: Store) -> None:
    looks = [alert(f"job-{n}", "slack:#ml") for n in range(3)]
    store.commit(looks)

    taken = []
    while claimed := store.claim("us", NOON, LEASE_S, 10).deliveries:
        assert len(claimed) == 1
        assert store.claim("another", NOON, LEASE_S, 10).deliveries == []
        assert store.settle("us", delivered(claimed[0]))
        taken += claimed

    assert ids(taken) == [look.deliveries[0].id for look in looks]


def test_a_delivery_that_waits_for_its_next_attempt_blocks_only_its_own_lane(store: Store) -> None:
    store.commit([alert("first", "slack:#ml"), alert("second", "slack:#ml", "console")])
    slack, console = store.claim("us", NOON, LEASE_S, 10).deliveries
    store.settle("us", replace(slack, state=DeliveryState.PENDING, due_at=after(30)))
    store.settle("us", delivered(console))

    assert store.claim("us", after(29), LEASE_S, 10).deliveries == []
    assert store.next_due() == after(30)
    assert claim_one(store, seconds=30).id == slack.id


def test_a_claim_respects_its_limit_and_takes_the_longest_waiting_first(store: Store) -> None:
    issue = finding("job")
    waits = {"slack:#late": 3, "slack:#early": 1, "slack:#middle": 2}
    store.commit([look("job", [issue], [delivery(issue, to, due_at=after(s)) for to, s in waits.items()])])

    claimed = [each for _ in range(2) for each in store.claim("us", after(5), LEASE_S, 2).deliveries]

    assert [delivery.to for delivery in claimed] == ["slack:#early", "slack:#middle", "slack:#late"]


def test_a_delivery_whose_lease_expired_is_claimed_again_as_uncertain(store: Store) -> None:
    store.commit([alert("job", "console")])
    first = claim_one(store, "who died")

    assert store.claim("us", after(LEASE_S - 0.000001), LEASE_S, 10).deliveries == []
    second = claim_one(store, "us", LEASE_S)

    assert (second.id, second.attempts, second.uncertain) == (first.id, 2, True)


def test_an_uncertain_delivery_stays_uncertain_until_it_is_settled_otherwise(store: Store) -> None:
    store.commit([alert("job", "console")])
    timed_out = claim_one(store)
    store.settle("us", replace(timed_out, state=DeliveryState.PENDING, uncertain=True))

    again = claim_one(store)
    assert again.uncertain

    store.settle("us", replace(again, state=DeliveryState.PENDING, uncertain=False))
    assert not claim_one(store).uncertain


def test_threads_that_claim_at_once_never_get_the_same_delivery(store: Store) -> None:
    store.commit([alert(f"job-{n}", f"slack:#{n % 7}") for n in range(35)])
    start = threading.Barrier(4)

    def work(owner: str) -> list[str]:
        start.wait()
        taken = []
        while store.next_due() == NOON:
            for claimed in store.claim(owner, NOON, LEASE_S, 2).deliveries:
                taken.append(claimed.id)
                assert store.settle(owner, delivered(claimed))
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [id_ for ids in pool.map(work, "abcd") for id_ in ids]

    assert sorted(taken) == sorted(ids(store.deliveries()))


# -- deliveries: settling -------------------------------------------------------------------------


def test_settling_records_how_the_attempt_ended_and_changes_nothing_else(store: Store) -> None:
    store.commit([alert("job", "console")])
    claimed = claim_one(store)

    outcome = replace(
        claimed,
        state=DeliveryState.DEAD,
        due_at=after(5),
        uncertain=True,
        receipt="receipt",
        error="channel_not_found",
        delivered_at=after(6),
    )
    assert store.settle("us", replace(outcome, to="elsewhere", lane="elsewhere", text="other words"))

    assert store.deliveries() == [outcome]
    assert store.next_due() is None


def test_follow_up_deliveries_are_written_with_the_outcome_at_the_end_of_their_lane(store: Store) -> None:
    store.commit([alert("a", "console"), alert("b", "console")])
    claimed = claim_one(store)
    update = delivery(finding("a"), "console", id="update", kind=DeliveryKind.UPDATE, text="Stopped.")

    assert store.settle("us", delivered(claimed), then=[update])

    assert store.deliveries()[0] == delivered(claimed)
    assert store.deliveries()[2] == update
    assert claim_one(store).finding_id == finding("b").id


def test_the_same_follow_up_delivery_is_stored_once(store: Store) -> None:
    store.commit([alert("job", "console", "slack:#ml")])
    update = delivery(finding("job"), "console", id="update")
    for claimed in store.claim("us", NOON, LEASE_S, 10).deliveries:
        assert store.settle("us", delivered(claimed), then=[replace(update, text=claimed.to)])

    assert [delivery.text for delivery in store.deliveries() if delivery.id == "update"] == ["console"]


def test_an_owner_whose_lease_was_taken_over_can_neither_settle_nor_add(store: Store) -> None:
    store.commit([alert("job", "console")])
    stale = claim_one(store, "slow")
    fresh = claim_one(store, "us", LEASE_S)

    assert not store.settle("slow", delivered(stale), then=[delivery(finding("job"), id="update")])
    assert store.deliveries() == [fresh]
    assert store.settle("us", delivered(fresh))


def test_an_owner_that_claims_again_cannot_settle_its_earlier_attempt(store: Store) -> None:
    store.commit([alert("job", "console")])
    stale = claim_one(store, "us")
    fresh = claim_one(store, "us", LEASE_S)

    assert not store.settle("us", delivered(stale))
    assert store.settle("us", delivered(fresh))


def test_a_late_owner_can_settle_unless_another_took_over(store: Store) -> None:
    store.commit([alert("job", "console")])
    claimed = claim_one(store)

    assert store.settle("us", replace(delivered(claimed), delivered_at=after(10 * LEASE_S)))


def test_a_delivery_that_is_settled_unclaimed_or_unknown_cannot_be_settled(store: Store) -> None:
    store.commit([alert("job", "console")])
    (pending,) = store.deliveries()
    assert not store.settle("us", delivered(pending))
    claimed = claim_one(store)
    assert not store.settle("another", delivered(claimed))
    assert store.settle("us", delivered(claimed))

    assert not store.settle("us", replace(claimed, state=DeliveryState.DEAD))
    assert not store.settle("us", replace(claimed, id="unheard of"))
    assert store.deliveries() == [delivered(claimed)]


def test_a_follow_up_delivery_of_an_unknown_finding_is_refused_with_the_outcome(store: Store) -> None:
    store.commit([alert("job", "console")])
    claimed = claim_one(store)

    with pytest.raises(StoreError):
        store.settle("us", delivered(claimed), then=[delivery(finding("never committed"))])

    assert store.deliveries() == [claimed]
    assert store.settle("us", delivered(claimed))


# -- deliveries: next due ------------------------------------------------------------------------


def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert store.next_due() is None
    assert store.claim("us", NOON, LEASE_S, 10).deliveries == []


def test_next_due_is_the_earliest_lane_head_or_lease_end(store: Store) -> None:
    issue = finding("job")
    behind = delivery(issue, "slack:#ml", id="behind", due_at=after(1))
    ahead = delivery(issue, "slack:#ml", id="ahead", due_at=after(50))
    store.commit([look("job", [issue], [ahead, behind, delivery(issue, "console", due_at=after(20))])])

    assert store.next_due() == after(20)
    claim_one(store, seconds=20)
    assert store.next_due() == after(50)
    claim_one(store, seconds=50)
    assert store.next_due() == after(20 + LEASE_S)


# -- deliveries: cancelling -----------------------------------------------------------------------


def test_a_pending_delivery_can_be_cancelled_which_frees_its_lane(store: Store) -> None:
    issue = finding("job")
    later = delivery(issue, "stop", id="later", lane="one", due_at=after(300))
    now = delivery(issue, "console", id="now", lane="one")
    store.commit([look("job", [issue], [later, now])])

    assert store.cancel("later")

    assert [delivery.state for delivery in store.deliveries()] == [
        DeliveryState.CANCELLED,
        DeliveryState.PENDING,
    ]
    assert claim_one(store).id == "now"


def test_the_follow_up_of_a_cancellation_is_written_with_it(store: Store) -> None:
    issue = finding("job")
    stop = delivery(issue, "stop", id="stop", kind=DeliveryKind.STOP, due_at=after(300))
    store.commit([look("job", [issue], [stop])])
    update = delivery(issue, "console", kind=DeliveryKind.UPDATE)

    with pytest.raises(StoreError):
        store.cancel("stop", [update, delivery(finding("unheard-of"), "console")])
    assert store.deliveries() == [stop]

    assert store.cancel("stop", [update])
    assert store.deliveries() == [replace(stop, state=DeliveryState.CANCELLED), update]


def test_a_delivery_that_is_in_flight_finished_or_unknown_cannot_be_cancelled(store: Store) -> None:
    store.commit([alert("job", "console")])
    claimed = claim_one(store)
    updates = [delivery(finding("job"), "console", kind=DeliveryKind.UPDATE)]

    assert not store.cancel(claimed.id, updates)
    assert store.settle("us", delivered(claimed))
    assert not store.cancel(claimed.id, updates)
    assert not store.cancel("unheard of", updates)
    assert store.deliveries() == [delivered(claimed)]


# -- stops ----------------------------------------------------------------------------------------


def test_a_permitted_stop_is_recorded_with_who_asked_and_when(store: Store) -> None:
    assert store.stop_of(arn("job")) is None

    assert store.permit_stop(arn("job"), "route job prod-*", NOON, 10)

    assert store.stop_of(arn("job")) == StopRecord(arn("job"), "route job prod-*", NOON)


def test_beyond_the_hourly_limit_no_stop_is_permitted_or_recorded(store: Store) -> None:
    assert store.permit_stop(arn("a"), "us", after(0), 2)
    assert store.permit_stop(arn("b"), "us", after(1), 2)

    assert not store.permit_stop(arn("c"), "us", after(3599.999999), 2)
    assert store.stop_of(arn("c")) is None
    assert store.permit_stop(arn("c"), "us", after(3600), 2)
    assert not store.permit_stop(arn("d"), "us", after(3600), 2)


def test_a_recorded_stop_is_permitted_again_and_recorded_once(store: Store) -> None:
    assert store.permit_stop(arn("job"), "first", NOON, 1)

    assert store.permit_stop(arn("job"), "second", after(1), 1)
    assert store.permit_stop(arn("job"), "third", after(2), 0)
    assert store.stop_of(arn("job")) == StopRecord(arn("job"), "first", NOON)


def test_a_limit_of_zero_per_hour_permits_no_stop(store: Store) -> None:
    assert not store.permit_stop(arn("job"), "us", NOON, 0)


def test_threads_that_ask_at_once_stay_within_the_limit_of_stops(store: Store) -> None:
    start = threading.Barrier(8)

    def ask(n: int) -> bool:
        start.wait()
        return store.permit_stop(arn(f"job-{n}"), "us", NOON, 3)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 3


# -------------------------------------------------------------------------------------------------


def test_a_check_describes_the_store_in_a_few_words(store: Store) -> None:
    store.commit([look("a"), look("b")])

    assert "jobs: 2" in store.check()
    assert len(store.check().splitlines()) == 1
