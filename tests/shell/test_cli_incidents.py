"""The commands by which a person sees and changes incidents, on a store in SQLite."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.samples import (
    arn,
    case,
    change,
    delivery,
    finding,
    incident,
    look,
    opens,
    run,
    snapshot,
)
from tests.contract.tables import TABLE, create_table
from tests.shell.conftest import CommandResult
from watcher.model import (
    Case,
    ChangeKind,
    Closing,
    Delivery,
    DeliveryKind,
    DeliveryState,
    IncidentState,
    Judge,
    RunStop,
    Says,
    StopPhase,
    incident_id,
)
from watcher.sandbox.process import Sandbox
from watcher.store import open_store
from watcher.store.base import Store

Watcher = Callable[..., CommandResult]
USER = getpass.getuser()
NOT_IN_CHANNEL = "slack:#ml refused: not_in_channel; the bot is not in this channel: invite it"


@contextmanager
def the_store() -> Iterator[Store]:
    with closing(open_store("sqlite:///watcher.db")) as store:
        yield store


def stored(job: str) -> Case:
    with the_store() as store:
        found = store.case(incident_id(run(job)))
    assert found is not None
    return found


def told(job: str, to: str = "console", **changes: Any) -> Delivery:
    arrived = {"state": DeliveryState.DELIVERED, "attempts": 1, "told": 1, "lane": f"{to} edits"}
    return delivery(job, to, **{**arrived, **changes})


def refused(job: str, to: str = "slack:#ml", **changes: Any) -> Delivery:
    now = datetime.now(UTC)
    values = {
        "state": DeliveryState.REFUSED,
        "attempts": 4,
        "failures": 4,
        "error": NOT_IN_CHANNEL,
        "refused_at": now - timedelta(minutes=8),
        "due_at": now + timedelta(minutes=20),
    }
    return delivery(job, to, **{**values, **changes})


def dead(job: str) -> Delivery:
    return delivery(job, "webhook:https://ops.example/h", state=DeliveryState.DEAD, error="404 Not Found")


@pytest.fixture(autouse=True)
def _known(watcher: Watcher) -> None:
    """`churn` is open: told on the console, refused by Slack. `sales` is open: told, given up for a webhook.
    `fraud` is resolved. `quiet` has no incident."""
    resolved = incident("fraud", state=IncidentState.RESOLVED, resolved_at=datetime(2026, 11, 3, tzinfo=UTC))
    with the_store() as store:
        store.commit(
            [
                look("churn", opens(case("churn", told("churn"), refused("churn")))),
                look("sales", opens(case("sales", told("sales"), dead("sales")))),
                look("fraud", opens(case("fraud", told("fraud"), incident=resolved))),
                look("quiet"),
            ]
        )


# -- incidents ------------------------------------------------------------------------------------


def test_incidents_are_listed_in_words_with_where_they_were_told_and_who_has_them(watcher: Watcher):
    watcher("ack", "sales")

    header, *lines = watcher("incidents").out.splitlines()

    assert header.split("  ")[0] == "JOB"
    assert [line.split()[:2] for line in lines] == [
        ["churn", "open"],
        ["sales", "acknowledged"],
        ["fraud", "resolved"],
    ]
    assert "LossNotDecreasing found an issue" in lines[0]
    assert "console delivered, slack:#ml refused" in lines[0]
    assert USER in lines[1]


def test_an_incident_says_what_recovered_and_what_broke_again(watcher: Watcher):
    now = datetime.now(UTC)
    findings = (
        finding("again", step=140, episode=2),
        finding("again", "Overfit", id="f2", closed_at=now, closing=Closing.RECOVERED),
    )
    with the_store() as store:
        store.commit([look("again", opens(case("again", findings=findings)))])

    out = watcher("incidents").out

    assert "LossNotDecreasing found an issue at step 140 (episode 2)" in out
    assert "Overfit found an issue (recovered just now)" in out


def test_an_alert_that_arrived_and_is_to_be_updated_is_not_shown_as_if_it_had_not(watcher: Watcher):
    alerts = (told("late"), told("late", "slack:#ml", state=DeliveryState.PENDING))
    with the_store() as store:
        store.commit([look("late", opens(case("late", *alerts)))])

    assert "console delivered, slack:#ml update pending" in watcher("incidents").out


def stopped(job: str) -> Case:
    reason = "Stopped by Watcher (ana) at 12:00:00 UTC; SageMaker confirms it."
    stop = RunStop(StopPhase.STOPPED, "ana", datetime(2026, 11, 2, 12, tzinfo=UTC), reason=reason)
    row = delivery(job, "stop", kind=DeliveryKind.STOP, state=DeliveryState.DELIVERED, error=reason)
    return case(job, told(job), row, incident=incident(job, stop=stop))


def test_the_stop_of_a_job_is_not_listed_among_those_that_were_told(watcher: Watcher):
    with the_store() as store:
        store.commit([look("burning", opens(stopped("burning")))])

    [line] = [line for line in watcher("incidents").out.splitlines() if line.startswith("burning")]
    assert "  stopped  console delivered  " in line


def test_a_job_is_shown_with_the_end_of_its_stop_once(watcher: Watcher):
    with the_store() as store:
        store.commit([look("burning", opens(stopped("burning")))])

    assert watcher("show", "burning").out.count("Stopped by Watcher (ana)") == 1


def test_incidents_can_be_limited_to_some_states(watcher: Watcher):
    def listed(*arguments: str) -> list[str]:
        return [each["jobs"][0] for each in watcher("incidents", "--json", *arguments).json]

    assert listed("--state", "resolved") == ["fraud"]
    assert sorted(listed("--state", "open", "--state", "acknowledged")) == ["churn", "sales"]


def test_an_empty_list_of_incidents_says_so(watcher: Watcher):
    assert watcher("incidents", "--state", "acknowledged").out == "No incidents.\n"
    assert watcher("incidents", "--state", "acknowledged", "--json").json == []


# -- acknowledging --------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["churn", "chu", arn("churn"), incident_id(run("churn"))])
def test_a_person_takes_an_incident_and_its_alerts_are_to_show_it(watcher: Watcher, what: str):
    ran = watcher("ack", what)

    assert (ran.code, ran.out) == (0, f"{USER} has the incident of churn now.\n")
    now = stored("churn")
    assert (now.incident.state, now.incident.acknowledged_by) == (IncidentState.ACKNOWLEDGED, USER)
    taken = now.changes[-1]
    assert (taken.kind, taken.actor, taken.door) == (ChangeKind.ACKNOWLEDGED, USER, "cli")


def test_every_action_prints_the_incident_as_json_on_request(watcher: Watcher):
    acknowledged = watcher("ack", "churn", "--json").json
    snoozed = watcher("snooze", "churn", "--json").json
    unsnoozed = watcher("unsnooze", "churn", "--json").json
    [again] = watcher("redeliver", "churn", "--json").json

    assert (acknowledged["state"], acknowledged["acknowledged_by"]) == ("acknowledged", USER)
    revisions = [each["revision"] for each in (acknowledged, snoozed, unsnoozed, again)]
    assert revisions == [2, 3, 4, 5]
    assert [each["state"] for each in again["deliveries"] if each["to"] == "slack:#ml"] == ["pending"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("ack fraud", "the incident of fraud is resolved already, since 2026-11-03 00:00:00 UTC"),
        ("ack quiet", "quiet has no incident"),
        ("snooze fraud", "the incident of fraud is resolved already, since 2026-11-03 00:00:00 UTC"),
        ("unsnooze churn", "the incident of churn is not snoozed"),
        ("redeliver fraud", "no destination refuses the incident of fraud"),
    ],
)
def test_an_action_that_changes_nothing_says_why_with_exit_code_1(watcher: Watcher, arguments, sentence):
    ran = watcher(*arguments.split(), "--json")

    assert (ran.code, ran.out, ran.err) == (1, "", f"watcher: {sentence}\n")


def test_an_incident_that_one_has_already_cannot_be_taken_again(watcher: Watcher):
    watcher("ack", "churn")

    ran = watcher("ack", "churn")

    assert (ran.code, ran.err) == (1, f"watcher: {USER} has the incident of churn already\n")
    assert len(stored("churn").changes) == 2


@pytest.mark.parametrize("command", ["ack", "snooze", "unsnooze", "redeliver"])
def test_an_action_on_what_does_not_exist_names_the_closest_job_with_exit_code_2(watcher: Watcher, command):
    ran = watcher(command, "chrun")

    sentence = "watcher: the store has no incident or job chrun; did you mean churn?\n"
    assert (ran.code, ran.out, ran.err) == (2, "", sentence)


# -- snoozing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "seconds"), [("", 3600), ("--for 2h", 7200), ("--for 1d12h", 36 * 3600), ("--for 90s", 90)]
)
def test_a_snooze_lasts_as_long_as_asked_or_an_hour(watcher: Watcher, arguments: str, seconds: float):
    ran = watcher("snooze", "sales", *arguments.split())

    snoozed = stored("sales").incident
    assert snoozed.snoozed_until is not None
    assert snoozed.snoozed_by == USER
    left = (snoozed.snoozed_until - datetime.now(UTC)).total_seconds()
    assert seconds - 30 < left <= seconds
    assert (
        ran.out == f"The incident of sales is snoozed until {snoozed.snoozed_until:%Y-%m-%d %H:%M:%S} UTC.\n"
    )


@pytest.mark.parametrize("span", ["2months", "soon", "", "2h ago", "0s", "-5m", "2 years", "99999999999w"])
def test_a_span_that_is_none_is_refused_and_snoozes_nothing(watcher: Watcher, span: str):
    ran = watcher("snooze", "sales", "--for", span)

    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith(f"watcher: --for {span!r}")
    assert stored("sales").incident.snoozed_until is None


def test_a_snooze_can_be_ended_before_its_time(watcher: Watcher):
    watcher("snooze", "sales")

    ran = watcher("unsnooze", "sales")

    assert (ran.code, ran.out) == (0, "The snooze of the incident of sales has ended.\n")
    assert stored("sales").incident.snoozed_until is None


def test_who_snoozed_an_incident_is_shown_in_the_list_and_with_the_job(watcher: Watcher):
    watcher("snooze", "sales")

    assert f"snoozed by {USER} until " in watcher("incidents").out
    assert f"snoozed by {USER} until " in watcher("show", "sales").out


# -- sending again --------------------------------------------------------------------------------


def state_of(job: str, to: str) -> DeliveryState:
    return next(each.state for each in stored(job).deliveries if each.to.startswith(to))


def test_only_the_destinations_that_refused_it_are_named_as_sent_again(watcher: Watcher):
    waits = told("late", state=DeliveryState.PENDING)
    with the_store() as store:
        store.commit([look("late", opens(case("late", waits, refused("late"))))])

    assert watcher("redeliver", "late").out.startswith("The incident of late is sent again: slack:#ml.\n")


def test_what_is_refused_is_sent_again_at_once(watcher: Watcher):
    ran = watcher("redeliver")

    assert ran.code == 0
    assert ran.out.startswith("The incident of churn is sent again: slack:#ml.\n")
    [again] = [each for each in stored("churn").deliveries if each.to == "slack:#ml"]
    assert again.state is DeliveryState.PENDING
    assert again.due_at <= datetime.now(UTC)
    assert state_of("sales", "webhook") is DeliveryState.DEAD


def test_what_was_given_up_is_sent_again_on_request(watcher: Watcher):
    ran = watcher("redeliver", "--all-dead")

    assert ran.code == 0
    assert state_of("churn", "slack") is DeliveryState.PENDING
    assert state_of("sales", "webhook") is DeliveryState.PENDING


def test_one_incident_is_sent_again_with_what_was_given_up_of_it(watcher: Watcher):
    assert watcher("redeliver", "sales").code == 0

    assert state_of("sales", "webhook") is DeliveryState.PENDING
    assert state_of("churn", "slack") is DeliveryState.REFUSED


def test_sending_again_with_nothing_refused_says_what_was_given_up(watcher: Watcher):
    watcher("redeliver")

    ran, all_dead = watcher("redeliver"), watcher("redeliver", "--all-dead")

    sentence = "watcher: no destination refuses anything; 1 given up: use --all-dead to send them again\n"
    assert (ran.code, ran.err) == (1, sentence)
    assert all_dead.code == 0
    nothing = watcher("redeliver", "--all-dead")
    assert (nothing.code, nothing.err) == (1, "watcher: no destination refuses anything\n")


def test_one_incident_and_all_of_them_cannot_be_named_together(watcher: Watcher):
    ran = watcher("redeliver", "churn", "--all-dead")

    assert ran.code == 2
    assert ran.err.startswith("watcher: name an incident, or use --all-dead, not both")


# -- what is shown --------------------------------------------------------------------------------


def test_status_says_what_is_refused_since_when_why_and_what_to_do(watcher: Watcher):
    out = watcher("status").out

    assert "2 open, 1 resolved (2 not delivered everywhere)" in out
    assert "1 refused" in out
    [line] = [line for line in out.splitlines() if line.startswith("slack:#ml")]
    assert "8 min ago" in line
    assert NOT_IN_CHANNEL in line
    assert "send at once: watcher redeliver\n" in out
    assert "404 Not Found" in out
    assert "watcher redeliver --all-dead" in out


def test_status_says_which_destination_cannot_be_reached_and_why(watcher: Watcher):
    late = refused("late", state=DeliveryState.PENDING, error="slack:#ml cannot be reached: timed out")
    with the_store() as store:
        store.commit([look("late", opens(case("late", late)))])

    out = watcher("status").out

    [line] = [line for line in out.splitlines() if line.endswith("timed out")]
    assert line.startswith("slack:#ml  8 min ago  1")
    assert "Not delivered yet" in out
    assert len(watcher("status", "--json").json["refused"]) == 1


def test_status_says_nothing_of_refusals_when_there_are_none(watcher: Watcher):
    watcher("redeliver", "--all-dead")

    out = watcher("status").out

    assert "\nRefused" not in out
    assert "redeliver" not in out


def test_a_job_is_shown_with_what_each_source_says_and_what_people_did(watcher: Watcher):
    reported = (Says(Judge.WATCHER, "IssuesFound", datetime.now(UTC), 140, "the loss fell by 1 %"),)
    agreed = (*reported, Says(Judge.DEBUGGER, "IssuesFound", datetime.now(UTC), 141, "ConditionMet"))
    with the_store() as store:
        store.commit([look("both", opens(case("both", findings=(finding("both", says=agreed),))))])
    watcher("ack", "both")

    out = watcher("show", "both").out

    assert f"acknowledged by {USER}, critical" in out
    own, debuggers = (line for line in out.splitlines() if " IssuesFound " in line)
    assert own.startswith("LossNotDecreasing found an issue")
    assert own.endswith("local     IssuesFound  140   the loss fell by 1 %")
    assert debuggers.endswith("debugger  IssuesFound  141   ConditionMet")
    assert f"{USER} has this" in out


def test_who_had_an_incident_is_not_said_to_have_resolved_it(watcher: Watcher):
    over = incident(
        "over",
        state=IncidentState.RESOLVED,
        resolved_at=datetime(2026, 11, 3, tzinfo=UTC),
        acknowledged_by=USER,
    )
    with the_store() as store:
        store.commit([look("over", opens(case("over", incident=over)))])

    (shown,) = (line for line in watcher("show", "over").out.splitlines() if line.startswith("incident"))
    assert shown.split()[1] == "resolved,"
    assert USER not in shown


def test_a_run_that_is_watched_no_more_is_not_called_finished_while_it_was_in_progress(watcher: Watcher):
    with the_store() as store:
        store.commit([look("gone", watching=False)])

    assert "no (deleted, or no longer matched by the settings)" in watcher("show", "gone").out


def test_the_other_runs_of_a_name_are_listed_with_the_newest(watcher: Watcher):
    later = snapshot("churn", created_at=datetime(2026, 11, 5, tzinfo=UTC))
    with the_store() as store:
        store.commit([look("churn", snapshot=later)])

    out = watcher("show", "churn").out

    assert "2026-11-05 00:00:00 UTC" in out
    assert "Other runs of this name" in out
    assert run("churn") in out
    assert watcher("show", run("churn"), "--json").json["findings"] == 1


# -- the history ----------------------------------------------------------------------------------


def test_the_history_is_one_line_of_json_for_each_change_oldest_first(watcher: Watcher):
    watcher("ack", "churn")
    watcher("snooze", "sales")

    lines = [json.loads(line) for line in watcher("audit").out.splitlines()]

    assert [line["kind"] for line in lines] == ["opened"] * 3 + ["acknowledged", "snoozed"]
    assert list(lines[3]) == [
        "at",
        "incident",
        "job",
        "run",
        "revision",
        "kind",
        "actor",
        "door",
        "text",
        "finding",
    ]
    assert (lines[3]["job"], lines[3]["run"], lines[3]["actor"]) == ("churn", run("churn"), USER)


def test_the_history_can_be_limited_to_the_last_days(watcher: Watcher):
    watcher("ack", "churn")
    old = change("quiet", 0, kind=ChangeKind.STOP_ASKED, incident="", at=datetime(2026, 1, 1, tzinfo=UTC))
    with the_store() as store:
        store.record(old)

    assert json.loads(watcher("audit").out.splitlines()[0])["job"] == "quiet"
    recent = [json.loads(line)["kind"] for line in watcher("audit", "--since", "1h").out.splitlines()]
    assert recent == ["acknowledged"]


def test_the_commands_work_on_a_dynamodb_table_too(watcher: Watcher, aws_environment: Sandbox):
    create_table(aws_environment)
    Path("watcher.toml").write_text(f'[store]\nurl = "dynamodb://{TABLE}"')
    with closing(open_store(f"dynamodb://{TABLE}")) as store:
        store.commit([look("churn", opens(case("churn", told("churn"), refused("churn")))), look("quiet")])

    assert "slack:#ml" in watcher("status").out
    assert [watcher(*words.split()).code for words in ("ack chu", "snooze latest", "unsnooze churn")] == [
        0
    ] * 3
    assert watcher("redeliver", "--all-dead").code == 0
    assert watcher("ack", "quiet").code == 1
    [shown] = watcher("incidents", "--json").json
    assert (shown["acknowledged_by"], shown["revision"]) == (USER, 5)
    assert len(watcher("audit", "--since", "1h").out.splitlines()) == 4
    assert watcher("show", "churn", "--json").json["incident"]["revision"] == 5


def test_a_narrow_terminal_keeps_the_whole_name_of_the_job(tmp_path: Path):
    from rich.console import Console

    from watcher.cli.incident_tables import print_incidents

    name = "prod-recommender-xgb-hyperparameter-tuning-2026-11-20-10-00-001"
    file = tmp_path / "out"
    with file.open("w") as out:
        console = Console(file=out, force_terminal=True, width=80, color_system=None)
        print_incidents([case(name, told(name))], datetime.now(UTC), console, show_all=False)

    lines = file.read_text().splitlines()
    assert any(line.startswith(name) for line in lines)
    assert all(len(line) <= 80 for line in lines)
    assert "LossNotDecreasing found an issue" in file.read_text()
