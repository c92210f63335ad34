"""`watcher logs` shows the lines of all rules of a job in order of time, from real log streams."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config as ClientConfig

from tests.contract.samples import look
from tests.shell.conftest import CommandResult
from tests.waiting import WAIT_LIMIT_S
from watcher.aws.accounts import Accounts
from watcher.aws.links import TRAINING_LOGS
from watcher.aws.session import PUBLISH_ONCE, Aws
from watcher.config.settings import Rules
from watcher.errors import AccessDenied
from watcher.jobs.find import find_job
from watcher.logs.follow import LAST_LINES_TIMEOUT_S, READ_INTERVAL_S, Line, RulesLog, follow
from watcher.logs.rule_log import local_stream
from watcher.sandbox.process import Sandbox
from watcher.store import open_store

Watcher = Callable[..., CommandResult]
RULES = ["LossNotDecreasing", "Overfit"]
OWN_GROUP = "/watcher/evaluations"
LONG_SUFFIX = "." * 600_000
"""Two lines with this suffix do not fit on one page."""


def statuses(status: str = "InProgress") -> list[dict[str, str]]:
    return [{"RuleConfigurationName": rule, "RuleEvaluationStatus": status} for rule in RULES]


@pytest.fixture
def churn(aws_environment: Sandbox) -> Sandbox:
    """A job in progress with two rules, one of which has started to write."""
    control = aws_environment.control
    control.put_training_job("churn", DebugRuleEvaluationStatuses=statuses())
    control.write_logs("churn", ["Started execution of rule at step 0", "Loss is fine"], "LossNotDecreasing")
    return aws_environment


def lines(ran: CommandResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.out.splitlines()]


def messages(ran: CommandResult) -> list[str]:
    return [line["message"] for line in lines(ran)]


def put(sandbox: Sandbox, group: str, stream: str, messages: Iterable[str], *, ago: float = 0) -> None:
    """Write lines with an age of `ago` seconds."""
    at = int((time.time() - ago) * 1000)
    events: Any = [{"timestamp": at, "message": message} for message in messages]
    sandbox.client("logs").put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def training_streams(sandbox: Sandbox, count: int) -> list[str]:
    """One log stream for each instance of the job."""
    client = sandbox.client("logs")
    client.create_log_group(logGroupName=TRAINING_LOGS)
    names = [f"churn/algo-{number}-0" for number in range(1, count + 1)]
    for name in names:
        client.create_log_stream(logGroupName=TRAINING_LOGS, logStreamName=name)
    return names


def test_the_lines_of_all_rules_come_in_order_of_time(churn: Sandbox, watcher: Watcher):
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


def test_times_are_local_unless_utc_is_requested(
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


def test_a_single_rule_can_be_shown(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["not overfit"], "Overfit")

    assert messages(watcher("logs", "churn", "--rule", "Overfit", "--json")) == ["not overfit"]


def test_an_unknown_rule_is_refused_with_the_known_ones(churn: Sandbox, watcher: Watcher):
    ran = watcher("logs", "churn", "--rule", "Underfit")

    assert ran.code == 2
    assert ran.err == "watcher: churn has no rule Underfit; it has LossNotDecreasing, Overfit\n"


def test_the_training_jobs_own_log_is_shown(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["[0] train-error:0.2"])

    ran = watcher("logs", "churn", "--training", "--json")

    assert messages(ran) == ["[0] train-error:0.2"]
    assert lines(ran)[0]["rule"] is None


def test_only_lines_that_match_the_pattern_are_shown(churn: Sandbox, watcher: Watcher):
    assert messages(watcher("logs", "churn", "--grep", "fine$", "--json")) == ["Loss is fine"]
    nothing = watcher("logs", "churn", "--grep", "Traceback")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "watcher: no line matches Traceback\n")


def test_an_empty_log_is_not_blamed_on_the_pattern(churn: Sandbox, watcher: Watcher):
    assert "has no log stream" in watcher("logs", "churn", "--training", "--grep", "Traceback").err


AGES = {"1m": 60, "10m": 600, "2h": 7_200, "20h": 72_000, "3d": 259_200, "13d": 1_123_200}


@pytest.mark.parametrize(
    ("since", "shown"), [("5m", 1), ("30 minutes", 2), ("3h", 3), ("1d ago", 4), ("1w", 5), ("2w", 6)]
)
def test_since_accepts_a_duration(aws_environment: Sandbox, watcher: Watcher, since: str, shown: int):
    training_streams(aws_environment, 1)
    for name, age in AGES.items():
        put(aws_environment, TRAINING_LOGS, "churn/algo-1-0", [name], ago=age)

    ran = watcher("logs", "churn", "--training", "--since", since, "--json")

    assert messages(ran) == list(AGES)[:shown][::-1]


@pytest.mark.parametrize(
    "form", ["%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S UTC"]
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_since_accepts_a_time_in_utc_unless_it_names_a_zone(
    aws_environment: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, form: str, zone: str
):
    training_streams(aws_environment, 1)
    for age in (1_000, 5_000):
        put(aws_environment, TRAINING_LOGS, "churn/algo-1-0", [f"{age} s ago"], ago=age)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        since = (datetime.now(UTC) - timedelta(seconds=3_000)).strftime(form)
        ran = watcher("logs", "churn", "--training", "--since", since, "--json")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert messages(ran) == ["1000 s ago"]


def test_since_respects_the_zone_of_a_time(aws_environment: Sandbox, watcher: Watcher):
    training_streams(aws_environment, 1)
    put(aws_environment, TRAINING_LOGS, "churn/algo-1-0", ["an hour ago"], ago=3_600)
    in_kolkata = datetime.now(UTC) + timedelta(hours=5, minutes=30)
    since = (in_kolkata - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M+05:30")

    assert messages(watcher("logs", "churn", "--training", "--since", since, "--json")) == ["an hour ago"]


def test_a_very_early_since_means_the_start_of_the_log(churn: Sandbox, watcher: Watcher):
    assert len(messages(watcher("logs", "churn", "--since", "1914-06-28", "--json"))) == 2


def test_lines_older_than_since_are_left_out(churn: Sandbox, watcher: Watcher):
    time.sleep(0.01)  # makes the last line older than now
    ran = watcher("logs", "churn", "--since", "0s")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("watcher: nothing was logged since 20")


def test_an_invalid_since_is_refused_with_examples(churn: Sandbox, watcher: Watcher):
    ran = watcher("logs", "churn", "--since", "3 months ago")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: --since '3 months ago': write how long ago, such as 30m, ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--grep", "("], "--grep (:"),
        (["--training", "--rule", "Overfit"], "use one of them"),
    ],
)
def test_invalid_options_are_a_usage_error(churn: Sandbox, watcher: Watcher, arguments: list[str], says: str):
    ran = watcher("logs", "churn", *arguments)

    assert ran.code == 2
    assert says in ran.err


def test_a_job_without_rules_refers_to_its_own_log(aws_environment: Sandbox, watcher: Watcher):
    aws_environment.control.put_training_job("plain")

    ran = watcher("logs", "plain")

    assert ran.code == 2
    assert "--training" in ran.err


def test_an_empty_log_is_explained(aws_environment: Sandbox, watcher: Watcher):
    aws_environment.control.put_training_job("churn", DebugRuleEvaluationStatuses=statuses())

    assert "no rule of churn has a processing job yet" in watcher("logs", "churn").err
    assert "has no log stream in" in watcher("logs", "churn", "--training").err


def test_a_missing_permission_is_named(churn: Sandbox, watcher: Watcher):
    churn.control.inject_fault("logs:FilterLogEvents", code="AccessDeniedException")

    ran = watcher("logs", "churn")

    assert ran.code == 1
    assert "logs:FilterLogEvents" in ran.err


def test_terminal_control_characters_are_removed(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["\x1b[2Jgone\x07"], "Overfit")

    assert watcher("logs", "churn", "--rule", "Overfit").out.endswith(" gone\n")


def test_each_line_of_a_longer_message_is_labelled(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", ["Traceback\n  File x\nValueError\r\n"], "Overfit")

    shown = watcher("logs", "churn", "--rule", "Overfit").out.splitlines()

    assert [re.sub(r"^Overfit \S+ ", "", line) for line in shown] == ["Traceback", "  File x", "ValueError"]
    assert all(line.startswith("Overfit 20") for line in shown)


def test_json_is_one_line_for_any_message(churn: Sandbox, watcher: Watcher):
    message = 'two\nlines, "quotes", │, \x1b[1m and \u2028'
    churn.control.write_logs("churn", [message], "Overfit")

    assert messages(watcher("logs", "churn", "--rule", "Overfit", "--json")) == [message]


def test_more_streams_than_one_request_takes_are_still_in_order_of_time(
    aws_environment: Sandbox, watcher: Watcher
):
    streams = training_streams(aws_environment, 101)
    put(aws_environment, TRAINING_LOGS, max(streams), ["first"], ago=30)
    put(aws_environment, TRAINING_LOGS, min(streams), ["second"], ago=20)
    put(aws_environment, TRAINING_LOGS, max(streams), ["third"], ago=10)

    ran = watcher("logs", "churn", "--training", "--json")

    assert messages(ran) == ["first", "second", "third"]


def test_lines_read_before_a_refusal_are_shown(churn: Sandbox, watcher: Watcher):
    churn.control.write_logs("churn", [f"one {LONG_SUFFIX}", f"two {LONG_SUFFIX}"])
    churn.control.inject_fault("logs:FilterLogEvents", "AccessDeniedException", after=2)

    ran = watcher("logs", "churn", "--training", "--json")

    assert (ran.code, [message[:3] for message in messages(ran)]) == (1, ["one"])
    assert "logs:FilterLogEvents" in ran.err


def test_logs_imports_no_heavy_packages(churn: Sandbox):
    script = (
        "import sys; from watcher.cli import main; main(['logs', 'churn', '--utc']);"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert len(done.stdout.splitlines()) == 2
    assert set(done.stderr.split()) & {"boto3", "numpy", "rich", "awslogs", "httpx", "slack_sdk"} == set()


def on_a_terminal(*arguments: str) -> list[str]:
    """The lines that `watcher logs` writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "watcher", "logs", *arguments]
    with subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm"}):
        os.close(theirs)
        written = b""
        with suppress(OSError):  # On Linux this means that the other side has closed.
            while some := os.read(ours, 65536):
                written += some
    os.close(ours)
    return written.decode().splitlines()


