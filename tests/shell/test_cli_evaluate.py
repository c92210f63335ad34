"""`watcher evaluate`, on the output of smdebug's own hook in a real training."""

from __future__ import annotations

import struct
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.doubles.debug_output import SavedJob
from tests.shell.conftest import CommandResult
from tests.trials import CREATED_AT, upload
from watcher.sandbox.cookbook import PARAMETERS
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

Watcher = Callable[..., CommandResult]
Trial = tuple[str, int]

BUCKET = "team"
RULE = ("--rule", "LossNotDecreasing")
COOKBOOK = tuple(word for name, text in PARAMETERS.items() for word in ("--param", f"{name}={text}"))


@pytest.fixture(scope="module", autouse=True)
def _smdebug_is_imported() -> None:
    """Import smdebug first, because it logs a line to stderr and warns on its first import in a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import watcher.evaluation.custom_rule  # noqa: F401


@pytest.fixture
def trial(trial: tuple[Path, int]) -> Trial:
    """The folder as a command argument, and the step at which the cookbook's rule fires."""
    return str(trial[0]), trial[1]


@pytest.fixture
def job(aws_environment: Sandbox, trial: Trial) -> Sandbox:
    """A completed job `churn` with the cookbook's rule, and its tensors."""
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket=BUCKET)
        upload(Path(trial[0]), s3, BUCKET, "churn")
    put_job(aws_environment, "churn", {"LossNotDecreasing": PARAMETERS})
    return aws_environment


def put_job(sandbox: Sandbox, name: str, rules: dict[str, dict[str, str]], **members: Any) -> None:
    hook = {"DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/debug", "CollectionConfigurations": []}}
    configurations = [
        {
            "RuleConfigurationName": configured,
            "RuleEvaluatorImage": "debugger-rules",
            "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", **parameters},
        }
        for configured, parameters in rules.items()
    ]
    sandbox.control.put_training_job(
        name,
        **{
            "CreationTime": CREATED_AT,
            "TrainingJobStatus": "Completed",
            "DebugRuleConfigurations": configurations,
            **hook,
            **members,
        },
    )


# -- a verdict ------------------------------------------------------------------------------------


def test_a_rule_that_fires_gives_exit_code_1_and_the_documented_json(watcher: Watcher, trial: Trial):
    folder, step = trial

    ran = watcher("evaluate", folder, *RULE, *COOKBOOK, "--json")

    assert ran.code == 1
    verdict = ran.json
    assert list(verdict) == [
        "rule",
        "parameters",
        "verdict",
        "reason",
        "step",
        "steps_checked",
        "tensors",
        "evidence",
    ]
    assert verdict["parameters"] == PARAMETERS
    assert (verdict["verdict"], verdict["reason"], verdict["step"]) == ("issues_found", "plateau", step)
    assert verdict["steps_checked"] == step // 2
    assert verdict["tensors"] == ["train-logloss", "validation-logloss"]
    [row] = verdict["evidence"]
    assert (row["tensor"], row["step"], row["previous_step"]) == ("validation-logloss", step, step - 2)
    fall = (row["previous_value"] - row["value"]) / row["previous_value"] * 100
    assert fall < row["threshold"] == 5
    assert row["missed_by"] == pytest.approx(5 - fall)


def test_a_rule_that_does_not_fire_gives_exit_code_0(watcher: Watcher, trial: Trial):
    ran = watcher("evaluate", trial[0], *RULE, "--json")

    assert ran.code == 0
    assert (ran.json["verdict"], ran.json["reason"], ran.json["evidence"]) == ("no_issues_found", "", [])
    assert (ran.json["parameters"], ran.json["step"]) == ({}, 78)


def test_a_rule_that_read_nothing_says_why(watcher: Watcher, trial: Trial):
    ran = watcher(
        "evaluate", trial[0], "--rule", "ExplodingTensor", "--param", "collection_names=x", "--json"
    )

    assert ran.code == 0
    assert ran.json["verdict"] == "not_evaluated"
    assert ran.json["reason"] == "no_such_collection"


