"""The store in one SQLite file, for one machine and any number of processes on it.

With a write-ahead log, reading never waits for a writer. With `synchronous = FULL`, what `commit` has stored
is still there after a power cut. One connection serves all threads, one at a time: SQLite has a single writer
anyway, and the calls are short.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watcher.arn import run_arn
from watcher.errors import LeaseLost, StoreError
from watcher.model import Case, Change, Delivery, Finding, Incident, RuleFamily, incident_id
from watcher.store import schema
from watcher.store.amendments import amended, settled_last, together
from watcher.store.base import (
    JOB_TAKEN_OVER,
    Amend,
    Claimed,
    DueEvaluation,
    JobRecord,
    KnownRun,
    Look,
    StopRecord,
    WatchedJob,
    claimed,
    settled,
    waits_beyond,
)
from watcher.store.documents import (
    CHANGE,
    DELIVERY,
    EVALUATION,
    FINDING,
    INCIDENT,
    SNAPSHOT,
    as_optional_text,
    as_text,
    from_optional_text,
    from_text,
    job_record,
)
from watcher.store.leases import ClaimClock, Observed

HISTORY_PAGE_SIZE = 500
"""Changes that are in memory at the same time while the history is read."""

_JOBS = """
    SELECT *, (
        SELECT json_group_array(evaluation) FROM (
            SELECT evaluation FROM evaluations WHERE evaluations.run = jobs.run ORDER BY family
        )
    ) AS evaluations
    FROM jobs
