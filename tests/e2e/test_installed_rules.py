"""A rule of another distribution can do everything that a built-in rule can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.debug_output import SavedJob
from tests.doubles.slack import SlackDouble
from tests.e2e.conftest import arn, changed
from tests.trials import CREATED_AT, upload
from watcher.cli import main
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

BUCKET = "team"

MODULE = '''
from rules import Breach, Evidence, FixedOutcome, ModelKind, Rule, Selection, Status, scalar


class BetterThanBefore(Rule):
    """Compares runs: fires where a loss is not below that of the other run."""

    name = "BetterThanBefore"
    complaint = "The loss is no better than in the run before"
    advice = "Look at what changed since the run before."
    compares_runs = True

    def __init__(self, parameters):
        super().__init__(parameters)
        self._other_trial = parameters["before"]
        self.selections = (Selection(regexes=["loss$"]),)
        self._theirs = {}

    @property
    def other_trial(self):
        return self._other_trial

    def compare_with(self, step, tensors):
        self._theirs = tensors

    def _judge(self, step, tensors):
        theirs, self._theirs = self._theirs, {}
        both = [name for name in tensors if name in theirs]
        self._read.update(both)
        return [
            Breach("no_better", f"{name} is no better than in {self._other_trial}",
                   Evidence(name, step.number, scalar(tensors[name]), threshold=scalar(theirs[name])))
            for name in both if tensors[name] >= theirs[name]
        ] if both else None


class TrainsTooLong(Rule):
    """Needs the clock, and when training began."""

    name = "TrainsTooLong"
    complaint = "Training takes too long"
    advice = "Use a larger instance."
    judges_metrics = True
    counts_every_step = True

    def __init__(self, parameters):
        super().__init__(parameters)
        self._limit = float(parameters["seconds"])
        self._began = None

    def wants(self, tensor):
        return False

    def training_began(self, at):
        self._began = at

    def tick(self, now):
        if now - self._began > self._limit:
            return self._verdict(Status.ISSUES_FOUND, reason="too_long", explanation="it trains for hours")

    def _judge(self, step, tensors):
        return None


class SlowSamples(Rule):
    """Judges metrics, and says so when its parameters make no sense."""

    name = "SlowSamples"
    complaint = "Training is slow"
    advice = "Add data loader workers."
    judges_metrics = True
    model_kind = ModelKind.DEEP_LEARNING

    def __init__(self, parameters):
        super().__init__(parameters)
        self._at_least = float(parameters.get("at_least", 10))
        self.selections = (Selection(regexes=["throughput"]),)

    def fixed_outcomes(self, forest):
        if self._at_least <= 0:
            yield FixedOutcome(False, "at_least is 0: no throughput is lower", "set at_least above 0")

    def _judge(self, step, tensors):
        slow = {name: scalar(value) for name, value in tensors.items() if name in self.selections[0]}
        self._read.update(slow)
        return [
            Breach("slow", f"{name} is {value:g}", Evidence(name, step.number, value))
            for name, value in slow.items() if value < self._at_least
        ] if slow else None
'''

NAMES = ("BetterThanBefore", "TrainsTooLong", "SlowSamples")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of another installed distribution with one module and its entry points."""
    folder = tmp_path / "site-packages"
    info = folder / "acme_rules-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "acme_rules.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1.0\n")
    entries = "".join(f"{name} = acme_rules:{name}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[debugger_watcher.rules]\n{entries}")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "acme_rules", raising=False)
    return folder


def place(sandbox: Sandbox, name: str, *rules: dict[str, Any], **members: Any) -> None:
    hook = {"S3OutputPath": f"s3://{BUCKET}/debug", "CollectionConfigurations": []}
    sandbox.control.put_training_job(
        name,
        **{
            "CreationTime": CREATED_AT,
            "DebugHookConfig": hook,
            "DebugRuleConfigurations": list(rules),
            "DebugRuleEvaluationStatuses": [],
            **members,
        },
    )


def a_rule(name: str, **parameters: str) -> dict[str, Any]:
    return {
        "RuleConfigurationName": name,
        "RuleEvaluatorImage": "rules-of-ours",
        "RuleParameters": {"rule_to_invoke": name, **parameters},
    }


def save(folder: Path, *losses: float) -> Path:
    job = SavedJob(folder)
    job.collections()
    for step, loss in enumerate(losses):
        job.step(step, {"loss": loss})
    return folder


