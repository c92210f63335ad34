"""Following the logs of rules in progress, with real logs in the sandbox and a controlled clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.jobs import a_job, an_outcome
from tests.pipelines import a_pipeline
from watcher.alerts.evidence import Gatherer
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws
from watcher.config.settings import Account, Config
from watcher.jobs.reconcile import Reconciler
from watcher.jobs.work import LocalWork, Pace
from watcher.logs.rule_monitor import RuleMonitor
from watcher.logs.rule_tails import MAX_RULES_SEARCHED, RuleTails
from watcher.logs.streams import LogStreams
from watcher.model import Closing, Finding, IncidentState
from watcher.sandbox.process import Sandbox
from watcher.store.base import JobRecord, Look
from watcher.store.memory import MemoryStore

CHURN = "arn:aws:sagemaker:us-east-1:123456789012:training-job/churn"
RULE = "LossNotDecreasing"
STUCK_AFTER_S = 1800.0
INFO = "[2026-11-20 12:00:00.345 ip-10-0-1-7:1 INFO rule_invoker.py:15] "
TRACEBACK = ["Traceback (most recent call last):", '  File "rule.py", line 31', "KeyError: 'loss'"]
CONDITION_MET = (
    "[2026-11-20 12:00:00.345 ip-10-0-1-7:1 ERROR rule.py:1] Exception during rule evaluation: "
    "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 14 resulted in the "
    "condition being met"
)


class Daemon:
    """The part of the daemon that follows logs, with what it needs."""

    def __init__(self, store: MemoryStore, clock: Clock, *members: Account) -> None:
        self.store, self.clock = store, clock
        self.work = LocalWork()
        accounts, config = Accounts(members=members), Config()
        refused = RefusedCalls(accounts)
        logs_of = cache(LogStreams)
        self.gather = Gatherer(accounts, config.rules, clock, logs_of).gather
        self.pipeline = a_pipeline(store, accounts=accounts, config=config, clock=clock)
        self.reconciler = Reconciler(
            accounts=accounts,
            store=store,
            pipeline=self.pipeline,
            watch=config.watch,
            work=self.work,
            refused=refused,
            clock=clock,
            stopping=lambda: False,
        )
        self.monitor = RuleMonitor(
            accounts=accounts,
            logs_of=logs_of,
            store=store,
            pipeline=self.pipeline,
            work=self.work,
            stuck_after=STUCK_AFTER_S,
            refused=refused,
            reads=Pace(1e6, time.monotonic, time.sleep),
            looks=Pace(1e6, time.monotonic, time.sleep),
            clock=clock,
            stopping=lambda: False,
        )

    def record(self) -> JobRecord:
        """What is stored of the job `churn`."""
        [record] = self.store.jobs("churn")
        return record

    def look(self) -> None:
        """Read the current state of all jobs."""
        self.reconciler.run()
        self.work_done()

    def work_done(self) -> list[str]:
        """Handle the queued jobs, and return them."""
        looked_at = []
        while self.work.waiting():
            job = self.work.take()
            assert job
            self.pipeline.look_again(job)
            self.work.done(job)
            looked_at.append(job)
        return looked_at

    def cycle(self, after: float = 0) -> list[Finding]:
        """The findings after a cycle that runs `after` seconds from now."""
        self.clock.turn(after)
        self.monitor.cycle()
        return self.store.findings()


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC))  # real time, like that of the sandbox, which dates the log lines


@pytest.fixture
def daemon(aws_environment: Sandbox, clock: Clock) -> Daemon:
    return Daemon(MemoryStore(), clock)


@pytest.fixture
def logs(aws_environment: Sandbox) -> Iterator[Any]:
    client = aws_environment.client("logs")
    yield client
    client.close()


@pytest.fixture
def write(logs: Any, clock: Clock) -> Callable[[str], None]:
    """Writes a line to the log of the only rule, with the time of the clock."""

    def write(line: str) -> None:
        group = "/aws/sagemaker/ProcessingJobs"
        [stream] = logs.describe_log_streams(logGroupName=group)["logStreams"]
        event = {"timestamp": int(clock().timestamp() * 1000), "message": line}
        logs.put_log_events(logGroupName=group, logStreamName=stream["logStreamName"], logEvents=[event])

    return write


@pytest.fixture
def place(sandbox: Sandbox) -> Callable[..., None]:
    """Places a job in training, whose rule is in progress and has logged these lines."""

    def place(*lines: str, name: str = "churn", rule: str = RULE, **members: Any) -> None:
        status = {"RuleConfigurationName": rule, "RuleEvaluationStatus": "InProgress"}
        sandbox.control.put_training_job(name, **{"DebugRuleEvaluationStatuses": [status], **members})
        if lines:
            sandbox.control.write_logs(name, lines, rule=rule)

    return place


def test_a_rule_that_logs_its_firing_has_its_job_checked_again_immediately_and_once(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    place(INFO + "Started execution of rule LossNotDecreasing at step 0")
    daemon.look()
    daemon.cycle()
    assert daemon.work_done() == []

    sandbox.control.write_logs("churn", [CONDITION_MET], rule=RULE)
    assert daemon.cycle(30) == []
    assert daemon.work_done() == [CHURN]
    daemon.cycle(30)
    assert daemon.work_done() == []


def test_the_evidence_is_read_from_the_followed_stream_without_a_lookup(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    place(INFO + "Started execution of rule LossNotDecreasing at step 0")
    daemon.look()
    daemon.cycle()
    fired = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "IssuesFound"}
    place(CONDITION_MET, DebugRuleEvaluationStatuses=[fired])
    daemon.pipeline.look_again(CHURN)
    [finding] = daemon.store.findings()
    sandbox.control.forget_calls()

    evidence = daemon.gather(finding, daemon.record().snapshot)

    assert CONDITION_MET in evidence.log_lines
    assert "logs:DescribeLogStreams" not in sandbox.control.calls()


def test_an_error_is_reported_after_it_has_stood_for_a_minute(daemon: Daemon, place: Callable[..., None]):
    place(INFO + "Loading trial", *TRACEBACK)
    daemon.look()

    assert daemon.cycle() == []
    [finding] = daemon.cycle(61)
    assert (finding.kind, finding.rule, finding.source) == ("rule_stuck", RULE, "debugger")
    assert (finding.status, finding.step) == ("InProgress", None)
    assert finding.reason.endswith("and the rule's status is still InProgress: KeyError: 'loss'")
    assert daemon.cycle(61) == [finding]


def test_a_job_that_is_handled_elsewhere_holds_up_no_other(daemon: Daemon, place: Callable[..., None]):
    for name in ("churn", "sales"):
        place(*TRACEBACK, name=name)
    daemon.look()
    daemon.cycle()
    daemon.store.hold([CHURN], "another process", 3600)

    assert [finding.job for finding in daemon.cycle(61)] == ["sales"]
    daemon.store.release([CHURN], "another process")
    assert sorted(finding.job for finding in daemon.cycle(30)) == ["churn", "sales"]


def test_an_error_after_which_the_rule_continues_is_not_reported(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    place(*TRACEBACK)
    daemon.look()
    daemon.cycle()
    sandbox.control.write_logs("churn", [INFO + "Looking at step 2"], rule=RULE)

    assert daemon.cycle(61) == []


def test_a_rule_whose_status_changed_meanwhile_is_not_stuck_and_its_job_is_checked_again(
    daemon: Daemon, place: Callable[..., None]
):
    place(*TRACEBACK)
    daemon.look()
    daemon.cycle()
    failed = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "Error"}
    place(DebugRuleEvaluationStatuses=[failed])

    assert daemon.cycle(61) == []
    assert daemon.work_done() == [CHURN]
    assert [finding.kind for finding in daemon.store.findings()] == ["rule_error"]


def test_a_rule_that_falls_silent_is_reported_with_its_last_line(daemon: Daemon, place: Callable[..., None]):
    place(INFO + "Looking at step 2")
    daemon.look()

    assert daemon.cycle(STUCK_AFTER_S - 10) == []
    [finding] = daemon.cycle(20)
    assert finding.reason.startswith("Its processing job has written nothing in 30 min")
    assert finding.reason.endswith("UTC: Looking at step 2")


def test_a_rule_that_writes_now_and_then_is_never_reported(
    daemon: Daemon, place: Callable[..., None], write: Callable[[str], None], clock: Clock
):
    place(INFO + "Looking at step 0")
    daemon.look()
    for step in range(1, 5):
        clock.turn(STUCK_AFTER_S - 60)
        write(f"{INFO}Looking at step {step}")
        assert daemon.cycle(30) == []


def falls_silent(daemon: Daemon, place: Callable[..., None]) -> None:
    """The job's rule writes a line, and then nothing until it is reported as stuck."""
    place(INFO + "Looking at step 2")
    daemon.look()
    daemon.cycle()
    [finding] = daemon.cycle(STUCK_AFTER_S + 10)
    assert finding.open


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "another process"])
def test_a_stuck_rule_that_writes_again_has_recovered(
    daemon: Daemon,
    place: Callable[..., None],
    write: Callable[[str], None],
    clock: Clock,
    restarted: bool,
):
    falls_silent(daemon, place)
    if restarted:
        daemon = Daemon(daemon.store, clock)
        assert [finding.open for finding in daemon.cycle(1)] == [True]
    clock.turn(240.5)
    write(INFO + "Looking at step 3")
    [finding] = daemon.cycle(20)

    assert finding.closing is Closing.RECOVERED
    minutes = "4 min 1 s" if restarted else "4 min"
    assert finding.closing_reason.endswith(
        f" UTC, {minutes} after it was reported as stuck: Looking at step 3"
    )
    [incident] = daemon.store.incidents()
    assert incident.state is IncidentState.RESOLVED


