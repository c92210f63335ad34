"""The migration of a SQLite file of the previous version to runs and incidents.

It reads the tables that schema version 4 had, renamed to `old_…`, and fills those of version 5. What the rows
become is decided in `upgrade`. Like every migration, it does not change once it is released.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from pydantic import TypeAdapter

from watcher.model import Case, Delivery
from watcher.store.documents import CHANGE, DELIVERY, EVALUATION, FINDING, INCIDENT, SNAPSHOT, as_text
from watcher.store.upgrade import OldDelivery, OldFinding, OldJob, OldStop, current_document, upgraded

_OLD_FINDING = TypeAdapter(OldFinding)
_OLD_DELIVERY = TypeAdapter(OldDelivery)
_OLD_STOP = TypeAdapter(OldStop)


def carry_over(connection: sqlite3.Connection, now: datetime) -> None:
    """The caller has begun a transaction, and the row factory is `sqlite3.Row`."""
    deliveries: list[Delivery] = []
    stops = {
        row["job_arn"]: _OLD_STOP.validate_python(dict(row))
        for row in connection.execute("SELECT * FROM old_stops")
    }
    for (arn,) in connection.execute("SELECT arn FROM old_jobs ORDER BY arn").fetchall():
        job = _old_job(connection, arn, stops.pop(arn, None))
        _add_job(connection, job)
        after = upgraded(job, now)
        for case in after.cases:
            _add_case(connection, case)
            deliveries += case.deliveries
        if job.stop:
            _add_stop(connection, after.stopped_run, job.stop)
    for arn, stop in stops.items():
        # Somebody stopped a job that was never watched, so its run is not known. It still counts as one of
        # the stops of the last hour.
        _add_stop(connection, arn, stop)
    _add_deliveries(connection, deliveries)


def _old_job(connection: sqlite3.Connection, arn: str, stop: OldStop | None) -> OldJob:
    row = connection.execute("SELECT snapshot, watching FROM old_jobs WHERE arn = ?", (arn,)).fetchone()
    snapshot = current_document(row["snapshot"])
    findings = connection.execute(
        "SELECT finding FROM old_findings WHERE job_arn = ? ORDER BY position", (arn,)
    )
    deliveries = connection.execute(
        """
        SELECT * FROM old_deliveries
        WHERE finding_id IN (SELECT id FROM old_findings WHERE job_arn = ?) ORDER BY position
        """,
        (arn,),
    )
    return OldJob(
        SNAPSHOT.validate_json(snapshot),
        bool(row["watching"]),
        tuple(_OLD_FINDING.validate_json(each["finding"]) for each in findings),
        tuple(_OLD_DELIVERY.validate_python(dict(each)) for each in deliveries),
        stop,
    )


def _add_job(connection: sqlite3.Connection, job: OldJob) -> None:
    arn = job.snapshot.arn
    values = {
        "run": job.snapshot.run,
        "arn": arn,
        "snapshot": SNAPSHOT.dump_json(job.snapshot).decode(),
    }
    connection.execute(
        """
        INSERT INTO jobs (run, arn, name, status, fingerprint, describe_at, watching, created_at,
                          first_seen_at, changed_at, snapshot)
        SELECT :run, arn, name, status, fingerprint, describe_at, watching, created_at,
               first_seen_at, changed_at, :snapshot
        FROM old_jobs WHERE arn = :arn
        """,
        values,
    )
    rows = connection.execute("SELECT due_at, evaluation FROM old_evaluations WHERE job_arn = ?", (arn,))
    for due_at, document in rows.fetchall():
        evaluation = EVALUATION.validate_json(current_document(document))
        connection.execute(
            "INSERT INTO evaluations (run, family, together, due_at, evaluation) VALUES (?, ?, ?, ?, ?)",
            (
                job.snapshot.run,
                evaluation.family,
                evaluation.reads.together,
                due_at,
                EVALUATION.dump_json(evaluation).decode(),
            ),
        )


def _add_case(connection: sqlite3.Connection, case: Case) -> None:
    incident = case.incident
    connection.execute(
        "INSERT INTO incidents (id, run, opened_at, incident) VALUES (?, ?, ?, ?)",
        (incident.id, incident.run, as_text(incident.opened_at), INCIDENT.dump_json(incident).decode()),
    )
    connection.executemany(
        "INSERT INTO findings (id, incident, run, opened_at, finding) VALUES (?, ?, ?, ?, ?)",
        [
            (each.id, each.incident, each.run, as_text(each.opened_at), FINDING.dump_json(each).decode())
            for each in case.findings
        ],
    )
    connection.executemany(
        "INSERT INTO history (incident, revision, at, change) VALUES (?, ?, ?, ?)",
        [
            (each.incident, each.revision, as_text(each.at), CHANGE.dump_json(each).decode())
            for each in case.changes
        ],
    )


def _add_stop(connection: sqlite3.Connection, run: str, stop: OldStop) -> None:
    connection.execute(
        "INSERT INTO stops (run, actor, at) VALUES (?, ?, ?)", (run, stop.actor, as_text(stop.at))
    )


def _add_deliveries(connection: sqlite3.Connection, deliveries: Iterable[Delivery]) -> None:
    """In the order in which they were created; what was ahead in a lane stays ahead."""
    positions = dict(connection.execute("SELECT id, position FROM old_deliveries").fetchall())
    places: Counter[str] = Counter()
    for delivery in sorted(deliveries, key=lambda each: (each.created_at, positions.get(each.id, 0))):
        places[delivery.lane] += 1
        values = DELIVERY.dump_python(delivery)
        texts = {name: as_text(value) for name, value in values.items() if isinstance(value, datetime)}
        connection.execute(
            """
            INSERT INTO deliveries (id, incident, kind, "to", lane, place, created_at, due_at, state,
                                    attempts, uncertain, receipt, error, delivered_at, told, wanted, trying,
                                    failures, refused_at, form, run, finding, actor, claims)
            VALUES (:id, :incident, :kind, :to, :lane, :place, :created_at, :due_at, :state,
                    :attempts, :uncertain, :receipt, :error, :delivered_at, :told, :wanted, :trying,
                    :failures, :refused_at, :form, :run, :finding, :actor, 0)
            """,
            values | texts | {"place": places[delivery.lane]},
        )
