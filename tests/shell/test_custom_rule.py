"""Unmodified custom rules of smdebug, as used in `Rule.custom` jobs, on the saved output of a job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rules import RuleError, Status, Verdict
from tests.doubles.debug_output import SavedJob, reduced
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

SOURCE = '''
from smdebug.exceptions import TensorUnavailable
from smdebug.rules.rule import Rule

invoked = []


class CustomGradientRule(Rule):
    """AWS's example."""

    def __init__(self, base_trial, threshold=10.0):
        super().__init__(base_trial)
        self.threshold = float(threshold)

    def invoke_at_step(self, step):
        invoked.append(step)
        for tname in self.base_trial.tensor_names(collection="gradients"):
            t = self.base_trial.tensor(tname)
            abs_mean = t.reduction_value(step, "mean", abs=True)
            if abs_mean > self.threshold:
                return True
        return False


class LooksBack(Rule):
    """Fires when the loss is what it was two saved steps ago."""

    def __init__(self, base_trial):
        super().__init__(base_trial, other_trials=None)

    def set_required_tensors(self, step):
        self.req_tensors.add("loss", steps=self.base_trial.tensor("loss").prev_steps(step, 3))

    def invoke_at_step(self, step):
        (loss,) = self.req_tensors.get()
        steps = self.req_tensors.get_tensor_steps("loss")
        return len(steps) == 3 and loss.value(steps[0]) == loss.value(step)


class LooksAhead(Rule):
    """Fires when the next but one step has a greater loss."""

    def __init__(self, base_trial):
        super().__init__(base_trial)

    def set_required_tensors(self, step):
        self.req_tensors.add("loss", steps=[step, step + 2])

    def invoke_at_step(self, step):
        (loss,) = self.req_tensors.get()
        return loss.value(step + 2) > loss.value(step)


class LikeAnotherRun(Rule):
    def __init__(self, base_trial, other_trials):
        super().__init__(base_trial, other_trials=other_trials)

    def invoke_at_step(self, step):
        return self.other_trials[0].tensor("loss").value(step) == self.base_trial.tensor("loss").value(step)


class Broken(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial)

    def invoke_at_step(self, step):
        return 1 / (2 - step)
