"""Which steps of several workers are due, computed from file listings."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.debug_output.event_files import EventFile
from watcher.debug_output.position import LIST_OVERLAP_FILES, MAX_WAITING_FILES, Position


def file(step: int, worker: int = 0) -> EventFile:
    return EventFile(step, f"worker_{worker}", f"{step:012}_worker_{worker}", 100)


def files(**steps: Iterable[int]) -> list[EventFile]:
    """Files by worker and step: `w0=[1, 2]` gives the files of worker_0 for steps 1 and 2."""
    return sorted(file(step, int(worker[1:])) for worker, saved in steps.items() for step in saved)


def take(position: Position, stored: Iterable[EventFile], *, ended: bool = False) -> list[tuple[int, str]]:
    """Take all due files in one refresh and return their steps and workers."""
    due = position.due([one for one in stored if one.step > position.floor], ended=ended)
    for one in due:
        position.give(one)
    return [(one.step, one.worker) for one in due]


def steps(given_out: list[tuple[int, str]]) -> list[int]:
    return sorted({step for step, _ in given_out})


def test_a_single_workers_steps_are_due_immediately_and_once() -> None:
    position = Position(workers=1)
    assert steps(take(position, files(w0=[0, 5]))) == [0, 5]
    assert take(position, files(w0=[0, 5])) == []
    assert steps(take(position, files(w0=[0, 5, 10]))) == [10]


def test_a_step_waits_until_each_worker_has_saved_it() -> None:
    position = Position(workers=3)
    assert take(position, files(w0=[0], w2=[0])) == []
    assert take(position, files(w0=[0, 1], w1=[0], w2=[0])) == [
        (0, "worker_0"),
        (0, "worker_1"),
        (0, "worker_2"),
    ]


def test_a_worker_that_has_saved_a_later_step_is_not_waited_for() -> None:
    position = Position(workers=2)
    assert take(position, files(w0=[0, 1], w1=[0, 2])) == [
        (0, "worker_0"),
        (0, "worker_1"),
        (1, "worker_0"),
    ]


def test_a_worker_missing_from_the_hook_is_waited_for_once_it_is_seen() -> None:
    position = Position(workers=1)
    assert steps(take(position, files(w0=[0, 1], w1=[0]))) == [0]
    assert steps(take(position, files(w0=[0, 1], w1=[0, 1]))) == [1]


def test_when_the_job_has_ended_nothing_is_waited_for() -> None:
    position = Position(workers=2)
    assert take(position, files(w0=[0, 1])) == []
    assert steps(take(position, files(w0=[0, 1]), ended=True)) == [0, 1]


def test_a_silent_worker_is_waited_for_up_to_a_limit() -> None:
    position = Position(workers=2)
    assert take(position, files(w0=range(MAX_WAITING_FILES))) == []
    assert len(take(position, files(w0=range(MAX_WAITING_FILES + 1)))) == MAX_WAITING_FILES // 2 + 1
    assert take(position, files(w0=range(MAX_WAITING_FILES + 1))) == []


def test_a_late_file_is_read_and_marked_as_late() -> None:
    position = Position(workers=1)
    take(position, files(w0=[0, 2]))
    assert position.due(files(w0=[0, 1, 2, 3]), ended=False) == files(w0=[1, 3])
    assert position.give(file(1))
    assert not position.give(file(3))


def test_another_worker_of_the_newest_step_is_not_late() -> None:
    position = Position(workers=1)
    take(position, files(w0=[4]))
    assert not position.give(file(4, worker=1))


def test_the_number_of_files_listed_again_is_bounded() -> None:
    position = Position(workers=2)
    stored = files(w0=range(1000), w1=range(1000))
    take(position, stored)
    again = [one for one in stored if one.step > position.floor]
    assert LIST_OVERLAP_FILES - 2 <= len(again) <= LIST_OVERLAP_FILES
    assert len(json.dumps(position.to_json())) < 1000


def test_a_step_with_more_workers_than_the_overlap_is_not_split() -> None:
    many = {f"w{worker}": [7, 8] for worker in range(LIST_OVERLAP_FILES + 20)}
    position = Position(workers=len(many))
    due = position.due(files(**many), ended=False)
    for one in due[: len(due) // 2 - 1]:
        position.give(one)
    resumed = Position.from_json(json.loads(json.dumps(position.to_json())))
    assert len(take(resumed, files(**many))) == len(due) - len(due) // 2 + 1


@pytest.mark.parametrize("by_index", [False, True])
def test_an_event_file_is_awaited_only_when_found_by_its_index(by_index: bool) -> None:
    position = Position(workers=1, by_index=by_index)
    position.due(files(w0=[0, 1]), ended=False)
    assert not position.awaits(file(0))
    assert position.awaits(file(1)) is by_index


GROWTH = st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=6)
"""How many files each of up to three workers adds before each refresh."""


def histories(workers: int, growth: list[list[int]]) -> list[list[EventFile]]:
    """The files stored at each refresh; each worker saves in order, and workers may save different steps."""
    stored: list[EventFile] = []
    refreshes = []
    saved = [0] * workers
    for adds in growth:
        for worker in range(workers):
            for _ in range(adds[worker]):
                saved[worker] += 1
                stored.append(file(saved[worker] * 2 - saved[worker] % (worker + 1), worker))
        refreshes.append(list(stored))
    return refreshes


@given(st.integers(1, 3), GROWTH, st.randoms(use_true_random=False))
def test_every_file_is_read_once_and_in_order_despite_interruptions(
    workers: int, growth: list[list[int]], random: Random
) -> None:
    refreshes = histories(workers, growth)
    position = Position(workers=workers)
    got = []
    for stored in [*refreshes, refreshes[-1]]:
        ended = stored is refreshes[-1]
        while True:
            due = position.due([one for one in stored if one.step > position.floor], ended=ended)
            taken = random.randint(0, len(due))
            for one in due[:taken]:
                assert not position.give(one)
                got.append(one)
            position = Position.from_json(json.loads(json.dumps(position.to_json())))
            if taken == len(due):
                break
    assert got == sorted(refreshes[-1])


# -- a job that begins again --------------------------------------------------------------------------


def written(step: int, at: float, worker: int = 0) -> EventFile:
    return file(step, worker)._replace(modified=at, version=f"{at:g}")


def read_up_to(newest: int) -> Position:
    """One worker's steps 0 to `newest`, of which step N was written at second N."""
    position = Position(workers=1)
    take(position, [written(step, step) for step in range(newest + 1)])
    return position


