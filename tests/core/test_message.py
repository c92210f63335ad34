from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smdebug_rulesconfig.debugger_rules import builtin_rules
from smdebug_rulesconfig.profiler_rules.rules import ProfilerRuleBase

from tests.alerts import (
    EVIDENCE,
    FINDING,
    JOB,
    NOW,
    ROUTE,
    RULE_JOB_ARN,
    SNAPSHOT,
    STOPPED,
    a_case,
    a_change,
    alert,
    an_alert,
    told,
    update,
)
from watcher.alerts.message import (
    TITLE_LIMIT,
    Message,
    compose,
    plain_text,
    sparkline,
    values_table,
)
from watcher.arn import run_id
from watcher.model import (
    AlertEvidence,
    ChangeKind,
    Closing,
    Finding,
    FindingKind,
    Form,
    JobSnapshot,
    Judge,
    Reading,
    RuleConfiguration,
    RuleFamily,
    RunStop,
    Severity,
    StopPhase,
)
from watcher.text import printable

STOPPING = f"Watcher is stopping this job ({ROUTE})."


OF_NO_RULE: dict[str, Any] = {"rule": None, "family": None, "judge": None, "step": None}


def about(kind: FindingKind, status: str, reason: str = "", secondary: str = "") -> Message:
    """A message about the job itself, which has ended."""
    finding = replace(
        FINDING, kind=kind, status=status, reason=reason, rule=None, family=None, judge=None, step=None
    )
    snapshot = replace(SNAPSHOT, status=status, secondary_status=secondary or status, ended_at=NOW)
    return told(a_case(finding, stop=None), snapshot=snapshot, evidence=AlertEvidence())


def rule_error(reason: str) -> Message:
    return alert(kind=FindingKind.RULE_ERROR, status="Error", reason=reason, step=None)


@pytest.mark.parametrize(
    ("message", "title"),
    [
        (alert(), f"LossNotDecreasing found an issue in {JOB}"),
        (rule_error("ClientError"), f"LossNotDecreasing could not run on {JOB}"),
        (about(FindingKind.JOB_FAILED, "Failed"), f"{JOB} failed"),
        (about(FindingKind.JOB_STOPPED, "Stopped"), f"{JOB} was stopped"),
        (about(FindingKind.JOB_COMPLETED, "Completed"), f"{JOB} completed"),
    ],
)
def test_the_title_says_what_happened_to_which_job(message: Message, title: str) -> None:
    assert message.title == title


def test_an_alert_shows_the_job_and_its_cost_then_the_rule_and_its_details() -> None:
    assert alert().fields == (
        ("Job", JOB),
        ("Job's status", "InProgress (Training)"),
        ("Running for", "7 min 30 s"),
        ("Instances", "2 × ml.m5.xlarge"),
        ("Spend so far", "$0.06, at $0.46 an hour"),
        ("Stopping now saves", "up to $10.98 (23 h 52 min until MaxRuntimeInSeconds)"),
    )
    assert alert().details == (
        ("Rule", "LossNotDecreasing"),
        ("Step", "24"),
        ("Status", "IssuesFound"),
        ("Found by", "Debugger at step 24"),
        ("Region", "eu-west-1 (account 123456789012)"),
        ("Details", FINDING.reason.strip()),
    )


def test_hyperparameters_experiment_and_tags_are_small_print() -> None:
    assert alert().particulars == (
        ("Hyperparameters", "eta = 0.1 · num_round = 10000 · objective = binary:logistic · max_depth = 16"),
        ("Experiment", "churn, trial deep-trees"),
        ("Tags", "team = growth"),
    )


@pytest.mark.parametrize("kind", FindingKind)
def test_every_alert_shows_the_job_and_its_cost_and_no_secret(kind: FindingKind) -> None:
    message = alert(kind=kind)
    assert dict(message.fields)["Spend so far"] == "$0.06, at $0.46 an hour"
    assert "Hyperparameters" in dict(message.particulars)
    assert "not to be seen" not in plain_text(message) + repr(message)