'''

Evaluate = Callable[..., Any]


@pytest.fixture
def job(tmp_path: Path) -> SavedJob:
    return SavedJob(tmp_path / "debug-output")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "my_rules.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def rule(job: SavedJob, source: Path) -> Evaluate:
    """Returns a function that evaluates a rule from the file on the job."""

    def rule(name: str, *others: SavedJob, **parameters: str) -> Any:
        from watcher.evaluation.custom_rule import CustomRule, load

        return CustomRule(
            load(name, source),
            {
                "rule_to_invoke": name,
                "source_s3_uri": "s3://b/my_rules.py",
                "action_json": "{}",
                **parameters,
            },
            DebugOutput(Folder(job.folder)),
            [DebugOutput(Folder(other.folder)) for other in others],
        )

    return rule


def losses(job: SavedJob, *values: float, first: int = 0) -> None:
    for step, value in enumerate(values, first):
        job.step(step, {"loss": np.float32(value)})


def gradients(job: SavedJob, *means: float) -> None:
    job.collections(gradients={"include_regex": ["^gradient"]})
    for step, mean in enumerate(means):
        job.step(step * 10, {"gradient/a": np.array([-mean, mean]), "loss": np.ones(1)})


def test_awss_example_fires_at_the_step_at_which_it_returns_true(job: SavedJob, rule: Evaluate) -> None:
    gradients(job, 1, 19, 21, 30)
    verdict = rule("CustomGradientRule", threshold="20").look()
    assert (verdict.status, verdict.step, verdict.steps_checked) == (Status.ISSUES_FOUND, 20, 3)
    assert verdict.explanation == (
        "Evaluation of the rule CustomGradientRule at step 20 resulted in the condition being met"
    )


def test_the_rule_follows_a_job_without_waiting(job: SavedJob, rule: Evaluate) -> None:
    evaluation = rule("CustomGradientRule", threshold="20")
    assert evaluation.look() is None
    gradients(job, 1, 2)
    assert evaluation.look() is None
    gradients(job, 1, 2, 3)
    assert evaluation.look() is None
    verdict = evaluation.look(ended=True)
    assert (verdict.status, verdict.step, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 20, 3)
    assert evaluation.look() is verdict


def test_the_rule_is_invoked_once_for_each_saved_step_in_order(job: SavedJob, source: Path) -> None:
    from watcher.evaluation.custom_rule import CustomRule, load

    found = load("CustomGradientRule", source)
    evaluation = CustomRule(found, {}, DebugOutput(Folder(job.folder)))
    gradients(job, 1, 2)
    evaluation.look()
    gradients(job, 1, 2, 3)
    evaluation.look(ended=True)
    assert found.invoke_at_step.__globals__["invoked"] == [0, 10, 20]


def test_saved_reductions_are_read_as_reductions(job: SavedJob, rule: Evaluate) -> None:
    job.collections(gradients={"include_regex": ["gradient"]})
    job.step(0, reduced("gradient/a", abs_mean=50.0))
    assert rule("CustomGradientRule", threshold="20").look().step == 0


def test_a_rule_can_read_earlier_steps(job: SavedJob, rule: Evaluate) -> None:
    job.collections()
    evaluation = rule("LooksBack")
    losses(job, 5, 4, 3)
    assert evaluation.look() is None
    losses(job, 2, 3, first=3)
    verdict = evaluation.look()
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 4)


def test_a_rule_that_asks_for_a_later_step_is_invoked_once_that_step_is_saved(
    job: SavedJob, rule: Evaluate
) -> None:
    job.collections()
    evaluation = rule("LooksAhead")
    losses(job, 5, 4, 3)
    assert evaluation.look() is None
    losses(job, 4.5, first=3)
    assert evaluation.look().step == 1


def test_a_rule_that_asks_for_a_step_beyond_the_end_ends_there(job: SavedJob, rule: Evaluate) -> None:
    job.collections()
    losses(job, 5, 4, 3)
    verdict = rule("LooksAhead").look(ended=True)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, 1)


def test_a_rule_can_compare_with_another_job(job: SavedJob, rule: Evaluate, tmp_path: Path) -> None:
    other = SavedJob(tmp_path / "other")
    for each, values in ((job, (5, 4, 3)), (other, (6, 5, 3))):
        each.collections()
        losses(each, *values)
    verdict = rule("LikeAnotherRun", other, other_trial_0="s3://bucket/other").look()
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 2)


@pytest.mark.parametrize(
    ("save", "reason", "explanation"),
    [
        (lambda job: None, "nothing_saved", "the job saved no step"),
        (lambda job: job.collections(), "nothing_saved", "the job saved no step"),
        (lambda job: gradients(job, 1), "no_tensor_matches", "Tensor prediction was not saved."),
    ],
)
def test_a_rule_that_evaluated_nothing_says_why(
    job: SavedJob,
    rule: Evaluate,
    source: Path,
    save: Callable[[SavedJob], None],
    reason: str,
    explanation: str,
) -> None:
    source.write_text(SOURCE.replace('"loss"', '"prediction"'))
    save(job)
    verdict: Verdict = rule("LooksBack").look(ended=True)
    assert verdict.status is Status.NOT_EVALUATED
    assert (verdict.reason, verdict.explanation) == (reason, explanation)


def test_a_rule_that_raises_is_an_error_that_says_where(job: SavedJob, rule: Evaluate) -> None:
    job.collections()
    job.step(2, {"loss": np.ones(1)})
    verdict = rule("Broken").look()
    assert verdict.status is Status.ERROR
    assert verdict.explanation == "at step 2: ZeroDivisionError: division by zero"


def test_parameters_that_a_rule_does_not_take_are_an_error(job: SavedJob, rule: Evaluate) -> None:
    gradients(job, 1)
    verdict = rule("CustomGradientRule", treshold="20").look()
    assert verdict.status is Status.ERROR
    assert "unexpected keyword argument 'treshold'" in verdict.explanation


# -- loading ------------------------------------------------------------------------------------------


def test_a_rule_missing_from_a_file_is_refused_with_the_rules_in_the_file(source: Path) -> None:
    from watcher.evaluation.custom_rule import load

    with pytest.raises(RuleError, match=r"my_rules\.py has no rule 'Custom'; there are: Broken, CustomGrad"):
        load("Custom", source)


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "class A("])
def test_a_file_that_cannot_be_imported_is_named_in_the_error(source: Path, text: str) -> None:
    from watcher.evaluation.custom_rule import load

    source.write_text(text)
    with pytest.raises(
        RuleError, match=r"my_rules\.py could not be imported: (ModuleNotFound|Syntax)Error: "
    ):
        load("Custom", source)


@pytest.mark.parametrize("name", ["rules.txt", "missing.py"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    from watcher.evaluation.custom_rule import load

    with pytest.raises(RuleError, match=name.replace(".", r"\.")):
        load("Custom", tmp_path / name)


def test_an_installed_distribution_offers_a_rule_by_its_entry_point(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from watcher.evaluation.custom_rule import load

    info = tmp_path / "my_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[debugger_watcher.custom_rules]\nLooksBack = my_rules:LooksBack\nWrong = my_rules:invoked\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("LooksBack").__name__ == "LooksBack"
    with pytest.raises(RuleError, match="my_rules:invoked is not a subclass of smdebug"):
        load("Wrong")
    with pytest.raises(RuleError, match="offers a custom rule 'Other'; there are: LooksBack, Wrong"):
        load("Other")


# -- values -------------------------------------------------------------------------------------------


def test_a_value_that_is_no_longer_kept_is_read_again(job: SavedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from watcher.evaluation import trial

    monkeypatch.setattr(trial, "VALUE_CACHE_BYTES", 3000)
    job.collections()
    for step in range(10):
        job.step(step, {"weight": np.full(200, step)})
    saved = trial.SavedTrial(DebugOutput(Folder(job.folder)))
    assert saved.begun()
    assert list(saved.follow(ended=True)) == list(range(10))
    for step in (0, 9, 5, 0):
        value = saved.tensor("weight").value(step)
        assert value.tolist() == [step] * 200
        value += 1  # the rule gets its own copy, as in smdebug
    assert saved.tensor("weight").value(0)[0] == 0


def test_a_value_whose_file_was_deleted_is_unavailable(
    job: SavedJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smdebug.exceptions import TensorUnavailableForStep

    from watcher.evaluation import trial
    from watcher.evaluation.trial import SavedTrial

    monkeypatch.setattr(trial, "VALUE_CACHE_BYTES", 0)
    job.collections()
    losses(job, 1, 2)
    saved = SavedTrial(DebugOutput(Folder(job.folder)))
    saved.begun()
    list(saved.follow(ended=True))
    job.event_file(1).unlink()
    with pytest.raises(TensorUnavailableForStep):
        saved.tensor("loss").value(1)


def test_smdebug_prints_nothing_on_stdout(job: SavedJob, source: Path) -> None:
    import subprocess
    import sys

    gradients(job, 1, 30)
    script = (
        "from pathlib import Path; from watcher.evaluation.custom_rule import CustomRule, load;"
        "from watcher.debug_output.reader import DebugOutput;"
        "from watcher.debug_output.storage import Folder;"
        f"output = DebugOutput(Folder(Path({str(job.folder)!r})));"
        f"print(CustomRule(load('CustomGradientRule', Path({str(source)!r})), {{}}, output).look().status)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "issues_found\n"


# -- as smdebug's own invoke_rule ---------------------------------------------------------------------

RECORDING = '''
from __future__ import annotations

