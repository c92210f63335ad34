"""Watcher's own evaluation next to Debugger's, on the output of smdebug's own hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

import rules
from tests.doubles.debug_output import SavedJob
from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, blocks, changed, issue, running
from tests.trials import CREATED_AT, upload
from tests.waiting import eventually, next_second
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

BUCKET = "team"

pytestmark = [  # what smdebug's writers warn of
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]


@pytest.fixture
def s3(sandbox: Sandbox) -> Iterator[Any]:
    client = sandbox.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


def place(sandbox: Sandbox, name: str, **members: Any) -> None:
    """Place a job in progress with the cookbook's rule, which Debugger has not finished yet."""
    sandbox.control.put_training_job(
        name,
        **{
            "CreationTime": CREATED_AT,
            "DebugHookConfig": {
                "S3OutputPath": f"s3://{BUCKET}/debug",
                "CollectionConfigurations": [
                    {"CollectionName": "metrics", "CollectionParameters": {"save_interval": "2"}}
                ],
            },
            "DebugRuleConfigurations": [
                {
                    "RuleConfigurationName": "LossNotDecreasing",
                    "RuleEvaluatorImage": "debugger-rules",
                    "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", **PARAMETERS},
                }
            ],
            "DebugRuleEvaluationStatuses": [
                {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": "InProgress"}
            ],
            **members,
        },
    )


def debugger_says(sandbox: Sandbox, name: str, status: str, **members: Any) -> None:
    outcome = {"RuleConfigurationName": "LossNotDecreasing", "RuleEvaluationStatus": status}
    sandbox.control.put_training_job(name, DebugRuleEvaluationStatuses=[outcome], **members)


def kinds(app: App) -> set[str]:
    return {finding.kind.value for finding in app.store.findings()}


def test_watcher_alerts_before_debugger_and_that_alert_says_when_debugger_agrees(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    folder, step = trial
    upload(folder, s3, BUCKET, "churn")
    place(sandbox, "churn")
    with running(App(config)):
        eventually(lambda: slack.messages, "an alert")
        assert "the rule wants 5 %" in blocks(slack)
        assert f"steps 0 to {step}" in blocks(slack)
        assert "Debugger at step" not in blocks(slack)
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(step=step)])
        eventually(lambda: f"Debugger at step {step}" in blocks(slack), "the agreement")
        eventually(lambda: slack.files, "the plot")
    (message,) = slack.messages
    assert message["edited"]
    (plot,) = slack.files
    assert plot["thread_ts"] == message["ts"]
    assert plot["content"].startswith(b"\x89PNG")