def test_the_readable_output_has_the_sentence_the_evidence_and_the_notes(watcher: Watcher, trial: Trial):
    folder, step = trial

    ran = watcher("evaluate", folder, *RULE, *COOKBOOK)

    assert ran.code == 1
    assert f"between step {step - 2} and step {step}; the rule wants 5 %" in ran.out
    assert "Evidence" in ran.out
    assert "MISSED BY" in ran.out
    assert ran.out.splitlines()[0].split() == ["rule", "LossNotDecreasing"]


def test_a_nan_is_written_as_valid_json(watcher: Watcher, tmp_path: Path):
    saved = SavedJob(tmp_path / "nan")
    saved.collections()
    for step, loss in enumerate([1.0, np.nan]):
        saved.step(step, {"loss": np.float64(loss)})

    ran = watcher("evaluate", "nan", *RULE, "--param", "num_steps=1", "--json")

    assert ran.code == 1
    assert ran.json["reason"] == "non_finite"
    assert ran.json["evidence"][0]["value"] == "nan"


# -- parameters of a job --------------------------------------------------------------------------


def test_a_jobs_own_parameters_are_the_default(watcher: Watcher, job: Sandbox, trial: Trial):
    ran = watcher("evaluate", "churn", *RULE, "--json")

    assert ran.code == 1
    assert (ran.json["parameters"], ran.json["step"]) == (PARAMETERS, trial[1])


def test_param_overrides_the_jobs_own_parameters(watcher: Watcher, job: Sandbox):
    ran = watcher("evaluate", "churn", *RULE, "--param", "diff_percent=0.001", "--json")

    assert ran.json["parameters"] == {**PARAMETERS, "diff_percent": "0.001"}
    assert ran.json["step"] > 60


def test_a_job_can_also_be_given_by_its_arn_or_its_s3_location(watcher: Watcher, job: Sandbox, trial: Trial):
    arn = job.control.training_jobs()[0]["TrainingJobArn"]

    assert watcher("evaluate", arn, *RULE, "--json").json["step"] == trial[1]
    on_s3 = watcher("evaluate", f"s3://{BUCKET}/debug/churn/debug-output", *RULE, *COOKBOOK, "--json")
    assert on_s3.json["step"] == trial[1]


def test_a_rule_is_found_by_its_name_in_the_job(watcher: Watcher, job: Sandbox, trial: Trial):
    put_job(job, "churn", {"strict": PARAMETERS, "lenient": {"num_steps": "10"}})

    strict = watcher("evaluate", "churn", "--rule", "strict", "--json").json

    assert (strict["rule"], strict["step"]) == ("LossNotDecreasing", trial[1])
    assert watcher("evaluate", "churn", "--rule", "lenient", "--json").code == 0


def test_a_rule_that_a_job_has_twice_is_refused_as_ambiguous(watcher: Watcher, job: Sandbox):
    put_job(job, "churn", {"strict": PARAMETERS, "lenient": {}})

    ran = watcher("evaluate", "churn", *RULE)

    assert ran.code == 2
    assert ran.err == (
        "watcher: churn has LossNotDecreasing as strict, lenient: name one of these as the rule\n"
    )


def test_a_job_in_progress_has_no_final_verdict_unless_the_rule_fires(
    watcher: Watcher, job: Sandbox, trial: Trial
):
    put_job(job, "churn", {}, TrainingJobStatus="InProgress")

    assert watcher("evaluate", "churn", *RULE, "--json").json["verdict"] == "in_progress"
    assert watcher("evaluate", "churn", *RULE, *COOKBOOK, "--json").json["step"] == trial[1]


