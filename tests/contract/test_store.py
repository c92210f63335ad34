"""What every store guarantees about runs, evaluations, turns and stops (`watcher.store.base`)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.contract.samples import (
    FULL_SNAPSHOT,
    NOON,
    after,
    alert,
    arn,
    case,
    delivery,
    due,
    grows,
    look,
    run,
    snapshot,
    unchanged,
)
from tests.doubles.clock import Clock
from watcher.errors import LeaseLost, StoreError
from watcher.model import Case, Evaluation, JobSnapshot, Judge, Outcome, Reads, RuleFamily, incident_id
from watcher.store.base import JobRecord, KnownRun, Look, StopRecord, Store, WatchedJob

LEASE_S = 60.0


# -- who handles a job ----------------------------------------------------------------------------


def test_a_job_is_held_by_one_owner_at_a_time(store: Store) -> None:
    assert store.hold([arn("job"), arn("other")], "us", LEASE_S) == {arn("job"), arn("other")}
    assert store.hold([arn("job"), arn("third")], "them", LEASE_S) == {arn("third")}
    assert store.hold([arn("job")], "us", LEASE_S) == {arn("job")}


def test_a_job_is_free_after_it_is_released_or_its_lease_has_ended(store: Store, clock: Clock) -> None:
    store.hold([arn("job")], "us", LEASE_S)
    store.release([arn("job")], "them")
    clock.turn(LEASE_S - 1)
    assert store.hold([arn("job")], "them", LEASE_S) == set()
    clock.turn(1)
    assert store.hold([arn("job")], "them", LEASE_S) == {arn("job")}

    store.release([arn("job")], "them")

    assert store.hold([arn("job")], "us", LEASE_S) == {arn("job")}


def test_holding_again_extends_the_lease(store: Store, clock: Clock) -> None:
    store.hold([arn("job")], "us", LEASE_S)
    clock.turn(LEASE_S - 1)
    store.hold([arn("job")], "us", LEASE_S)
    clock.turn(LEASE_S - 1)
    assert store.hold([arn("job")], "them", LEASE_S) == set()


def test_a_commit_releases_its_jobs(store: Store) -> None:
    store.hold([arn("job")], "us", LEASE_S)
    store.commit([look("job")], "us")

    assert store.hold([arn("job")], "them", LEASE_S) == {arn("job")}


def test_an_owner_that_lost_its_lease_commits_nothing(store: Store, clock: Clock) -> None:
    store.hold([arn("job"), arn("ours")], "us", LEASE_S)
    clock.turn(LEASE_S)
    store.hold([arn("job")], "them", LEASE_S)

    with pytest.raises(LeaseLost):
        store.commit([look("ours"), alert("job", "console")], "us")

    assert store.job(run("job")) is None
    assert store.job(run("ours")) is None
    assert store.incidents() == []
    assert len(store.commit([alert("job", "console")], "them")) == 1


def test_an_owner_that_lost_its_lease_commits_nothing_even_after_the_new_owner_finished(
    store: Store, clock: Clock
) -> None:
    store.hold([arn("job")], "us", LEASE_S)
    clock.turn(LEASE_S)
    store.hold([arn("job")], "them", LEASE_S)
    store.commit([look("job")], "them")

    with pytest.raises(LeaseLost):
        store.commit([look("job", fingerprint="older")], "us")


def test_one_of_many_simultaneous_owners_gets_a_job(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda n: store.hold([arn("job")], f"owner {n}", LEASE_S), range(24)))

    assert sorted(map(len, held)) == [0] * 23 + [1]


# -- turns and marks ------------------------------------------------------------------------------


def test_each_turn_is_given_to_one_owner(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: store.take_turn("reconcile", 7), range(24))) == 1
    assert not store.take_turn("reconcile", 7)
    assert not store.take_turn("reconcile", 6)
    assert store.take_turn("reconcile", 8)
    assert store.take_turn("clean", 7)


def test_a_mark_is_kept_for_each_place_and_never_goes_back(store: Store) -> None:
    assert store.mark("123456789012 us-east-1") is None
    store.set_mark("123456789012 us-east-1", after(5.000001))
    store.set_mark("123456789012 eu-west-1", after(1))
    store.set_mark("123456789012 us-east-1", after(4))

    assert store.mark("123456789012 us-east-1") == after(5.000001)
    assert store.mark("123456789012 eu-west-1") == after(1)

    store.set_mark("123456789012 us-east-1", after(6))
    assert store.mark("123456789012 us-east-1") == after(6)


# -- runs -----------------------------------------------------------------------------------------


def test_a_snapshot_comes_back_exactly_as_it_was_given(store: Store) -> None:
    store.commit([look("any", snapshot=FULL_SNAPSHOT)])

    record = store.job(FULL_SNAPSHOT.run)

    assert record == JobRecord(FULL_SNAPSHOT, first_seen_at=NOON, changed_at=NOON, watching=True)


def test_unknown_tags_and_empty_tags_stay_different(store: Store) -> None:
    store.commit([look("untold", snapshot=snapshot("untold", tags=None))])
    store.commit([look("none", snapshot=snapshot("none", tags={}))])

    assert [record.snapshot.tags for record in store.jobs()] == [{}, None]


def test_an_unknown_run_is_none(store: Store) -> None:
    assert store.job(run("never")) is None
    assert store.jobs("never") == []


def test_a_later_look_replaces_the_snapshot_and_keeps_when_the_run_was_first_seen(store: Store) -> None:
    stopped = snapshot("job", status="Stopped", created_at=NOON)
    store.commit([look("job")])
    store.commit([look("job", snapshot=stopped, fingerprint="another", seen_at=after(30), watching=False)])

    assert store.jobs() == [JobRecord(stopped, first_seen_at=NOON, changed_at=after(30), watching=False)]


def test_a_look_that_finds_nothing_new_does_not_count_as_a_change(store: Store) -> None:
    store.commit([look("job")])
    store.commit([look("job", seen_at=after(30))])

    record = store.job(run("job"))

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


def test_watching_returns_the_watched_runs_only_with_what_a_pass_needs(store: Store) -> None:
    store.commit([look("a", describe_at=after(600)), look("b"), look("over", watching=False)])

    watched = sorted(store.watching(), key=lambda job: job.name)

    assert watched == [
        WatchedJob(run("a"), "a", "InProgress", "as first seen", after(600)),
        WatchedJob(run("b"), "b", "InProgress", "as first seen", None),
    ]
    assert [job.arn for job in watched] == [arn("a"), arn("b")]


def test_fingerprints_are_those_of_the_runs_that_are_stored_watched_or_not(store: Store) -> None:
    store.commit([look("a"), look("over", watching=False, fingerprint="at the end")])

    known = store.fingerprints([run("a"), run("over"), run("never seen")])

    assert known == {run("a"): "as first seen", run("over"): "at the end"}
    assert store.fingerprints([]) == {}


def test_many_fingerprints_can_be_asked_for_at_once(store: Store) -> None:
    store.commit([look(f"job-{n}") for n in range(150)])

    assert len(store.fingerprints([run(f"job-{n}") for n in range(300)])) == 150


# -- two runs of one name -------------------------------------------------------------------------


def later_run(**changes: object) -> JobSnapshot:
    return snapshot("job", created_at=after(3600), **changes)


def test_two_runs_of_one_arn_are_two(store: Store) -> None:
    store.commit([look("job", watching=False, fingerprint="first")])
    store.commit([look("job", snapshot=later_run(), fingerprint="second")])

    assert [record.snapshot.created_at for record in store.jobs("job")] == [after(3600), NOON]
    assert [job.fingerprint for job in store.watching()] == ["second"]
    assert store.fingerprints([run("job")]) == {run("job"): "first"}
    first = store.job(run("job"))
    assert first is not None
    assert first.snapshot.created_at == NOON


def test_each_run_of_an_arn_has_its_own_stop_and_evaluation(store: Store) -> None:
    second = later_run()
    store.commit([evaluated("job", EVALUATION)])
    store.commit([look("job", snapshot=second)])
    store.permit_stop(run("job"), "route job *", NOON, 10)

    assert store.stop_of(second.run) is None
    record = store.job(second.run)
    assert record is not None
    assert record.evaluations == ()


def test_runs_are_listed_in_short_in_the_order_of_their_records(store: Store) -> None:
    newest = later_run()
    store.commit([look("job"), look("other", watching=False, seen_at=after(5))])
    store.commit([look("job", snapshot=newest, seen_at=after(9))])

    assert store.runs() == [KnownRun.of(record) for record in store.jobs()]
    assert [run.name for run in store.runs()] == ["job", "job", "other"]
    assert store.runs()[0] == KnownRun(newest.run, "job", newest.status, True, after(9))


def test_unwatching_a_job_ends_all_its_runs_or_those_before_a_run(store: Store) -> None:
    second = later_run()
    store.commit([look("job"), look("job", snapshot=second), look("other")])

    assert store.unwatch(arn("job"), unchanged, before=second.run) == {run("job"): None}
    assert store.unwatch(arn("job"), unchanged, before=second.run) == {}
    assert store.unwatch(arn("job"), unchanged, before=run("job")) == {}
    assert {job.run for job in store.watching()} == {second.run, run("other")}

    assert store.unwatch(arn("job"), unchanged) == {second.run: None}
    assert store.unwatch(arn("never seen"), unchanged) == {}
    assert [record.watching for record in store.jobs("job")] == [False, False]


def test_a_run_has_an_earlier_one_if_one_of_the_same_job_is_stored(store: Store) -> None:
    second = snapshot("job", created_at=after(60))
    store.commit([look("job"), look("job", snapshot=second), look("job-2")])
    assert store.has_earlier_run(second.run)
    assert not store.has_earlier_run(run("job"))
    assert not store.has_earlier_run(run("job-2"))
    assert not store.has_earlier_run(run("never seen"))
    elsewhere = second.run.replace("us-east-1", "eu-west-1")
    assert elsewhere != second.run
    assert not store.has_earlier_run(elsewhere)


def test_a_run_has_an_earlier_one_although_that_is_stored_later(store: Store) -> None:
    second, third = (snapshot("job", created_at=after(seconds)) for seconds in (60, 120))
    for each in (third, second):
        store.commit([look("job", snapshot=each)])
    assert not store.has_earlier_run(second.run)

    store.commit([look("job")])

    assert store.has_earlier_run(second.run)
    assert store.has_earlier_run(third.run)
    assert not store.has_earlier_run(run("job"))
    assert [record.snapshot.run for record in store.jobs("job")] == [third.run, second.run, run("job")]


def test_a_run_is_unwatched_together_with_what_that_changes_in_its_incident(store: Store) -> None:
    store.commit([alert("job", "console"), look("healthy")])

    unwatched = store.unwatch(arn("job"), grows)

    assert unwatched == {run("job"): grows(case("job", delivery("job")))}
    stored = store.case(incident_id(run("job")))
    assert stored is not None
    assert stored.incident.revision == 2
    assert [job.run for job in store.watching()] == [run("healthy")]


def test_a_run_whose_incident_cannot_be_changed_is_watched_on(store: Store) -> None:
    def fails(_: Case | None) -> Case | None:
        raise StoreError("the disk is full")

    store.commit([alert("job", "console")])

    with pytest.raises(StoreError, match="disk"):
        store.unwatch(arn("job"), fails)
    assert [job.run for job in store.watching()] == [run("job")]


# -- evaluations ----------------------------------------------------------------------------------

EVALUATION = Evaluation(
    due_at=after(10),
    interval=5.0,
    cursor='{"after": 14}',
    states={"Loss": '{"saved": [[14, NaN]]}'},
    outcomes=(Outcome("Loss", RuleFamily.DEBUGGER, Judge.WATCHER, "InProgress", step=14),),
)


PROFILE = Evaluation(
    due_at=after(7),
    reads=Reads.PROFILER_OUTPUT,
    cursor='{"until": 60}',
    states={"Loss": '{"values": 3}'},
    outcomes=(Outcome("Loss", RuleFamily.PROFILER, Judge.WATCHER, "InProgress"),),
)
"""Its rule has the name of the other."""


def evaluated(job: str, *evaluations: Evaluation) -> Look:
    return look(job, evaluations=evaluations)


def test_an_evaluation_comes_back_exactly_as_it_was_given(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    record = store.job(run("job"))
    assert record is not None
    assert record.evaluations == (EVALUATION,)


def test_a_look_without_an_evaluation_leaves_it_as_it_was(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.commit([look("job", fingerprint="another")])
    assert [record.evaluations for record in store.jobs()] == [(EVALUATION,)]
    assert store.next_evaluation() == after(10)


def test_due_evaluations_are_claimed_once_and_the_longest_waiting_first(store: Store) -> None:
    for job, seconds in (("second", 5), ("first", 2), ("later", 60), ("over", None)):
        due_at = None if seconds is None else after(seconds)
        store.commit([evaluated(job, replace(EVALUATION, due_at=due_at))])
    assert store.claim_evaluations(after(10), LEASE_S, 1, together=False) == [due(run("first"))]
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == [due(run("second"))]
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == []
    assert store.next_evaluation() == after(60)


def test_evaluations_of_tensors_and_of_metrics_are_claimed_separately(store: Store) -> None:
    for job, reads in (("saves", Reads.TENSORS), ("logs", Reads.METRICS), ("logs-too", Reads.METRICS)):
        store.commit([evaluated(job, replace(EVALUATION, reads=reads))])
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=True) == sorted(
        [due(run("logs")), due(run("logs-too"))], key=lambda each: each.run
    )
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == [due(run("saves"))]


def test_an_evaluation_can_change_what_it_reads(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.commit([evaluated("job", replace(EVALUATION, reads=Reads.METRICS))])
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == []
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=True) == [due(run("job"))]


def test_an_unfinished_evaluation_is_due_again_after_its_lease(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.claim_evaluations(after(10), LEASE_S, 9, together=False)
    assert store.claim_evaluations(after(10 + LEASE_S - 1), LEASE_S, 9, together=False) == []
    assert store.claim_evaluations(after(10 + LEASE_S), LEASE_S, 9, together=False) == [due(run("job"))]


def test_a_commit_says_when_an_evaluation_is_due_next(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION)])
    store.claim_evaluations(after(10), LEASE_S, 9, together=False)
    store.commit([evaluated("job", replace(EVALUATION, due_at=after(15)))])
    assert store.next_evaluation() == after(15)
    store.commit([evaluated("job", replace(EVALUATION, due_at=None))])
    assert store.next_evaluation() is None


# -- stops ----------------------------------------------------------------------------------------


def test_a_permitted_stop_is_recorded_with_who_asked_and_when(store: Store) -> None:
    assert store.stop_of(run("job")) is None

    assert store.permit_stop(run("job"), "route job prod-*", NOON, 10)

    assert store.stop_of(run("job")) == StopRecord(run("job"), "route job prod-*", NOON)


def test_beyond_the_hourly_limit_no_stop_is_permitted_or_recorded(store: Store) -> None:
    assert store.permit_stop(run("a"), "us", after(0), 2)
    assert store.permit_stop(run("b"), "us", after(1), 2)

    assert not store.permit_stop(run("c"), "us", after(3599.999999), 2)
    assert store.stop_of(run("c")) is None
    assert store.permit_stop(run("c"), "us", after(3600), 2)
    assert not store.permit_stop(run("d"), "us", after(3600), 2)


def test_a_stop_that_was_retracted_does_not_count(store: Store) -> None:
    assert store.permit_stop(run("a"), "us", NOON, 1)
    store.retract_stop(run("a"))
    store.retract_stop(run("never"))

    assert store.stop_of(run("a")) is None
    assert store.permit_stop(run("b"), "us", after(1), 1)
    assert not store.permit_stop(run("a"), "us", after(2), 1)


def test_a_recorded_stop_is_permitted_again_and_recorded_once(store: Store) -> None:
    assert store.permit_stop(run("job"), "first", NOON, 1)

    assert store.permit_stop(run("job"), "second", after(1), 1)
    assert store.permit_stop(run("job"), "third", after(2), 0)
    assert store.stop_of(run("job")) == StopRecord(run("job"), "first", NOON)


def test_a_limit_of_zero_per_hour_permits_no_stop(store: Store) -> None:
    assert not store.permit_stop(run("job"), "us", NOON, 0)


def test_threads_that_ask_at_once_stay_within_the_limit_of_stops(store: Store) -> None:
    start = threading.Barrier(8)

    def ask(n: int) -> bool:
        start.wait()
        return store.permit_stop(run(f"job-{n}"), "us", NOON, 3)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 3


# -------------------------------------------------------------------------------------------------


def test_a_check_describes_the_store_in_a_few_words(store: Store) -> None:
    store.commit([look("a"), look("b")])

    assert "jobs: 2" in store.check()
    assert len(store.check().splitlines()) == 1


# -- several evaluations of one run ----------------------------------------------------------------


def test_a_run_has_an_evaluation_for_each_family_of_rules(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION), evaluated("other", EVALUATION)])
    store.commit([evaluated("job", PROFILE)])
    record = store.job(run("job"))
    assert record is not None
    assert record.evaluations == (EVALUATION, PROFILE)
    assert record.evaluation(RuleFamily.PROFILER) == PROFILE
    assert {each.snapshot.name: each.evaluations for each in store.jobs()} == {
        "job": (EVALUATION, PROFILE),
        "other": (EVALUATION,),
    }


def test_several_evaluations_of_a_run_are_stored_at_once(store: Store) -> None:
    store.commit([evaluated("job", PROFILE, EVALUATION)])
    assert [record.evaluations for record in store.jobs("job")] == [(EVALUATION, PROFILE)]


def test_a_commit_of_one_evaluation_leaves_the_other_as_it_was(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION, PROFILE)])
    later = replace(PROFILE, due_at=after(60), cursor="further")
    store.commit([evaluated("job", later)])
    record = store.job(run("job"))
    assert record is not None
    assert record.evaluations == (EVALUATION, later)
    assert store.next_evaluation() == EVALUATION.due_at


def test_each_evaluation_of_a_run_is_due_and_claimed_by_itself(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION, PROFILE)])
    assert store.next_evaluation() == PROFILE.due_at
    assert store.claim_evaluations(after(9), LEASE_S, 9, together=False) == [
        due(run("job"), RuleFamily.PROFILER)
    ]
    assert store.next_evaluation() == EVALUATION.due_at
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == [due(run("job"))]
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == []


def test_evaluations_that_read_many_jobs_are_claimed_together_whatever_they_read(store: Store) -> None:
    metrics = replace(EVALUATION, reads=Reads.METRICS)
    instances = replace(PROFILE, reads=Reads.INSTANCE_METRICS)
    store.commit([evaluated("both", metrics, instances), evaluated("one", EVALUATION, instances)])
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=True) == [
        due(run("both"), RuleFamily.PROFILER),
        due(run("one"), RuleFamily.PROFILER),
        due(run("both")),
    ]
    assert store.claim_evaluations(after(10), LEASE_S, 9, together=False) == [due(run("one"))]


def test_one_evaluation_ends_and_the_other_goes_on(store: Store) -> None:
    store.commit([evaluated("job", EVALUATION, PROFILE)])
    store.commit([evaluated("job", replace(EVALUATION, due_at=None))])
    assert store.next_evaluation() == PROFILE.due_at
    assert store.claim_evaluations(after(60), LEASE_S, 9, together=False) == [
        due(run("job"), RuleFamily.PROFILER)
    ]
