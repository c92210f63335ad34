"""What becomes of a store of the previous version. `previous_version/README.md` says how the file was
made."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.doubles.clock import Clock
from tests.jobs import a_job
from watcher.arn import run_id
from watcher.model import (
    Case,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    Evaluation,
    FindingKind,
    IncidentState,
    JobSnapshot,
    Judge,
    Outcome,
    RuleConfiguration,
    RuleFamily,
    RuleSource,
    Severity,
    StopPhase,
    finding_id,
    incident_id,
)
from watcher.store import schema
from watcher.store.base import DueEvaluation
from watcher.store.documents import EVALUATION, SNAPSHOT
from watcher.store.sqlite import SqliteStore
from watcher.store.upgrade import OldDelivery, OldFinding, OldJob, OldStop, current_document, upgraded

PREVIOUS = Path(__file__).parent / "previous_version" / "watcher-4.db"
THEN = datetime(2026, 11, 20, 12, 0, 0, 123456, UTC)
"""When the process of the previous version ended."""
NOW = THEN + timedelta(minutes=1)
SLACK, WEBHOOK, TOPIC = (
    "slack:#ml",
    "webhook:https://example.com/hook",
    "sns:arn:aws:sns:us-east-1:123456789012:ml",
)


def arn(job: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{job}"


def run(job: str) -> str:
    return run_id(arn(job), THEN - timedelta(hours=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(PREVIOUS, tmp_path / "watcher.db"))


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    clock = Clock(NOW)
    with closing(SqliteStore(path, clock=clock, monotonic=clock.monotonic)) as store:
        yield store


def case_of(store: SqliteStore, job: str) -> Case:
    (incident,) = (each for each in store.incidents() if each.job == job)
    case = store.case(incident.id)
    assert case is not None
    return case


def alert_to(case: Case, to: str) -> Delivery:
    (alert,) = (each for each in case.deliveries if (each.kind, each.to) == (DeliveryKind.ALERT, to))
    return alert


def old_ids(job: str, kind: str = "alert") -> list[str]:
    """The ids that the job's deliveries had, in the order in which they were created."""
    with closing(sqlite3.connect(PREVIOUS)) as connection:
        rows = connection.execute(
            "SELECT deliveries.id FROM deliveries JOIN findings ON finding_id = findings.id "
            "WHERE job_arn = ? AND kind = ? ORDER BY deliveries.position",
            (arn(job), kind),
        )
        return [id_ for (id_,) in rows]


def kinds(case: Case) -> list[ChangeKind]:
    return [change.kind for change in case.changes]


# -- jobs -----------------------------------------------------------------------------------------


