"""The store in one SQLite file, for one machine and any number of processes on it.

With a write-ahead log, reading never waits for a writer. With `synchronous = FULL`, what `commit` has stored
is still there after a power cut. One connection serves all threads, one at a time: SQLite has a single writer
anyway, and the calls are short.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from watcher.errors import LeaseLost, StoreError
from watcher.model import Delivery, Finding, Reads
from watcher.store import schema
from watcher.store.base import JOB_TAKEN_OVER, Claimed, JobRecord, Look, StopRecord, WatchedJob
from watcher.store.documents import (
    DELIVERY,
    EVALUATION,
    FINDING,
    SNAPSHOT,
    as_optional_text,
    as_text,
    from_optional_text,
    from_text,
    job_record,
)

_JOBS = "SELECT * FROM jobs LEFT JOIN evaluations ON job_arn = arn"


class SqliteStore:
    """`path` is created if it does not exist, but its folder is not.

    `busy_timeout` is how many seconds a call waits while another process writes.
    """

    def __init__(self, path: Path, *, busy_timeout: float = 5) -> None:
        self._path = path.absolute()
        self._busy_timeout = busy_timeout
        self._lock = threading.Lock()
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
        self._use_write_ahead_log()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        with _transaction(self._connection):
            schema.migrate(self._connection, self._path, schema.MIGRATIONS)

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

    def hold(self, job_arns: Sequence[str], owner: str, now: datetime, lease: float) -> set[str]:
        with self._writing() as connection:
            return {
                arn
                for arn in job_arns
                if connection.execute(
                    """
                    INSERT INTO leases VALUES (:arn, :owner, :until)
                    ON CONFLICT (job_arn) DO UPDATE SET owner = :owner, until = :until
                    WHERE owner = :owner OR until <= :now
                    """,
                    {
                        "arn": arn,
                        "owner": owner,
                        "until": as_text(now + timedelta(seconds=lease)),
                        "now": as_text(now),
                    },
                ).rowcount
            }

    def release(self, job_arns: Sequence[str], owner: str) -> None:
        with self._writing() as connection:
            _release(connection, job_arns, owner)

    def commit(self, looks: Sequence[Look], holder: str = "") -> tuple[Finding, ...]:
        with self._writing() as connection:
            if holder:
                arns = {look.snapshot.arn for look in looks}
                if _release(connection, sorted(arns), holder) < len(arns):
                    raise LeaseLost(JOB_TAKEN_OVER)
            return tuple(finding for look in looks for finding in _remember(connection, look))

    def watching(self) -> list[WatchedJob]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT arn, name, status, fingerprint, describe_at FROM jobs WHERE watching ORDER BY arn"
            )
            return [
                WatchedJob(arn, name, status, fingerprint, from_optional_text(describe_at))
                for arn, name, status, fingerprint, describe_at in rows
            ]

    def job(self, arn: str) -> JobRecord | None:
        with self._reading() as connection:
            row = connection.execute(f"{_JOBS} WHERE arn = ?", (arn,)).fetchone()
            return _job_record(row) if row else None

    def jobs(self, name: str | None = None) -> list[JobRecord]:
        with self._reading() as connection:
            if name is None:
                rows = connection.execute(f"{_JOBS} ORDER BY created_at DESC, arn")
            else:
                rows = connection.execute(f"{_JOBS} WHERE name = ? ORDER BY created_at DESC, arn", (name,))
            return [_job_record(row) for row in rows]

    def unwatch(self, arn: str) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE jobs SET watching = FALSE WHERE arn = ?", (arn,))

    def claim_evaluations(self, now: datetime, lease: float, limit: int, reads: Reads) -> list[str]:
        with self._writing() as connection:
            rows = connection.execute(
                "SELECT job_arn FROM evaluations WHERE reads = ? AND due_at <= ? "
                "ORDER BY due_at, job_arn LIMIT ?",
                (reads, as_text(now), limit),
            ).fetchall()
            arns = [row["job_arn"] for row in rows]
            connection.executemany(
                "UPDATE evaluations SET due_at = ? WHERE job_arn = ?",
                [(as_text(now + timedelta(seconds=lease)), arn) for arn in arns],
            )
            return arns

    def next_evaluation(self) -> datetime | None:
        with self._reading() as connection:
            (due,) = connection.execute("SELECT min(due_at) FROM evaluations").fetchone()
            return from_optional_text(due)

    # -- findings ---------------------------------------------------------------------------------

    def finding(self, finding_id: str) -> Finding | None:
        with self._reading() as connection:
            row = connection.execute("SELECT finding FROM findings WHERE id = ?", (finding_id,)).fetchone()
            return FINDING.validate_json(row["finding"]) if row else None

    def findings(self, job_arn: str | None = None) -> list[Finding]:
        with self._reading() as connection:
            if job_arn is None:
                rows = connection.execute(
                    "SELECT finding FROM findings ORDER BY opened_at DESC, position DESC"
                )
            else:
                rows = connection.execute(
                    "SELECT finding FROM findings WHERE job_arn = ? ORDER BY opened_at DESC, position DESC",
                    (job_arn,),
                )
            return [FINDING.validate_json(row["finding"]) for row in rows]

    # -- deliveries -------------------------------------------------------------------------------

    def claim(self, owner: str, now: datetime, lease: float, limit: int) -> Claimed:
        with self._writing() as connection:
            rows = connection.execute(
                """
                UPDATE deliveries
                SET state = 'in_flight', attempts = attempts + 1,
                    uncertain = uncertain OR state = 'in_flight',
                    owner = :owner, lease_until = :until
                WHERE position IN (
                    SELECT position FROM heads WHERE ready_at <= :now
                    ORDER BY ready_at, position LIMIT :limit  -- longest waiting first: no lane starves
                )
                RETURNING *
                """,
                {
                    "owner": owner,
                    "now": as_text(now),
                    "until": as_text(now + timedelta(seconds=lease)),
                    "limit": limit,
                },
            ).fetchall()
            claimed = [_delivery(row) for row in sorted(rows, key=lambda row: row["position"])]
            return Claimed(claimed, _next_due(connection))

    def settle(self, owner: str, delivery: Delivery, then: Sequence[Delivery] = ()) -> bool:
        with self._writing() as connection:
            # A later claim counts another attempt, so an owner whose lease has ended cannot settle it even if
            # it claimed the delivery again itself.
            settled = connection.execute(
                """
                UPDATE deliveries
                SET state = :state, due_at = :due_at, uncertain = :uncertain, receipt = :receipt,
                    error = :error, delivered_at = :delivered_at, owner = NULL, lease_until = NULL
                WHERE id = :id AND state = 'in_flight' AND owner = :owner AND attempts = :attempts
                """,
                _columns(delivery) | {"owner": owner},
            ).rowcount
            if settled:
                _add_deliveries(connection, then)
            return settled == 1

    def next_due(self) -> datetime | None:
        with self._reading() as connection:
            return _next_due(connection)

    def deliveries(self, finding_id: str | None = None) -> list[Delivery]:
        with self._reading() as connection:
            if finding_id is None:
                rows = connection.execute("SELECT * FROM deliveries ORDER BY position")
            else:
                rows = connection.execute(
                    "SELECT * FROM deliveries WHERE finding_id = ? ORDER BY position", (finding_id,)
                )
            return [_delivery(row) for row in rows]

    def cancel(self, delivery_id: str, then: Sequence[Delivery] = ()) -> bool:
        with self._writing() as connection:
            cancelled = connection.execute(
                "UPDATE deliveries SET state = 'cancelled' WHERE id = ? AND state = 'pending'", (delivery_id,)
            ).rowcount
            if cancelled:
                _add_deliveries(connection, then)
            return cancelled == 1

    # -- turns ------------------------------------------------------------------------------------

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

    # -- stops ------------------------------------------------------------------------------------

    def permit_stop(self, job_arn: str, actor: str, now: datetime, max_per_hour: int) -> bool:
        with self._writing() as connection:
            connection.execute(
                """
                INSERT INTO stops (job_arn, actor, at) SELECT :job_arn, :actor, :now
                WHERE (SELECT count(*) FROM stops WHERE at > :hour_ago) < :max_per_hour
                ON CONFLICT (job_arn) DO NOTHING
                """,
                {
                    "job_arn": job_arn,
                    "actor": actor,
                    "now": as_text(now),
                    "hour_ago": as_text(now - timedelta(hours=1)),
                    "max_per_hour": max_per_hour,
                },
            )
            row = connection.execute("SELECT 1 FROM stops WHERE job_arn = ?", (job_arn,)).fetchone()
            return row is not None

    def stop_of(self, job_arn: str) -> StopRecord | None:
        with self._reading() as connection:
            row = connection.execute("SELECT * FROM stops WHERE job_arn = ?", (job_arn,)).fetchone()
            return StopRecord(row["job_arn"], row["actor"], from_text(row["at"])) if row else None

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


def _release(connection: sqlite3.Connection, job_arns: Sequence[str], owner: str) -> int:
    """Returns how many of them `owner` held."""
    return sum(
        connection.execute("DELETE FROM leases WHERE job_arn = ? AND owner = ?", (arn, owner)).rowcount
        for arn in job_arns
    )


def _remember(connection: sqlite3.Connection, look: Look) -> list[Finding]:
    """Returns the look's findings that are new."""
    snapshot = look.snapshot
    connection.execute(
        """
        INSERT INTO jobs (arn, name, status, fingerprint, describe_at, watching, created_at,
                          first_seen_at, changed_at, snapshot)
        VALUES (:arn, :name, :status, :fingerprint, :describe_at, :watching, :created_at,
                :seen_at, :seen_at, :snapshot)
        ON CONFLICT (arn) DO UPDATE SET
            name = excluded.name, status = excluded.status, describe_at = excluded.describe_at,
            watching = excluded.watching, created_at = excluded.created_at, snapshot = excluded.snapshot,
            changed_at = iif(fingerprint = excluded.fingerprint, changed_at, excluded.changed_at),
            fingerprint = excluded.fingerprint
        """,
        {
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
    if look.evaluation is not None:
        connection.execute(
            """
            INSERT INTO evaluations (job_arn, reads, due_at, evaluation) VALUES (?, ?, ?, ?)
            ON CONFLICT (job_arn) DO UPDATE
            SET reads = excluded.reads, due_at = excluded.due_at, evaluation = excluded.evaluation
            """,
            (
                snapshot.arn,
                look.evaluation.reads,
                as_optional_text(look.evaluation.due_at),
                EVALUATION.dump_json(look.evaluation).decode(),
            ),
        )
    new = [finding for finding in look.findings if _add_finding(connection, finding)]
    new_ids = {finding.id for finding in new}
    _add_deliveries(connection, [delivery for delivery in look.deliveries if delivery.finding_id in new_ids])
    return new


def _add_finding(connection: sqlite3.Connection, finding: Finding) -> bool:
    """False if it is known already."""
    added = connection.execute(
        """
        INSERT INTO findings (id, job_arn, opened_at, finding) VALUES (?, ?, ?, ?)
        ON CONFLICT (id) DO NOTHING
        """,
        (finding.id, finding.job_arn, as_text(finding.opened_at), FINDING.dump_json(finding).decode()),
    )
    return added.rowcount == 1


def _add_deliveries(connection: sqlite3.Connection, deliveries: Sequence[Delivery]) -> None:
    connection.executemany(
        """
        INSERT INTO deliveries (id, finding_id, kind, "to", lane, created_at, due_at, state, attempts,
                                uncertain, receipt, error, delivered_at, text, follows)
        VALUES (:id, :finding_id, :kind, :to, :lane, :created_at, :due_at, :state, :attempts,
                :uncertain, :receipt, :error, :delivered_at, :text, :follows)
        ON CONFLICT (id) DO NOTHING
        """,
        [_columns(delivery) for delivery in deliveries],
    )


# -- rows and values ------------------------------------------------------------------------------


def _next_due(connection: sqlite3.Connection) -> datetime | None:
    (due,) = connection.execute("SELECT min(ready_at) FROM heads").fetchone()
    return from_optional_text(due)


def _columns(delivery: Delivery) -> dict[str, Any]:
    values = DELIVERY.dump_python(delivery)
    return {name: as_text(value) if isinstance(value, datetime) else value for name, value in values.items()}


def _delivery(row: sqlite3.Row) -> Delivery:
    return DELIVERY.validate_python(dict(row))


def _job_record(row: sqlite3.Row) -> JobRecord:
    return job_record(dict(row), row["snapshot"], row["evaluation"])


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
