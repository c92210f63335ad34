"""What every store guarantees about deliveries: lanes, claims, how attempts end, and what is due again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.contract.samples import (
    NOON,
    after,
    alert,
    case,
    change,
    delivery,
    grows,
    incident,
    look,
    opens,
    rewrites,
)
from tests.doubles.clock import Clock
from watcher.model import Case, Delivery, DeliveryKind, DeliveryState
from watcher.store.base import Store

LEASE_S = 60.0


def with_deliveries(store: Store, *deliveries: Delivery, job: str = "job") -> None:
    store.commit([look(job, opens(case(job, *deliveries)))])


def claim_one(store: Store, owner: str = "us", seconds: float = 0) -> Delivery:
    (claimed,) = store.claim(owner, after(seconds), LEASE_S, 10).deliveries
    return claimed


def delivered(delivery: Delivery) -> Delivery:
    """How an attempt that arrived is settled."""
    return replace(
        delivery,
        state=DeliveryState.DELIVERED,
        delivered_at=after(1),
        receipt="ts 1",
        told=delivery.trying,
    )


def refused(delivery: Delivery, seconds: float = 60) -> Delivery:
    return replace(
        delivery,
        state=DeliveryState.REFUSED,
        lane=f"refused:{delivery.id}",
        due_at=after(seconds),
        refused_at=after(1),
        error="not_in_channel",
    )


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


def jobs_in_order(store: Store, owner: str = "us") -> list[str]:
    """The incidents of what is due now, in the order in which it is handed out and settled."""
    jobs = {incident.id: incident.job for incident in store.incidents()}
    order = []
    while claimed := store.claim(owner, after(0), LEASE_S, 10).deliveries:
        for each in claimed:
            order.append(jobs[each.incident])
            assert store.settle(owner, delivered(each))
    return order


# -- claiming -------------------------------------------------------------------------------------


def test_a_claimed_delivery_is_in_flight_and_its_attempt_is_counted(store: Store) -> None:
    with_deliveries(store, delivery("job", wanted=3))

    claimed = claim_one(store)

    assert (claimed.state, claimed.attempts, claimed.uncertain) == (DeliveryState.IN_FLIGHT, 1, False)
    assert claimed.trying == 3
    assert store.deliveries() == [claimed]


def test_a_delivery_that_is_not_due_yet_is_not_claimed(store: Store) -> None:
    with_deliveries(store, delivery("job", due_at=after(10)))

    assert store.claim("us", after(9.999999), LEASE_S, 10).deliveries == []
    assert len(store.claim("us", after(10), LEASE_S, 10).deliveries) == 1


def test_a_lane_gives_out_one_delivery_at_a_time_in_order(store: Store) -> None:
    store.commit([alert(f"job-{n}", "slack:#ml") for n in range(3)])

    taken = []
    while claimed := store.claim("us", NOON, LEASE_S, 10).deliveries:
        assert len(claimed) == 1
        assert store.claim("another", NOON, LEASE_S, 10).deliveries == []
        assert store.settle("us", delivered(claimed[0]))
        taken += claimed

    assert ids(taken) == ids([delivery(f"job-{n}", "slack:#ml") for n in range(3)])


def test_a_delivery_that_waits_for_its_next_attempt_blocks_only_its_own_lane(store: Store) -> None:
    store.commit([alert("first", "slack:#ml"), alert("second", "slack:#ml", "console")])
    slack, console = store.claim("us", NOON, LEASE_S, 10).deliveries
    store.settle("us", replace(slack, state=DeliveryState.PENDING, due_at=after(30)))
    store.settle("us", delivered(console))

    assert store.claim("us", after(29), LEASE_S, 10).deliveries == []
    assert store.next_due() == after(30)
    assert claim_one(store, seconds=30).id == slack.id


def test_a_claim_respects_its_limit_and_takes_the_longest_waiting_first(store: Store) -> None:
    waits = {"slack:#late": 3, "slack:#early": 1, "slack:#middle": 2}
    with_deliveries(store, *(delivery("job", to, due_at=after(s)) for to, s in waits.items()))

    claimed = [each for _ in range(2) for each in store.claim("us", after(5), LEASE_S, 2).deliveries]

    assert [delivery.to for delivery in claimed] == ["slack:#early", "slack:#middle", "slack:#late"]


def test_a_delivery_whose_lease_ended_is_claimed_again_as_uncertain(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    first = claim_one(store, "who died")

    clock.turn(LEASE_S - 0.001)
    assert store.claim("us", clock(), LEASE_S, 10).deliveries == []
    clock.turn(0.001)
    second = claim_one(store, "us", LEASE_S)

    assert (second.id, second.attempts, second.uncertain) == (first.id, 2, True)


def test_an_attempt_that_may_have_arrived_is_repeated_as_it_was(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    first = claim_one(store)
    store.amend(incident("job").id, grows)
    clock.turn(LEASE_S)

    again = claim_one(store, seconds=LEASE_S)

    assert (first.trying, again.trying, again.wanted) == (1, 1, 2)


def test_an_uncertain_delivery_stays_uncertain_until_it_is_settled_otherwise(store: Store) -> None:
    with_deliveries(store, delivery("job"))
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


# -- settling -------------------------------------------------------------------------------------


def test_settling_records_how_the_attempt_ended_and_changes_nothing_else(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)

    outcome = replace(
        claimed,
        state=DeliveryState.DEAD,
        lane="another",
        due_at=after(5),
        uncertain=True,
        receipt="receipt",
        error="channel_not_found",
        delivered_at=after(6),
        failures=3,
        refused_at=after(7),
        told=1,
    )
    assert store.settle("us", replace(outcome, to="elsewhere", wanted=9, actor="somebody"))

    assert store.deliveries() == [outcome]
    assert store.next_due() is None


def test_what_follows_from_an_attempt_is_written_with_its_outcome(store: Store) -> None:
    store.commit([alert("job", "console", "slack:#ml")])
    console, slack = store.claim("us", NOON, LEASE_S, 10).deliveries
    shown: list[Case | None] = []
    picture = delivery("job", "slack:#ml", id="picture", kind=DeliveryKind.PLOT, lane="plot:1")

    def begins_grace(known: Case | None) -> Case | None:
        shown.append(known)
        grown = grows(known)
        assert grown is not None
        return replace(grown, deliveries=(*grown.deliveries, picture))

    assert store.settle("us", delivered(slack), begins_grace)

    assert shown[-1] == replace(case("job", console, delivered(slack)), changes=())
    whole = store.case(incident("job").id)
    assert whole is not None
    assert [each.revision for each in whole.changes] == [1, 2]
    assert whole.deliveries == (
        replace(console, wanted=2),
        replace(delivered(slack), wanted=2, state=DeliveryState.PENDING),
        picture,
    )


def test_an_amendment_that_declines_leaves_the_outcome(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)

    assert store.settle("us", delivered(claimed), lambda known: None)

    assert store.deliveries() == [delivered(claimed)]


def test_an_amendment_that_raises_leaves_the_delivery_in_flight(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)

    def fails(known: Case | None) -> Case | None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.settle("us", delivered(claimed), fails)

    assert store.deliveries() == [claimed]
    assert store.settle("us", delivered(claimed), grows)


def test_an_amendment_may_change_the_delivery_that_was_just_settled(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)
    snoozed = replace(delivered(claimed), state=DeliveryState.SNOOZED, due_at=after(600))

    assert store.settle("us", delivered(claimed), rewrites(snoozed))

    assert store.deliveries() == [snoozed]
    assert not store.has_open()
    assert store.next_due() == after(600)


def test_an_owner_whose_lease_was_taken_over_can_neither_settle_nor_amend(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    stale = claim_one(store, "slow")
    clock.turn(LEASE_S)
    fresh = claim_one(store, "us", LEASE_S)

    assert not store.settle("slow", delivered(stale), grows)
    assert store.deliveries() == [fresh]
    assert store.incidents() == [incident("job")]
    assert store.settle("us", delivered(fresh))


def test_an_owner_that_claims_again_cannot_settle_its_earlier_attempt(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    stale = claim_one(store, "us")
    clock.turn(LEASE_S)
    fresh = claim_one(store, "us", LEASE_S)

    assert not store.settle("us", delivered(stale))
    assert store.settle("us", delivered(fresh))


def test_a_late_owner_can_settle_unless_another_took_over(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)
    clock.turn(10 * LEASE_S)

    assert store.settle("us", replace(delivered(claimed), delivered_at=after(10 * LEASE_S)))


def test_a_delivery_that_is_settled_unclaimed_or_unknown_cannot_be_settled(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    (pending,) = store.deliveries()
    assert not store.settle("us", delivered(pending))
    claimed = claim_one(store)
    assert not store.settle("another", delivered(claimed))
    assert store.settle("us", delivered(claimed))

    assert not store.settle("us", replace(claimed, state=DeliveryState.DEAD))
    assert not store.settle("us", replace(claimed, id="unheard of"))
    assert store.deliveries() == [delivered(claimed)]


# -- alerts of an incident that changes -----------------------------------------------------------


def test_an_alert_is_due_again_when_its_incident_changed_while_it_was_in_flight(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)
    store.amend(incident("job").id, grows)

    assert store.settle("us", replace(delivered(claimed), due_at=after(2)))

    (alert,) = store.deliveries()
    assert (alert.state, alert.told, alert.wanted, alert.due_at) == (
        DeliveryState.PENDING,
        1,
        2,
        after(2),
    )
    assert claim_one(store, seconds=2).trying == 2


def test_an_amendment_leaves_a_delivery_in_flight_with_its_owner(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)

    store.amend(incident("job").id, grows)

    assert store.claim("them", after(1), LEASE_S, 10).deliveries == []
    assert store.deliveries() == [replace(claimed, wanted=2)]
    assert store.settle("us", delivered(claimed))


def test_an_amendment_can_take_a_delivery_from_its_owner(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claimed = claim_one(store)

    store.amend(incident("job").id, rewrites(replace(claimed, state=DeliveryState.CANCELLED)))

    assert not store.settle("us", delivered(claimed))
    assert store.next_due() is None


def test_an_alert_that_is_due_again_goes_to_the_end_of_its_lane(store: Store) -> None:
    store.commit([alert(job, "console") for job in ("told", "waiting", "waiting-too")])
    assert store.settle("us", delivered(claim_one(store)))

    store.amend(incident("told").id, grows)

    assert [store.incidents()[0].job, len(store.deliveries())] == ["waiting-too", 3]
    created = [each.incident for each in store.deliveries()]
    assert created == [incident(job).id for job in ("told", "waiting", "waiting-too")]
    assert jobs_in_order(store) == ["waiting", "waiting-too", "told"]


def test_an_alert_that_another_attempt_waits_for_keeps_its_place(store: Store) -> None:
    store.commit([alert(job, "console") for job in ("first", "second")])
    assert store.settle("us", replace(claim_one(store), state=DeliveryState.PENDING))
    store.amend(incident("first").id, grows)

    assert jobs_in_order(store) == ["first", "second"]


def test_an_alert_that_arrived_but_is_behind_lets_the_others_go_first(store: Store) -> None:
    store.commit([alert(job, "console") for job in ("changed", "waiting")])
    claimed = claim_one(store)
    store.amend(incident("changed").id, grows)
    assert store.settle("us", delivered(claimed))

    assert jobs_in_order(store) == ["waiting", "changed"]


def test_an_alert_that_moves_to_another_lane_goes_to_its_end(store: Store) -> None:
    moved, there = delivery("moved"), delivery("there", lane="console edits")
    with_deliveries(store, moved, job="moved")
    with_deliveries(store, there, job="there")

    store.amend(incident("moved").id, rewrites(replace(moved, lane="console edits")))

    assert jobs_in_order(store) == ["there", "moved"]


def test_an_edit_holds_back_no_first_message(store: Store) -> None:
    store.commit([alert("told", "console")])
    first = replace(delivered(claim_one(store)), lane="console edits")
    assert store.settle("us", first)
    store.amend(incident("told").id, grows)
    edit = replace(store.deliveries()[0], due_at=after(30))
    store.amend(incident("told").id, rewrites(edit))
    store.commit([alert("new", "console")])

    assert jobs_in_order(store) == ["new"]
    assert store.next_due() == after(30)


def test_an_incident_never_has_two_alerts_for_one_destination_in_flight(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    claim_one(store)
    for _ in range(3):
        store.amend(incident("job").id, grows)
        assert store.claim("them", after(1), LEASE_S, 10).deliveries == []


# -- refused --------------------------------------------------------------------------------------


def test_a_refused_delivery_is_kept_and_due_again_but_not_open(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    assert store.settle("us", refused(claim_one(store)))

    assert not store.has_open()
    assert store.next_due() == after(60)
    assert store.claim("us", after(59), LEASE_S, 10).deliveries == []
    again = claim_one(store, seconds=60)
    assert (again.state, again.attempts, again.error) == (DeliveryState.IN_FLIGHT, 2, "not_in_channel")


def test_a_refused_delivery_holds_back_no_other(store: Store) -> None:
    store.commit([alert(job, "slack:#ml") for job in ("a", "b", "c")])
    for _ in range(2):
        assert store.settle("us", refused(claim_one(store)))

    assert claim_one(store).incident == incident("c").id


def test_those_that_are_refused_are_listed_with_the_first_refused_first(store: Store) -> None:
    store.commit([alert(job, f"slack:#{job}") for job in ("a", "b", "c")])
    for each, seconds in zip(store.claim("us", NOON, LEASE_S, 10).deliveries, (5, 3, 4), strict=True):
        assert store.settle("us", replace(refused(each), refused_at=after(seconds)))
    assert [each.to for each in store.refused()] == ["slack:#b", "slack:#c", "slack:#a"]

    (again, *_) = store.claim("us", after(99), LEASE_S, 1).deliveries
    assert store.settle("us", delivered(again))

    assert again.to not in [each.to for each in store.refused()]
    assert len(store.refused()) == 2


@pytest.mark.parametrize("lane", ["refused:1", "slack:#ml"], ids=["a lane of its own", "the same lane"])
def test_what_is_sent_again_after_a_refusal_goes_to_the_end_of_its_lane(store: Store, lane: str) -> None:
    store.commit([alert("refused", "slack:#ml")])
    given_up = replace(refused(claim_one(store)), lane=lane)
    assert store.settle("us", given_up)
    store.commit([alert("waiting", "slack:#ml")])

    again = replace(given_up, state=DeliveryState.PENDING, lane="slack:#ml", due_at=NOON)
    store.amend(incident("refused").id, rewrites(again))

    assert store.refused() == []
    assert jobs_in_order(store) == ["waiting", "refused"]


def test_a_dead_letter_can_be_opened_again(store: Store) -> None:
    with_deliveries(store, delivery("job"))
    dead = replace(claim_one(store), state=DeliveryState.DEAD, error="gone")
    assert store.settle("us", dead)
    assert store.next_due() is None

    store.amend(incident("job").id, rewrites(replace(dead, state=DeliveryState.PENDING)))

    assert claim_one(store).attempts == 2


# -- snoozed --------------------------------------------------------------------------------------


def test_a_snoozed_delivery_is_due_when_the_snooze_ends_but_not_open(store: Store) -> None:
    snoozed = delivery("job", state=DeliveryState.SNOOZED, lane="snoozed:1", due_at=after(600))
    with_deliveries(store, snoozed)

    assert not store.has_open()
    assert store.refused() == []
    assert store.next_due() == after(600)
    assert claim_one(store, seconds=600).id == snoozed.id


# -- what is open and what is due -----------------------------------------------------------------


def test_what_is_pending_or_in_flight_is_open(store: Store) -> None:
    assert not store.has_open()
    with_deliveries(store, delivery("job", due_at=after(1)))
    assert store.has_open()
    claimed = claim_one(store, seconds=1)
    assert store.has_open()
    assert store.settle("us", delivered(claimed))
    assert not store.has_open()


def test_a_stop_that_is_due_only_later_can_be_left_to_a_later_process(store: Store) -> None:
    stop = delivery("job", "stop", kind=DeliveryKind.STOP, lane="stop:job", due_at=after(100))
    with_deliveries(store, stop)

    assert store.has_open()
    assert store.has_open(after(100))
    assert not store.has_open(after(99))
    claimed = claim_one(store, seconds=100)
    assert store.has_open(after(99))
    assert store.settle("us", replace(claimed, state=DeliveryState.PENDING, due_at=after(200)))
    assert store.has_open(after(199)), "an attempt has failed, or is to be verified"


def test_an_alert_is_open_whenever_it_is_due(store: Store) -> None:
    stop = delivery("job", "stop", kind=DeliveryKind.STOP, lane="stop:job", due_at=after(100))
    with_deliveries(store, delivery("job", due_at=after(100)), stop)

    assert store.has_open(after(1))


def test_nothing_is_due_in_an_empty_store(store: Store) -> None:
    assert store.next_due() is None
    assert store.claim("us", NOON, LEASE_S, 10).deliveries == []


def test_next_due_is_the_earliest_lane_head_or_lease_end(store: Store, clock: Clock) -> None:
    behind = delivery("job", "slack:#ml", id="behind", due_at=after(1))
    ahead = delivery("job", "slack:#ml", id="ahead", due_at=after(50))
    with_deliveries(store, ahead, behind, delivery("job", "console", due_at=after(20)))

    assert store.next_due() == after(20)
    clock.turn(20)
    assert store.claim("us", clock(), LEASE_S, 10).next_due == after(50)
    assert store.next_due() == after(50)
    clock.turn(30)
    claim_one(store, seconds=50)
    assert store.next_due() == after(20 + LEASE_S)


def test_the_end_of_a_lease_does_not_move_while_time_passes(store: Store, clock: Clock) -> None:
    with_deliveries(store, delivery("job"))
    claim_one(store)
    clock.turn(LEASE_S / 2)

    assert store.next_due() == clock() + timedelta(seconds=LEASE_S / 2)
    assert store.claim("us", clock(), LEASE_S, 10).next_due == NOON + timedelta(seconds=LEASE_S)


# -- stops ----------------------------------------------------------------------------------------


def test_a_pending_stop_that_a_person_cancels_frees_its_lane(store: Store) -> None:
    later = delivery("job", "stop", id="later", kind=DeliveryKind.STOP, lane="one", due_at=after(300))
    now = delivery("job", "console", id="now", lane="one")
    with_deliveries(store, later, now)

    def cancels(known: Case | None) -> Case | None:
        assert known is not None
        stop = known.delivery("later")
        if stop is None or stop.state is not DeliveryState.PENDING:
            return None
        rows = (replace(stop, state=DeliveryState.CANCELLED), *known.deliveries[1:])
        return replace(known, deliveries=rows, changes=(change("job", 2),))

    assert store.amend(incident("job").id, cancels)
    assert store.amend(incident("job").id, cancels) is None

    assert [each.state for each in store.deliveries()] == [DeliveryState.CANCELLED, DeliveryState.PENDING]
    assert claim_one(store).id == "now"