def test_two_jobs_are_compared_step_by_step(watcher: Watcher, job: Sandbox, trial: Trial):
    similar = ("evaluate", trial[0], "--rule", "SimilarAcrossRuns", "--param", "other_trials=churn", "--json")

    ran = watcher(*similar)

    assert (ran.code, ran.json["verdict"]) == (0, "no_issues_found")
    assert ran.json["steps_checked"] == 40


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rule", "LossIsBad"], ["there is no rule 'LossIsBad'", "LossNotDecreasing", "VanishingGradient"]),
        ([*RULE, "--param", "num_step=2"], ["no parameter 'num_step' (did you mean num_steps?)", "mode"]),
        ([*RULE, "--param", "num_steps=0"], ["num_steps must be a whole number of at least 1"]),
        ([*RULE, "--param", "num_steps"], ["--param num_steps: write --param num_steps=10"]),
        ([*RULE, "--param", "mode=EVAL", "--param", "mode=TRAIN"], ["--param mode is given twice"]),
        ([*RULE, "--sweep", "num_steps=2", "--param", "num_steps=3"], ["in both --param and --sweep"]),
        ([*RULE, "--sweep", "num_steps=2,x"], ["num_steps must be a whole number"]),
        (
            [*RULE, "--sweep", "num_steps=" + ",".join(map(str, range(1, 202)))],
            ["201 combinations, and 200 are the most"],
        ),
        ([*RULE, "--sweep", "num_steps=2", "--plot", "x.png"], ["--plot draws a single evaluation"]),
        ([*RULE, "--plot", "x.jpeg"], ["must end in .png, .svg or .pdf"]),
        ([*RULE, "--plot", "nowhere/x.png"], ["no such folder: nowhere"]),
        (["another", *RULE], ["several jobs need a --sweep"]),
        ([], ["Missing option '--rule'"]),
        (["--rule", "mine.py:Mine"], ["mine.py could not be imported"]),
    ],
)
def test_invalid_arguments_give_one_line_and_exit_code_2_before_anything_is_read(
    watcher: Watcher, trial: Trial, arguments, words
):
    ran = watcher("evaluate", trial[0], *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    for each in words:
        assert each in ran.err


def test_a_job_that_does_not_exist_or_saves_nothing_is_a_usage_error(watcher: Watcher, job: Sandbox):
    job.control.put_training_job("bare", TrainingJobStatus="Completed")

    gone = watcher("evaluate", "chrun", *RULE)
    bare = watcher("evaluate", "bare", *RULE)

    assert (gone.code, bare.code) == (2, 2)
    assert "there is no training job chrun in us-east-1" in gone.err
    assert "bare saves no tensors: it was started without a DebugHookConfig" in bare.err


def test_a_plot_without_its_extra_is_refused_before_anything_is_read(
    watcher: Watcher, trial: Trial, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    ran = watcher("evaluate", trial[0], *RULE, "--plot", "x.png")

    assert (ran.code, ran.out) == (2, "")
    assert "which --plot needs; in a checkout of Watcher, run: pip install '.[plot]'" in ran.err


# -- plots ----------------------------------------------------------------------------------------


def test_a_plot_of_a_sensible_size_is_written_with_the_verdict(
    watcher: Watcher, trial: Trial, tmp_path: Path
):
    ran = watcher("evaluate", trial[0], *RULE, *COOKBOOK, "--plot", "curve.png")

    assert ran.code == 1
    assert "issues_found" in ran.out
    width, height = png_size(tmp_path / "curve.png")
    assert 800 < width < 3000
    assert 400 < height < 2000


def png_size(file: Path) -> tuple[int, int]:
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


# -- sweeps ---------------------------------------------------------------------------------------


def test_a_sweep_shows_for_each_setting_and_job_whether_and_where_the_rule_fires(
    watcher: Watcher, job: Sandbox, trial: Trial
):
    folder, step = trial
    sweeps = ("--sweep", "num_steps=2,10", "--sweep", "diff_percent=0.1,5")

    ran = watcher("evaluate", "churn", folder, *RULE, *sweeps, "--json")

    assert ran.code == 0
    rows = ran.json
    assert [list(row) for row in rows] == [["job", "parameters", "verdict", "reason", "step"]] * 8
    assert [row["job"] for row in rows] == ["churn"] * 4 + [folder] * 4
    tried = [(row["parameters"]["num_steps"], row["parameters"]["diff_percent"]) for row in rows]
    assert tried == [("2", "0.1"), ("2", "5"), ("10", "0.1"), ("10", "5")] * 2
    assert rows[1]["parameters"] == PARAMETERS
    assert (rows[1]["verdict"], rows[1]["step"]) == ("issues_found", step)
    assert (rows[2]["verdict"], rows[2]["reason"], rows[2]["step"]) == ("no_issues_found", "", None)


def test_each_setting_of_a_sweep_has_the_same_verdict_as_alone(watcher: Watcher, trial: Trial):
    rows = watcher("evaluate", trial[0], *RULE, "--sweep", "num_steps=2,5,10", "--json").json

    for row in rows:
        alone = watcher("evaluate", trial[0], *RULE, "--param", f"num_steps={row['parameters']['num_steps']}")
        assert (alone.code == 1) == (row["verdict"] == "issues_found")
        assert row["step"] is None or f"{row['step']}" in alone.out


def test_a_sweep_reads_each_jobs_tensors_once(watcher: Watcher, job: Sandbox):
    job.control.forget_calls()
    watcher("evaluate", "churn", *RULE, "--param", "diff_percent=0.0001", "--param", "num_steps=50")
    once = job.control.calls()
    job.control.forget_calls()

    watcher("evaluate", "churn", *RULE, "--param", "diff_percent=0.0001", "--sweep", "num_steps=49,50,51,52")

    assert job.control.calls() == once
    assert once["s3:GET"] > 40


def test_a_sweep_prints_a_readable_table(watcher: Watcher, trial: Trial):
    ran = watcher("evaluate", trial[0], *RULE, "--sweep", "num_steps=2,10", "--sweep", "diff_percent=5")

    header, first, second = ran.out.splitlines()
    assert header.split() == ["JOB", "NUM_STEPS", "DIFF_PERCENT", "VERDICT", "FIRES", "AT", "STEP", "REASON"]
    assert first.split()[1:] == ["2", "5", "issues_found", f"{trial[1]}", "plateau"]
    assert second.split()[1:3] == ["10", "5"]


# -- custom rules ---------------------------------------------------------------------------------

CUSTOM = """
from smdebug.rules.rule import Rule

class LossBelow(Rule):
    def __init__(self, base_trial, limit=0.1):
        super().__init__(base_trial)
        self.limit = float(limit)

    def invoke_at_step(self, step):
        return self.base_trial.tensor("train-logloss").value(step) < self.limit

class Broken(Rule):
    def __init__(self, base_trial):
        super().__init__(base_trial)

    def invoke_at_step(self, step):
        raise ZeroDivisionError("no divisor")
"""


@pytest.fixture
def custom(tmp_path: Path) -> str:
    (tmp_path / "custom.py").write_text(CUSTOM)
    return "custom.py"


def test_a_custom_rule_runs_unmodified(watcher: Watcher, trial: Trial, custom: str):
    ran = watcher("evaluate", trial[0], "--rule", f"{custom}:LossBelow", "--param", "limit=0.3", "--json")

    assert ran.code == 1
    assert (ran.json["rule"], ran.json["verdict"], ran.json["step"]) == ("LossBelow", "issues_found", 6)
    assert ran.json["parameters"] == {"limit": "0.3"}


def test_a_custom_rule_can_be_swept(watcher: Watcher, trial: Trial, custom: str):
    ran = watcher("evaluate", trial[0], "--rule", f"{custom}:LossBelow", "--sweep", "limit=0.3,0", "--json")

    assert [row["step"] for row in ran.json] == [6, None]


def test_a_custom_rule_that_fails_gives_an_error_and_exit_code_1(watcher: Watcher, trial: Trial, custom: str):
    ran = watcher("evaluate", trial[0], "--rule", f"{custom}:Broken")

    assert ran.code == 1
    assert "ZeroDivisionError: no divisor" in ran.out


def test_a_custom_rule_that_is_not_in_the_file_is_a_usage_error(watcher: Watcher, trial: Trial, custom: str):
    ran = watcher("evaluate", trial[0], "--rule", f"{custom}:LossAbove")

    assert ran.code == 2
    assert "custom.py has no rule 'LossAbove'; there are: Broken, LossBelow" in ran.err
