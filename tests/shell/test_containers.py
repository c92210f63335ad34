"""The sandbox's containers as processes on real data: XGBoost trains and a Debugger rule follows."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from tests.shell.xgboost_job import (
    BUCKET,
    channel,
    collection,
    debug_output,
    job,
    put_blobs,
    rule_job,
    run,
    start,
)
from tests.waiting import WAIT_LIMIT_S
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import S3Prefix
from watcher.errors import WatcherError
from watcher.sandbox.containers.xgboost import parameters, train
from watcher.sandbox.process import Sandbox

METRICS = re.compile(r"\[(\d+)\]#011train-logloss:[\d.]+#011validation-logloss:[\d.]+")


@pytest.fixture(scope="module")
def aws(_shared_sandbox: Sandbox) -> Sandbox:
    """A sandbox with two overlapping blobs of data in its S3."""
    _shared_sandbox.control.reset()
    put_blobs(_shared_sandbox)
    return _shared_sandbox


@pytest.fixture
def s3(aws: Sandbox) -> Any:
    return aws.client("s3")


def saved_steps(s3: Any, name: str) -> dict[int, SavedStep]:
    """What the training saved, by step, after checking that all of it can be read."""
    steps = list(DebugOutput(S3Prefix(s3, debug_output(name))).steps())
    assert all(isinstance(step, SavedStep) for step in steps)
    return {step.step: step for step in steps}


@pytest.fixture(scope="module")
def whole(aws: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A training `whole` with 20 rounds that ran to its end."""
    return run(aws, "xgboost", job("whole", {"num_round": "20"}), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def evaluate(aws: Sandbox, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Evaluates a rule on a training that has ended. Returns the result and the log."""

    def evaluate(name: str, rule: str = "LossNotDecreasing", **parameters: str) -> tuple[dict[str, Any], str]:
        (tmp_path / "ended").touch()
        ran = run(aws, "rule", rule_job(name, tmp_path / "ended", rule, **parameters), tmp_path)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1]), ran.stderr

    return evaluate


@pytest.fixture
def endless(aws: Sandbox, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a training of 10,000 rounds that is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def endless(name: str) -> subprocess.Popen[str]:
        document = job(name, {"num_round": "10000"})
        started.append(start(aws, "xgboost", document, tmp_path, subprocess.PIPE))
        return started[-1]

    yield endless
    for process in started:
        process.kill()
        process.communicate()


# -- XGBoost ------------------------------------------------------------------------------------------


def test_a_training_prints_its_metrics_saves_its_tensors_and_uploads_its_model(
    whole: subprocess.CompletedProcess[str], s3: Any
) -> None:
    assert whole.returncode == 0, whole.stderr
    assert [int(found[1]) for found in METRICS.finditer(whole.stdout)] == list(range(20))
    assert list(saved_steps(s3, "whole")) == list(range(0, 20, 2))
    assert "Traceback" not in whole.stdout + whole.stderr

    archive = s3.get_object(Bucket=BUCKET, Key="out/whole/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        model = tar.extractfile("xgboost-model")
        assert model is not None
        booster = xgboost.Booster(model_file=bytearray(model.read()))
    assert booster.num_boosted_rounds() == 20
    assert booster.predict(xgboost.DMatrix(np.array([[3.0, 3.0], [0.0, 0.0]]))).round().tolist() == [1, 0]


def test_a_repeated_collection_is_saved_as_smdebug_interprets_it(
    aws: Sandbox, s3: Any, tmp_path: Path
) -> None:
    hook = {
        "S3OutputPath": f"s3://{BUCKET}/debug",
        "HookParameters": {"save_interval": "4"},
        "CollectionConfigurations": [
            collection("metrics", save_interval="500"),
            collection("metrics", save_interval="3"),
            {"CollectionName": "feature_importance"},
        ],
    }
    ran = run(aws, "xgboost", job("twice", {"num_round": "7"}, DebugHookConfig=hook), tmp_path)
    assert ran.returncode == 0, ran.stderr
    steps = {step: saved.tensors for step, saved in saved_steps(s3, "twice").items()}
    assert [step for step, tensors in steps.items() if "train-logloss" in tensors] == [0, 3, 6]
    assert [step for step, tensors in steps.items() if "feature_importance/gain/f0" in tensors] == [0, 4]


def test_without_a_hook_configuration_nothing_is_saved(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(job("no-hook", {"num_round": "3"}, DebugHookConfig=None), s3, tmp_path)
    assert len(METRICS.findall(capsys.readouterr().out)) == 3
    assert saved_steps(s3, "no-hook") == {}


def test_hyperparameters_are_strings_and_metrics_a_list(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"objective": "multi:softprob", "num_class": "2", "eta": "0.5", "num_round": "2"}
    one_channel = {"InputDataConfig": [channel("train")], "DebugHookConfig": None}
    train(job("strings", {**given, "eval_metric": "merror,mlogloss"}, **one_channel), s3, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert any(
        re.fullmatch(r"\[1\]#011train-merror:0\.\d{5}#011train-mlogloss:0\.\d{5}", line) for line in lines
    )


@pytest.mark.parametrize(
    ("image", "objective", "metric"),
    [
        ("sagemaker-xgboost:0.90-2-cpu-py3", "binary:logistic", "error"),
        ("sagemaker-xgboost:1.2-2", "multi:softprob", "merror"),
        ("xgboost:1", "rank:pairwise", "map"),
        ("sagemaker-xgboost:1.3-1", "binary:logistic", None),
        ("sagemaker-xgboost:1.7-1", "multi:softprob", None),
        ("sagemaker-xgboost:0.90-2-cpu-py3", "reg:linear", None),
    ],
)
def test_before_1_3_other_metrics_are_evaluated_by_default(
    image: str, objective: str, metric: str | None
) -> None:
    image = f"683313688378.dkr.ecr.us-east-1.amazonaws.com/{image}"
    default = parameters({"objective": objective}, image).get("eval_metric")
    assert default == (None if metric is None else [metric])
    named = parameters({"objective": objective, "eval_metric": "auc"}, image)
    assert named["eval_metric"] == ["auc"]


def test_libsvm_files_are_read_with_missing_features(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=BUCKET, Key="libsvm/train/a.libsvm", Body="1 0:0.5 2:3\n0 1:-2\n" * 20)
    s3.put_object(Bucket=BUCKET, Key="libsvm/train/b.libsvm", Body="1 0:0.5\n")
    s3.put_object(Bucket=BUCKET, Key="libsvm/validation/a.libsvm", Body="0 1:-2\n1 0:0.5\n")
    channels = [
        channel(name, f"s3://{BUCKET}/libsvm/{name}", content_type="libsvm")
        for name in ("train", "validation")
    ]
    given = {"InputDataConfig": channels, "DebugHookConfig": None}
    train(job("libsvm", {"num_round": "3", "objective": "reg:squarederror"}, **given), s3, tmp_path)
    out = capsys.readouterr().out
    assert "Single node training with 41 rows in train, 2 rows in validation." in out
    assert re.search(r"\[2\]#011train-rmse:[\d.]+#011validation-rmse:[\d.]+", out)


def test_training_stops_early_when_the_job_asks_for_it(
    s3: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"num_round": "10000", "early_stopping_rounds": "2"}
    train(job("early", given, DebugHookConfig=None), s3, tmp_path)
    assert 2 < len(METRICS.findall(capsys.readouterr().out)) < 200


def test_sigterm_ends_a_training_promptly_with_complete_output_and_a_model(
    endless: Callable[[str], subprocess.Popen[str]], s3: Any
) -> None:
    process = endless("stopped")
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("[4]#011"))
    process.send_signal(signal.SIGTERM)
    rest, err = process.communicate(timeout=WAIT_LIMIT_S)
    assert process.returncode == 0, err
    assert len(METRICS.findall(rest)) < 1000
    assert len(saved_steps(s3, "stopped")) >= 3
    assert s3.head_object(Bucket=BUCKET, Key="out/stopped/output/model.tar.gz")["ContentLength"] > 0


def test_sigterm_ends_a_training_that_has_not_started(
    endless: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = endless("stopped-early")
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_LIMIT_S) != 0


BAD_DATA = f"s3://{BUCKET}/bad"


@pytest.mark.parametrize(
    ("hyperparameters", "members", "sentence"),
    [
        (
            {},
            {"InputDataConfig": [channel("validation")]},
            "there is no channel train: the job has validation",
        ),
        ({}, {"InputDataConfig": []}, "there is no channel train: the job has no channel"),
        (
            {},
            {"InputDataConfig": [channel("train", f"{BAD_DATA}/nothing-here")]},
            f"channel train is empty: there is nothing at {BAD_DATA}/nothing-here",
        ),
        (
            {},
            {"InputDataConfig": [channel("train", "s3://no-such-bucket/train")]},
            "reading channel train from s3://no-such-bucket/train: NoSuchBucket",
        ),
        (
            {},
            {"InputDataConfig": [channel("train", f"{BAD_DATA}/header.csv")]},
            f"channel train, {BAD_DATA}/header.csv is not a CSV file of numbers with the label first and no ",
        ),
        (
            {},
            {"InputDataConfig": [channel("train", f"{BAD_DATA}/ragged.csv")]},
            f"channel train, {BAD_DATA}/ragged.csv is not a CSV file of numbers",
        ),
        (
            {},
            {"InputDataConfig": [channel("train", f"{BAD_DATA}/label-only.csv")]},
            f"each file of channel train at {BAD_DATA}/label-only.csv needs a label and the same number",
        ),
        (
            {},
            {"InputDataConfig": [channel("train", content_type="application/x-parquet")]},
            "channel train has ContentType 'application/x-parquet'; the sandbox reads text/csv and text/lib",
        ),
        (
            {"objective": "binary:logistik"},
            {},
            "XGBoost refuses the job: Unknown objective function: `binary:logistik`",
        ),
        (
            {"sagemaker_program": '"train.py"'},
            {},
            "the sandbox trains with the built-in XGBoost, and runs no ",
        ),
        (
            {},
            {"AlgorithmSpecification": {"ContainerEntrypoint": ["/bin/bash", "train.sh"]}},
            "the sandbox trains with the built-in XGBoost, and runs no ",
        ),
        ({"max_depth": "deep"}, {}, "XGBoost refuses the job: Invalid Parameter format for max_depth"),
        ({"num_round": "0"}, {}, "hyperparameter num_round must be a whole number of at least 1, not '0'"),
        ({"num_round": ""}, {}, "hyperparameter num_round must be a whole number of at least 1, not ''"),
    ],
)
def test_a_job_that_cannot_be_trained_is_refused_in_one_sentence(
    s3: Any, tmp_path: Path, hyperparameters: dict[str, str], members: dict[str, Any], sentence: str
) -> None:
    for name, text in {
        "header.csv": "label,x,y\n0,1,2\n",
        "ragged.csv": "0,1,2\n1,2\n",
        "label-only.csv": "0\n1\n",
    }.items():
        s3.put_object(Bucket=BUCKET, Key=f"bad/{name}", Body=text)
    with pytest.raises(WatcherError) as refused:
        train(job("bad", hyperparameters, **{"DebugHookConfig": None, **members}), s3, tmp_path)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_a_refused_job_ends_with_that_sentence_as_the_last_line_and_exit_code_1(
    aws: Sandbox, tmp_path: Path
) -> None:
    ran = run(aws, "xgboost", job("refused", {"objective": "binary:logistik"}), tmp_path)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    assert ran.stderr.splitlines()[-1] == (
        "ClientError: XGBoost refuses the job: Unknown objective function: `binary:logistik`"
    )


# -- the rule -----------------------------------------------------------------------------------------


def test_the_rule_fires_while_the_training_runs_and_logs_it_as_debugger_does(
    aws: Sandbox, endless: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    trainer = endless("watched")
    (tmp_path / "rule").mkdir()
    ran = run(aws, "rule", rule_job("watched", tmp_path / "never"), tmp_path / "rule")
    assert trainer.poll() is None

    result = json.loads(ran.stdout.splitlines()[-1])
    step = result["step"]
    assert result == {
        "status": "IssuesFound",
        "step": step,
        "details": f"RuleEvaluationConditionMet: Evaluation of the rule my-rule at step {step} resulted in "
        "the condition being met\n",
    }
    assert 2 <= step < 100
    assert step % 2 == 0
    log = ran.stderr.splitlines()
    form = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ip-10-0-0-1:\d+ [A-Z]+ my-rule\] "
    assert all(re.match(form, line) for line in log)
    messages = [re.sub(form, "", line) for line in log]
    assert messages[0] == f"Loading trial base_trial at path {debug_output('watched')}"
    assert messages[1] == "Started execution of rule LossNotDecreasing at step 0"
    assert messages[2].startswith(f"Loss is not decreasing over the last 2 steps at step {step}. ")
    assert messages[2].endswith(f"between step {step - 2} and step {step}; the rule wants 5 %")
    assert messages[3] == f"Exception during rule evaluation: {result['details'].rstrip()}"


@pytest.mark.usefixtures("whole")
def test_the_rule_decides_on_the_saved_values(
    evaluate: Callable[..., tuple[dict[str, Any], str]], s3: Any
) -> None:
    result, log = evaluate("whole")
    saved = {step: one.tensors for step, one in saved_steps(s3, "whole").items()}

    def falls(step: int) -> list[float]:
        return [float(1 - saved[step][name][0] / saved[step - 2][name][0]) * 100 for name in saved[step]]

    assert result["step"] == next(step for step in saved if step and min(falls(step)) < 5)
    assert f"{abs(min(falls(result['step']))):.3g} %" in log


FALLS = {"tensor_regex": "^train-logloss$", "use_losses_collection": "False"}
"""The loss on the training data, which always falls."""


@pytest.mark.usefixtures("whole")
def test_a_rule_that_has_not_fired_by_the_end_of_training_has_found_no_issue(
    evaluate: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    result, log = evaluate("whole", **FALLS, num_steps="2")
    assert result == {"status": "NoIssuesFound", "details": "", "step": 18}
    assert "has checked 9 steps" in log


def test_a_rule_evaluates_nothing_when_the_save_interval_is_longer_than_the_training(
    aws: Sandbox, evaluate: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    document = job("seldom", {"num_round": "3"})
    document["DebugHookConfig"]["CollectionConfigurations"] = [collection("metrics", save_interval="500")]
    assert run(aws, "xgboost", document, tmp_path).returncode == 0
    result, log = evaluate("seldom")
    assert result == {"status": "NoIssuesFound", "details": "", "step": 0}
    assert "has evaluated nothing: no loss has saved steps that are 2 apart (num_steps)" in log


@pytest.mark.parametrize(
    ("rule", "parameters", "details"),
    [
        (
            "LossNotDecreasing",
            {},
            "ClientError: No debugging data was saved by the training job. Check that the debugger hook was",
        ),
        ("NoSuchRule", {}, "ClientError: there is no rule 'NoSuchRule'; there are "),
        (
            "LossNotDecreasing",
            {"num_steps": "few"},
            "ClientError: LossNotDecreasing: num_steps must be a whole number of at least 1, not 'few'",
        ),
    ],
)
def test_a_rule_that_cannot_be_evaluated_ends_in_an_error_that_says_why(
    evaluate: Callable[..., tuple[dict[str, Any], str]],
    rule: str,
    parameters: dict[str, str],
    details: str,
) -> None:
    result, log = evaluate("nothing-saved", rule, **parameters)
    assert result["status"] == "Error"
    assert result["details"].startswith(details)
    assert details in log


CUSTOM = """
from smdebug.rules.rule import Rule

class StepLimit(Rule):
    def __init__(self, base_trial, limit):
        super().__init__(base_trial)
        self.limit = int(limit)

    def invoke_at_step(self, step):
        return bool(self.base_trial.tensor_names(collection="metrics")) and step >= self.limit
"""


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("limit", "status", "step"),
    [("6", "IssuesFound", 6), ("99", "NoIssuesFound", 18), ("six", "Error", None)],
)
def test_a_custom_rule_is_evaluated_from_its_source_on_s3(
    evaluate: Callable[..., tuple[dict[str, Any], str]], s3: Any, limit: str, status: str, step: int | None
) -> None:
    s3.put_object(Bucket=BUCKET, Key="rules/mine.py", Body=CUSTOM)
    result, log = evaluate("whole", "StepLimit", source_s3_uri=f"s3://{BUCKET}/rules/mine.py", limit=limit)
    assert (result["status"], result["step"]) == (status, step)
    assert {"6": "at step 6 resulted in the condition", "99": "has checked 10 steps", "six": "ValueError"}[
        limit
    ] in log


@pytest.mark.usefixtures("whole")
def test_a_custom_rule_without_its_source_ends_in_an_error(
    evaluate: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    result, _ = evaluate("whole", "StepLimit", source_s3_uri=f"s3://{BUCKET}/rules/none.py")
    assert result["status"] == "Error"
    assert "reading the source of the rule at s3://" in result["details"]


@pytest.mark.usefixtures("whole")
def test_the_xgboost_report_is_a_page_with_the_metrics(
    evaluate: Callable[..., tuple[dict[str, Any], str]], s3: Any
) -> None:
    result, log = evaluate("whole", "CreateXgboostReport")
    assert result["status"] == "NoIssuesFound"
    found = re.search(rf"The report is s3://{BUCKET}/(\S+/xgboost_report\.html)", log)
    assert found, log
    page = s3.get_object(Bucket=BUCKET, Key=found[1])["Body"].read().decode()
    last = saved_steps(s3, "whole")[18].tensors
    for name in ("train-logloss", "validation-logloss"):
        assert f"<h3>{name}</h3>" in page
        assert f"last {last[name][0]:.5g}" in page
    assert page.count("<polyline") == 2


@pytest.mark.usefixtures("whole")
def test_a_damaged_event_file_is_skipped_with_a_warning(
    evaluate: Callable[..., tuple[dict[str, Any], str]], s3: Any
) -> None:
    for item in s3.list_objects_v2(Bucket=BUCKET, Prefix="debug/whole/")["Contents"]:
        copy = item["Key"].replace("whole", "spoilt")
        s3.copy_object(Bucket=BUCKET, Key=copy, CopySource={"Bucket": BUCKET, "Key": item["Key"]})
    key = "debug/spoilt/debug-output/events/000000000002/000000000002_worker_0.tfevents"
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"not an event file")
    result, log = evaluate("spoilt", **FALLS, num_steps="2")
    assert result == {"status": "NoIssuesFound", "details": "", "step": 18}
    assert log.count(f"Skipping a file that cannot be read: s3://{BUCKET}/{key}: ") == 1