def test_without_prices_an_alert_shows_hours() -> None:
    message = compose(a_case(), an_alert(), SNAPSHOT, EVIDENCE, NOW)
    assert dict(message.fields)["Spend so far"] == "0.25 instance-hours"


def test_the_notification_line_has_the_title_the_step_and_what_happens_to_the_job() -> None:
    assert alert().text == f"LossNotDecreasing found an issue in {JOB} at step 24. {STOPPING}"
    assert update().text == (
        f"Stopped: LossNotDecreasing found an issue in {JOB} at step 24. {STOPPED.reason}"
    )


def test_a_renamed_rule_is_shown_with_the_built_in_rule_that_it_invokes() -> None:
    own_name = RuleConfiguration("my-loss", RuleFamily.DEBUGGER, {"rule_to_invoke": "LossNotDecreasing"})
    message = told(a_case(replace(FINDING, rule="my-loss")), snapshot=replace(SNAPSHOT, rules=(own_name,)))
    assert dict(message.details)["Rule"] == "my-loss (LossNotDecreasing)"
    assert "loss stopped falling" in message.advice


def test_a_job_that_has_ended_ran_for_the_time_until_its_end() -> None:
    ended = replace(SNAPSHOT, status="Stopped", ended_at=NOW - timedelta(minutes=7))
    message = told(a_case(), snapshot=ended)
    assert dict(message.fields)["Ran for"] == "30 s"


def test_an_alert_on_a_forgotten_job_uses_what_the_finding_holds() -> None:
    message = told(a_case(), snapshot=None)
    assert dict(message.fields)["Job"] == JOB
    assert dict(message.links)["Training job"].endswith(f"#/jobs/{JOB}")
    assert "Instances" not in dict(message.fields)
    assert (message.job, message.particulars) == (None, ())


def test_an_unknown_status_of_a_later_api_is_shown_as_it_is() -> None:
    assert dict(alert(status="Paused").details)["Status"] == "Paused"


def test_an_update_is_as_complete_as_an_alert() -> None:
    assert update().stop == STOPPED.reason
    assert (update().details, update().evidence) == (alert().details, alert().evidence)


def test_what_has_recovered_needs_no_advice() -> None:
    recovered = replace(FINDING, closed_at=NOW, closing=Closing.RECOVERED)
    assert told(a_case(recovered, resolved_at=NOW)).advice == ""


@pytest.mark.parametrize("form", [Form.WITHOUT_EVIDENCE, Form.PLAIN])
def test_a_shorter_form_leaves_out_the_evidence_and_says_how_to_see_it(form: Form) -> None:
    full, short = alert(), alert().shortened(form)
    kept = ("title", "status", "stop", "fields", "details", "advice", "links", "text", "key")
    assert all(getattr(short, name) == getattr(full, name) for name in kept)
    assert short.evidence == AlertEvidence(explanation=EVIDENCE.explanation)
    assert short.particulars == ()
    assert short.left_out.endswith(f"To see it: watcher logs {JOB} --rule LossNotDecreasing")
    assert full.shortened(Form.FULL) == full


@pytest.mark.parametrize(
    ("finding", "command"),
    [
        ({"rule": "my rule"}, f"watcher logs {JOB} --rule 'my rule'"),
        ({"kind": FindingKind.JOB_FAILED, **OF_NO_RULE}, f"watcher logs {JOB} --training"),
        ({"kind": FindingKind.RULE_DEFECT}, f"watcher show {JOB}"),
    ],
)
def test_a_shorter_form_names_the_command_for_its_kind(finding: dict[str, Any], command: str) -> None:
    assert alert(**finding).shortened(Form.PLAIN).left_out.endswith(command)


def built_in_rules() -> list[tuple[str, RuleFamily]]:
    """The names by which AWS's own package sends the built-in rules."""
    factories = [
        make for name, make in inspect.getmembers(builtin_rules, inspect.isfunction) if name[0] != "_"
    ]
    debugging = [make()["DebugRuleConfiguration"]["RuleParameters"]["rule_to_invoke"] for make in factories]
    profiling = [rule.__name__ for rule in ProfilerRuleBase.__subclasses__()]
    return [
        *((name, RuleFamily.DEBUGGER) for name in debugging),
        *((name, RuleFamily.PROFILER) for name in profiling),
    ]