@pytest.mark.parametrize("newest", [5, 200])
@pytest.mark.parametrize("step", [0, 3])
def test_a_file_that_is_written_again_shows_that_the_job_has_begun_again(newest: int, step: int) -> None:
    position = Position.from_json(json.loads(json.dumps(read_up_to(newest).to_json())))
    old = [written(number, number) for number in range(newest + 1)]
    assert not position.has_begun_again(old)
    mixed = [one for one in old if one.step != step] + [written(step, newest + 60)]
    assert position.has_begun_again(mixed)
    position.begin_again()
    assert steps(take(position, mixed)) == [step]
    resumed = [one for one in mixed if one.step != step + 1] + [written(step + 1, newest + 61)]
    assert not position.has_begun_again(resumed)
    assert steps(take(position, resumed)) == [step + 1]


def test_a_worker_that_is_merely_slow_has_not_begun_again() -> None:
    position = Position(workers=2)
    take(position, [written(step, step) for step in range(1000)])  # worker_1 has saved nothing
    assert position.floor > 100
    assert not position.has_begun_again([written(50, 2000, worker=1)])


def test_a_cursor_of_an_earlier_version_is_continued() -> None:
    old = {
        "workers": 1,
        "by_index": False,
        "floor": -1,
        "given": {"worker_0": [0, 1]},
        "newest": {"worker_0": 1},
    }
    position = Position.from_json(old)
    listed = [written(step, 10.0 + step) for step in range(3)]
    assert not position.has_begun_again(listed)
    assert steps(take(position, listed)) == [2]


def test_a_cursor_with_versions_stays_small() -> None:
    position = Position(workers=1)
    for step in range(1000, 1200):
        position.give(written(step, 1.0)._replace(version="89abcdef"))
    assert len(json.dumps(position.to_json())) < 2000
