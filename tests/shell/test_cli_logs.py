"""`watcher logs`: the lines of a job's rules together, in the order of time, from real log streams."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.shell.conftest import Ran
from watcher.aws.accounts import Accounts
from watcher.config import Rules
from watcher.follow import EVERY, LAST_LINES, Line, RulesLog, follow
from watcher.named import find_job
from watcher.sandbox.process import Sandbox

Watcher = Callable[..., Ran]
RULES = ["LossNotDecreasing", "Overfit"]


def statuses(status: str = "InProgress") -> list[dict[str, str]]:
    return [{"RuleConfigurationName": rule, "RuleEvaluationStatus": status} for rule in RULES]


@pytest.fixture
def churn(aws_environment: Sandbox) -> Sandbox:
    """A job in progress, of whose two rules one has begun to write."""
    control = aws_environment.control
    control.put_training_job("churn", DebugRuleEvaluationStatuses=statuses())
    control.write_logs("churn", ["Started execution of rule at step 0", "Loss is fine"], "LossNotDecreasing")
    return aws_environment


def lines(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def messages(ran: Ran) -> list[str]:
    return [line["message"] for line in lines(ran)]


def test_the_lines_of_all_rules_come_in_the_order_of_time(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["not overfit"], "Overfit")
    churn.control.write_logs("churn", ["Loss is not decreasing"], "LossNotDecreasing")

    ran = watcher("logs", "churn", "--json")

    assert ran.code == 0
    assert [line["rule"] for line in lines(ran)] == [
        "LossNotDecreasing",
        "LossNotDecreasing",
        "Overfit",
        "LossNotDecreasing",
    ]
    assert messages(ran)[2:] == ["not overfit", "Loss is not decreasing"]
    [first, *_] = lines(ran)
    assert first["stream"].startswith("churn-LossNotDecreasing-")
    assert datetime.fromisoformat(first["time"]).utcoffset() == timedelta(0)


def test_in_a_pipe_a_line_is_label_time_and_text(churn: Sandbox, watcher: Watcher):
    ran = watcher("logs", "churn", "--utc")

    assert re.fullmatch(
        r"LossNotDecreasing 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ Started execution of rule at step 0",
        ran.out.splitlines()[0],
    )


def test_times_are_those_of_this_machine_unless_utc_is_asked_for(
    churn: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        ran = watcher("logs", "churn")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert "+05:30 Started" in ran.out


def test_one_rule_alone_is_shown(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["not overfit"], "Overfit")

    assert messages(watcher("logs", "churn", "--rule", "Overfit", "--json")) == ["not overfit"]


def test_an_unknown_rule_is_answered_with_those_that_there_are(churn: Sandbox, watcher: Watcher):
    ran = watcher("logs", "churn", "--rule", "Underfit")

    assert ran.code == 2
    assert ran.err == "watcher: churn has no rule Underfit; it has LossNotDecreasing, Overfit\n"


def test_the_training_jobs_own_log_is_shown(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["[0] train-error:0.2"])

    ran = watcher("logs", "churn", "--training", "--json")

    assert messages(ran) == ["[0] train-error:0.2"]
    assert lines(ran)[0]["rule"] is None


def test_only_lines_in_which_the_pattern_is_found(churn: Sandbox, watcher: Watcher):
    assert messages(watcher("logs", "churn", "--grep", "fine$", "--json")) == ["Loss is fine"]
    nothing = watcher("logs", "churn", "--grep", "Traceback")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "watcher: no line has Traceback\n")


@pytest.mark.parametrize("since", ["3h", "5m", "1d", "2w", "2020-11-20T10:00Z", "2020-11-20"])
def test_since_speaks_the_language_of_awslogs(churn: Sandbox, watcher: Watcher, since: str):
    assert len(messages(watcher("logs", "churn", "--since", since, "--json"))) == 2


def test_what_is_older_than_since_is_left_out(churn: Sandbox, watcher: Watcher):
    later = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%MZ}"

    ran = watcher("logs", "churn", "--since", later)

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("watcher: nothing was logged since 20")


@pytest.mark.parametrize("since", ["yesterdayish", "99999999999999999999"])
def test_a_time_that_nobody_understands_is_answered_with_examples(
    churn: Sandbox, watcher: Watcher, since: str
):
    ran = watcher("logs", "churn", "--since", since)

    assert ran.code == 2
    assert "3h" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--grep", "("], "--grep (:"),
        (["--training", "--rule", "Overfit"], "say one of them"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    churn: Sandbox, watcher: Watcher, arguments: list[str], says: str
):
    ran = watcher("logs", "churn", *arguments)

    assert ran.code == 2
    assert says in ran.err


def test_a_job_without_rules_leads_to_its_own_log(aws_environment: Sandbox, watcher: Watcher):
    aws_environment.control.put_training_job("plain")

    ran = watcher("logs", "plain")

    assert ran.code == 2
    assert "--training" in ran.err


def test_where_nothing_was_logged_yet_it_is_said_why(aws_environment: Sandbox, watcher: Watcher):
    aws_environment.control.put_training_job("churn", DebugRuleEvaluationStatuses=statuses())

    assert "no rule of churn has a processing job yet" in watcher("logs", "churn").err
    assert "has no log stream in" in watcher("logs", "churn", "--training").err


def test_a_missing_permission_is_named(churn: Sandbox, watcher: Watcher):
    churn.control.inject_fault("logs:FilterLogEvents", code="AccessDeniedException")

    ran = watcher("logs", "churn")

    assert ran.code == 1
    assert "logs:FilterLogEvents" in ran.err


def test_what_a_terminal_would_obey_is_taken_out(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["\x1b[2Jgone\x07"], "Overfit")

    assert watcher("logs", "churn", "--rule", "Overfit").out.endswith(" gone\n")


def test_watchers_own_evaluation_is_shown_beside_debuggers(churn: Sandbox, watcher: Watcher, tmp_path: Any):
    from watcher.rule_log import local_stream

    output = {"S3OutputPath": "s3://bucket/out"}
    configurations = [{"RuleConfigurationName": rule, "RuleParameters": {}} for rule in RULES]
    placed = churn.control.put_training_job(
        "churn", DebugHookConfig=output, DebugRuleConfigurations=configurations
    )
    job = find_job(Accounts("us-east-1"), "churn")
    stream = local_stream(placed["TrainingJobArn"], "Overfit", job.created_at)
    client = churn.client("logs")
    client.create_log_group(logGroupName="/watcher/evaluations")
    client.create_log_stream(logGroupName="/watcher/evaluations", logStreamName=stream)
    client.put_log_events(
        logGroupName="/watcher/evaluations",
        logStreamName=stream,
        logEvents=[{"timestamp": int(time.time() * 1000), "message": "seen by Watcher"}],
    )
    (tmp_path / "watcher.toml").write_text('[rules]\nlog_group = "/watcher/evaluations"')

    ran = watcher("logs", "churn", "--rule", "Overfit")

    assert ran.out.startswith("Overfit (Watcher) ")
    assert ran.out.endswith(" seen by Watcher\n")


# -- following ------------------------------------------------------------------------------------


class Turned:
    """A clock that moves when somebody waits, and things that happen while they do."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: dict[int, Callable[[], object]] = {}
        self.rounds = 0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.rounds += 1
        self.then.get(self.rounds, lambda: None)()


