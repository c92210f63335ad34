"""The law of deliveries: whatever fails, and whoever dies, each destination shows an incident's last state in
the end, and each change worth telling was told once, in order.

The store and the outbox are the real ones; time, destinations and SageMaker are turned by the test.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.tables import create_table
from tests.doubles.clock import Clock
from tests.doubles.destinations import FAULTS, Destination, EditingDestination, Killed, OneWayDestination
from tests.jobs import a_job
from tests.story import (
    DEPTH,
    FAILED,
    LOSS,
    OVERFIT,
    SLACK,
    STOPPED_BY_OTHERS,
    TOPIC,
    WEBHOOK,
    ZOE,
    fired,
    recovered,
)
from watcher.config.settings import Config, Route, Stop
from watcher.delivery.outbox import Outbox
from watcher.delivery.stop import StopResult, StopState
from watcher.instruments import Instruments
from watcher.model import (
    AlertEvidence,
    Case,
    ChangeKind,
    Delivery,
    DeliveryKind,
    Door,
    Report,
    StopPhase,
)
from watcher.policy import incidents
from watcher.sandbox.process import Sandbox
from watcher.store.base import Look, Store
from watcher.store.dynamodb.store import DynamoStore
from watcher.store.memory import MemoryStore
from watcher.store.sqlite import SqliteStore

CONFIG = Config(
    route=(
        Route(job="a*", to=(SLACK, WEBHOOK)),
        Route(job="b*", to=(SLACK, TOPIC), stop=True),
        Route(job="c*", to=(WEBHOOK, TOPIC)),
    ),
    stop=Stop(grace=40, grace_limit=120),
)
JOBS = ("a", "b", "c")


@dataclass
class SageMaker:
    """Stops what it is asked to, a moment later."""

    asked: set[str] = field(default_factory=set)

    def attempt(self, run: str, actor: str) -> StopResult:
        if run in self.asked:
            return StopResult(StopState.STOPPED, f"Stopped by Watcher ({actor})")
        self.asked.add(run)
        return StopResult(StopState.STOPPING, "it is stopping")


@dataclass
class Process:
    outbox: Outbox
    held: list[tuple[Delivery, Any]] = field(default_factory=list)
    """Deliveries that it has claimed before it was suspended, and when."""


class World:
    def __init__(self, stores: Sequence[Store], clock: Clock) -> None:
        self.stores = stores
        """How each process sees the store."""
        self.clock = clock
        self.jobs = {name: a_job(name) for name in JOBS}
        self.destinations: dict[str, Destination] = {
            SLACK: EditingDestination(),
            WEBHOOK: OneWayDestination(),
            TOPIC: OneWayDestination(),
        }
        self.sagemaker = SageMaker()
        self.started = 0
        self.processes = [self._start(store) for store in stores]

    def _start(self, store: Store) -> Process:
        self.started += 1
        return Process(
            Outbox(
                store=store,
                open_channel=lambda to: self.destinations[to],  # type: ignore[arg-type,return-value]
                stopper=self.sagemaker,  # type: ignore[arg-type]
                gather=lambda finding, job: AlertEvidence(),
                config=CONFIG,
                owner=f"process {self.started}",
                clock=self.clock,
                random=lambda: 1.0,
                instruments=Instruments(),
            )
        )

    @property
    def store(self) -> Store:
        return self.stores[0]

    # -- what happens ------------------------------------------------------------------------------

    def do(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        self.clock.turn(0.25)
        getattr(self, name)(*arguments)

    def look(self, name: str, rule: str, closing: bool) -> None:
        self._look(name, recovered(rule) if closing else fired(rule))

    def ends(self, name: str, status: str) -> None:
        job = self.jobs[name]
        if job.ended:
            return
        asked = job.run in self.sagemaker.asked
        status = "Stopped" if asked else status
        self.jobs[name] = replace(job, status=status, ended_at=self.clock())
        reports = {"Failed": [FAILED], "Stopped": [] if asked else [STOPPED_BY_OTHERS]}.get(status, [])
        self._look(name, *reports, stop_asked_by="somebody" if asked else "", just_ended=True)

    def _look(self, name: str, *reports: Report, stop_asked_by: str = "", just_ended: bool = False) -> None:
        job, now = self.jobs[name], self.clock()

        def amend(case: Case | None) -> Case | None:
            return incidents.seen(
                case, job, reports, CONFIG, now, stop_asked_by=stop_asked_by, just_ended=just_ended
            )

        look = Look(job, str(now), now, watching=True, amend=amend)
        changed = self.store.commit([look])
        self.processes[0].outbox.wake((case, job) for case in changed)

    def person(self, name: str, action: str) -> None:
        now, run = self.clock(), self.jobs[name].run
        until = now + timedelta(minutes=20)

        def amend(case: Case | None) -> Case | None:
            match action:
                case "acknowledge":
                    return incidents.acknowledge(case, ZOE, Door.SLACK, now)
                case "snooze":
                    return incidents.snooze(case, until, ZOE, Door.CLI, now)
                case "unsnooze":
                    return incidents.unsnooze(case, ZOE, Door.CLI, now)
                case "redeliver":
                    return incidents.redeliver(case, ZOE, Door.CLI, now)
                case "cancel":
                    return incidents.cancel_stop(case, ZOE, Door.CLI, now)
                case _:
                    return incidents.person_stops(case, ZOE, Door.CLI, now)

        self.store.amend(self._incident(name), amend)
        if action == "stop":
            self.sagemaker.asked.add(run)

    def _incident(self, name: str) -> str:
        return incidents.incident_id(self.jobs[name].run)

    def fails(self, to: str, fault: str, times: int) -> None:
        self.destinations[to].faults += [fault] * times

    def deletes(self) -> None:
        """Somebody deletes all messages in Slack."""
        for shown in self.slack.messages:
            shown.deleted = True

    @property
    def slack(self) -> EditingDestination:
        slack = self.destinations[SLACK]
        assert isinstance(slack, EditingDestination)
        return slack

    def works(self, number: int, seconds: float) -> None:
        """A process carries out what becomes due in this time."""
        until = self.clock() + timedelta(seconds=seconds)
        while self._next(number, until):
            self._attempt_due(number)
        self.clock.now = max(self.clock(), until)

    def _next(self, number: int, until: Any) -> bool:
        due = self.stores[number].next_due()
        if due is None or due > until:
            return False
        self.clock.now = max(self.clock(), due)
        return True

    def _attempt_due(self, number: int) -> None:
        process = self.processes[number]
        outbox, now = process.outbox, self.clock()
        claimed = outbox.store.claim(outbox.owner, now, outbox.lease, 100).deliveries
        if not claimed:
            self.clock.turn(1)
        try:
            for delivery in claimed:
                outbox.attempt(delivery, now)
        except Killed:
            self.dies(number)

    def dies(self, number: int) -> None:
        self.processes[number] = self._start(self.stores[number])

    def restarts(self, number: int) -> None:
        self.dies(number)
        self.processes[number].outbox._retry_refused()

    def suspends(self, number: int) -> None:
        """A process stands still after it has claimed what is due."""
        process, now = self.processes[number], self.clock()
        outbox = process.outbox
        for delivery in outbox.store.claim(outbox.owner, now, outbox.lease, 100).deliveries:
            process.held.append((delivery, now))

    def resumes(self, number: int) -> None:
        process = self.processes[number]
        try:
            while process.held:
                delivery, claimed_at = process.held.pop(0)
                process.outbox.attempt(delivery, claimed_at)
        except Killed:
            self.dies(number)

    def passes(self, seconds: float) -> None:
        self.clock.turn(seconds)

    # -- the end -----------------------------------------------------------------------------------

    def end(self) -> None:
        """Everything is mended, each incident changes once more, and one process carries on to the end."""
        for destination in self.destinations.values():
            destination.faults.clear()
        for name in JOBS:
            self._look(name, fired("Confusion"))
        for _ in range(2000):
            if not self._next(1, self.clock() + timedelta(hours=2)):
                return
            self._attempt_due(1)
        raise AssertionError("it never ends")

    def holds(self) -> None:
        assert self.store.next_due() is None
        assert not self.store.has_open()
        assert self.store.refused() == []
        for incident in self.store.incidents():
            case = self.store.case(incident.id)
            assert case
            assert [change.revision for change in case.changes] == list(range(1, incident.revision + 1))
            for alert in case.deliveries:
                if alert.kind is DeliveryKind.ALERT:
                    self._is_told(alert, case)
            self._is_stopped_as_decided(case)

    def _is_told(self, alert: Delivery, case: Case) -> None:
        destination = self.destinations[alert.to]
        if isinstance(destination, EditingDestination):
            assert [shown.revision for shown in destination.shown(alert.id)] == [case.incident.revision]
            assert alert.told == alert.wanted == case.incident.revision
            return
        assert isinstance(destination, OneWayDestination)
        taken = [each for each in destination.messages if each.delivery_id == alert.id]
        different = {each.key: each for each in reversed(taken)}  # the first of each key
        for each in taken:
            assert each.repeat or each is different[each.key], "a repetition says so"
            assert each.changes == different[each.key].changes, "a repetition tells the same"
        first_of_each = [each for each in taken if each is different[each.key]]
        told = [change.revision for each in first_of_each for change in each.changes]
        assert told == [change.revision for change in case.changes if change.telling]
        reminders = [each for each in first_of_each if not each.changes]
        assert len(reminders) <= sum(change.kind is ChangeKind.SNOOZED for change in case.changes)

    def _is_stopped_as_decided(self, case: Case) -> None:
        stop, run = case.incident.stop, case.incident.run
        if stop and stop.phase is StopPhase.CANCELLED:
            assert run not in self.sagemaker.asked
        if stop and stop.phase is StopPhase.WAITING:
            raise AssertionError("the grace never ended")


names = st.sampled_from(JOBS)
destinations = st.sampled_from([SLACK, SLACK, WEBHOOK, TOPIC])
processes = st.sampled_from([0, 1])
STEPS = st.one_of(
    st.tuples(st.just("look"), names, st.sampled_from([LOSS, OVERFIT, DEPTH]), st.booleans()),
    st.tuples(st.just("works"), processes, st.sampled_from([0.0, 2.5, 70.0, 3600.0])),
    st.tuples(st.just("fails"), destinations, st.sampled_from(FAULTS), st.sampled_from([1, 1, 2, 12])),
    st.tuples(
        st.just("person"),
        names,
        st.sampled_from(["acknowledge", "snooze", "unsnooze", "redeliver", "cancel", "stop"]),
    ),
    st.tuples(st.sampled_from(["dies", "restarts", "suspends", "resumes"]), processes),
    st.tuples(st.just("passes"), st.sampled_from([1.0, 45.0, 1300.0])),
    st.tuples(st.just("ends"), names, st.sampled_from(["Completed", "Failed", "Stopped"])),
    st.just(("deletes",)),
)


@contextmanager
def sqlite_stores(clock: Clock) -> Iterator[list[Store]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "watcher.db"
        stores = [SqliteStore(path, monotonic=clock.monotonic) for _ in range(2)]
        yield [*stores]
        for store in stores:
            store.close()


def obeys_the_law(stores: Sequence[Store], clock: Clock, steps: Sequence[tuple[Any, ...]]) -> None:
    world = World(stores, clock)
    for step in steps:
        world.do(step)
    for number in (0, 1):
        world.resumes(number)
    world.end()
    world.holds()


@settings(max_examples=250)
@given(st.lists(STEPS, max_size=40))
def test_each_destination_shows_the_last_state_and_each_change_is_told_once(steps: list[tuple[Any, ...]]):
    clock = Clock()
    store = MemoryStore(clock.monotonic)
    obeys_the_law([store, store], clock, steps)


@settings(max_examples=25)
@given(st.lists(STEPS, max_size=40))
def test_two_processes_with_one_file_keep_the_same_law(steps: list[tuple[Any, ...]]):
    clock = Clock()
    with sqlite_stores(clock) as stores:
        obeys_the_law(stores, clock, steps)


_tables = count()


@settings(max_examples=12, suppress_health_check=[*HealthCheck])  # each example has a table of its own
@given(steps=st.lists(STEPS, max_size=40))
def test_two_processes_with_one_table_keep_the_same_law(sandbox: Sandbox, steps: list[tuple[Any, ...]]):
    clock, table = Clock(), f"law-{next(_tables)}"
    dynamodb = create_table(sandbox, table)
    stores = [DynamoStore(dynamodb, table, monotonic=clock.monotonic) for _ in range(2)]
    obeys_the_law(stores, clock, steps)