def test_jobs_become_runs_with_what_was_known_of_them(store: SqliteStore) -> None:
    record = store.job(run("healthy"))

    assert record is not None
    assert record.watching
    assert record.snapshot.tags == {"team": "risk"}
    assert record.first_seen_at == THEN - timedelta(minutes=9)
    assert record.describe_at == THEN + timedelta(minutes=10)
    [evaluation] = record.evaluations
    assert (evaluation.family, evaluation.cursor) == (RuleFamily.DEBUGGER, '{"after": 14}')
    assert store.claim_evaluations(NOW + timedelta(hours=1), 60, 9, together=True) == [
        DueEvaluation(run("healthy"), RuleFamily.DEBUGGER)
    ]
    assert store.fingerprints([run("healthy")]) == {run("healthy"): "as of InProgress"}
    with closing(sqlite3.connect(PREVIOUS)) as connection:
        (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    assert len(store.jobs()) == jobs


def test_the_same_jobs_are_watched(store: SqliteStore) -> None:
    with closing(sqlite3.connect(PREVIOUS)) as connection:
        watched = {name for (name,) in connection.execute("SELECT name FROM jobs WHERE watching")}

    assert {job.name for job in store.watching()} == watched


def test_a_job_without_findings_has_no_incident(store: SqliteStore) -> None:
    assert "healthy" not in {incident.job for incident in store.incidents()}


def test_leases_are_gone_and_turns_are_kept(store: SqliteStore) -> None:
    assert store.hold([arn("twins")], "another", 60) == {arn("twins")}
    assert not store.take_turn("reconcile", 17)
    assert store.take_turn("reconcile", 18)


def test_no_pass_has_a_mark_yet(store: SqliteStore) -> None:
    assert store.mark("123456789012 us-east-1") is None


# -- incidents ------------------------------------------------------------------------------------


def test_the_findings_of_a_run_are_one_incident(store: SqliteStore) -> None:
    case = case_of(store, "two-rules")

    assert case.incident.id == incident_id(run("two-rules"))
    assert case.incident.run == run("two-rules")
    assert [finding.rule for finding in case.findings] == ["LossNotDecreasing", "Overfit"]
    assert {finding.incident for finding in case.findings} == {case.incident.id}
    assert kinds(case) == [ChangeKind.OPENED, ChangeKind.WORSE]
    assert case.incident.revision == 2
    assert case.incident.state is IncidentState.OPEN
    assert case.incident.opened_at == case.findings[0].opened_at


def test_what_debugger_and_watcher_found_of_one_rule_is_one_finding(store: SqliteStore) -> None:
    case = case_of(store, "twins")

    (finding,) = case.findings
    assert finding.id == finding_id(
        run("twins"), FindingKind.RULE_ISSUE, "LossNotDecreasing", RuleFamily.DEBUGGER
    )
    assert (finding.source, finding.step) == (RuleSource.LOCAL, 118)
    assert [(says.judge, says.step) for says in finding.says] == [
        (Judge.WATCHER, 118),
        (Judge.DEBUGGER, 120),
    ]
    assert kinds(case) == [ChangeKind.OPENED, ChangeKind.AGREED]


@pytest.mark.parametrize(
    ("job", "severity", "state"),
    [
        ("twins", Severity.CRITICAL, IncidentState.OPEN),
        ("completed", Severity.INFO, IncidentState.RESOLVED),
        ("failed", Severity.CRITICAL, IncidentState.OPEN),
        ("stopped", Severity.CRITICAL, IncidentState.RESOLVED),
        ("vanished", Severity.CRITICAL, IncidentState.RESOLVED),
    ],
)
def test_an_incident_is_as_severe_as_its_findings_and_open_while_one_of_them_is(
    store: SqliteStore, job: str, severity: Severity, state: IncidentState
) -> None:
    incident = case_of(store, job).incident

    assert (incident.severity, incident.state) == (severity, state)
    assert (incident.resolved_at is not None) is (state is IncidentState.RESOLVED)


def test_a_finding_that_mattered_only_until_the_end_of_its_run_is_closed(store: SqliteStore) -> None:
    stuck, failed = case_of(store, "failed").findings

    assert (stuck.kind, stuck.closing) == (FindingKind.RULE_STUCK, Closing.RUN_ENDED)
    assert stuck.closed_at == THEN - timedelta(minutes=15)
    assert failed.open


def test_the_findings_of_a_run_that_is_no_longer_watched_are_closed(store: SqliteStore) -> None:
    (finding,) = case_of(store, "vanished").findings

    assert finding.closing is Closing.UNWATCHED


def test_every_history_is_numbered_from_one_to_the_revision(store: SqliteStore) -> None:
    for incident in store.incidents():
        case = store.case(incident.id)
        assert case is not None
        assert [change.revision for change in case.changes] == list(range(1, incident.revision + 1))
        assert kinds(case)[0] is ChangeKind.OPENED
        assert {(change.incident, change.run) for change in case.changes} == {(incident.id, incident.run)}
        telling = [change.revision for change in case.changes if change.telling]
        assert incident.telling_revision == telling[-1]
    assert sum(1 for _ in store.history()) == sum(each.revision for each in store.incidents())


# -- a name that was used again -------------------------------------------------------------------


def test_what_was_found_before_a_run_was_created_is_about_an_earlier_run(store: SqliteStore) -> None:
    case = case_of(store, "reused")

    assert case.incident.run != run("reused")
    assert case.incident.job_arn == arn("reused")
    assert case.incident.state is IncidentState.RESOLVED
    assert store.findings(run("reused")) == []
    assert store.stop_of(run("reused")) is None
    assert store.stop_of(case.incident.run) is not None
    assert [record.snapshot.run for record in store.jobs("reused")] == [run("reused")]


# -- what was told --------------------------------------------------------------------------------


def test_an_alert_keeps_the_id_and_the_receipt_of_the_message_that_was_sent(store: SqliteStore) -> None:
    for job in ("failed", "twins", "two-rules", "stopped"):
        alert = alert_to(case_of(store, job), SLACK)
        first = old_ids(job)[0]
        assert alert.id == first
        assert alert.receipt == ("ts two" if job == "two-rules" else f"ts {first}")


@pytest.mark.parametrize(
    "job", ["failed", "vanished", "reused", "stopped", "skipped", "cancelled", "by-hand"]
)
def test_what_was_told_is_not_due_and_can_be_edited(store: SqliteStore, job: str) -> None:
    case = case_of(store, job)
    alert = alert_to(case, SLACK)

    assert alert.state is DeliveryState.DELIVERED
    assert alert.told == alert.wanted == case.incident.revision
    assert alert.lane == f"{SLACK} edits"
    assert alert.delivered_at is not None


def test_what_was_not_told_of_an_incident_is_due_as_an_edit(store: SqliteStore) -> None:
    alert = alert_to(case_of(store, "two-rules"), SLACK)

    assert (alert.state, alert.told, alert.wanted) == (DeliveryState.PENDING, 1, 2)
    assert alert.uncertain  # it was in flight, so it is repeated as it was
    assert alert.trying == 2
    assert alert.lane == f"{SLACK} edits"


def test_an_update_that_was_open_is_due(store: SqliteStore) -> None:
    case = case_of(store, "twins")
    webhook = alert_to(case, WEBHOOK)

    assert (webhook.state, webhook.told, webhook.wanted) == (DeliveryState.PENDING, 1, 2)
    assert not webhook.uncertain
    assert webhook.due_at == THEN + timedelta(minutes=30)
    assert webhook.error == "HTTP 503"
    assert alert_to(case, SLACK).told == 2


def test_a_first_message_that_was_in_flight_is_looked_up_before_it_is_sent_again(store: SqliteStore) -> None:
    alert = alert_to(case_of(store, "in-flight"), TOPIC)

    assert (alert.state, alert.told, alert.wanted, alert.trying) == (DeliveryState.PENDING, 0, 1, 1)
    assert alert.uncertain
    assert alert.id == old_ids("in-flight")[0]
    assert alert.lane == TOPIC


def test_a_recent_dead_letter_is_tried_again_and_an_old_one_stays_dead(store: SqliteStore) -> None:
    lately, long_ago = (alert_to(case_of(store, job), SLACK) for job in ("dead-lately", "dead-long-ago"))

    assert (lately.state, lately.told, lately.due_at) == (DeliveryState.REFUSED, 0, NOW)
    assert lately.lane == f"refused:{lately.id}"
    assert lately.refused_at == THEN - timedelta(minutes=30)
    assert lately.error == "not_in_channel"
    assert (long_ago.state, long_ago.told) == (DeliveryState.DEAD, 0)


def test_a_dead_letter_after_a_message_that_arrived_is_tried_again_alone(store: SqliteStore) -> None:
    alert = alert_to(case_of(store, "half-dead"), WEBHOOK)

    assert (alert.state, alert.told, alert.wanted) == (DeliveryState.REFUSED, 1, 2)


def test_there_is_one_alert_for_each_incident_and_destination_and_nothing_else_but_stops(
    store: SqliteStore,
) -> None:
    deliveries = store.deliveries()
    assert {each.kind for each in deliveries} == {DeliveryKind.ALERT, DeliveryKind.STOP}
    assert len({(each.incident, each.kind, each.to) for each in deliveries}) == len(deliveries)
    assert [each.created_at for each in deliveries] == sorted(each.created_at for each in deliveries)


def test_nothing_is_due_but_what_was(store: SqliteStore) -> None:
    jobs = {incident.id: incident.job for incident in store.incidents()}
    due = []
    for hours in (0, 0, 0, 2):
        for each in store.claim("us", NOW + timedelta(hours=hours), 60, 10).deliveries:
            due.append((jobs[each.incident], each.to))
            assert store.settle("us", replace(each, state=DeliveryState.DELIVERED, told=each.trying))

    assert len(due) == len(set(due))
    assert set(due) == {
        ("dead-lately", SLACK),
        ("half-dead", WEBHOOK),
        ("two-rules", SLACK),
        ("twins", WEBHOOK),
        ("in-flight", TOPIC),
        ("last", "console"),
        ("stopping", "console"),
        ("stopping", "stop"),
        ("grace", "stop"),
    }
    assert store.next_due() is None


def test_what_was_ahead_in_a_lane_stays_ahead(store: SqliteStore) -> None:
    jobs = {incident.id: incident.job for incident in store.incidents()}
    told = []
    for _ in range(3):
        claimed = store.claim("us", NOW, 60, 10).deliveries
        told += [jobs[each.incident] for each in claimed if each.to == "console"]
        for each in claimed:
            assert store.settle("us", replace(each, state=DeliveryState.DELIVERED, told=each.trying))

    assert told == ["stopping", "last"]


# -- stops ----------------------------------------------------------------------------------------


def stop_row(case: Case) -> Delivery | None:
    return next((each for each in case.deliveries if each.kind is DeliveryKind.STOP), None)


@pytest.mark.parametrize(
    ("job", "phase", "row", "reason"),
    [
        ("stopped", StopPhase.STOPPED, DeliveryState.DELIVERED, "Stopped by Watcher."),
        ("skipped", StopPhase.NOT_STOPPED, DeliveryState.SKIPPED, "Not stopped: limit."),
        ("cancelled", StopPhase.CANCELLED, DeliveryState.CANCELLED, "Not stopped: ann cancelled it."),
        ("by-hand", StopPhase.STOPPING, None, ""),
        ("grace", StopPhase.WAITING, DeliveryState.PENDING, ""),
        ("stopping", StopPhase.STOPPING, DeliveryState.PENDING, ""),
    ],
)
def test_an_incident_shows_what_became_of_the_stop(
    store: SqliteStore, job: str, phase: StopPhase, row: DeliveryState | None, reason: str
) -> None:
    case = case_of(store, job)

    assert case.incident.stop is not None
    assert (case.incident.stop.phase, case.incident.stop.reason) == (phase, reason)
    stop = stop_row(case)
    assert (stop and stop.state) == row


def test_an_open_stop_is_for_its_run_and_says_who_asks_for_it(store: SqliteStore) -> None:
    case = case_of(store, "grace")

    stop = stop_row(case)
    assert stop is not None
    assert (stop.run, stop.actor) == (run("grace"), "route job *")
    assert stop.finding == case.findings[0].id
    assert stop.due_at == THEN + timedelta(minutes=58)
    assert case.incident.stop is not None
    assert case.incident.stop.due_at == stop.due_at


def test_the_history_shows_what_the_rows_show_of_a_stop(store: SqliteStore) -> None:
    assert kinds(case_of(store, "stopped")) == [
        ChangeKind.OPENED,
        ChangeKind.STOP_ASKED,
        ChangeKind.STOPPING,
        ChangeKind.STOPPED,
        ChangeKind.CLOSED,
        ChangeKind.RESOLVED,
    ]
    assert kinds(case_of(store, "cancelled"))[-1] is ChangeKind.CANCELLED
    assert kinds(case_of(store, "skipped"))[-1] is ChangeKind.NOT_STOPPED


def test_recorded_stops_count_for_the_limit_and_belong_to_runs(store: SqliteStore) -> None:
    stop = store.stop_of(run("by-hand"))
    assert stop is not None
    assert stop.actor == "watcher stop by ann"

    # Four in the last hour: those of three runs, and of a job that the store does not know.
    assert not store.permit_stop(run("healthy"), "us", NOW, 4)
    assert store.permit_stop(run("healthy"), "us", NOW, 5)


# -- the file -------------------------------------------------------------------------------------


def test_the_file_is_sound_and_has_no_old_tables(store: SqliteStore, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert not {name for name in names if name.startswith("old_")}


def test_an_upgraded_file_has_the_tables_of_a_new_one(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    def tables(file: Path) -> set[tuple[str, str]]:
        with closing(sqlite3.connect(file)) as connection:
            return set(connection.execute("SELECT name, sql FROM sqlite_schema"))

    new = tmp_path / "new.db"
    SqliteStore(new).close()

    assert tables(path) == tables(new)


def test_it_is_upgraded_once(path: Path) -> None:
    with closing(SqliteStore(path, clock=lambda: NOW)) as store:
        before = (store.incidents(), store.deliveries(), list(store.history()))
    with closing(SqliteStore(path, clock=lambda: NOW + timedelta(days=30))) as store:
        assert (store.incidents(), store.deliveries(), list(store.history())) == before


# -- what the file has no example of --------------------------------------------------------------


def old_finding(rule: str = "Overfit", minutes: float = 0, **changes: object) -> OldFinding:
    values: dict[str, object] = {
        "id": rule,
        "kind": FindingKind.RULE_ISSUE,
        "job_arn": arn("job"),
        "job": "job",
        "status": "IssuesFound",
        "opened_at": THEN + timedelta(minutes=minutes),
        "rule": rule,
        "source": RuleSource.DEBUGGER,
    }
    return OldFinding(**values | changes)  # type: ignore[arg-type]


def old_delivery(of: str = "Overfit", kind: str = "alert", **changes: object) -> OldDelivery:
    values: dict[str, object] = {
        "id": f"{kind} {of}",
        "finding_id": of,
        "kind": kind,
        "to": SLACK,
        "lane": SLACK,
        "created_at": THEN,
        "due_at": THEN,
        "state": "delivered",
    }
    return OldDelivery(**values | changes)  # type: ignore[arg-type]


def old_job(**changes: object) -> OldJob:
    snapshot = JobSnapshot(
        arn=arn("job"),
        name="job",
        status="InProgress",
        secondary_status="Training",
        created_at=THEN - timedelta(hours=1),
        modified_at=THEN,
    )
    values: dict[str, object] = {"snapshot": snapshot, "watching": True, "findings": (old_finding(),)}
    return OldJob(**values | changes)  # type: ignore[arg-type]


def case_from(job: OldJob) -> Case:
    (case,) = upgraded(job, NOW).cases
    return case


def test_a_dead_letter_is_over_if_a_later_message_arrived() -> None:
    rows = (
        old_delivery(state="dead", error="not_in_channel"),
        old_delivery("Loss", receipt="ts 2"),
    )
    case = case_from(old_job(findings=(old_finding(), old_finding("Loss", 1)), deliveries=rows))

    (alert,) = case.deliveries
    assert (alert.state, alert.told, alert.id) == (DeliveryState.DELIVERED, 2, "alert Loss")
    assert alert.receipt == "ts 2"


def test_two_open_stops_of_one_run_become_the_earlier_one() -> None:
    rows = tuple(
        old_delivery(
            rule, "stop", to="stop", state="pending", due_at=THEN + timedelta(minutes=m), text="route job *"
        )
        for rule, m in (("Overfit", 20), ("Loss", 10))
    )
    case = case_from(old_job(findings=(old_finding(), old_finding("Loss", 1)), deliveries=rows))

    (stop,) = case.deliveries
    assert stop.due_at == THEN + timedelta(minutes=10)
    assert stop.finding == case.findings[1].id


def test_an_open_picture_is_left_out() -> None:
    rows = (old_delivery(receipt="ts"), old_delivery(kind="plot", state="pending"))

    assert [each.kind for each in case_from(old_job(deliveries=rows)).deliveries] == [DeliveryKind.ALERT]


def test_a_clock_that_was_a_little_late_makes_no_earlier_run() -> None:
    found_early = old_finding(minutes=-62)

    assert case_from(old_job(findings=(found_early,))).incident.run == run("job")


def test_an_earlier_run_and_the_present_one_are_two_incidents() -> None:
    job = old_job(
        findings=(old_finding(minutes=-600), old_finding("Loss")),
        deliveries=(old_delivery(receipt="ts 1"), old_delivery("Loss", receipt="ts 2")),
        stop=OldStop(arn("job"), "route job *", THEN),
    )
    after = upgraded(job, NOW)

    earlier, present = after.cases
    assert [finding.rule for finding in earlier.findings] == ["Overfit"]
    assert [finding.rule for finding in present.findings] == ["Loss"]
    assert [each.id for each in earlier.deliveries] == ["alert Overfit"]
    assert [each.id for each in present.deliveries] == ["alert Loss"]
    assert earlier.incident.stop is None
    assert present.incident.stop is not None
    assert after.stopped_run == run("job")


def test_a_stop_before_the_first_finding_is_told_after_it() -> None:
    job = old_job(stop=OldStop(arn("job"), "watcher stop by ann", THEN - timedelta(minutes=5)))

    assert kinds(case_from(job)) == [ChangeKind.OPENED, ChangeKind.STOPPING]


def test_a_job_without_findings_has_no_case_but_its_stop_has_a_run() -> None:
    after = upgraded(old_job(findings=(), stop=OldStop(arn("job"), "ann", THEN)), NOW)

    assert after.cases == ()
    assert after.stopped_run == run("job")


@pytest.mark.parametrize(
    ("source", "family", "judge"),
    [
        ("debugger", RuleFamily.DEBUGGER, Judge.DEBUGGER),
        ("profiler", RuleFamily.PROFILER, Judge.DEBUGGER),
        ("local", RuleFamily.DEBUGGER, Judge.WATCHER),
    ],
)
def test_an_outcome_keeps_what_its_rule_judges_and_who_judged_it(source, family, judge):
    outcome = Outcome("Loss", family, judge, "IssuesFound", "it fell by 1 %", step=7)
    now = Evaluation(NOW, states={"Loss": "[]"}, outcomes=(outcome,))
    old = json.loads(EVALUATION.dump_json(now))
    del old["outcomes"][0]["family"], old["outcomes"][0]["judge"]
    old["outcomes"][0]["source"] = source

    assert EVALUATION.validate_json(current_document(json.dumps(old))) == now


def test_a_rule_of_the_job_keeps_its_family():
    rules = tuple(RuleConfiguration("same", family, {"threshold": "1"}) for family in RuleFamily)
    now = a_job(rules=rules)
    old = json.loads(SNAPSHOT.dump_json(now))
    for rule in old["rules"]:
        rule["source"] = rule.pop("family")

    assert SNAPSHOT.validate_json(current_document(json.dumps(old))) == now