def followed(clock: Turned) -> tuple[list[str], list[str]]:
    """What is told, and what is complained of, until the log is over."""
    told: list[str] = []
    complaints: list[str] = []

    def tell(written: Any) -> None:
        told.extend(line.text for line in written)

    accounts = Accounts("us-east-1")
    log = RulesLog(accounts, find_job(accounts, "churn"), Rules(), None, None)
    follow(log, tell, complaints.append, clock=clock, wait=clock.wait)
    return told, complaints


def end(sandbox: Sandbox) -> None:
    sandbox.control.put_training_job(
        "churn", TrainingJobStatus="Completed", DebugRuleEvaluationStatuses=statuses("NoIssuesFound")
    )


def test_following_ends_by_itself_when_the_job_is_over_and_its_last_line_is_in(churn: Sandbox):
    clock = Turned()
    write = churn.control.write_logs
    clock.then = {
        2: lambda: write("churn", ["during"], "LossNotDecreasing"),
        3: lambda: end(churn),
        8: lambda: write("churn", ["the last line"], "LossNotDecreasing"),
    }

    told, complaints = followed(clock)

    assert told[2:] == ["during", "the last line"]
    assert complaints == []
    assert clock.now <= 10 * EVERY + 2 * LAST_LINES


def test_a_stream_that_appears_later_is_followed_from_its_beginning(churn: Sandbox):
    clock = Turned()
    clock.then = {
        4: lambda: churn.control.write_logs("churn", ["overfit begins"], "Overfit"),
        12: lambda: end(churn),
    }

    told, _ = followed(clock)

    assert told[-1] == "overfit begins"