@pytest.fixture
def runs(sandbox: Sandbox, tmp_path: Path) -> dict[str, Path]:
    """The tensors of a run and of the previous run, both on S3."""
    saved = {
        "churn": save(tmp_path / "churn", 3.0, 2.0, 1.5),
        "before": save(tmp_path / "before", 3.5, 2.5, 1.0),
    }
    with closing(sandbox.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        for name, folder in saved.items():
            upload(folder, s3, BUCKET, name)
    place(sandbox, "before", TrainingJobStatus="Completed")
    return saved


def blocks(slack: SlackDouble, number: int = 0) -> str:
    return json.dumps(slack.messages[number]["blocks"], ensure_ascii=False)


def once(config: Config, name: str) -> None:
    app = App(config, [arn(name)])
    app.run_once()
    app.close()


def evaluate(installed: Path, sandbox: Sandbox, *arguments: str) -> dict[str, Any]:
    """Run `watcher evaluate --json` in a separate process whose environment has the distribution."""
    done = subprocess.run(
        [sys.executable, "-m", "watcher", "evaluate", *arguments, "--json"],
        env={**os.environ, **sandbox.env, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_an_installed_rule_can_compare_runs_and_the_alert_has_its_advice(
    installed: Path, config: Config, sandbox: Sandbox, slack: SlackDouble, runs: dict[str, Path]
):
    place(sandbox, "churn", a_rule("BetterThanBefore", before="before"))

    once(config, "churn")

    assert "loss is no better than in before" in blocks(slack)
    assert "Look at what changed since the run before." in blocks(slack)
    verdict = evaluate(installed, sandbox, "churn", "--rule", "BetterThanBefore")
    assert (verdict["verdict"], verdict["reason"], verdict["step"]) == ("issues_found", "no_better", 2)


def test_an_installed_rule_gets_the_time_and_the_start_of_training(
    installed: Path, config: Config, sandbox: Sandbox, slack: SlackDouble, runs: dict[str, Path]
):
    place(sandbox, "churn", a_rule("TrainsTooLong", seconds="3600"), TrainingStartTime=time.time() - 7200)

    once(config, "churn")

    assert "it trains for hours" in blocks(slack)
    assert "Use a larger instance." in blocks(slack)


def test_an_installed_rule_judges_the_metrics_of_a_job_without_tensors(
    installed: Path, config: Config, sandbox: Sandbox, slack: SlackDouble
):
    began = time.time() // 60 * 60 - 60 * 30
    sandbox.control.put_training_job(
        "bare",
        TrainingStartTime=began,
        AlgorithmSpecification={
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "throughput", "Regex": "throughput=([0-9.]+)"}],
        },
    )
    rates = [100.0] * 10 + [3.0] * 10
    rows = [(began + 60 * minute + 20, rate) for minute, rate in enumerate(rates)]
    sandbox.control.put_metrics("bare", {"throughput": rows})
    attached = [{"rule": "SlowSamples"}, {"rule": "BetterThanBefore", "parameters": {"before": "before"}}]

    once(changed(config, rules={"local": "attach", "attach": attached}), "bare")

    assert len(slack.messages) == 1
    assert "SlowSamples found an issue in bare" in slack.messages[0]["text"]
    assert "throughput is 3" in blocks(slack)
    assert "Add data loader workers." in blocks(slack)
    assert "BetterThanBefore was not evaluated" in blocks(slack)
    verdict = evaluate(installed, sandbox, "bare", "--rule", "SlowSamples")
    assert (verdict["verdict"], verdict["step"], verdict["tensors"]) == ("issues_found", 10, ["throughput"])


def test_the_configuration_of_an_installed_rule_is_linted(
    installed: Path, config: Config, sandbox: Sandbox, slack: SlackDouble
):
    place(sandbox, "churn", a_rule("SlowSamples", at_least="0"))

    once(config, "churn")

    assert "at_least is 0: no throughput is lower" in blocks(slack)


def test_a_rule_that_fails_when_it_is_created_ends_evaluate_without_a_traceback(
    installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = save(tmp_path / "churn", 3.0)

    assert main(["evaluate", str(folder), "--rule", "BetterThanBefore"]) == 2
    assert "watcher: BetterThanBefore cannot be used: KeyError: 'before'" in capsys.readouterr().err