@pytest.mark.parametrize(("rule", "family"), built_in_rules())
def test_each_of_debuggers_built_in_rules_comes_with_what_to_do_when_it_fires(
    rule: str, family: RuleFamily
) -> None:
    assert alert(rule=rule, family=family).advice


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("ClientError: No debugging data was saved by the training job.", "DebugHookConfig"),
        ("ClientError: Unknown parameter num_stepz", "parameters"),
        ("InternalServerError: We encountered an internal error.", "error of SageMaker"),
        ("ClientError: AccessDenied when calling ListObjectsV2", "s3:ListBucket"),
        ("", "processing job"),
    ],
)
def test_a_rule_that_could_not_run_comes_with_what_to_do_about_it(reason: str, hint: str) -> None:
    assert hint in rule_error(reason).advice


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("AlgorithmError: ValueError: bad label, exit code: 1", "traceback"),
        ("AlgorithmError: , exit code: 137", "memory"),
        ("ClientError: Data download failed: 404 on s3://bucket/train", "channels"),
        ("InternalServerError: We encountered an internal error. Please try again.", "AWS Support"),
        ("CapacityError: Unable to provision requested ML compute capacity.", "another instance type"),
        ("Something of a later API", "training log"),
    ],
)
def test_a_failed_job_comes_with_what_its_failure_reason_suggests(reason: str, hint: str) -> None:
    assert hint in about(FindingKind.JOB_FAILED, "Failed", reason).advice


@pytest.mark.parametrize(
    ("secondary", "hint"),
    [
        ("MaxRuntimeExceeded", "MaxRuntimeInSeconds"),
        ("MaxWaitTimeExceeded", "spot"),
        ("Interrupted", "checkpoints"),
        ("Stopped", "CloudTrail"),
    ],
)
def test_a_stopped_job_comes_with_why_sagemaker_stopped_it(secondary: str, hint: str) -> None:
    assert hint in about(FindingKind.JOB_STOPPED, "Stopped", secondary=secondary).advice


def test_the_links_lead_to_the_jobs_and_to_their_logs_in_the_console() -> None:
    console = "https://eu-west-1.console.aws.amazon.com"
    logs = f"{console}/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group"
    assert dict(alert().links) == {
        "Training job": f"{console}/sagemaker/home?region=eu-west-1#/jobs/{JOB}",
        "Rule's processing job": f"{console}/sagemaker/home?region=eu-west-1#/processing-jobs/"
        + RULE_JOB_ARN.rpartition("/")[2],
        "Rule's log": f"{logs}/$252Faws$252Fsagemaker$252FProcessingJobs/log-events/"
        f"{JOB}-LossNotDecreasing-0a1b2c3d$252Falgo-1-1763632800000",
        "Training log": f"{logs}/$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3D{JOB}$252F",
        "Debug output": f"{console}/s3/buckets/bucket?region=eu-west-1"
        f"&prefix=debug%2F{JOB}%2Fdebug-output%2F",
    }


def test_a_local_finding_also_links_to_debuggers_processing_job() -> None:
    assert alert(family=RuleFamily.DEBUGGER, judge=Judge.WATCHER).links == alert().links


def test_a_failed_job_links_to_its_own_log() -> None:
    failed = replace(
        FINDING, kind=FindingKind.JOB_FAILED, status="Failed", rule=None, family=None, judge=None, step=None
    )
    stream = f"{JOB}/algo-1-1763632800000"
    links = dict(told(a_case(failed), evidence=AlertEvidence(log_stream=stream)).links)
    assert links["Training log"].endswith(f"TrainingJobs/log-events/{JOB}$252Falgo-1-1763632800000")
    assert "Rule's log" not in links


