"""Which minutes of profiler output are settled."""

from __future__ import annotations

import json

from watcher.profiler_output.files import ProfilerFile
from watcher.profiler_output.position import Position

BEGIN = 1_700_000_040.0


def file(minute: int, node: str = "algo-1", timeline: str = "") -> ProfilerFile:
    return ProfilerFile(BEGIN + 60 * minute, node, f"{node} {minute}", 1, timeline)


def settled(position: Position, *files: ProfilerFile, ended: bool = False) -> float:
    system = [one for one in files if not one.timeline]
    framework = [one for one in files if one.timeline]
    return (position.settled(system, framework, ended=ended) - BEGIN) / 60


def test_minutes_that_follow_one_another_are_read_at_once() -> None:
    assert settled(Position(), file(1), file(2)) == 2


def test_a_missing_minute_is_awaited_until_there_is_a_file_from_three_minutes_later() -> None:
    position = Position()
    position.read([file(1)], file(1).end)
    assert settled(position, file(3)) == 1
    assert settled(position, file(2), file(3)) == 3
    assert settled(position, file(3), file(4)) == 1
    # Now minute 2 is given up, and what follows it has no gap.
    assert settled(position, file(3), file(4), file(5)) == 5


def test_a_slow_node_is_awaited_for_three_minutes() -> None:
    position = Position()
    position.read([file(1), file(1, "algo-2")], file(1).end)
    assert settled(position, file(2)) == 1
    assert settled(position, file(2), file(2, "algo-2")) == 2
    assert settled(position, file(2), file(3), file(4), file(5)) == 2


def test_everything_is_settled_when_the_job_has_ended() -> None:
    position = Position()
    position.read([file(1), file(1, "algo-2")], file(1).end)
    assert settled(position, file(4), ended=True) == 4


def test_a_job_with_framework_files_is_read_three_minutes_late() -> None:
    assert settled(Position(), file(1), file(5), file(4, timeline="pythontimeline")) == 2


def test_nothing_new_moves_nothing() -> None:
    position = Position()
    position.read([file(3)], file(3).end)
    assert settled(position) == 3
    assert settled(position, ended=True) == 3


def test_a_cursor_is_small_and_goes_on() -> None:
    position = Position()
    position.read([file(7), file(7, "algo-2")], file(7).end)
    document = json.loads(json.dumps(position.to_json()))
    assert len(json.dumps(document)) < 200
    assert Position.from_json(document) == position