def test_on_a_terminal_each_rule_has_its_colour_and_matches_are_highlighted(churn: Sandbox):
    churn.control.write_logs("churn", ["\x1b[2Jnot overfit at step 7"], "Overfit")

    first, second = on_a_terminal("churn", "--grep", "s..p", "--utc")

    time_of_day = r"\x1b\[2m20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\x1b\[0m"
    step = r"\x1b\[31m\x1b\[1mstep\x1b\[0m"
    assert re.fullmatch(
        rf"\x1b\[36mLossNotDecreasing\x1b\[0m {time_of_day} Started execution of rule at {step} 0", first
    )
    assert re.fullmatch(rf"\x1b\[32mOverfit          \x1b\[0m {time_of_day} not overfit at {step} 7", second)


def test_in_a_pipe_lines_come_immediately_and_ctrl_c_ends_with_130(
    churn: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = [sys.executable, "-m", "watcher", "logs", "churn", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout
        come, _, _ = select.select([following.stdout], [], [], WAIT_LIMIT_S)
        following.send_signal(signal.SIGINT)
        _, complaint = following.communicate(timeout=WAIT_LIMIT_S)

    assert come
    assert (following.returncode, complaint) == (130, "")


@pytest.fixture
def own_log(churn: Sandbox, tmp_path: Path) -> Callable[..., None]:
    """Returns a function that writes to the log of Watcher's own evaluation of a rule."""
    configurations = [{"RuleConfigurationName": rule, "RuleParameters": {}} for rule in RULES]
    placed = churn.control.put_training_job(
        "churn", DebugHookConfig={"S3OutputPath": "s3://b/out"}, DebugRuleConfigurations=configurations
    )
    job = find_job(Accounts("us-east-1"), "churn")
    stream = local_stream(placed["TrainingJobArn"], "Overfit", job.created_at)
    client = churn.client("logs")
    client.create_log_group(logGroupName=OWN_GROUP)
    client.create_log_stream(logGroupName=OWN_GROUP, logStreamName=stream)
    (tmp_path / "watcher.toml").write_text(f'[rules]\nlog_group = "{OWN_GROUP}"')

    def write(*messages: str, ago: float = 0) -> None:
        put(churn, OWN_GROUP, stream, messages, ago=ago)

    return write


def test_watchers_own_evaluation_is_shown_with_debuggers(
    churn: Sandbox, watcher: Watcher, own_log: Callable[..., None]
):
    own_log("seen by Watcher", ago=60)
    churn.control.write_logs("churn", ["seen by Debugger"], "Overfit")

    ran = watcher("logs", "churn", "--rule", "Overfit")

    first, second = ran.out.splitlines()
    assert re.fullmatch(r"Overfit \(Watcher\) \S+ seen by Watcher", first)
    assert re.fullmatch(r"Overfit \S+ seen by Debugger", second)


# -- following ------------------------------------------------------------------------------------


class ScriptedClock:
    """A clock that moves when the code waits, and calls that happen during these waits."""

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


def rules_log(settings: Rules | None = None, *, no_retries: bool = False) -> RulesLog:
    accounts = Accounts("us-east-1")
    if no_retries:
        accounts.home = NoRetries("us-east-1")
    return RulesLog(accounts, find_job(accounts, "churn"), settings or Rules(), None, None)


class NoRetries(Aws):
    """AWS clients that do not retry."""

    def client(self, service: str, region: str = "", config: ClientConfig = PUBLISH_ONCE) -> Any:
        return super().client(service, region, config)


def followed(clock: ScriptedClock, *, no_retries: bool = False) -> tuple[list[str], list[str]]:
    """The lines and the complaints of following a log to its end."""
    lines_read: list[str] = []
    complaints: list[str] = []

    def read(lines: Iterator[Line]) -> int:
        before = len(lines_read)
        for line in lines:
            lines_read.append(line.text)
        return len(lines_read) - before

    log = rules_log(no_retries=no_retries)
    follow(log, read, complaints.append, now=datetime.now(UTC), clock=clock, wait=clock.wait)
    return lines_read, complaints


def end(sandbox: Sandbox, at: float | None = None) -> None:
    """End the job and its rules at `at` (seconds since 1970; default: now)."""
    ended = time.time() if at is None else at
    [job] = sandbox.control.training_jobs()
    final = {"RuleEvaluationStatus": "NoIssuesFound", "LastModifiedTime": ended}
    over = [{**rule, **final} for rule in job["DebugRuleEvaluationStatuses"]]
    sandbox.control.put_training_job(
        "churn", TrainingJobStatus="Completed", TrainingEndTime=ended, DebugRuleEvaluationStatuses=over
    )


def test_following_ends_when_the_job_has_ended_and_its_last_line_has_arrived(churn: Sandbox):
    clock = ScriptedClock()
    write = churn.control.write_logs
    clock.then = {
        2: lambda: write("churn", ["during"], "LossNotDecreasing"),
        3: lambda: end(churn),
        8: lambda: write("churn", ["the last line"], "LossNotDecreasing"),
    }

    lines_read, complaints = followed(clock)

    assert lines_read[2:] == ["during", "the last line"]
    assert complaints == []
    assert clock.now <= 10 * READ_INTERVAL_S + 2 * LAST_LINES_TIMEOUT_S


def test_following_continues_while_late_lines_arrive(churn: Sandbox):
    clock = ScriptedClock()
    just_in_time = int(LAST_LINES_TIMEOUT_S / READ_INTERVAL_S) - 1
    clock.then = {1: lambda: end(churn)} | {
        number * just_in_time: lambda: churn.control.write_logs("churn", ["late"], "LossNotDecreasing")
        for number in range(2, 6)
    }

    lines_read, _ = followed(clock)

    assert lines_read[2:] == ["late"] * 4


def test_a_job_that_ended_long_ago_is_read_once(churn: Sandbox):
    end(churn, at=time.time() - 3_600)
    clock = ScriptedClock()

    lines_read, _ = followed(clock)

    assert (len(lines_read), clock.rounds) == (2, 0)


def test_late_lines_of_a_job_that_just_ended_are_waited_for(churn: Sandbox):
    end(churn, at=time.time() - 1)
    clock = ScriptedClock()
    clock.then = {2: lambda: churn.control.write_logs("churn", ["late"], "LossNotDecreasing")}

    lines_read, _ = followed(clock)

    assert lines_read[2:] == ["late"]


def test_a_clock_that_is_behind_causes_no_long_wait(churn: Sandbox):
    end(churn, at=time.time() + 3_600)
    clock = ScriptedClock()

    followed(clock)

    assert clock.now <= LAST_LINES_TIMEOUT_S + READ_INTERVAL_S


def test_a_stream_that_appears_later_is_followed_from_its_beginning(churn: Sandbox):
    clock = ScriptedClock()
    clock.then = {
        4: lambda: churn.control.write_logs("churn", ["overfit begins"], "Overfit"),
        12: lambda: end(churn),
    }

    lines_read, _ = followed(clock)

    assert lines_read[-1] == "overfit begins"


def test_an_unfinished_rules_log_is_followed_after_the_end_of_training(churn: Sandbox):
    clock = ScriptedClock()
    ended = {"TrainingJobStatus": "Completed"}
    clock.then = {
        1: lambda: churn.control.put_training_job("churn", **ended),
        30: lambda: churn.control.write_logs("churn", ["verdict"], "LossNotDecreasing"),
        31: lambda: end(churn),
    }

    lines_read, _ = followed(clock)

    assert lines_read[-1] == "verdict"


def test_each_outage_is_reported_once_and_following_continues(churn: Sandbox):
    clock = ScriptedClock()
    fault = {"code": "ServiceUnavailable", "status": 503}
    clock.then = {
        1: lambda: churn.control.inject_fault("logs:FilterLogEvents", **fault),
        3: churn.control.clear_faults,
        4: lambda: churn.control.write_logs("churn", ["in between"], "LossNotDecreasing"),
        11: lambda: churn.control.inject_fault("logs:FilterLogEvents", **fault),
        13: churn.control.clear_faults,
        14: lambda: churn.control.write_logs("churn", ["afterwards"], "LossNotDecreasing"),
        15: lambda: end(churn),
    }

    lines_read, complaints = followed(clock, no_retries=True)

    assert lines_read[2:] == ["in between", "afterwards"]
    assert len(complaints) == 2
    assert all("logs:FilterLogEvents" in complaint for complaint in complaints)


@pytest.mark.parametrize("operation", ["sagemaker:DescribeTrainingJob", "logs:DescribeLogStreams"])
def test_throttling_of_job_descriptions_misses_no_line(churn: Sandbox, operation: str):
    no_stream = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/churn-overfit-0a1b2c3d"
    [job] = churn.control.training_jobs()
    rules = [{"RuleEvaluationJobArn": no_stream, **rule} for rule in job["DebugRuleEvaluationStatuses"]]
    churn.control.put_training_job("churn", DebugRuleEvaluationStatuses=rules)
    clock = ScriptedClock()
    clock.then = {
        1: lambda: churn.control.inject_fault(operation),
        6: lambda: churn.control.write_logs("churn", ["meanwhile"], "LossNotDecreasing"),
        12: churn.control.clear_faults,
        13: lambda: end(churn),
    }

    lines_read, complaints = followed(clock, no_retries=True)

    assert lines_read[2:] == ["meanwhile"]
    assert len(complaints) == 1
    assert operation in complaints[0]


def test_a_missing_permission_ends_following(churn: Sandbox):
    clock = ScriptedClock()
    clock.then = {
        2: lambda: churn.control.inject_fault("logs:FilterLogEvents", code="AccessDeniedException"),
    }

    with pytest.raises(AccessDenied, match="logs:FilterLogEvents"):
        followed(clock)


def test_a_request_that_fails_between_two_pages_neither_loses_nor_repeats_a_line(churn: Sandbox):
    churn.control.write_logs("churn", [f"one {LONG_SUFFIX}", f"two {LONG_SUFFIX}", "three"], "Overfit")
    clock = ScriptedClock()
    clock.then = {4: lambda: end(churn)}
    unavailable = {"code": "ServiceUnavailable", "status": 503}
    # An empty page, a full page, and then no further page.
    churn.control.inject_fault("logs:FilterLogEvents", **unavailable, after=2, times=1)

    lines_read, complaints = followed(clock, no_retries=True)

    assert [line.removesuffix(f" {LONG_SUFFIX}") for line in lines_read[2:]] == ["one", "two", "three"]
    assert len(complaints) == 1


def test_a_refusal_of_one_group_loses_no_line_of_the_other(churn: Sandbox, own_log: Callable[..., None]):
    churn.control.write_logs("churn", [f"{number} {LONG_SUFFIX}" for number in range(3)], "Overfit")
    own_log("ours, first", "ours, last")
    log = rules_log(Rules(log_group=OWN_GROUP))
    log.look()
    lines = log.read()
    lines_read = [next(lines).text]  # each group has returned a page
    churn.control.inject_fault("logs:FilterLogEvents", code="AccessDeniedException")
    with pytest.raises(AccessDenied):
        for line in lines:
            lines_read.append(line.text)
    churn.control.clear_faults()
    lines_read += [line.text for line in log.read()]

    assert sorted(line.removesuffix(LONG_SUFFIX).strip() for line in lines_read) == sorted(
        ["0", "1", "2", "Loss is fine", "Started execution of rule at step 0", "ours, first", "ours, last"]
    )


def test_the_lines_of_two_groups_are_interleaved(churn: Sandbox, own_log: Callable[..., None]):
    stream = churn.control.write_logs("churn", ["4"], "Overfit")
    for second in (1, 3):
        own_log(str(second), ago=60 - second)
    for second in (0, 2):
        put(churn, "/aws/sagemaker/ProcessingJobs", stream, [str(second)], ago=60 - second)
    log = rules_log(Rules(log_group=OWN_GROUP))
    log.look()

    assert [line.text for line in log.read() if line.rule == "Overfit"] == ["0", "1", "2", "3", "4"]


def test_known_streams_are_not_looked_up_again(churn: Sandbox):
    clock = ScriptedClock()
    churn.control.write_logs("churn", ["one"], "Overfit")
    clock.then = {40: lambda: end(churn)}
    churn.control.forget_calls()

    followed(clock)

    assert churn.control.calls()["logs:DescribeLogStreams"] == 2


def test_the_command_follows_to_the_end(churn: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch):
    clock = ScriptedClock()
    clock.then = {2: lambda: end(churn)}
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "sleep", clock.wait)

    ran = watcher("logs", "churn", "--follow", "--json")

    assert ran.code == 0
    assert len(messages(ran)) == 2


def test_the_training_log_is_also_followed_to_its_end(
    churn: Sandbox, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
):
    clock = ScriptedClock()
    clock.then = {
        2: lambda: churn.control.write_logs("churn", ["[0] train-error:0.2"]),
        9: lambda: end(churn),
    }
    monkeypatch.setattr(time, "monotonic", clock)
    monkeypatch.setattr(time, "sleep", clock.wait)

    ran = watcher("logs", "churn", "--training", "--follow", "--json")

    assert messages(ran) == ["[0] train-error:0.2"]


def test_the_log_of_a_known_training_job_is_found_without_describing_the_job(
    churn: Sandbox, watcher: Watcher
):
    store_look("churn")
    churn.control.write_logs("churn", ["[0] train-error:0.2"])
    churn.control.forget_calls()
    watcher("logs", "churn", "--training")

    assert churn.control.calls() == {"logs:DescribeLogStreams": 1, "logs:FilterLogEvents": 1}


# -- which job is meant ---------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["chu", "latest"])
def test_a_job_that_the_store_knows_may_be_named_by_its_beginning_or_as_the_latest(
    churn: Sandbox, watcher: Watcher, word: str
):
    whole = watcher("logs", "churn", "--json").out
    store_look("churn")

    assert watcher("logs", word, "--json").out == whole != ""


def test_a_name_that_only_sagemaker_knows_is_not_taken_for_the_beginning_of_another(
    churn: Sandbox, watcher: Watcher
):
    whole = watcher("logs", "churn", "--json").out
    store_look("churn-2")

    assert watcher("logs", "churn", "--json").out == whole


def test_a_beginning_of_several_jobs_is_refused(churn: Sandbox, watcher: Watcher):
    store_look("churn-2")
    store_look("churn-3")

    ran = watcher("logs", "churn-")

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("watcher: 2 jobs begin with churn-: churn-2, churn-3; ")


def store_look(job: str) -> None:
    with closing(open_store("sqlite:///watcher.db")) as store:
        store.commit([look(job)])