def test_a_job_that_saves_nothing_has_no_debug_output_link() -> None:
    message = told(a_case(), snapshot=replace(SNAPSHOT, hook=None))
    assert "Debug output" not in dict(message.links)


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
        ("aws-eusc", "eusc-de-east-1", "eusc-de-east-1.console.amazonaws-eusc.eu"),
        ("aws-iso-b", "us-isob-east-1", "us-isob-east-1.console.sc2s.sgov.gov"),
    ],
)
def test_other_partitions_have_consoles_of_their_own(partition: str, region: str, host: str) -> None:
    arn = f"arn:{partition}:sagemaker:{region}:123456789012:training-job/{JOB}"
    message = alert(run=run_id(arn, NOW))
    assert dict(message.links)["Training job"].startswith(f"https://{host}/sagemaker/")


def test_a_title_with_a_long_rule_name_is_one_line_within_its_limit() -> None:
    title = alert(rule="R" * 256 + "\nx").title
    assert len(title) == TITLE_LIMIT
    assert title.endswith("…")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;window title\x07text", "text"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("nul\0 bell\x07 back\x08", "nul bell back"),
        ("10 %\r20 %\r\n30 %", "10 %\n20 %\n30 %"),
        ("tab\tstays", "tab\tstays"),
        ("abc\u202egnp.exe", "abcgnp.exe"),
        ("half a pair \ud83d", "half a pair "),
        ("שלום 🎉 naïve", "שלום 🎉 naïve"),
    ],
)
def test_external_text_loses_terminal_control_characters_and_keeps_every_language(
    raw: str, shown: str
) -> None:
    assert printable(raw) == shown


@given(st.text())
def test_making_text_printable_twice_changes_nothing_more(text: str) -> None:
    assert printable(printable(text)) == printable(text)


def test_hostile_evidence_is_made_harmless_in_every_field() -> None:
    bad = "\x1b[2J\0\x07"
    evidence = AlertEvidence(
        log_stream=bad,
        log_lines=(f"{bad}line",),
        explanation=f"{bad}because",
        deciding=(Reading(f"{bad}loss\n", 1, 1.0),),
        needed=(Reading(f"{bad}loss", 1, 0.5),),
        curve=(Reading(f"{bad}loss", 1, 1.0),),
        curve_from=f"{bad}CloudWatch",
        missing=(f"{bad}plot",),
    )
    job = replace(
        SNAPSHOT,
        status=f"{bad}InProgress",
        instance_type=f"{bad}ml.m5.xlarge",
        hyperparameters={f"{bad}eta": f"0.1\n{bad}"},
        experiment=f"{bad}churn",
        trial=f"{bad}deep",
        tags={f"{bad}team": f"{bad}growth"},
    )
    stop = RunStop(StopPhase.STOPPED, f"{bad}ana", NOW, reason=f"{bad}stopped")
    finding = replace(FINDING, reason=f"{bad}why", rule=f"{bad}rule", status=f"{bad}IssuesFound")
    change = a_change(ChangeKind.OPENED, finding=FINDING.id, text=f"{bad}text", actor=f"{bad}ana")
    case = a_case(finding, changes=(change,), stop=stop, acknowledged_by=f"{bad}ana")
    message = told(case, snapshot=job, evidence=evidence)
    assert message.evidence == AlertEvidence(
        log_lines=("line",),
        explanation="because",
        deciding=(Reading("loss", 1, 1.0),),
        needed=(Reading("loss", 1, 0.5),),
        curve=(Reading("loss", 1, 1.0),),
        curve_from="CloudWatch",
        missing=("plot",),
    )
    assert message.job
    assert message.job.instances == (("ml.m5.xlarge", 2),)
    assert message.particulars == (
        ("Hyperparameters", "eta = 0.1"),
        ("Experiment", "churn, trial deep"),
        ("Tags", "team = growth"),
    )
    assert message.stop == "stopped."
    assert dict(message.details)["Details"] == "why"
    assert message.finding == message.findings[0]
    assert (message.finding.rule, message.finding.status) == ("rule", "IssuesFound")
    assert (message.changes[0].text, message.changes[0].actor) == ("text", "ana")
    assert message.incident.acknowledged_by == "ana"
    assert message.incident.stop
    assert message.incident.stop.actor == "ana"