"""
"""`evaluations` is a JSON list of texts, which are JSON themselves."""


class SqliteStore:
    """`path` is created if it does not exist, but its folder is not. Only its owner can read it.

    `busy_timeout` is how many seconds a call waits while another process writes. `monotonic` returns seconds.
    `clock` is asked when a file of an earlier version is opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout: float = 5,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path.absolute()
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._observed = Observed(monotonic)
        self._claim_clock = ClaimClock(self._observed, monotonic)
        _create_private(self._path)
        with self._translated():
            self._connection = sqlite3.connect(
                self._path,
                timeout=busy_timeout,
                isolation_level=None,  # no implicit transactions: `_transaction` begins each one
                check_same_thread=False,  # the lock lets one thread in at a time
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        schema.refuse_foreign(self._connection, self._path)
        _make_private(self._path)  # before SQLite creates its other files, with the same mode
        self._use_write_ahead_log()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        with _transaction(self._connection):
            schema.migrate(self._connection, self._path, schema.MIGRATIONS, self._clock())
        _make_private(self._path)

    def _use_write_ahead_log(self) -> None:
        """Changes only a new file. Waits for the lock itself, because SQLite does not do so here: of several
        processes that open a new file at the same time, all but one would get "database is locked"."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(0.01)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            problem = _problem(error, self._path, self._busy_timeout)
            raise StoreError(f"store {self._path}: {problem}") from error
        except ValidationError as error:
            raise StoreError(
                f"store {self._path}: a {error.title} in it cannot be parsed; {_START_OVER}"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection, _transaction(connection):
            yield connection

    # -- jobs -------------------------------------------------------------------------------------

    def hold(self, names: Sequence[str], owner: str, lease: float) -> set[str]:
        with self._writing() as connection:
            others = {
                name
                for name, token in connection.execute(
                    "SELECT name, token FROM leases WHERE name IN (SELECT value FROM json_each(?)) "
                    "AND owner != ?",
                    (json.dumps(list(names)), owner),
                )
                if not self._observed.ended(("job", name), token, lease)
            }
            tokens = {
                name: connection.execute(
                    "INSERT OR REPLACE INTO leases (name, owner) VALUES (?, ?)", (name, owner)
                ).lastrowid
                for name in set(names) - others
            }
            for name, token in tokens.items():
                self._observed.taken(("job", name), token)
            return set(tokens)

    def release(self, names: Sequence[str], owner: str) -> None:
        with self._writing() as connection:
            self._forget("job", _release(connection, names, owner))

    def _forget(self, kind: str, keys: Iterable[str]) -> None:
        for key in keys:
            self._observed.forget((kind, key))

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Case, ...]:
        arns = sorted({look.snapshot.arn for look in looks}) if holder else []
        cases: dict[str, Case] = {}
        with self._writing() as connection:
            if _release(connection, arns, holder) != arns:
                raise LeaseLost(JOB_TAKEN_OVER)
            for look in looks:
                _remember(connection, look)
                incident = incident_id(look.snapshot.run)
                if look.amend and (case := _amend(connection, incident, look.amend)):
                    cases[incident] = together(cases[incident], case) if incident in cases else case
            self._forget("job", arns)
        return tuple(cases.values())

    def watching(self) -> list[WatchedJob]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT run, name, status, fingerprint, describe_at FROM jobs WHERE watching ORDER BY run"
            )
            return [
                WatchedJob(run, name, status, fingerprint, from_optional_text(describe_at))
                for run, name, status, fingerprint, describe_at in rows
            ]

    def fingerprints(self, runs: Sequence[str]) -> Mapping[str, str]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT run, fingerprint FROM jobs WHERE run IN (SELECT value FROM json_each(?))",
                (json.dumps(list(runs)),),
            )
            return {row["run"]: row["fingerprint"] for row in rows}

    def job(self, run: str) -> JobRecord | None:
        with self._reading() as connection:
            row = connection.execute(f"{_JOBS} WHERE jobs.run = ?", (run,)).fetchone()
            return _job_record(row) if row else None

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        with self._reading() as connection:
            if name is None:
                rows = connection.execute(f"{_JOBS} ORDER BY created_at DESC, jobs.run")
            else:
                rows = connection.execute(
                    f"{_JOBS} WHERE name = ? ORDER BY created_at DESC, jobs.run", (name,)
                )
            return [_job_record(row) for row in rows]

    def runs(self) -> list[KnownRun]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT run, name, status, watching, changed_at FROM jobs ORDER BY created_at DESC, run"
            )
            return [
                KnownRun(run, name, status, bool(watching), from_text(changed_at))
                for run, name, status, watching, changed_at in rows
            ]

    def has_earlier_run(self, run: str) -> bool:
        with self._reading() as connection:
            (found,) = connection.execute(
                "SELECT EXISTS (SELECT 1 FROM jobs WHERE run > ? AND run < ?)", (f"{run_arn(run)}@", run)
            ).fetchone()
            return bool(found)

    def unwatch(self, arn: str, amend: Amend, before: str = "") -> Mapping[str, Case | None]:
        with self._writing() as connection:
            rows = connection.execute(
                "UPDATE jobs SET watching = FALSE "
                "WHERE arn = ? AND (? = '' OR run < ?) AND watching RETURNING run",
                (arn, before, before),
            ).fetchall()
            runs = sorted(row["run"] for row in rows)
            return {run: _amend(connection, incident_id(run), amend) for run in runs}

    def claim_evaluations(
        self, now: datetime, lease: float, limit: int, *, together: bool
    ) -> list[DueEvaluation]:
        with self._writing() as connection:
            rows = connection.execute(
                "SELECT run, family FROM evaluations WHERE together = ? AND due_at <= ? "
                "ORDER BY due_at, run, family LIMIT ?",
                (together, as_text(now), limit),
            ).fetchall()
            connection.executemany(
                "UPDATE evaluations SET due_at = ? WHERE run = ? AND family = ?",
                [(as_text(now + timedelta(seconds=lease)), run, family) for run, family in rows],
            )
            return [DueEvaluation(run, RuleFamily(family)) for run, family in rows]

    def next_evaluation(self) -> datetime | None:
        with self._reading() as connection:
            (due,) = connection.execute("SELECT min(due_at) FROM evaluations").fetchone()
            return from_optional_text(due)

    # -- incidents --------------------------------------------------------------------------------

    def amend(self, incident: str, amend: Amend) -> Case | None:
        with self._writing() as connection:
            return _amend(connection, incident, amend)

    def case(self, incident: str, after: int = 0) -> Case | None:
        with self._reading() as connection, _snapshot(connection):
            case = _case(connection, incident)
            if case is None:
                return None
            rows = connection.execute(
                "SELECT change FROM history WHERE incident = ? AND revision > ? ORDER BY revision, position",
                (incident, after),
            )
            return replace(case, changes=tuple(CHANGE.validate_json(row["change"]) for row in rows))

    def incidents(self) -> list[Incident]:
        with self._reading() as connection:
            rows = connection.execute("SELECT incident FROM incidents ORDER BY opened_at DESC, position DESC")
            return [INCIDENT.validate_json(row["incident"]) for row in rows]

    def findings(self, run: str | None = None) -> list[Finding]:
        with self._reading() as connection:
            if run is None:
                rows = connection.execute(
                    "SELECT finding FROM findings ORDER BY opened_at DESC, position DESC"
                )
            else:
                rows = connection.execute(
                    "SELECT finding FROM findings WHERE run = ? ORDER BY opened_at DESC, position DESC",
                    (run,),
                )
            return [FINDING.validate_json(row["finding"]) for row in rows]

    def record(self, change: Change) -> None:
        with self._writing() as connection:
            _append(connection, [change])

    def history(self, since: datetime | None = None) -> Iterator[Change]:
        after = (as_text(since) if since else "", -1)
        while rows := self._history_page(after):
            yield from (CHANGE.validate_json(row["change"]) for row in rows)
            after = (rows[-1]["at"], rows[-1]["position"])

    def _history_page(self, after: tuple[str, int]) -> list[sqlite3.Row]:
        with self._reading() as connection:
            return connection.execute(
                "SELECT at, position, change FROM history WHERE (at, position) > (?, ?) "
                "ORDER BY at, position LIMIT ?",
                (*after, HISTORY_PAGE_SIZE),
            ).fetchall()

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        with self._writing() as connection:
            self._claim_clock.claiming(now, lease)
            due = [
                (from_text(due_at), position)
                for due_at, position in connection.execute(
                    "SELECT due_at, position FROM heads WHERE state != 'in_flight' AND due_at <= ? "
                    "ORDER BY due_at, position LIMIT ?",
                    (as_text(now), limit),
                )
            ]
            due += [
                (ended_at, position)
                for ended_at, position in self._ends_of_leases(connection)
                if ended_at <= now
            ]
            longest_waiting = sorted(due)[:limit]  # so no lane starves
            rows = connection.execute(
                "SELECT * FROM deliveries WHERE position IN (SELECT value FROM json_each(?)) "
                "ORDER BY position",
                (json.dumps([position for _, position in longest_waiting]),),
            ).fetchall()
            taken = [claimed(_delivery(row)) for row in rows]
            for delivery in taken:
                _take(connection, delivery, owner)
            for row in rows:
                self._observed.taken(("delivery", row["id"]), row["claims"] + 1)
            return Claimed(taken, self._next_due(connection))

    def _ends_of_leases(self, connection: sqlite3.Connection) -> list[tuple[datetime, int]]:
        """When the delivery in flight of each lane can be claimed again, and its position."""
        return [
            (self._claim_clock.ready_at(("delivery", id_), claims, from_text(due_at)), position)
            for position, id_, due_at, claims in connection.execute(
                "SELECT position, id, due_at, claims FROM heads WHERE state = 'in_flight'"
            )
        ]

    def settle(self, owner: str, delivery: Delivery, amend: Amend | None = None) -> bool:
        with self._writing() as connection:
            # A later claim counts another attempt, so an owner whose lease has ended cannot settle it even if
            # it claimed the delivery again itself.
            row = connection.execute(
                "SELECT * FROM deliveries WHERE id = ? AND state = 'in_flight' AND owner = ? "
                "AND attempts = ?",
                (delivery.id, owner, delivery.attempts),
            ).fetchone()
            if row is None:
                return False
            held = _delivery(row)
            after = settled(held, delivery)
            _write_delivery(connection, after, last=settled_last(held, delivery, after))
            if amend:
                _amend(connection, held.incident, amend)
            self._forget("delivery", [delivery.id])
            return True

    def next_due(self) -> datetime | None:
        with self._reading() as connection:
            return self._next_due(connection)

    def _next_due(self, connection: sqlite3.Connection) -> datetime | None:
        (due,) = connection.execute("SELECT min(due_at) FROM heads WHERE state != 'in_flight'").fetchone()
        ends = [ends_at for ends_at, _ in self._ends_of_leases(connection)]
        return min([*ends, from_text(due)] if due else ends, default=None)

    def has_open(self, until: datetime | None = None) -> bool:
        with self._reading() as connection:
            rows = connection.execute("SELECT * FROM claimable WHERE state IN ('pending', 'in_flight')")
            return any(not (until and waits_beyond(_delivery(row), until)) for row in rows)

    def refused(self) -> list[Delivery]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT * FROM claimable WHERE state = 'refused' "
                "ORDER BY coalesce(refused_at, created_at), position"
            )
            return [_delivery(row) for row in rows]

    def deliveries(self, incident: str | None = None) -> list[Delivery]:
        with self._reading() as connection:
            if incident is None:
                rows = connection.execute("SELECT * FROM deliveries ORDER BY position")
            else:
                rows = connection.execute(
                    "SELECT * FROM deliveries WHERE incident = ? ORDER BY position", (incident,)
                )
            return [_delivery(row) for row in rows]

    # -- turns and marks --------------------------------------------------------------------------

    def take_turn(self, what: str, turn: int) -> bool:
        with self._writing() as connection:
            taken = connection.execute(
                """
                INSERT INTO turns VALUES (:what, :turn)
                ON CONFLICT (what) DO UPDATE SET turn = :turn WHERE turn < :turn
                """,
                {"what": what, "turn": turn},
            )
            return taken.rowcount == 1

    def mark(self, place: str) -> datetime | None:
        with self._reading() as connection:
            row = connection.execute("SELECT at FROM marks WHERE place = ?", (place,)).fetchone()
            return from_text(row["at"]) if row else None

    def set_mark(self, place: str, at: datetime) -> None:
        with self._writing() as connection:
            connection.execute(
                """
                INSERT INTO marks VALUES (:place, :at)
                ON CONFLICT (place) DO UPDATE SET at = :at WHERE at < :at
                """,
                {"place": place, "at": as_text(at)},
            )

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, run: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        with self._writing() as connection:
            connection.execute(
                """
                INSERT INTO stops (run, actor, at) SELECT :run, :actor, :now
                WHERE (SELECT count(*) FROM stops WHERE at > :hour_ago) < :max_per_hour
                ON CONFLICT (run) DO NOTHING
                """,
                {
                    "run": run,
                    "actor": actor,
                    "now": as_text(now),
                    "hour_ago": as_text(now - timedelta(hours=1)),
                    "max_per_hour": max_per_hour,
                },
            )
            row = connection.execute("SELECT 1 FROM stops WHERE run = ?", (run,)).fetchone()
            return row is not None

    def retract_stop(self, run: str) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM stops WHERE run = ?", (run,))

    def stop_of(self, run: str) -> StopRecord | None:
        with self._reading() as connection:
            row = connection.execute("SELECT * FROM stops WHERE run = ?", (run,)).fetchone()
            return StopRecord(row["run"], row["actor"], from_text(row["at"])) if row else None

    # ---------------------------------------------------------------------------------------------

    def check(self) -> str:
        with self._writing() as connection:
            (written,) = connection.execute(
                "UPDATE probe SET writes = writes + 1 RETURNING writes"
            ).fetchone()
        with self._reading() as connection:
            (read, jobs) = connection.execute(
                "SELECT writes, (SELECT count(*) FROM jobs) FROM probe"
            ).fetchone()
        if read < written:
            raise StoreError(f"store {self._path}: does not keep what is written to it; change store.url")
        return f"SQLite {sqlite3.sqlite_version}, {self._path}, jobs: {jobs}"

    def close(self) -> None:
        with self._reading() as connection:
            connection.close()


def _create_private(path: Path) -> None:
    """Create the file if there is none, readable by its owner alone, because it holds hyperparameters and the
    URLs of webhooks. SQLite gives its other files the same mode. It reports what fails here, too."""
    with suppress(OSError):
        created = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.fchmod(created, 0o600)  # a umask may take even the owner's rights
        os.close(created)


def _make_private(path: Path) -> None:
    """The same for the files that an earlier version created. Those of another user stay as they are."""
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(OSError):
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Several statements that read the same state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. IMMEDIATE takes the write lock at the beginning, so that no later statement has to wait
    for another writer."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back when the disk is full
            connection.execute("ROLLBACK")
        raise


def _release(connection: sqlite3.Connection, names: Sequence[str], owner: str) -> list[str]:
    """Returns those of them that `owner` held."""
    return [
        name
        for name in names
        if connection.execute("DELETE FROM leases WHERE name = ? AND owner = ?", (name, owner)).rowcount
    ]


def _remember(connection: sqlite3.Connection, look: Look) -> None:
    snapshot = look.snapshot
    run = snapshot.run
    connection.execute(
        """
        INSERT INTO jobs (run, arn, name, status, fingerprint, describe_at, watching, created_at,
                          first_seen_at, changed_at, snapshot)
        VALUES (:run, :arn, :name, :status, :fingerprint, :describe_at, :watching, :created_at,
                :seen_at, :seen_at, :snapshot)
        ON CONFLICT (run) DO UPDATE SET
            name = excluded.name, status = excluded.status, describe_at = excluded.describe_at,
            watching = excluded.watching, created_at = excluded.created_at, snapshot = excluded.snapshot,
            changed_at = iif(fingerprint = excluded.fingerprint, changed_at, excluded.changed_at),
            fingerprint = excluded.fingerprint
        """,
        {
            "run": run,
            "arn": snapshot.arn,
            "name": snapshot.name,
            "status": snapshot.status,
            "fingerprint": look.fingerprint,
            "describe_at": as_optional_text(look.describe_at),
            "watching": look.watching,
            "created_at": as_text(snapshot.created_at),
            "seen_at": as_text(look.seen_at),
            "snapshot": SNAPSHOT.dump_json(snapshot).decode(),
        },
    )
    connection.executemany(
        """
        INSERT INTO evaluations (run, family, together, due_at, evaluation) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (run, family) DO UPDATE
        SET together = excluded.together, due_at = excluded.due_at, evaluation = excluded.evaluation
        """,
        [
            (
                run,
                evaluation.family,
                evaluation.reads.together,
                as_optional_text(evaluation.due_at),
                EVALUATION.dump_json(evaluation).decode(),
            )
            for evaluation in look.evaluations
        ],
    )


# -- incidents -------------------------------------------------------------------------------------


def _case(connection: sqlite3.Connection, incident: str) -> Case | None:
    """Without its history."""
    row = connection.execute("SELECT incident FROM incidents WHERE id = ?", (incident,)).fetchone()
    if row is None:
        return None
    findings = connection.execute(
        "SELECT finding FROM findings WHERE incident = ? ORDER BY position", (incident,)
    )
    deliveries = connection.execute(
        "SELECT * FROM deliveries WHERE incident = ? ORDER BY position", (incident,)
    )
    return Case(
        INCIDENT.validate_json(row["incident"]),
        tuple(FINDING.validate_json(each["finding"]) for each in findings),
        tuple(_delivery(each) for each in deliveries),
    )


def _amend(connection: sqlite3.Connection, incident: str, amend: Amend) -> Case | None:
    """The caller has begun a transaction, so nothing changes between reading and writing."""
    change = amended(incident, _case(connection, incident), amend)
    if change is None:
        return None
    if change.incident:
        connection.execute(
            """
            INSERT INTO incidents (id, run, opened_at, incident) VALUES (?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET opened_at = excluded.opened_at, incident = excluded.incident
            """,
            (
                change.incident.id,
                change.incident.run,
                as_text(change.incident.opened_at),
                INCIDENT.dump_json(change.incident).decode(),
            ),
        )
    connection.executemany(
        """
        INSERT INTO findings (id, incident, run, opened_at, finding) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET opened_at = excluded.opened_at, finding = excluded.finding
        """,
        [
            (each.id, each.incident, each.run, as_text(each.opened_at), FINDING.dump_json(each).decode())
            for each in change.findings
        ],
    )
    for delivery in change.deliveries:
        _write_delivery(connection, delivery, last=delivery.id in change.last)
    _append(connection, change.changes)
    return change.case


def _append(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    connection.executemany(
        "INSERT INTO history (incident, revision, at, change) VALUES (?, ?, ?, ?)",
        [
            (each.incident, each.revision, as_text(each.at), CHANGE.dump_json(each).decode())
            for each in changes
        ],
    )


# -- deliveries ------------------------------------------------------------------------------------

_COLUMNS = tuple(field.name for field in fields(Delivery))
_UPDATE = f"""
    UPDATE deliveries
    SET {", ".join(f'"{name}" = :{name}' for name in _COLUMNS)}, place = coalesce(:place, place),
        owner = iif(state = 'in_flight' AND :state = 'in_flight', owner, NULL)
    WHERE id = :id
"""  # noqa: S608 - the names of fields
_INSERT = f"""
    INSERT INTO deliveries ({", ".join(f'"{name}"' for name in _COLUMNS)}, place, claims)
    VALUES ({", ".join(f":{name}" for name in _COLUMNS)}, :place, 0)
"""  # noqa: S608 - the names of fields


def _write_delivery(connection: sqlite3.Connection, delivery: Delivery, *, last: bool) -> None:
    """`last`: at the end of its lane."""
    place = _end_of(connection, delivery.lane) if last else None
    values = _columns(delivery) | {"place": place}
    if not connection.execute(_UPDATE, values).rowcount:
        connection.execute(_INSERT, values)


def _end_of(connection: sqlite3.Connection, lane: str) -> int:
    (place,) = connection.execute(
        "SELECT coalesce(max(place), 0) + 1 FROM claimable WHERE lane = ?", (lane,)
    ).fetchone()
    return int(place)


def _take(connection: sqlite3.Connection, delivery: Delivery, owner: str) -> None:
    connection.execute(
        """
        UPDATE deliveries
        SET state = :state, attempts = :attempts, uncertain = :uncertain, trying = :trying,
            owner = :owner, claims = claims + 1
        WHERE id = :id
        """,
        _columns(delivery) | {"owner": owner},
    )


# -- rows and values ------------------------------------------------------------------------------


def _columns(delivery: Delivery) -> dict[str, Any]:
    values = DELIVERY.dump_python(delivery)
    return {name: as_text(value) if isinstance(value, datetime) else value for name, value in values.items()}


def _delivery(row: sqlite3.Row) -> Delivery:
    return DELIVERY.validate_python(dict(row))


def _job_record(row: sqlite3.Row) -> JobRecord:
    return job_record(dict(row), row["snapshot"], json.loads(row["evaluations"]))


# -- errors ----------------------------------------------------------------------------------------

_START_OVER = "restore a backup, or move the file away to start over (then alerts may be sent again)"

_PROBLEMS: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "its disk is full; free some space, or move store.url to another disk",
    sqlite3.SQLITE_IOERR: "its disk failed to read or write; check whether it is full or broken, "
    "or move store.url to another disk",
    sqlite3.SQLITE_READONLY: "cannot be written; allow this user to write to the file and its folder",
    sqlite3.SQLITE_NOTADB: "is not a SQLite file; name another file in store.url",
    sqlite3.SQLITE_CORRUPT: f"is damaged; {_START_OVER}",
}


def _problem(error: sqlite3.Error, path: Path, busy_timeout: float) -> str:
    """What is wrong with the file, and how to fix it."""
    # Errors of Python's module itself, such as for a closed connection, have no code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without SQLite's details
    if code == sqlite3.SQLITE_BUSY:
        return (
            f"another process has been writing to it for longer than {busy_timeout:g} s; "
            "end that process, or give each its own store.url"
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}; create it, or name another file in store.url"
        return "cannot be opened; check that it is a file, and that this user may read and write it"
    return f"{_PROBLEMS[code]} ({error})" if code in _PROBLEMS else str(error)