def test_debuggers_alert_is_not_repeated_when_watcher_finds_the_same(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    place(sandbox, "churn", DebugRuleEvaluationStatuses=[issue(step=trial[1])])
    with running(App(config)) as app:
        eventually(lambda: slack.messages, "Debugger's alert")
        upload(trial[0], s3, BUCKET, "churn")
        eventually(lambda: f"Watcher at step {trial[1]}" in blocks(slack), "the agreement")
        (finding,) = app.store.findings()
    assert [says.judge for says in finding.says] == ["debugger", "watcher"]
    assert len(slack.messages) == 1


def test_an_issue_that_watcher_finds_stops_the_job_once_when_a_route_says_so(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    place(sandbox, "churn")
    with running(App(changed(config, route=[{"stop": True}]))):
        eventually(lambda: sandbox.control.calls().get("sagemaker:StopTrainingJob"), "the stop")
        debugger_says(sandbox, "churn", "IssuesFound", TrainingJobStatus="Stopped")
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the confirmation")
    assert sandbox.control.calls()["sagemaker:StopTrainingJob"] == 1
    assert len(slack.messages) == 1


def test_contradicting_verdicts_are_reported_at_the_end(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    place(sandbox, "churn")
    app = App(config)
    with running(app):
        eventually(lambda: kinds(app) == {"rule_issue"}, "Watcher's own finding")
        debugger_says(sandbox, "churn", "NoIssuesFound", TrainingJobStatus="Completed")
        eventually(lambda: kinds(app) == {"rule_issue", "divergence"}, "the divergence")
        eventually(lambda: "disagree" in blocks(slack), "the alert says so")
    assert len(slack.messages) == 1


def test_an_unevaluated_rule_is_reported_when_debugger_found_no_issue(
    config: Config, sandbox: Sandbox, slack: SlackDouble, s3: Any
):
    place(sandbox, "churn")
    app = App(config)
    with running(app):
        eventually(app.store.watching, "the job is known")
        debugger_says(sandbox, "churn", "NoIssuesFound", TrainingJobStatus="Completed")
        eventually(lambda: kinds(app) == {"rule_unevaluated"}, "the finding")
        eventually(lambda: slack.messages, "its alert")
    assert "was not evaluated" in slack.messages[0]["text"]
    assert "the job saved no step" in blocks(slack)


def test_rules_are_attached_to_jobs_without_rules(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "bare")
    place(sandbox, "bare", DebugRuleConfigurations=[], DebugRuleEvaluationStatuses=[])
    attach = {"job": "b*", "rule": "LossNotDecreasing", "parameters": PARAMETERS}
    app = App(changed(config, rules={"local": "attach", "attach": [attach]}))
    app.run_once()
    app.close()
    assert len(slack.messages) == 1
    assert "the rule wants 5 %" in blocks(slack)


def test_an_evaluation_continues_where_another_process_left_it(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any, tmp_path: Path
):
    folder, step = trial
    place(sandbox, "churn")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    early = [path for path in files if not _is_at_or_after(path, 20)]
    for path in early:
        s3.upload_file(str(path), BUCKET, f"debug/churn/debug-output/{path.relative_to(folder)}")
    first = App(config)
    first.run_once()
    first.close()
    assert slack.messages == []
    upload(folder, s3, BUCKET, "churn")
    sandbox.control.forget_calls()
    second = App(config)
    (record,) = second.store.jobs("churn")
    assert '"newest": 18' in record.evaluations[0].states["LossNotDecreasing"]
    advanced = second.evaluations.evaluator.advance(record, record.evaluations[0])
    second.pipeline.evaluated(record.snapshot.run, advanced)
    second.close()
    (finding,) = second_findings(config)
    assert (finding.kind, finding.step) == ("rule_issue", step)
    assert sandbox.control.calls()["s3:GET"] < len(files)


@pytest.fixture
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.evaluation.pace.MIN_LOOK_INTERVAL_S", 0.5)
    monkeypatch.setattr("watcher.evaluation.pace.MAX_LOOK_INTERVAL_S", 0.5)


@pytest.fixture
def falling_again(tmp_path: Path, s3: Any) -> Iterator[Callable[[Sequence[float]], None]]:
    """Saves the next values of the loss of the job `churn`, with smdebug's own writers."""
    job = SavedJob(tmp_path / "saved")
    saved = 0

    def save(losses: Sequence[float]) -> None:
        nonlocal saved
        if not saved:
            job.collections()
        for loss in losses:
            job.step(saved, {"validation-loss": np.array(loss)})
            saved += 1
        upload(job.folder, s3, BUCKET, "churn")

    yield save


RECOVERED = "The loss falls again: validation-loss 0.61 at step 6, 0.42 at step 8"
FALLING = {"num_steps": "2", "diff_percent": "5"}


def local(app: App) -> tuple[str, str]:
    """Status and details of Watcher's own outcome."""
    outcomes = app.store.jobs("churn")[0].snapshot.outcomes if app.store.jobs("churn") else ()
    return next(((one.status, one.details) for one in outcomes if one.source == "local"), ("", ""))


@pytest.mark.usefixtures("frequent_looks")
def test_a_loss_that_falls_again_has_recovered_and_the_same_alert_says_so_each_time(
    config: Config, sandbox: Sandbox, slack: SlackDouble, falling_again: Callable[[Sequence[float]], None]
):
    rule = a_rule("LossNotDecreasing", **FALLING)
    place(sandbox, "churn", DebugRuleConfigurations=[rule], DebugRuleEvaluationStatuses=[])
    falling_again([0.9, 0.8, 0.7, 0.61, 0.61, 0.61, 0.61])
    with running(App(config)) as app:
        eventually(lambda: local(app)[0] == "IssuesFound", "the rule fires")
        eventually(lambda: slack.messages and "Open since" in blocks(slack), "an alert")
        falling_again([0.5, 0.42])
        eventually(lambda: local(app)[0] == "Recovered", "the loss falls again")
        assert local(app)[1] == RECOVERED
        eventually(lambda: RECOVERED in blocks(slack), "the alert says so")
        assert slack.messages[0]["text"].startswith("Recovered: LossNotDecreasing")
    with running(App(config)) as app:  # another process goes on
        falling_again([0.42, 0.42])
        eventually(lambda: local(app)[0] == "IssuesFound", "the loss is flat again")
        assert "did not change between step 8 and step 10" in local(app)[1]
        eventually(lambda: "Open since" in blocks(slack), "so does the alert")
        assert "between step 8 and step 10" in blocks(slack)
        assert "between step 4 and step 6" not in blocks(slack), "its numbers are those of now"
        assert "Not available" not in blocks(slack)
        falling_again([0.3, 0.2])
        eventually(lambda: local(app)[0] == "Recovered", "the loss falls once more")
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed")
        eventually(lambda: app.store.next_evaluation() is None, "the evaluation has ended with the job")
        eventually(lambda: slack.messages[0]["text"].startswith("Recovered: "), "the alert says so again")
        assert local(app)[0] == "Recovered"
        (finding,) = app.store.findings()
        assert (finding.kind, finding.episode, finding.closing) == ("rule_issue", 2, "recovered")
    assert len(slack.messages) == 1


@pytest.mark.usefixtures("frequent_looks")
def test_a_loss_that_falls_again_during_the_grace_calls_the_stop_off(
    config: Config, sandbox: Sandbox, slack: SlackDouble, falling_again: Callable[[Sequence[float]], None]
):
    rule = a_rule("LossNotDecreasing", **FALLING)
    place(sandbox, "churn", DebugRuleConfigurations=[rule], DebugRuleEvaluationStatuses=[])
    falling_again([0.9, 0.8, 0.7, 0.61, 0.61, 0.61, 0.61])
    with running(App(changed(config, route=[{"stop": True}], stop={"grace": 3600}))):
        eventually(lambda: slack.messages and "Watcher stops this job at" in blocks(slack), "the grace")
        falling_again([0.5, 0.42])
        eventually(
            lambda: "Not stopped: LossNotDecreasing recovered before the stop" in blocks(slack), "the end"
        )
        assert RECOVERED in blocks(slack)
        assert "Watcher stops this job" not in blocks(slack)
    assert "sagemaker:StopTrainingJob" not in sandbox.control.calls()
    assert len(slack.messages) == 1


@pytest.mark.usefixtures("frequent_looks")
def test_debuggers_later_verdict_on_what_has_recovered_is_neither_a_contradiction_nor_a_second_alert(
    config: Config, sandbox: Sandbox, slack: SlackDouble, falling_again: Callable[[Sequence[float]], None]
):
    place(sandbox, "churn", DebugRuleConfigurations=[a_rule("LossNotDecreasing", **FALLING)])
    falling_again([0.9, 0.8, 0.8, 0.8, 0.8, 0.5, 0.4])
    with running(App(config)) as app:
        eventually(lambda: local(app)[0] == "Recovered", "the rule has fired and recovered")
        eventually(lambda: slack.messages, "the alert is not lost")
        sandbox.control.put_training_job("churn", DebugRuleEvaluationStatuses=[issue(step=4)])
        eventually(lambda: "Debugger at step 4" in blocks(slack), "the agreement")
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed")
        eventually(lambda: app.store.next_evaluation() is None, "the evaluation has ended with the job")
        assert kinds(app) == {"rule_issue"}
    assert len(slack.messages) == 1


@pytest.mark.usefixtures("frequent_looks")
def test_a_run_that_trains_well_is_neither_told_nor_stopped_for_what_an_earlier_run_of_its_name_saved(
    config: Config, sandbox: Sandbox, slack: SlackDouble, s3: Any, tmp_path: Path
):
    def save(*losses: float, interval: int = 1) -> None:
        job = SavedJob(tmp_path / f"run-{len(losses)}")
        job.collections()
        for number, loss in enumerate(losses):
            job.step(number * interval, {"validation-loss": np.array(loss)})
        upload(job.folder, s3, BUCKET, "churn")

    def stops() -> int:
        return sandbox.control.calls().get("sagemaker:StopTrainingJob", 0)

    rule = a_rule("LossNotDecreasing", **FALLING)
    place(sandbox, "churn", DebugRuleConfigurations=[rule], DebugRuleEvaluationStatuses=[])
    with running(App(changed(config, route=[{"stop": True}]))) as app:
        save(*[0.9] * 12)
        eventually(stops, "the first run is stopped")
        sandbox.control.put_training_job("churn", TrainingJobStatus="Stopped")
        eventually(lambda: slack.messages and "SageMaker confirms it" in blocks(slack), "the confirmation")
        sandbox.control.delete_training_job("churn")
        next_second()
        place(
            sandbox,
            "churn",
            CreationTime=time.time(),
            DebugRuleConfigurations=[rule],
            DebugRuleEvaluationStatuses=[],
        )
        eventually(lambda: local(app)[0] == "InProgress", "the second run is evaluated")
        save(0.9, 0.7, 0.5, 0.4, interval=2)
        sandbox.control.put_training_job("churn", TrainingJobStatus="Completed")
        eventually(lambda: local(app)[0] == "NoIssuesFound", "its evaluation ends")
        second, first = app.store.jobs("churn")
        assert [finding.run for finding in app.store.findings()] == [first.snapshot.run]
        assert app.store.stop_of(second.snapshot.run) is None
    assert stops() == 1
    assert len(slack.messages) == 1


def second_findings(config: Config) -> list[Any]:
    app = App(config)
    try:
        return app.store.findings()
    finally:
        app.close()


def _is_at_or_after(path: Path, step: int) -> bool:
    number = path.name.partition("_")[0]
    return number.isdigit() and int(number) >= step


def test_in_a_single_pass_a_job_that_cannot_be_read_holds_up_no_other(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    for name in ("barred", "churn"):  # evaluated in this order
        place(sandbox, name)
    sandbox.control.inject_fault("s3:*", "AccessDenied", "not allowed", status=403, times=1)
    app = App(config)
    app.run_once()
    app.close()
    assert len(slack.messages) == 1
    assert "churn" in blocks(slack)


def test_with_local_off_nothing_is_evaluated(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    place(sandbox, "churn")
    app = App(changed(config, rules={"local": "off"}))
    app.run_once()
    assert app.store.jobs("churn")[0].evaluations == ()
    app.close()
    assert slack.messages == []


def test_an_unreadable_bucket_is_logged_once_and_the_rest_continues(
    config: Config, sandbox: Sandbox, slack: SlackDouble, s3: Any
):
    sandbox.control.inject_fault("s3:*", "AccessDenied", "not allowed", status=403)
    place(sandbox, "churn")
    sandbox.control.put_training_job("other", DebugRuleEvaluationStatuses=[issue()])
    app = App(config)
    app.run_once()
    assert len(slack.messages) == 1
    assert app.store.next_evaluation() is not None
    app.close()


def a_rule(name: str, **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": "debugger-rules",
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


def test_a_job_that_saves_nothing_new_stalls_even_across_a_restart(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    began = time.time() - 3600
    place(
        sandbox,
        "churn",
        TrainingStartTime=began,
        DebugRuleConfigurations=[a_rule("StalledTrainingRule", threshold="60")],
        DebugRuleEvaluationStatuses=[],
    )
    first = App(config)
    first.run_once()
    assert first.store.findings() == []  # Watcher saw the steps for the first time just now
    first.close()
    later = App(config)
    later.evaluations.evaluator._clock = lambda: datetime.now(UTC) + timedelta(minutes=2)
    (record,) = later.store.jobs("churn")
    advanced = later.evaluations.evaluator.advance(record, record.evaluations[0])
    later.pipeline.evaluated(record.snapshot.run, advanced)
    (finding,) = later.store.findings()
    assert (finding.kind, finding.rule) == ("rule_issue", "StalledTrainingRule")
    later.close()


def look_later(config: Config, minutes: float) -> set[str]:
    """Another process looks at the job so much later. Returns the rules that have found something."""
    app = App(config)
    app.evaluations.evaluator._clock = lambda: datetime.now(UTC) + timedelta(minutes=minutes)
    (record,) = app.store.jobs("churn")
    app.pipeline.evaluated(
        record.snapshot.run, app.evaluations.evaluator.advance(record, record.evaluations[0])
    )
    found = {finding.rule for finding in app.store.findings()}
    app.close()
    return found


@pytest.mark.parametrize("content", ["the same", "another"])
def test_a_job_that_writes_over_its_first_files_has_not_stalled(
    config: Config, sandbox: Sandbox, trial: tuple[Path, int], s3: Any, content: str
):
    upload(trial[0], s3, BUCKET, "churn")
    rule = a_rule("StalledTrainingRule", threshold="60")
    place(sandbox, "churn", DebugRuleConfigurations=[rule], DebugRuleEvaluationStatuses=[])
    first = App(config)
    first.run_once()
    first.close()
    next_second()
    event_file = next((trial[0] / "events/000000000000").iterdir())
    data = event_file.read_bytes()
    if content == "another":
        data = next((trial[0] / "events/000000000002").iterdir()).read_bytes()
    key = f"debug/churn/debug-output/{event_file.relative_to(trial[0])}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=data)
    assert look_later(config, 2) == set()
    assert look_later(config, 4) == {"StalledTrainingRule"}


def test_a_spot_job_that_waited_for_an_instance_has_not_stalled(
    config: Config, sandbox: Sandbox, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    rule = a_rule("StalledTrainingRule", threshold="60")
    place(sandbox, "churn", DebugRuleConfigurations=[rule], DebugRuleEvaluationStatuses=[])
    first = App(config)
    first.run_once()
    first.close()
    now = time.time()
    waited = [
        {"Status": "Training", "StartTime": now - 10, "EndTime": now + 10},
        {"Status": "Interrupted", "StartTime": now + 10, "EndTime": now + 3600},
        {"Status": "Training", "StartTime": now + 3600},
    ]
    sandbox.control.put_training_job("churn", SecondaryStatusTransitions=waited)
    again = App(config)
    again.run_once()
    again.close()
    assert look_later(config, 60.5) == set()
    assert look_later(config, 61.5) == {"StalledTrainingRule"}


def test_a_job_is_compared_with_another_one(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any, tmp_path: Path
):
    other = SavedJob(tmp_path / "before")
    other.collections()
    other.step(8, {"train-logloss": np.array(123.0)})
    rule = a_rule("SimilarAcrossRuns", other_trials="before", collection_names="metrics")
    for name, folder in (("before", other.folder), ("churn", trial[0])):
        upload(folder, s3, BUCKET, name)
        place(
            sandbox,
            name,
            TrainingJobStatus="Completed",
            DebugRuleConfigurations=[rule] if name == "churn" else [],
            DebugRuleEvaluationStatuses=[],
        )
    app = App(config, [arn("churn")])
    app.run_once()
    app.close()
    assert "at step 8, train-logloss differs from that of before" in blocks(slack)


def test_a_rule_that_can_never_fire_is_reported_as_soon_as_its_job_is_seen(
    config: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "churn", DebugRuleConfigurations=[a_rule("TensorVariance", collection_names="losses")])
    with running(App(config)):
        eventually(lambda: slack.messages, "an alert")
    (message,) = slack.messages
    assert "TensorVariance cannot work on churn" in message["text"]
    assert "max_threshold" in blocks(slack)


def test_a_well_configured_job_has_no_defect(config: Config, sandbox: Sandbox, slack: SlackDouble):
    place(sandbox, "churn")
    app = App(config)
    app.run_once()
    app.close()
    assert slack.messages == []


class Broken(rules.Rule):
    """A rule with a fault, like one of a third party might have."""

    name = "Broken"
    complaint = "It broke"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.selections = (rules.Selection(regexes=(".*",)),)

    def _judge(self, step: rules.Step, tensors: Mapping[str, rules.Value]) -> Sequence[rules.Breach]:
        raise ZeroDivisionError("an unexpected fault")


class Choosy(Broken):
    name = "Choosy"

    def wants(self, tensor: str) -> bool:
        raise ZeroDivisionError(f"cannot choose {tensor}")


class Unmakable(Broken):
    name = "Unmakable"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        raise ZeroDivisionError("not even this")


def test_a_rule_that_fails_ends_only_its_own_evaluation(
    config: Config,
    sandbox: Sandbox,
    slack: SlackDouble,
    trial: tuple[Path, int],
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(
        rules, "RULES", {**rules.RULES, **{rule.name: rule for rule in (Broken, Choosy, Unmakable)}}
    )
    upload(trial[0], s3, BUCKET, "churn")
    place(
        sandbox,
        "churn",
        DebugRuleConfigurations=[
            a_rule("Choosy"),
            a_rule("Broken"),
            a_rule("Unmakable"),
            a_rule("LossNotDecreasing", **PARAMETERS),
        ],
        DebugRuleEvaluationStatuses=[],
    )
    app = App(config)
    with capture_logs() as logs:
        app.run_once()
    assert {"lint_failed", "rule_failed"} <= {entry["event"] for entry in logs}
    found = {(finding.rule, finding.kind.value) for finding in app.store.findings()}
    assert found == {
        ("Broken", "rule_error"),
        ("Choosy", "rule_error"),
        ("LossNotDecreasing", "rule_issue"),
    }
    assert len(slack.messages) == 1
    assert all(f"{rule} could not run" in blocks(slack) for rule in ("Broken", "Choosy"))
    app.close()


def test_a_rule_with_too_large_a_state_ends_with_the_fix_and_the_others_continue(
    config: Config,
    sandbox: Sandbox,
    trial: tuple[Path, int],
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("watcher.evaluation.rule_states.MAX_CHARS", 1000)
    upload(trial[0], s3, BUCKET, "churn")
    place(
        sandbox,
        "churn",
        DebugRuleConfigurations=[
            a_rule("ExplodingTensor", collection_names="metrics"),
            a_rule("LossNotDecreasing", collection_names="metrics", num_steps="10000"),
        ],
        DebugRuleEvaluationStatuses=[],
    )
    app = App(config)
    app.run_once()

    (finding,) = [found for found in app.store.findings() if found.kind.value == "rule_error"]
    assert finding.rule == "LossNotDecreasing"  # with a window of 10,000 steps
    assert "select fewer tensors, by collection_names or tensor_regex" in finding.reason
    (record,) = app.store.jobs("churn")
    assert record.evaluations
    assert record.evaluations[0].states.keys() == {"ExplodingTensor"}
    app.close()


GROUP = "/watcher/evaluations"


def log_lines(sandbox: Sandbox) -> list[str]:
    logs = sandbox.client("logs")
    events = logs.filter_log_events(logGroupName=GROUP)["events"]
    logs.close()
    return [event["message"].partition("] ")[2] for event in events]


def test_a_local_evaluation_has_a_log_and_the_alert_shows_its_last_lines(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    folder, step = trial
    sandbox.client("logs").create_log_group(logGroupName=GROUP)
    place(sandbox, "churn")
    with running(App(changed(config, rules={"log_group": GROUP}))):
        eventually(lambda: len(log_lines(sandbox)) == 2, "the evaluation has begun")
        upload(folder, s3, BUCKET, "churn")
        eventually(lambda: slack.messages, "an alert")
    lines = log_lines(sandbox)
    assert lines[:2] == [
        f"Loading trial base_trial at path s3://{BUCKET}/debug/churn/debug-output",
        "Started execution of rule LossNotDecreasing at step 0",
    ]
    assert lines[2].startswith("Loss is not decreasing over the last 2 steps at step ")
    assert f"the rule LossNotDecreasing at step {step} resulted in the condition being met" in lines[3]
    assert lines[4].startswith("The rule LossNotDecreasing has recovered at step ")
    assert lines[5] == "The rule LossNotDecreasing fires again"
    assert "Started execution of rule LossNotDecreasing" in blocks(slack)
    assert lines[3] in blocks(slack)
    assert "log-group/$252Fwatcher$252Fevaluations/log-events/churn-LossNotDecreasing-" in blocks(slack)


def test_a_missing_log_group_is_logged_and_costs_only_the_evaluation_log(
    config: Config, sandbox: Sandbox, slack: SlackDouble, trial: tuple[Path, int], s3: Any
):
    upload(trial[0], s3, BUCKET, "churn")
    place(sandbox, "churn")
    with capture_logs() as logged, running(App(changed(config, rules={"log_group": GROUP}))):
        eventually(lambda: slack.messages, "an alert")
    assert "the rule wants 5 %" in blocks(slack)
    assert "Watcher's own log is not in /watcher/evaluations yet" in blocks(slack)
    refused = [str(entry["error"]) for entry in logged if entry["event"] == "aws_refused"]
    assert len(refused) == 1
    assert "log group /watcher/evaluations does not exist in us-east-1" in refused[0]