def test_the_values_are_in_columns_above_the_curve_of_each_tensor() -> None:
    evidence = AlertEvidence(
        deciding=(Reading("train-error", 8, 0.25), Reading("train-error", 10, 0.125)),
        needed=(Reading("train-error", 10, 0.1),),
        curve=(
            Reading("a", 0, 1.0),
            Reading("train-error", 0, 9.0),
            Reading("a", 2, 3.0),
            Reading("a", 1, 2.0),
        ),
    )
    assert values_table(evidence).splitlines() == [
        "train-error  step 8        0.25",
        "train-error  step 10       0.125",
        "train-error  needed        0.1",
        "a            steps 0 to 2  ▁▅█",
        "train-error  steps 0 to 0  ▁",
    ]
    from_cloudwatch = replace(evidence, curve_from="from CloudWatch; a step is a minute")
    assert values_table(from_cloudwatch).splitlines()[-1] == "from CloudWatch; a step is a minute"
    assert values_table(AlertEvidence()) == ""


def test_a_one_line_curve_marks_values_that_are_not_numbers() -> None:
    assert sparkline([0.0, 1.0, float("nan"), 2.0, float("inf")]) == "▁▅!█!"
    assert sparkline([float("nan")]) == "!"
    assert sparkline([]) == ""


@given(st.lists(st.floats()))
def test_a_one_line_curve_has_one_character_for_each_value(values: list[float]) -> None:
    assert len(sparkline(values)) == len(values)


def test_plain_text_contains_the_whole_message() -> None:
    message = replace(
        alert(),
        evidence=replace(EVIDENCE, missing=("the plot",)),
        repeat=True,
        undelivered=("#old is closed",),
    )
    text = plain_text(message)
    for part in (
        "Open since 10:00:03 UTC",
        STOPPING,
        "Step                24",
        "Spend so far        $0.06",
        "Tags             team = growth",
        "/s3/buckets/bucket",
        EVIDENCE.explanation,
        *EVIDENCE.log_lines,
        "the plot",
        "#old is closed",
        "Possible duplicate",
    ):
        assert part in text
    assert text.startswith(f"LossNotDecreasing found an issue in {JOB}\n")


def test_a_message_that_was_told_begins_with_what_is_new_and_says_nothing_twice() -> None:
    assert plain_text(update()).startswith(
        f"Stopped: LossNotDecreasing found an issue in {JOB}\n\n{STOPPED.reason}\nResolved at 10:00:05 UTC"
    )
    assert plain_text(update()).count(STOPPED.reason) == 1
    still_open = told(a_case(), an_alert(told=1, trying=2))
    assert plain_text(still_open).startswith("Update: LossNotDecreasing")


@given(
    st.builds(
        Finding,
        id=st.just("f"),
        kind=st.sampled_from(FindingKind),
        run=st.just(FINDING.run),
        job=st.text(min_size=1),
        status=st.text(),
        opened_at=st.just(NOW),
        incident=st.just("incident-1"),
        severity=st.sampled_from(Severity),
        rule=st.none() | st.text(),
        family=st.none() | st.sampled_from(RuleFamily),
        judge=st.none() | st.sampled_from(Judge),
        step=st.none() | st.integers(),
        reason=st.text(),
        closed_at=st.none() | st.just(NOW),
        closing=st.sampled_from(Closing),
        closing_reason=st.text(),
    ),
    st.none() | st.just(SNAPSHOT),
)
def test_any_finding_can_be_rendered(finding: Finding, snapshot: JobSnapshot | None) -> None:
    message = told(a_case(finding), snapshot=snapshot)
    assert "\n" not in message.title + message.text + message.status + message.stop
    assert all(value.strip() for _, value in (*message.fields, *message.details))
    assert plain_text(message).encode()