def test_a_rule_that_falls_silent_again_is_reported_again(
    daemon: Daemon, place: Callable[..., None], write: Callable[[str], None], clock: Clock
):
    falls_silent(daemon, place)
    clock.turn(240)
    write(INFO + "Looking at step 3")
    daemon.cycle(20)
    [finding] = daemon.cycle(STUCK_AFTER_S + 10)

    assert (finding.open, finding.episode) == (True, 2)


def test_a_stuck_rule_is_over_with_its_verdict(daemon: Daemon, place: Callable[..., None]):
    falls_silent(daemon, place)
    status = {"RuleConfigurationName": RULE, "RuleEvaluationStatus": "NoIssuesFound"}
    place(DebugRuleEvaluationStatuses=[status])
    daemon.look()
    [finding] = daemon.cycle(20)

    assert finding.closing_reason == "the rule has ended: NoIssuesFound"


def test_a_stuck_rule_whose_training_pauses_has_not_recovered(daemon: Daemon, place: Callable[..., None]):
    falls_silent(daemon, place)
    place(SecondaryStatus="Interrupted")
    daemon.look()

    assert [finding.open for finding in daemon.cycle(20)] == [True]


def test_a_rule_without_a_processing_job_is_reported_even_without_permission_to_read_logs(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    place(TrainingStartTime=daemon.clock().timestamp())
    place(INFO + "Loading trial", name="another")
    daemon.look()
    sandbox.control.inject_fault("logs:*", "AccessDeniedException", "not authorized")
    with capture_logs() as logged:
        assert daemon.cycle() == []
        findings = daemon.cycle(STUCK_AFTER_S + 1)

    assert [(finding.job, finding.reason) for finding in findings] == [
        ("churn", "It has no processing job after 30 min 1 s of training")
    ]
    refused = [entry for entry in logged if entry["log_level"] == "error"]
    assert [entry["operation"] for entry in refused] == ["logs:DescribeLogStreams"]


def test_a_processing_job_whose_log_never_starts_is_reported(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    status = {
        "RuleConfigurationName": RULE,
        "RuleEvaluationStatus": "InProgress",
        "RuleEvaluationJobArn": "arn:aws:sagemaker:us-east-1:123456789012:processing-job/churn-loss-0a1b2c3d",
    }
    place(DebugRuleEvaluationStatuses=[status])
    daemon.look()
    sandbox.control.forget_calls()
    for _ in range(59):
        assert daemon.cycle(30) == []
    asked = sandbox.control.calls()["logs:DescribeLogStreams"]
    [finding] = [found for _ in range(21) for found in daemon.cycle(30)][-1:]

    assert "has no log stream after" in finding.reason
    assert asked <= 14, "it is looked for more and more seldom, by two prefixes"


def test_a_profiler_rule_is_reported_only_for_its_errors(daemon: Daemon, place: Callable[..., None]):
    profiler = {"RuleConfigurationName": "ProfilerReport", "RuleEvaluationStatus": "InProgress"}
    for name, lines in (("silent", [INFO + "Waiting for profiler data."]), ("failing", TRACEBACK)):
        place(
            *lines,
            name=name,
            rule="ProfilerReport",
            DebugRuleEvaluationStatuses=[],
            ProfilerRuleEvaluationStatuses=[profiler],
        )
    daemon.look()
    daemon.cycle()

    [finding] = daemon.cycle(STUCK_AFTER_S * 2)
    assert (finding.job, finding.rule, finding.source) == ("failing", "ProfilerReport", "profiler")


def test_a_new_process_reads_the_logs_from_the_beginning_and_reports_nothing_twice(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox, clock: Clock
):
    place(*TRACEBACK)
    daemon.look()
    daemon.cycle()
    place(*TRACEBACK, name="another")
    daemon.look()
    [stuck] = daemon.cycle(61)[:1]
    again = Daemon(daemon.store, clock)
    sandbox.control.forget_calls()
    findings = again.cycle(61)

    assert sorted(finding.job for finding in findings) == ["another", "churn"]
    assert stuck in findings
    assert sandbox.control.calls().get("sagemaker:DescribeTrainingJob", 0) <= 1


def test_the_next_cycle_continues_after_aws_stopped_answering(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox
):
    place(*TRACEBACK)
    daemon.look()
    sandbox.control.inject_fault("logs:FilterLogEvents", "AccessDeniedException", "not now", times=1)
    with capture_logs() as logged:
        assert daemon.cycle(61) == []
        [finding] = daemon.cycle()

    assert finding.kind == "rule_stuck"
    assert [entry["event"] for entry in logged if entry["event"].startswith("aws")] == [
        "aws_refused",
        "aws_answers_again",
    ]


def test_a_member_account_that_refuses_the_role_is_logged_and_the_other_logs_are_read(
    daemon: Daemon, place: Callable[..., None], sandbox: Sandbox, clock: Clock
):
    place(*TRACEBACK)
    daemon.look()
    theirs = CHURN.replace("123456789012", "999999999999")
    rule = an_outcome(evaluation_job_arn=f"{theirs}-lossnotdecreasing-0a1b2c3d")
    job = a_job("churn", arn=theirs, started_at=clock(), outcomes=(rule,))
    daemon.store.commit([Look(snapshot=job, fingerprint="theirs", seen_at=clock(), watching=True)])
    sandbox.control.inject_fault("sts:AssumeRole", "AccessDenied", "not authorized", status=403)
    member = Account(role_arn="arn:aws:iam::999999999999:role/watcher")
    daemon = Daemon(daemon.store, clock, member)
    with capture_logs() as logged:
        daemon.cycle()
        [finding] = daemon.cycle(61)

    assert finding.job_arn == CHURN
    refused = [entry for entry in logged if entry["event"] == "aws_refused"]
    assert [(entry["operation"], entry["at"]) for entry in refused] == [
        ("sts:AssumeRole", "us-east-1 as arn:aws:iam::999999999999:role/watcher")
    ]


def test_a_deleted_stream_is_dropped_and_the_others_are_read(
    daemon: Daemon, place: Callable[..., None], logs: Any, sandbox: Sandbox
):
    place(INFO + "Loading trial")
    place(INFO + "Loading trial", name="another")
    daemon.look()
    daemon.cycle()
    group = "/aws/sagemaker/ProcessingJobs"
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="churn-")["logStreams"]
    logs.delete_log_stream(logGroupName=group, logStreamName=streams[0]["logStreamName"])
    sandbox.control.write_logs("another", TRACEBACK, rule=RULE)
    with capture_logs() as logged:
        daemon.cycle(30)
        daemon.cycle(30)
        [finding] = daemon.cycle(61)

    assert finding.job == "another"
    assert [entry["event"] for entry in logged if entry["log_level"] == "warning"] == ["log_stream_vanished"]


def test_a_stuck_rule_finding_does_not_change_the_schedule_of_its_job(
    daemon: Daemon, place: Callable[..., None]
):
    place(*TRACEBACK)
    daemon.look()
    before = daemon.record()
    daemon.cycle()
    assert daemon.cycle(61)

    after = daemon.record()
    assert (after.snapshot, after.watching, after.describe_at, after.evaluations) == (
        before.snapshot,
        before.watching,
        before.describe_at,
        before.evaluations,
    )


def test_log_streams_are_found_and_read_at_separate_paces(
    place: Callable[..., None], aws_environment: Sandbox, clock: Clock
):
    aws, looked, read = Aws(), list[float](), list[float]()
    logs = RuleTails(
        aws,
        LogStreams(aws),
        looks=Pace(10, lambda: 0.0, looked.append),
        reads=Pace(2, lambda: 0.0, read.append),
        clock=clock,
        stopping=lambda: False,
    )
    for name in ("job-1", "job-2", "job-3"):
        place(INFO + "Loading trial", name=name)
        [rule] = aws.sagemaker.describe_training_job(TrainingJobName=name)["DebugRuleEvaluationStatuses"]
        logs.follow(name, RULE, rule["RuleEvaluationJobArn"])

    logs.update()

    assert looked == pytest.approx([0.1, 0.2])  # the first one does not wait
    assert read == pytest.approx([0.5])


def test_a_cycle_over_many_jobs_costs_one_call_per_hundred_rules(daemon: Daemon, sandbox: Sandbox):
    rules = [RULE, "Overfit", "Overtraining"]
    statuses = [{"RuleConfigurationName": rule, "RuleEvaluationStatus": "InProgress"} for rule in rules]
    names = [f"job-{number:03d}" for number in range(100)]
    sandbox.control.put_training_jobs(
        {"TrainingJobName": name, "DebugRuleEvaluationStatuses": statuses} for name in names
    )
    for name in names:
        for rule in rules:
            sandbox.control.write_logs(name, [INFO + "Loading trial"], rule=rule)
    daemon.look()
    sandbox.control.forget_calls()
    for _ in range(-(-len(names) * len(rules) // MAX_RULES_SEARCHED)):
        daemon.cycle(30)
    assert sandbox.control.calls()["logs:DescribeLogStreams"] <= len(names) * len(rules)

    sandbox.control.forget_calls()
    daemon.cycle(30)
    assert sandbox.control.calls() == {"logs:FilterLogEvents": 3}

    sandbox.control.put_training_jobs(
        {"TrainingJobName": name, "TrainingJobStatus": "Completed"} for name in names
    )
    daemon.look()
    sandbox.control.forget_calls()
    daemon.cycle(30)
    assert sandbox.control.calls() == {}
