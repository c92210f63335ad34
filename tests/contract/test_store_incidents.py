"""What every store guarantees about incidents: amendments, what they return, and the history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.contract.samples import (
    FULL_CHANGE,
    FULL_DELIVERY,
    FULL_FINDING,
    FULL_INCIDENT,
    NOON,
    after,
    alert,
    arn,
    case,
    change,
    delivery,
    finding,
    grows,
    incident,
    look,
    opens,
    rewrites,
    run,
    snapshot,
)
from watcher.errors import StoreError
from watcher.model import Case, Change, DeliveryState, JobSnapshot, incident_id
from watcher.store.base import Amend, Store

FULL_CASE = Case(FULL_INCIDENT, (FULL_FINDING,), (FULL_DELIVERY,), (FULL_CHANGE,))


def seen(store: Store, amend: Amend, job: str = "job") -> tuple[Case | None, Case | None]:
    """What an amendment was shown last, and what the store returned."""
    shown: list[Case | None] = []

    def look_at(known: Case | None) -> Case | None:
        shown.append(known)
        return amend(known)

    after = store.amend(incident(job).id, look_at)
    return shown[-1], after


def acknowledges(known: Case | None) -> Case | None:
    assert known is not None
    if known.incident.acknowledged_by:
        return None
    revision = known.incident.revision + 1
    mine = replace(known.incident, acknowledged_by="ann", revision=revision)
    return Case(mine, known.findings, known.deliveries, (change(known.incident.job, revision),))


# -- what is stored -------------------------------------------------------------------------------


def test_a_case_comes_back_exactly_as_it_was_given(store: Store) -> None:
    store.commit([look(FULL_INCIDENT.job, opens(FULL_CASE))])

    assert store.case(FULL_INCIDENT.id) == FULL_CASE
    assert store.incidents() == [FULL_INCIDENT]
    assert store.findings() == [FULL_FINDING]
    assert store.deliveries() == store.deliveries(FULL_INCIDENT.id) == [FULL_DELIVERY]
    assert list(store.history()) == [FULL_CHANGE]


@pytest.mark.parametrize("known", [0, 3, 49, 50, 99, 120])
def test_a_case_can_be_read_with_only_the_history_that_is_not_known_yet(store: Store, known: int) -> None:
    changes = tuple(change("job", revision) for revision in range(1, 121))
    for some in (changes[:2], changes[2:100], changes[100:]):
        now = case("job", delivery("job"), changes=some)
        store.amend(now.incident.id, lambda _, now=now: now)  # type: ignore[misc]

    assert store.case(incident("job").id, known) == case("job", delivery("job"), changes=changes[known:])


def test_an_unknown_incident_is_none(store: Store) -> None:
    assert store.case("unheard of") is None
    assert store.deliveries("unheard of") == []
    assert store.findings(run("never")) == []


def test_a_commit_returns_the_cases_that_changed_with_the_changes_made(store: Store) -> None:
    assert store.commit([alert("a", "console"), look("healthy"), alert("b", "console")]) == (
        case("a", delivery("a")),
        case("b", delivery("b")),
    )

    (grown,) = store.commit([alert("a", "console"), look("b", grows)])

    assert grown.incident.revision == 2
    assert grown.changes == (change("b", 2),)
    assert grown.deliveries == (delivery("b", wanted=2),)


def test_an_amendment_of_a_new_incident_is_shown_nothing(store: Store) -> None:
    shown, after = seen(store, opens(case("job", delivery("job"))))

    assert shown is None
    assert after == case("job", delivery("job"))
    assert store.case(incident("job").id) == after


def test_an_amendment_is_shown_the_case_as_it_is_without_its_history(store: Store) -> None:
    store.commit([alert("job", "console", "slack:#ml")])

    shown, after = seen(store, grows)

    assert shown == replace(case("job", delivery("job"), delivery("job", "slack:#ml")), changes=())
    assert after is not None
    assert after.changes == (change("job", 2),)
    whole = store.case(incident("job").id)
    assert whole == replace(after, changes=(change("job"), change("job", 2)))


def test_findings_and_deliveries_keep_the_order_in_which_they_came(store: Store) -> None:
    first, second, third = (finding("job", rule) for rule in ("Zebra", "Ant", "Mouse"))
    to_a, to_b, to_c = (delivery("job", to) for to in ("slack:#z", "slack:#a", "slack:#m"))
    store.commit([look("job", opens(case("job", to_a, to_b, findings=(first, second))))])

    def adds(known: Case | None) -> Case | None:
        assert known is not None
        changed = replace(known.findings[0], episode=2, opened_at=after(9))
        return replace(
            known,
            findings=(changed, *known.findings[1:], third),
            deliveries=(replace(known.deliveries[0], wanted=9), *known.deliveries[1:], to_c),
        )

    store.amend(incident("job").id, adds)

    whole = store.case(incident("job").id)
    assert whole is not None
    assert [each.rule for each in whole.findings] == ["Zebra", "Ant", "Mouse"]
    assert [each.to for each in whole.deliveries] == ["slack:#z", "slack:#a", "slack:#m"]
    assert whole.findings[0].episode == 2
    assert whole.deliveries[0].wanted == 9


# -- what is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("amend", [lambda known: None, lambda known: known], ids=["none", "the same"])
def test_an_amendment_that_changes_nothing_writes_and_returns_nothing(store: Store, amend: Amend) -> None:
    store.commit([alert("job", "console")])
    before = (store.case(incident("job").id), store.deliveries())

    assert store.amend(incident("job").id, amend) is None
    assert store.commit([look("job", amend)]) == ()
    assert (store.case(incident("job").id), store.deliveries()) == before


def test_an_amendment_of_an_unknown_incident_may_decline(store: Store) -> None:
    assert store.amend("unheard of", lambda known: known) is None
    assert store.incidents() == []


def test_an_exception_in_an_amendment_leaves_everything_as_it_was(store: Store) -> None:
    store.commit([alert("job", "console")])
    before = store.case(incident("job").id)

    def fails(known: Case | None) -> Case | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.commit([look("other"), look("job", grows, fingerprint="later"), look("third", fails)])
    with pytest.raises(ZeroDivisionError):
        store.amend(incident("job").id, fails)

    assert store.case(incident("job").id) == before
    assert [job.fingerprint for job in store.watching()] == ["as first seen"]
    assert store.commit([look("job", grows)])[0].incident.revision == 2


def test_the_case_of_another_incident_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="returned incident"):
        store.amend(incident("job").id, opens(case("other")))

    assert store.incidents() == []


# -- several at once ------------------------------------------------------------------------------


def test_two_looks_of_one_commit_build_on_each_other(store: Store) -> None:
    (after,) = store.commit([alert("job", "console"), look("job", grows), look("job", acknowledges)])

    assert after.incident.revision == 3
    assert after.incident.acknowledged_by == "ann"
    assert [each.revision for each in after.changes] == [1, 2, 3]
    assert after == store.case(incident("job").id)


def test_no_amendment_is_lost_among_threads_that_amend_one_incident_at_once(store: Store) -> None:
    store.commit([alert("job", "console")])

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.amend(incident("job").id, grows), range(12)))

    whole = store.case(incident("job").id)
    assert whole is not None
    assert whole.incident.revision == 13
    assert [each.revision for each in whole.changes] == list(range(1, 14))
    revisions = [each.incident.revision for each in made if each]
    assert sorted(revisions) == list(range(2, 14))


def test_one_of_many_that_act_at_once_does_what_only_one_may_do(store: Store) -> None:
    store.commit([alert("job", "console")])

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.amend(incident("job").id, acknowledges), range(12)))

    assert sum(each is not None for each in made) == 1


def test_one_of_many_looks_at_once_opens_an_incident(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: store.commit([alert("job", "console")]), range(8)))

    assert sum(len(cases) for cases in opened) == 1
    assert len(store.deliveries()) == 1


def test_a_commit_waits_for_no_other_run(store: Store) -> None:
    def opens_another(known: Case | None) -> Case | None:
        return case("job") if known is None else None

    with ThreadPoolExecutor(4) as pool:
        looks = [lambda n=n: store.commit([alert(f"job-{n}", "console")]) for n in range(16)]
        assert all(len(cases) == 1 for cases in pool.map(lambda commit: commit(), looks))
    assert len(store.incidents()) == 16


# -- two runs of one name -------------------------------------------------------------------------


def opened_again(created_at_s: float) -> tuple[JobSnapshot, Case]:
    """A later run of the same name, with an incident of its own."""
    later = snapshot("job", created_at=after(created_at_s))
    own = incident("job", id=incident_id(later.run), run=later.run)
    return later, Case(own, changes=(replace(change("job"), incident=own.id, run=later.run),))


def test_two_runs_of_one_arn_have_two_incidents(store: Store) -> None:
    later, second = opened_again(3600)
    store.commit([alert("job", "console")])

    assert store.commit([look("job", opens(second), snapshot=later)]) == (second,)

    assert {each.run for each in store.incidents()} == {run("job"), later.run}
    assert {each.job_arn for each in store.incidents()} == {arn("job")}
    assert [each.run for each in store.findings(run("job"))] == [run("job")]
    assert store.findings(later.run) == []


# -- lists ----------------------------------------------------------------------------------------


def test_incidents_are_listed_with_the_most_recently_opened_first(store: Store) -> None:
    for job, seconds in (("middle", 1), ("oldest", 0), ("newest", 2)):
        store.commit([look(job, opens(case(job, incident=incident(job, opened_at=after(seconds)))))])

    assert [each.job for each in store.incidents()] == ["newest", "middle", "oldest"]


def test_findings_are_listed_newest_first_and_can_be_limited_to_one_run(store: Store) -> None:
    early = finding("a", "early", opened_at=after(1))
    late = finding("a", "late", opened_at=after(1.000001))
    other = finding("b", "other", opened_at=after(0))
    store.commit([look("a", opens(case("a", findings=(late, early))))])
    store.commit([look("b", opens(case("b", findings=(other,))))])

    assert store.findings() == [late, early, other]
    assert store.findings(run("a")) == [late, early]


def test_a_finding_that_breaks_again_is_listed_by_its_present_episode(store: Store) -> None:
    first, second = finding("job", "first"), finding("job", "second", opened_at=after(1))
    store.commit([look("job", opens(case("job", findings=(first, second))))])

    again = replace(first, episode=2, opened_at=after(5))
    store.amend(incident("job").id, lambda known: known and replace(known, findings=(again, second)))

    assert store.findings() == [again, second]


# -- history --------------------------------------------------------------------------------------


def test_the_history_has_the_changes_of_all_incidents_and_other_actions_oldest_first(store: Store) -> None:
    action = replace(change("healthy", 0, at=after(0.5), text="stopped by hand"), incident="")
    store.commit([alert("a", "console")])  # at noon
    store.commit([look("b", opens(case("b", changes=(change("b", at=after(0.75)),))))])
    store.record(action)
    store.amend(incident("a").id, grows)  # a second after noon

    history = list(store.history())

    assert history == [change("a"), action, change("b", at=after(0.75)), change("a", 2)]


def test_the_history_can_begin_at_a_time(store: Store) -> None:
    store.commit([alert("job", "console")])
    for _ in range(3):
        store.amend(incident("job").id, grows)

    assert [each.revision for each in store.history(since=after(1))] == [2, 3, 4]
    assert [each.revision for each in store.history(since=after(1.000001))] == [3, 4]
    assert list(store.history(since=after(99))) == []


def test_a_long_history_is_whole_and_in_order(store: Store) -> None:
    count = 1200  # more than one page of any store
    changes = tuple(change("job", n + 1) for n in range(count))
    batches = [changes[n : n + 50] for n in range(0, count, 50)]
    store.commit([look("job", opens(case("job", changes=batches[0])))])
    for batch in batches[1:]:
        store.amend(incident("job").id, appends(batch))

    assert list(store.history()) == list(changes)
    whole = store.case(incident("job").id)
    assert whole is not None
    assert whole.changes == changes


def appends(batch: tuple[Change, ...]) -> Amend:
    def amend(known: Case | None) -> Case | None:
        assert known is not None
        revision = known.incident.revision + len(batch)
        return replace(known, incident=replace(known.incident, revision=revision), changes=batch)

    return amend


def test_an_action_that_concerns_no_incident_is_in_no_case(store: Store) -> None:
    store.record(replace(change("job"), incident=""))

    assert store.incidents() == []
    assert len(list(store.history())) == 1


def test_a_delivery_that_an_amendment_adds_or_changes_is_written(store: Store) -> None:
    store.commit([alert("job", "console")])
    cancelled = delivery("job", state=DeliveryState.CANCELLED, error="no longer wanted")
    added = delivery("job", "slack:#ml", created_at=NOON)

    store.amend(incident("job").id, rewrites(cancelled, added))

    assert store.deliveries() == [cancelled, added]
    assert store.deliveries(incident("job").id) == [cancelled, added]
