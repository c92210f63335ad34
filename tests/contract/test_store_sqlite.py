"""What only the SQLite store has to handle: other processes, `kill -9`, full disks, foreign files."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.contract.samples import NOON, alert, delivery, incident, look, run
from tests.contract.store_process import (
    AMENDMENTS,
    BATCH_SIZE,
    DESTINATIONS,
    Process,
    Program,
    amend,
    both_evaluations,
    claim_evaluations,
    commit,
    commit_evaluations,
    deliver,
    deliver_edits,
    open_as_nobody,
    open_new,
    process,
    stop,
)
from watcher.errors import ConfigError, StoreError, StoreTooNew
from watcher.model import RuleFamily
from watcher.store import open_store, schema
from watcher.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


@contextmanager
def opened(path: Path, busy_timeout: float = 5) -> Iterator[SqliteStore]:
    with closing(SqliteStore(path, busy_timeout=busy_timeout)) as store:
        yield store


def all_at_once(program: Program, path: Path, processes: int) -> list[str]:
    """The reports of this many processes of one program, all started at the same moment."""
    return at_once(*[(program, path)] * processes)


def at_once(*programs: tuple[Program, Path]) -> list[str]:
    with ExitStack() as stack:
        started = [Process(program, path, f"p{n}") for n, (program, path) in enumerate(programs)]
        for each in started:
            stack.callback(each.close)
        for each in started:
            each.ready()
        for each in started:
            each.go()
        return [line for each in started for line in each.lines()]


# -- persistence ----------------------------------------------------------------------------------


def test_committed_data_is_there_when_the_file_is_reopened(path: Path) -> None:
    with opened(path) as store:
        store.commit([alert("job", "console", "slack:#ml")])
        claimed = store.claim("us", NOON, 60, 1).deliveries
        store.permit_stop(run("job"), "us", NOON, 10)
        store.set_mark("here", NOON)
        before = everything(store)

    with opened(path) as store:
        assert everything(store) == before
        assert claimed[0] in store.deliveries()


def everything(store: SqliteStore) -> tuple[object, ...]:
    return (
        store.jobs(),
        store.incidents(),
        store.findings(),
        store.deliveries(),
        list(store.history()),
        store.stop_of(run("job")),
        store.mark("here"),
    )


def test_a_commit_is_complete_or_absent_whenever_the_process_is_killed(path: Path) -> None:
    kills = 8
    for kill in range(kills):
        with process(commit, path, f"run{kill}") as program:
            program.go()
            reports = program.lines()
            acknowledged = [next(reports) for _ in range(kill + 1)]
            program.kill()  # somewhere in the following batches
            acknowledged += reports

        with opened(path) as store:
            jobs = [record.snapshot.name for record in store.jobs()]
            findings = [finding.job for finding in store.findings()]
            incidents = [incident.job for incident in store.incidents()]
            changes = list(store.history())
            deliveries = store.deliveries()

        of_run = [job for job in jobs if job.startswith(f"run{kill}-")]
        batches = {job.split("-")[1] for job in of_run}
        assert len(of_run) == BATCH_SIZE * len(batches), "a part of a batch is there"
        assert sorted(findings) == sorted(incidents) == sorted(jobs)
        assert len(changes) == len(jobs)
        assert len(deliveries) == len(jobs) * len(DESTINATIONS)
        assert {line.removeprefix("committed ") for line in acknowledged} <= batches, "a batch is lost"

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_the_evaluations_of_a_run_advance_together_whenever_the_process_is_killed(path: Path) -> None:
    for kill in range(4):
        with process(commit_evaluations, path) as program:
            program.go()
            reports = program.lines()
            acknowledged = [next(reports) for _ in range(kill + 1)]
            program.kill()  # somewhere in the following commits
            acknowledged += reports

        with opened(path) as store:
            record = store.job(run("job"))
        assert record is not None
        [reached] = {evaluation.cursor for evaluation in record.evaluations}
        assert record.evaluations == both_evaluations(int(reached))
        assert int(reached) >= int(acknowledged[-1].removeprefix("committed "))


# -- several processes ----------------------------------------------------------------------------


def test_processes_that_claim_at_once_never_get_the_same_delivery_and_keep_the_order(path: Path) -> None:
    lanes = [f"slack:#{n}" for n in range(4)]
    with opened(path) as store:
        store.commit([alert(f"job-{n}", *lanes) for n in range(40)])
        given = store.deliveries()

    reports = [line.split() for line in all_at_once(deliver, path, processes=3)]

    assert {word for word, *_ in reports} == {"claimed"}
    by_lane = defaultdict(list)
    for _, _nanoseconds, lane, delivery_id in sorted(reports, key=lambda line: int(line[1])):
        by_lane[lane].append(delivery_id)
    for lane in lanes:
        assert by_lane[lane] == [delivery.id for delivery in given if delivery.lane == lane]


def test_processes_that_claim_at_once_never_get_the_same_evaluation(path: Path) -> None:
    with opened(path) as store:
        store.commit([look(f"job-{n}", evaluations=both_evaluations(0)) for n in range(30)])

    reports = all_at_once(claim_evaluations, path, processes=3)

    assert sorted(reports) == sorted(
        f"{run(f'job-{n}')} {family}" for n in range(30) for family in RuleFamily
    )


def test_no_amendment_is_lost_among_processes_that_amend_one_incident_at_once(path: Path) -> None:
    with opened(path) as store:
        store.commit([alert("job", "console")])

        reports = all_at_once(amend, path, processes=3)

        made = sorted(int(line.removeprefix("revision ")) for line in reports)
        assert made == list(range(2, 2 + 3 * AMENDMENTS))
        case = store.case(incident("job").id)
        assert case is not None
        assert case.incident.revision == 1 + 3 * AMENDMENTS
        assert [change.revision for change in case.changes] == list(range(1, 2 + 3 * AMENDMENTS))
        assert case.deliveries == (delivery("job", wanted=1 + 3 * AMENDMENTS),)


def test_each_change_is_told_once_while_processes_change_and_deliver_at_once(path: Path) -> None:
    with opened(path) as store:
        store.commit([alert("job", "console")])
        programs = (amend, amend, deliver_edits, deliver_edits)

        reports = [line.split() for line in at_once(*((program, path) for program in programs))]

        told = sorted((int(line[1]), int(line[2])) for line in reports if line[0] == "told")
        assert "lost" not in {line[0] for line in reports}
        assert [before for before, _ in told] == [0, *(after for _, after in told[:-1])]
        assert told[-1][1] == 1 + 2 * AMENDMENTS
        assert not store.has_open()


def test_processes_that_stop_jobs_at_once_share_one_limit(path: Path) -> None:
    with opened(path):
        reports = all_at_once(stop, path, processes=3)

    assert len(reports) == 10


def test_processes_that_create_the_file_at_once_can_all_open_it(path: Path) -> None:
    reports = all_at_once(open_new, path, processes=4)

    assert len(reports) == 4
    assert all(line.startswith("opened SQLite ") for line in reports)


def test_opening_waits_for_a_process_that_is_creating_the_file(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process"):
            SqliteStore(path, busy_timeout=0.01)

        release = threading.Timer(0.05, writer.execute, ["ROLLBACK"])
        release.start()
        with opened(path) as store:
            assert store.jobs() == []
        release.join()


def test_a_reader_does_not_wait_for_a_writer(path: Path) -> None:
    with opened(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as writer:
        store.commit([look("job")])
        writer.execute("BEGIN IMMEDIATE")

        assert [job.name for job in store.watching()] == ["job"]


def test_a_file_locked_by_another_process_is_a_clear_error(path: Path) -> None:
    with (
        opened(path, busy_timeout=0.05) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"another process .* longer than 0\.05 s"):
            store.commit([alert("job", "console")])
        writer.execute("ROLLBACK")

        assert store.jobs() == []
        assert len(store.commit([alert("job", "console")])) == 1


# -- schema versions ------------------------------------------------------------------------------


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        return int(number)


def test_a_new_file_has_the_latest_version(path: Path) -> None:
    with opened(path):
        assert version(path) == len(schema.MIGRATIONS)


def test_a_file_of_an_earlier_version_is_migrated_and_keeps_its_data(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as store:
        store.commit([look("job")])
    later = (*schema.MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT", "UPDATE jobs SET note = name"))
    monkeypatch.setattr(schema, "MIGRATIONS", later)

    with opened(path) as store:
        assert [job.name for job in store.watching()] == ["job"]

    assert version(path) == len(later)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT note FROM jobs").fetchall() == [("job",)]


def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path):
        before = version(path)
    broken = (*schema.MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN note TEXT", "INSERT INTO nowhere VALUES (1)"))
    with monkeypatch.context() as patch, pytest.raises(StoreError, match="nowhere"):
        patch.setattr(schema, "MIGRATIONS", broken)
        SqliteStore(path)

    assert version(path) == before
    with closing(sqlite3.connect(path)) as connection:
        assert "note" not in [column for _, column, *_ in connection.execute("PRAGMA table_info (jobs)")]


def test_a_file_of_a_later_version_is_refused_with_the_fix(path: Path) -> None:
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreTooNew, match=r"watcher\.db: has schema version 99.*update Watcher"):
        SqliteStore(path)
    assert version(path) == 99


# -- who can read it ------------------------------------------------------------------------------


def modes(path: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("watcher.db*")}


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_only_its_owner_can_read_the_files_whatever_the_umask_is(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(path) as store:
            store.commit([look("job")])
            assert modes(path) == dict.fromkeys(("watcher.db", "watcher.db-wal", "watcher.db-shm"), 0o600)
    finally:
        os.umask(before)


def test_files_that_others_can_read_are_closed_to_them_when_they_are_opened(path: Path) -> None:
    with opened(path) as first:
        first.commit([look("job")])
        for file in path.parent.glob("watcher.db*"):
            file.chmod(0o644)
        with opened(path):
            assert set(modes(path).values()) == {0o600}


# -- queries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        (
            "SELECT run, name, status, fingerprint, describe_at FROM jobs WHERE watching ORDER BY run",
            "SCAN jobs USING COVERING INDEX watched_jobs",
        ),
        (
            "SELECT EXISTS (SELECT 1 FROM claimable WHERE state IN ('pending', 'in_flight'))",
            "USING COVERING INDEX claimable_deliveries",
        ),
        ("SELECT min(due_at) FROM heads", "USING COVERING INDEX claimable_deliveries"),
        ("SELECT max(place) FROM claimable WHERE lane = 'console'", "claimable_deliveries (lane=?)"),
    ],
)
def test_what_is_asked_all_the_time_is_read_from_an_index(path: Path, query: str, plan: str) -> None:
    with opened(path), closing(sqlite3.connect(path)) as connection:
        steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert any(plan in step for step in steps)
        assert "SCAN deliveries" not in steps


# -- faults ---------------------------------------------------------------------------------------


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses to write beyond `size` bytes, as it does when a disk or a quota is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_loses_nothing_and_writing_continues_once_there_is_space(path: Path) -> None:
    many = [alert(f"job-{n}", "console") for n in range(500)]
    with opened(path) as store:
        store.commit([alert("before", "console")])
        with file_size_limit(256 * 1024), pytest.raises(StoreError, match="disk"):
            store.commit(many)

        assert [record.snapshot.name for record in store.jobs()] == ["before"]
        assert len(store.deliveries()) == 1
        assert len(store.commit(many)) == len(many)

    with opened(path) as store:
        assert len(store.deliveries()) == 1 + len(many)


def test_a_full_disk_is_reported_as_such(path: Path) -> None:
    with opened(path) as store:
        # SQLite's own limit gives the same error as a full disk.
        store._connection.execute("PRAGMA max_page_count = 30")
        with pytest.raises(StoreError, match=r"watcher\.db: its disk is full.*move store\.url"):
            store.commit([alert(f"job-{n}", "console") for n in range(500)])

        assert store.jobs() == []


def test_a_file_without_write_permission_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        path = folder / "watcher.db"
        with opened(path):
            pass
        path.chmod(0o444)
        folder.chmod(0o555)

        reports = all_at_once(open_as_nobody, path, processes=1)
        folder.chmod(0o755)

    assert len(reports) == 1
    assert "cannot be written; allow this user" in reports[0]


def test_a_missing_folder_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no folder .*/nowhere; create it"):
        SqliteStore(tmp_path / "nowhere" / "watcher.db")


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened; check that it is a file"):
        SqliteStore(tmp_path)


def test_a_file_that_is_not_a_database_is_refused_and_left_unchanged(path: Path) -> None:
    path.write_text("Dear diary, " * 100)

    with pytest.raises(StoreError, match="is not a SQLite file; name another"):
        SqliteStore(path)
    assert path.read_text().startswith("Dear diary")


def test_a_database_of_another_program_is_refused_and_left_unchanged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE experiments (name)")
    path.chmod(0o644)
    before = path.read_bytes()

    with pytest.raises(StoreError, match="belongs to another program"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert modes(path)["watcher.db"] == 0o644


def test_a_damaged_file_is_an_error_that_says_how_to_start_again(path: Path) -> None:
    with opened(path) as store:
        store.commit([alert(f"job-{n}", "console") for n in range(100)])
    healthy = path.read_bytes()
    path.write_bytes(healthy[:8192] + b"\xa5" * (len(healthy) - 8192))

    with pytest.raises(StoreError, match=r"watcher\.db: is damaged; .* start over"), opened(path) as store:
        store.jobs()


def test_an_unreadable_record_is_an_error_that_names_it(path: Path) -> None:
    with opened(path) as store, closing(sqlite3.connect(path)) as connection:
        store.commit([look("job")])
        connection.execute("UPDATE jobs SET snapshot = '{}'")
        connection.commit()

        with pytest.raises(StoreError, match="a JobSnapshot in it cannot be parsed"):
            store.jobs()


def test_a_closed_store_raises_a_store_error_and_may_be_closed_again(path: Path) -> None:
    store = SqliteStore(path)
    store.close()
    store.close()

    with pytest.raises(StoreError, match="closed"):
        store.watching()


# -- store.url ------------------------------------------------------------------------------------


def test_three_slashes_mean_a_relative_path_and_four_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absolute").mkdir()
    urls = {
        "sqlite:///relative.db": tmp_path / "relative.db",
        f"sqlite:///{tmp_path}/absolute/watcher.db": tmp_path / "absolute/watcher.db",
    }
    for url, file in urls.items():
        with closing(open_store(url)) as store:
            assert str(file) in store.check()
        assert file.exists()


@pytest.mark.parametrize(
    "url", ["", "watcher.db", "sqlite://watcher.db", "sqlite:///", "dynamodb:///TABLE", "redis:///x"]
)
def test_any_other_url_is_refused_with_the_key_the_value_and_the_fix(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_store(url)

    assert f'store.url = "{url}"' in str(refused.value)
    assert "sqlite:///FILE" in str(refused.value)


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        open_store("postgresql://watcher:s3cret@db.example.com/watcher")

    assert "s3cret" not in str(refused.value)
    assert "db.example.com/watcher" in str(refused.value)