import json
from dataclasses import dataclass, field

from smdebug.rules.rule import Rule


@dataclass
class Seen:
    names: list[str] = field(default_factory=list)


def tell(*words):
    print(json.dumps(words))


tell("imported")


class Recording(Rule):
    """Tells what it sees, and fires where the loss exceeds a bound that it finds when it is made."""

    def __init__(self, base_trial, factor="2"):
        super().__init__(base_trial, action_str="")
        self.seen = Seen(sorted(base_trial.tensor_names()))
        self.bound = float(factor) * float(base_trial.tensor("loss").value(base_trial.steps()[0])[0])
        tell("made", self.seen.names, base_trial.steps(), self.bound)

    def invoke_at_step(self, step):
        loss = self.base_trial.tensor("loss")
        tell("invoked", step, [float(value) for value in loss.value(step)], loss.prev_steps(step, 2))
        return bool(loss.value(step)[0] > self.bound)


class BeyondTheEnd(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial, action_str="")

    def set_required_tensors(self, step):
        self.req_tensors.add("loss", steps=[step, step + 4])

    def invoke_at_step(self, step):
        tell("invoked", step)


class Failing(Recording):
    def invoke_at_step(self, step):
        tell("failing", step)
        raise KeyError("of its own")
'''

INVOKE = """
import sys
import smdebug.rules.rule
smdebug.rules.rule.Rule.__init__.__defaults__ = ("", None)
from smdebug.rules.rule_invoker import invoke_rule
from smdebug.trials import create_trial
import json
import recording
place, name, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
steps = {key: int(parameters.pop(key)) for key in ("start_step", "end_step") if key in parameters}
rule = getattr(recording, name)(create_trial(place), **parameters)
try:
    invoke_rule(rule, raise_eval_cond=True, **steps)
except Exception as error:
    print(json.dumps(["ended", type(error).__name__, str(error)]))
else:
    print(json.dumps(["ended", "", ""]))
"""


@pytest.mark.parametrize(
    ("name", "parameters", "status", "end"),
    [
        ("Recording", {}, Status.ISSUES_FOUND, "RuleEvaluationConditionMet"),
        ("Recording", {"factor": "90"}, Status.NO_ISSUES_FOUND, "NoMoreData"),
        ("Recording", {"factor": "90", "start_step": "3", "end_step": "7"}, Status.NO_ISSUES_FOUND, ""),
        ("BeyondTheEnd", {}, Status.NO_ISSUES_FOUND, "NoMoreData"),
        ("Failing", {}, Status.ERROR, "KeyError"),
    ],
)
def test_a_rule_sees_and_ends_as_under_smdebugs_invoke_rule(
    job: SavedJob,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    parameters: dict[str, str],
    status: Status,
    end: str,
) -> None:
    from watcher.evaluation.custom_rule import CustomRule, load

    job.collections(weights={"include_regex": ["weight"]})
    for step, loss in enumerate([1.0, 1.5, 1.25, 0.5, 3.0, 0.25]):
        job.step(step * 2, {"loss": np.array([loss, -loss]), "weight": np.ones(2)})
    job.end()
    (tmp_path / "recording.py").write_text(RECORDING)
    theirs = subprocess.run(
        [sys.executable, "-c", INVOKE, str(job.folder), name, json.dumps(parameters)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    told = [json.loads(line) for line in theirs.splitlines() if line.startswith('["')]
    *told, ended = told
    assert ended[1] == end

    capfd.readouterr()
    verdict = CustomRule(
        load(name, tmp_path / "recording.py"), parameters, DebugOutput(Folder(job.folder))
    ).look(ended=True)
    ours = capfd.readouterr()
    assert ours.out == ""
    assert [json.loads(line) for line in ours.err.splitlines() if line.startswith('["')] == told
    assert verdict is not None
    assert verdict.status is status
    if status is Status.ISSUES_FOUND:
        assert verdict.explanation == ended[2]


def test_a_rule_that_exits_is_an_error(job: SavedJob, tmp_path: Path) -> None:
    from watcher.evaluation.custom_rule import CustomRule, load

    path = tmp_path / "rules.py"  # the name of a package that is in use
    path.write_text(
        "import sys\nfrom smdebug.rules.rule import Rule\n"
        "class Exits(Rule):\n    def invoke_at_step(self, step): sys.exit(0)\n"
    )
    job.collections()
    losses(job, 1)
    verdict = CustomRule(load("Exits", path), {}, DebugOutput(Folder(job.folder))).look(ended=True)
    assert verdict is not None
    assert (verdict.status, verdict.explanation) == (Status.ERROR, "at step 0: SystemExit: 0")


def test_other_trials_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    from watcher.evaluation import backtest
    from watcher.evaluation.saved_data import SavedData

    def find(name: str) -> SavedData:
        return SavedData(name, DebugOutput(Folder(tmp_path / name)))

    setting = {f"other_trial_{number}": f"run-{number}" for number in (10, 9, 0, 2)}
    found = [output.uri.rpartition("/")[2] for output in backtest._other_trials(setting, find)]
    assert found == ["run-0", "run-2", "run-9", "run-10"]
    both = backtest._other_trials({"other_trials": "a, b"}, find)
    assert [output.uri.rpartition("/")[2] for output in both] == ["a", "b"]