def test_while_a_rule_is_not_final_its_log_goes_on_after_the_end_of_training(churn: Sandbox):
    clock = Turned()
    ended = {"TrainingJobStatus": "Completed"}
    clock.then = {
        1: lambda: churn.control.put_training_job("churn", **ended),
        30: lambda: churn.control.write_logs("churn", ["verdict"], "LossNotDecreasing"),
        31: lambda: end(churn),
    }

    told, _ = followed(clock)

    assert told[-1] == "verdict"


def test_an_outage_is_said_once_and_followed_through(churn: Sandbox):
    clock = Turned()
    fault = {"code": "ServiceUnavailable", "status": 503}
    clock.then = {
        1: lambda: churn.control.inject_fault("logs:FilterLogEvents", **fault),
        2: churn.control.clear_faults,
        3: lambda: churn.control.write_logs("churn", ["afterwards"], "LossNotDecreasing"),
        4: lambda: end(churn),
    }

    told, complaints = followed(clock)

    assert told[-1] == "afterwards"
    assert len(complaints) == 1
    assert "logs:FilterLogEvents" in complaints[0]


def test_streams_that_are_known_are_not_asked_for_again(churn: Sandbox):
    clock = Turned()
    churn.control.write_logs("churn", ["one"], "Overfit")
    clock.then = {40: lambda: end(churn)}
    churn.control.forget_calls()

    followed(clock)

    assert churn.control.calls()["logs:DescribeLogStreams"] == 2


def test_the_command_follows_to_the_end(churn: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch):
    clock = Turned()
    clock.then = {2: lambda: end(churn)}
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "sleep", clock.wait)

    ran = watcher("logs", "churn", "--follow", "--json")

    assert ran.code == 0
    assert len(messages(ran)) == 2


def test_the_training_log_is_followed_to_its_end_too(
    churn: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
):
    clock = Turned()
    clock.then = {
        2: lambda: churn.control.write_logs("churn", ["[0] train-error:0.2"]),
        9: lambda: end(churn),
    }
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "sleep", clock.wait)

    ran = watcher("logs", "churn", "--training", "--follow", "--json")

    assert messages(ran) == ["[0] train-error:0.2"]


def test_the_log_of_a_training_job_is_found_by_its_name_alone(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["[0] train-error:0.2"])
    churn.control.forget_calls()
    watcher("logs", "churn", "--training")

    assert churn.control.calls() == {"logs:DescribeLogStreams": 1, "logs:FilterLogEvents": 1}


def test_a_line_is_ordered_by_its_time_before_all_else():
    assert Line(1, "z", None, "z", "z") < Line(2, "a", None, "a", "a")
