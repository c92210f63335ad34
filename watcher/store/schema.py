"""The tables of the SQLite file, and the migrations that bring a file of an earlier version up to date.

What queries use has a column of its own; the rest of a snapshot, an incident, a finding or a change is
JSON. Times are text (`documents.as_text`), so that they sort, and that `sqlite3 watcher.db` shows them in a
readable form.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from watcher.errors import StoreError, StoreTooNew

APPLICATION_ID = 0x57544348
"""`WTCH` in the file's header: marks Watcher's files."""

Script = tuple[str | Callable[[sqlite3.Connection, datetime], None], ...]
"""Statements one by one, because sqlite3's `executescript` would commit the transaction before it runs; and
functions for what SQL cannot do, which are given the time."""


def _carry_over(connection: sqlite3.Connection, now: datetime) -> None:
    from watcher.store.carry_over import carry_over  # takes as long to import as all the rest of the store

    carry_over(connection, now)


MIGRATIONS: tuple[Script, ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        """
        CREATE TABLE jobs (
            arn TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            status TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            describe_at TEXT,
            watching INTEGER NOT NULL,
            created_at TEXT NOT NULL,
            first_seen_at TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            snapshot TEXT NOT NULL
        )
        """,
        # Has all columns that a pass over the watched jobs reads, so that it does not read the snapshots.
        # `watching` is one of them: without it, SQLite would read the table for the condition.
        """
        CREATE INDEX watched_jobs ON jobs (arn, name, status, fingerprint, describe_at, watching)
        WHERE watching
        """,
        "CREATE INDEX jobs_by_name ON jobs (name)",
        """
        CREATE TABLE findings (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            job_arn TEXT NOT NULL REFERENCES jobs (arn),
            opened_at TEXT NOT NULL,
            finding TEXT NOT NULL
        )
        """,
        "CREATE INDEX findings_by_job ON findings (job_arn, opened_at)",
        """
        CREATE TABLE deliveries (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            finding_id TEXT NOT NULL REFERENCES findings (id),
            kind TEXT NOT NULL,
            "to" TEXT NOT NULL,
            lane TEXT NOT NULL,
            created_at TEXT NOT NULL,
            due_at TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            uncertain INTEGER NOT NULL,
            receipt TEXT NOT NULL,
            error TEXT NOT NULL,
            delivered_at TEXT,
            text TEXT NOT NULL,
            owner TEXT,        -- owner and lease_until are set while it is in flight
            lease_until TEXT
        )
        """,
        "CREATE INDEX deliveries_by_finding ON deliveries (finding_id)",
        # Only the open ones: stays small, however many deliveries there have been.
        """
        CREATE INDEX open_deliveries ON deliveries (lane, position, state)
        WHERE state IN ('pending', 'in_flight')
        """,
        # The oldest open delivery of each lane, and when it may be handed out.
        """
        CREATE VIEW heads AS
        SELECT position, coalesce(lease_until, due_at) AS ready_at FROM deliveries
        WHERE position IN (
            SELECT min(position) FROM deliveries WHERE state IN ('pending', 'in_flight') GROUP BY lane
        )
        """,
        """
        CREATE TABLE stops (
            job_arn TEXT PRIMARY KEY,
            actor TEXT NOT NULL,
            at TEXT NOT NULL
        )
        """,
        "CREATE INDEX stops_by_time ON stops (at)",
        "CREATE TABLE probe (writes INTEGER NOT NULL)",
        "INSERT INTO probe VALUES (0)",
    ),
    (
        """
        CREATE TABLE evaluations (
            job_arn TEXT PRIMARY KEY REFERENCES jobs (arn),
            due_at TEXT,
            evaluation TEXT NOT NULL
        )
        """,
        "CREATE INDEX due_evaluations ON evaluations (due_at) WHERE due_at IS NOT NULL",
        "ALTER TABLE deliveries ADD COLUMN follows TEXT NOT NULL DEFAULT ''",
    ),
    ("ALTER TABLE evaluations ADD COLUMN reads TEXT NOT NULL DEFAULT 'tensors'",),
    (
        "CREATE TABLE leases (job_arn TEXT PRIMARY KEY, owner TEXT NOT NULL, until TEXT NOT NULL)",
        "CREATE TABLE turns (what TEXT PRIMARY KEY, turn INTEGER NOT NULL)",
    ),
    # Incidents: alerts that show their present state, runs instead of ARNs, leases without times.
    (
        "DROP VIEW heads",
        *(
            f"DROP INDEX {index}"
            for index in (
                "watched_jobs",
                "jobs_by_name",
                "findings_by_job",
                "deliveries_by_finding",
                "open_deliveries",
                "due_evaluations",
                "stops_by_time",
            )
        ),
        "DROP TABLE leases",  # nothing holds a job while the file is migrated
        *(
            f"ALTER TABLE {table} RENAME TO old_{table}"
            for table in ("jobs", "evaluations", "findings", "deliveries", "stops")
        ),
        """
        CREATE TABLE jobs (
            run TEXT PRIMARY KEY,
            arn TEXT NOT NULL,
            name TEXT NOT NULL,
            status TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            describe_at TEXT,
            watching INTEGER NOT NULL,
            created_at TEXT NOT NULL,
            first_seen_at TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            snapshot TEXT NOT NULL
        )
        """,
        # Has all columns that a pass over the watched jobs reads, so that it does not read the snapshots.
        # `watching` is one of them: without it, SQLite would read the table for the condition.
        """
        CREATE INDEX watched_jobs ON jobs (run, name, status, fingerprint, describe_at, watching)
        WHERE watching
        """,
        "CREATE INDEX jobs_by_name ON jobs (name)",
        "CREATE INDEX jobs_by_arn ON jobs (arn)",
        """
        CREATE TABLE evaluations (
            run TEXT NOT NULL REFERENCES jobs (run),
            family TEXT NOT NULL,
            together INTEGER NOT NULL,  -- whether it reads many jobs in one request
            due_at TEXT,
            evaluation TEXT NOT NULL,
            PRIMARY KEY (run, family)
        )
        """,
        "CREATE INDEX due_evaluations ON evaluations (due_at) WHERE due_at IS NOT NULL",
        """
        CREATE TABLE incidents (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            run TEXT NOT NULL,
            opened_at TEXT NOT NULL,
            incident TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE findings (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            incident TEXT NOT NULL REFERENCES incidents (id),
            run TEXT NOT NULL,
            opened_at TEXT NOT NULL,
            finding TEXT NOT NULL
        )
        """,
        "CREATE INDEX findings_by_incident ON findings (incident)",
        "CREATE INDEX findings_by_run ON findings (run, opened_at)",
        # What happened to incidents, and what people did that concerns none: then `incident` is ''.
        """
        CREATE TABLE history (
            position INTEGER PRIMARY KEY,
            incident TEXT NOT NULL,
            revision INTEGER NOT NULL,
            at TEXT NOT NULL,
            change TEXT NOT NULL
        )
        """,
        "CREATE INDEX history_by_incident ON history (incident, revision)",
        "CREATE INDEX history_by_time ON history (at)",
        """
        CREATE TABLE deliveries (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            incident TEXT NOT NULL REFERENCES incidents (id),
            kind TEXT NOT NULL,
            "to" TEXT NOT NULL,
            lane TEXT NOT NULL,
            place INTEGER NOT NULL,  -- the order within the lane
            created_at TEXT NOT NULL,
            due_at TEXT NOT NULL,
            state TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            uncertain INTEGER NOT NULL,
            receipt TEXT NOT NULL,
            error TEXT NOT NULL,
            delivered_at TEXT,
            told INTEGER NOT NULL,
            wanted INTEGER NOT NULL,
            trying INTEGER NOT NULL,
            failures INTEGER NOT NULL,
            refused_at TEXT,
            form TEXT NOT NULL,
            run TEXT NOT NULL,
            finding TEXT NOT NULL,
            actor TEXT NOT NULL,
            owner TEXT,              -- while it is in flight
            claims INTEGER NOT NULL  -- grows with each claim: by it, others see whether the lease is the same
        )
        """,
        "CREATE INDEX deliveries_by_incident ON deliveries (incident)",
        # Only those that are not over: stays small, however many deliveries there have been. Queries use it
        # through the view, because its condition must have exactly these words.
        """
        CREATE INDEX claimable_deliveries ON deliveries (lane, place, state)
        WHERE state IN ('pending', 'in_flight', 'refused', 'snoozed')
        """,
        """
        CREATE VIEW claimable AS
        SELECT * FROM deliveries WHERE state IN ('pending', 'in_flight', 'refused', 'snoozed')
        """,
        # The delivery of each lane that has been open longest. With `min`, SQLite takes the position from the
        # row that has it.
        """
        CREATE VIEW heads AS
        SELECT position, id, state, due_at, claims FROM deliveries
        WHERE position IN (
            SELECT position FROM (SELECT position, min(place) FROM claimable GROUP BY lane)
        )
        """,
        """
        CREATE TABLE stops (
            run TEXT PRIMARY KEY,
            actor TEXT NOT NULL,
            at TEXT NOT NULL
        )
        """,
        "CREATE INDEX stops_by_time ON stops (at)",
        # AUTOINCREMENT: a token is never used again, so that nobody takes a later lease for an earlier one.
        """
        CREATE TABLE leases (
            token INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL
        )
        """,
        "CREATE TABLE marks (place TEXT PRIMARY KEY, at TEXT NOT NULL)",
        _carry_over,
        *(f"DROP TABLE old_{table}" for table in ("deliveries", "findings", "evaluations", "jobs", "stops")),
    ),
)
"""Script N brings a file from version N to N + 1. Append new scripts; never change a released one."""


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raises `StoreError` if the file is a database of another program. Changes nothing."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreError(f"store {path}: belongs to another program; name another file in store.url")


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Script], now: datetime) -> None:
    """Bring the file up to date. The caller holds the write lock and commits.

    Raises `StoreTooNew` if a later version of Watcher wrote the file.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise StoreTooNew(
            f"store {path}: has schema version {version}, but this version of Watcher supports only up to "
            f"{len(migrations)}; update Watcher, or name another file in store.url"
        )
    for script in migrations[version:]:
        for step in script:
            if callable(step):
                step(connection, now)
            else:
                connection.execute(step)
    if version < len(migrations):
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
