"""`watcher compare` and `watcher metrics`, on runs in the sandbox."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.docs.pages import code_blocks, read
from tests.docs.shapes import shape
from tests.doubles.debug_output import SavedJob
from tests.shell.conftest import CommandResult
from tests.trials import CREATED_AT, upload
from watcher.cli.comparison_tables import print_comparison
from watcher.sandbox.process import Sandbox

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_SixMetaPathImporter:ImportWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

Watcher = Callable[..., CommandResult]

NOW = time.time() // 60 * 60
RUNS = 12
NEVER = {"rule_to_invoke": "LossNotDecreasing", "num_stepz": "10"}
"""A parameter that the rule does not have: a finding on the rule, not on the run."""
DEFINITIONS = [{"Name": name, "Regex": f"{name}=(.*)"} for name in ("train:rmse", "validation:rmse")]


def rmse(number: int) -> list[float]:
    """Falls, and ends a little above its least value; the run with the number 5 is the best."""
    height = 1 + abs(number - 5)
    return [*(height / minute for minute in range(1, 40)), height / 38]


def put(sandbox: Sandbox, numbers: range, **members: Any) -> None:
    began = NOW - 7200
    sandbox.control.put_training_jobs(
        {
            "TrainingJobName": f"sweep-{number:03}",
            "TrainingJobStatus": "Completed",
            "CreationTime": began - 60 - number,
            "TrainingStartTime": began,
            "TrainingEndTime": began + 2400,
            "HyperParameters": {"eta": f"0.{number}", "objective": "reg:squarederror"},
            "AlgorithmSpecification": {"TrainingInputMode": "File", "MetricDefinitions": DEFINITIONS},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "Tags": [{"Key": "team", "Value": "churn"}],
            **members,
        }
        for number in numbers
    )
    for number in numbers:
        points = [(began + 60 * minute, value) for minute, value in enumerate(rmse(number))]
        sandbox.control.put_metrics(f"sweep-{number:03}", {"validation:rmse": points})


@pytest.fixture
def sweep(aws_environment: Sandbox) -> Sandbox:
    put(aws_environment, range(RUNS))
    aws_environment.control.forget_calls()
    return aws_environment


def test_runs_with_a_tag_are_compared_best_first_with_one_search_and_one_request_for_metrics(
    watcher: Watcher, sweep: Sandbox
):
    shown = watcher("compare", "--tag", "team=churn", "--json").json

    assert sweep.control.calls() == {"sagemaker:Search": 1, "cloudwatch:GetMetricData": 1}
    assert (shown["metric"], shown["direction"], shown["by"]) == ("validation:rmse", "falls", "min")
    assert shown["differing"] == ["eta"]
    best, *_, worst = shown["runs"]
    assert (best["job"], best["rank"], worst["job"]) == ("sweep-005", 1, "sweep-011")
    for run in shown["runs"]:
        values = rmse(int(run["job"][-3:]))
        assert run["metric"]["last"] == pytest.approx(values[-1])
        assert run["metric"]["min"] == run["metric"]["best"] == pytest.approx(min(values))
        assert run["metric"]["max"] == pytest.approx(max(values))
        assert [value for _, value in run["metric"]["curve"]] == pytest.approx(values)
        assert [minute for minute, _ in run["metric"]["curve"]] == list(range(40))


def test_a_hundred_runs_cost_one_search_and_one_request_for_metrics(
    watcher: Watcher, aws_environment: Sandbox
):
    put(aws_environment, range(100))
    aws_environment.control.forget_calls()

    by_name = watcher("compare", *(f"sweep-{number:03}" for number in range(100)), "--csv")

    assert len(list(csv.DictReader(by_name.out.splitlines()))) == 100
    assert aws_environment.control.calls() == {"sagemaker:Search": 1, "cloudwatch:GetMetricData": 1}


def test_a_person_may_choose_the_metric_the_number_and_the_direction(watcher: Watcher, sweep: Sandbox):
    jobs = ("sweep-001", "sweep-005")

    worst_first = watcher("compare", *jobs, "--metric", "validation-rmse", "--maximize", "--json").json
    by_last = watcher("compare", *jobs, "--by", "last", "--json").json

    assert [run["job"] for run in worst_first["runs"]] == ["sweep-001", "sweep-005"]
    assert (worst_first["metric"], worst_first["by"]) == ("validation:rmse", "max")
    assert [run["job"] for run in by_last["runs"]] == ["sweep-005", "sweep-001"]


def test_the_table_names_every_run_and_what_differs(watcher: Watcher, sweep: Sandbox):
    ran = watcher("compare", "sweep-004", "sweep-005")

    first, header, best, second = ran.out.splitlines()
    assert first == "validation:rmse: lower is better, ranked by the least value"
    assert header.split() == [
        *("#", "JOB", "STATUS", "LAST", "BEST", "DURATION", "COST", "ETA", "FINDINGS"),
    ]
    assert best.split() == [
        *("1", "sweep-005", "Completed", "0.0263158", "0.025641"),
        *("40", "min", "0.67", "instance-hours", "0.5", "-"),
    ]
    assert second.split()[:2] == ["2", "sweep-004"]


@pytest.mark.parametrize(("recorded", "requests"), [(True, 1), (False, 3)])
def test_of_all_metrics_that_an_algorithm_defines_one_that_the_runs_have_is_compared(
    watcher: Watcher, aws_environment: Sandbox, recorded: bool, requests: int
):
    """XGBoost's built-in image defines two dozen, and writes what `eval_metric` names."""
    names = ("train:auc", "train:rmse", "validation:error", "validation:logloss", "validation:rmse")
    definitions = [{"Name": name, "Regex": f"{name}=(.*)"} for name in names]
    algorithm = {"TrainingInputMode": "File", "MetricDefinitions": definitions}
    put(aws_environment, range(3, 6), AlgorithmSpecification=algorithm)
    if not recorded:  # as while it trains
        for number in range(3, 6):
            aws_environment.control.put_training_job(f"sweep-{number:03}", FinalMetricDataList=[])
    aws_environment.control.forget_calls()

    shown = watcher("compare", "--tag", "team=churn", "--json").json

    assert shown["metric"] == "validation:rmse"
    assert all(run["metric"] for run in shown["runs"])
    assert aws_environment.control.calls() == {"sagemaker:Search": 1, "cloudwatch:GetMetricData": requests}


def test_another_spelling_of_a_metric_is_read_from_cloudwatch_too(watcher: Watcher, aws_environment: Sandbox):
    hook = {"S3OutputPath": "s3://team/debug"}
    put(aws_environment, range(2), DebugHookConfig=hook)
    aws_environment.control.forget_calls()

    shown = watcher("compare", "--tag", "team=churn", "--metric", "validation-rmse", "--json").json

    assert shown["metric"] == "validation:rmse"
    assert aws_environment.control.calls() == {"sagemaker:Search": 1, "cloudwatch:GetMetricData": 1}


def test_hostile_hyperparameters_and_tags_reach_neither_a_terminal_nor_a_spreadsheet(
    watcher: Watcher, aws_environment: Sandbox
):
    for number, value in enumerate(("\x1b[2J\x1b]0;owned\x07a\u202eb", "c")):
        hyperparameters = {"eta": value, f"max_{number}\x1b[31m\u202e": "1"}
        put(aws_environment, range(number, number + 1), HyperParameters=hyperparameters)

    for form in ((), ("--csv",), ("--metric", "\x1b[2J")):
        ran = watcher("compare", "sweep-000", "sweep-001", *form)
        assert not {"\x1b", "\x07", "\u202e"} & {*ran.out, *ran.err}
        assert "owned" not in ran.out


def test_the_number_that_ranks_the_runs_is_the_last_to_give_way(watcher: Watcher, aws_environment: Sandbox):
    put(aws_environment, range(2))
    runs = watcher("compare", "--tag", "team=churn", "--json").json
    for run in runs["runs"]:
        run["job"] = "a-name-as-long-as-sagemaker-allows-2026-11-20-10-00-00-001-sweep"
    file = io.StringIO()

    print_comparison(runs, Console(file=file, force_terminal=True, width=80), show_all=False)

    assert "best" in file.getvalue().splitlines()[1]


def test_a_terminal_shows_the_best_of_many_runs(watcher: Watcher, aws_environment: Sandbox):
    put(aws_environment, range(60))
    runs = watcher("compare", "--tag", "team=churn", "--json").json

    def shown(*, show_all: bool) -> str:
        file = io.StringIO()
        print_comparison(runs, Console(file=file, force_terminal=True, width=140), show_all=show_all)
        return file.getvalue()

    assert "… and 10 more runs: use --all" in shown(show_all=False)
    assert "sweep-059" not in shown(show_all=False)
    assert "sweep-059" in shown(show_all=True)


def test_the_documents_show_what_the_commands_print(watcher: Watcher, sweep: Sandbox):
    for command in ("compare", "metrics"):
        [(arguments, output)] = re.findall(
            rf"^```\n\$ watcher ({command}.*)\n(.*?)^```", read("docs/runs.md"), re.MULTILINE | re.DOTALL
        )
        assert watcher(*arguments.split()).out == output


def test_the_json_on_the_page_has_the_shape_of_a_real_one(watcher: Watcher, sweep: Sandbox):
    [block] = code_blocks(read("docs/runs.md"), "json")

    real = watcher("compare", "sweep-005", "sweep-004", "--json").json
    on_page = json.loads(block)

    on_page["runs"][0]["findings"] = []
    del real["runs"][0]["hyperparameters"]["objective"]
    del real["runs"][0]["metric"]["curve"][2:]
    assert shape(on_page["runs"][0]) == shape(real["runs"][0])
    assert on_page.keys() == real.keys()


def test_what_the_store_and_the_record_know_of_rules_stands_beside_the_run(watcher: Watcher, sweep: Sandbox):
    statuses = [{"RuleConfigurationName": "Overfit", "RuleEvaluationStatus": "IssuesFound"}]
    rules = [{"RuleConfigurationName": "Overfit", "RuleEvaluatorImage": "x"}]
    failed = {"TrainingJobStatus": "Failed", "FailureReason": "AlgorithmError: x", "LastModifiedTime": NOW}
    useless = {"RuleConfigurationName": "Useless", "RuleEvaluatorImage": "x", "RuleParameters": NEVER}
    put(sweep, range(5, 6), DebugRuleEvaluationStatuses=statuses, DebugRuleConfigurations=[*rules, useless])
    put(sweep, range(6, 7), **failed)
    Path("watcher.toml").write_text('[slack]\nchannel = ""\n')
    watcher("run", "--once")

    runs = watcher("compare", "sweep-005", "sweep-006", "--json").json["runs"]

    assert [run["findings"] for run in runs] == [["Overfit"], ["job_failed"]]


def test_curves_are_drawn_over_each_other(watcher: Watcher, sweep: Sandbox):
    pytest.importorskip("matplotlib")

    watcher("compare", "sweep-004", "sweep-005", "--plot", "curves.svg")

    assert Path("curves.svg").read_text().count("sweep-00") >= 2


def test_runs_that_only_save_tensors_are_compared_by_these(
    watcher: Watcher, aws_environment: Sandbox, tmp_path: Path
):
    s3 = aws_environment.client("s3")
    s3.create_bucket(Bucket="team")
    for number, scale in enumerate((2.0, 1.0)):
        name = f"saving-{number}"
        saved = SavedJob(tmp_path / name)
        for step in range(0, 30, 10):
            saved.step(step, {"loss": scale / (step + 1), "accuracy": 0.5}, mode="EVAL", mode_step=step)
            saved.step(step + 5, {"loss": 9.0}, mode="TRAIN", mode_step=step)
        saved.collections(metrics={"include_regex": ["accuracy"]})
        upload(saved.folder, s3, "team", name)
        hook = {"S3OutputPath": "s3://team/debug"}
        aws_environment.control.put_training_job(
            name, TrainingJobStatus="Completed", CreationTime=CREATED_AT, DebugHookConfig=hook
        )

    shown = watcher("compare", "saving-0", "saving-1", "--json").json

    assert (shown["metric"], [run["job"] for run in shown["runs"]]) == ("loss", ["saving-1", "saving-0"])
    assert shown["runs"][0]["metric"] == {
        "source": "tensors",
        "last": pytest.approx(1 / 21),
        "min": pytest.approx(1 / 21),
        "max": 1.0,
        "best": pytest.approx(1 / 21),
        "curve": [[0, 1.0], [10, pytest.approx(1 / 11)], [20, pytest.approx(1 / 21)]],
    }


def test_the_jobs_of_a_tuning_job_are_compared_by_its_objective(watcher: Watcher, sweep: Sandbox):
    objective = {"Type": "Maximize", "MetricName": "validation:rmse"}
    arn = sweep.client("sagemaker").create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tune",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": objective,
            "ResourceLimits": {"MaxParallelTrainingJobs": 1},
        },
    )["HyperParameterTuningJobArn"]
    put(sweep, range(3), TuningJobArn=arn)

    shown = watcher("compare", "--tuning-job", "tune", "--json").json

    assert [run["job"] for run in shown["runs"]] == ["sweep-000", "sweep-001", "sweep-002"]
    assert (shown["direction"], shown["direction_assumed"]) == ("rises", False)


ANALYTICS = """
import json, jsonschema
# The SDK validates its own schema for each setting that it looks up, which takes eight seconds in total.
jsonschema.Draft202012Validator.check_schema = lambda *_, **__: None
import sagemaker
from sagemaker.analytics import ExperimentAnalytics

frame = ExperimentAnalytics(
    experiment_name="churn", sagemaker_session=sagemaker.Session(default_bucket="b"),
    sort_by="metrics.validation:rmse.min", sort_order="Ascending",
).dataframe()
print(json.dumps(frame.to_dict("records"), default=str))
"""


def test_an_experiment_has_the_order_and_the_numbers_that_the_sdks_analytics_has(
    watcher: Watcher, aws_environment: Sandbox
):
    sagemaker = aws_environment.client("sagemaker")
    sagemaker.create_experiment(ExperimentName="churn")
    for number in range(8):
        trial = f"trial-{number % 2}"
        if number < 2:
            sagemaker.create_trial(TrialName=trial, ExperimentName="churn")
        config = {"ExperimentName": "churn", "TrialName": trial}
        put(aws_environment, range(number, number + 1), ExperimentConfig=config)
    sagemaker.create_trial_component(
        TrialComponentName="by-hand", DisplayName="noted", Parameters={"eta": {"NumberValue": 0.5}}
    )
    sagemaker.associate_trial_component(TrialComponentName="by-hand", TrialName="trial-0")
    quiet = {"SAGEMAKER_SUPPRESS_V2_WARNING": "1", "PYTHONWARNINGS": "ignore"}
    script = [sys.executable, "-c", ANALYTICS]
    table = json.loads(subprocess.check_output(script, env=os.environ | quiet, text=True).splitlines()[-1])
    aws_environment.control.forget_calls()

    runs = watcher("compare", "--experiment", "churn", "--json").json["runs"]

    assert aws_environment.control.calls() == {"sagemaker:Search": 1, "cloudwatch:GetMetricData": 1}
    [*of_jobs, by_hand] = runs
    expected = [row for row in table if isinstance(row["SourceArn"], str)]
    assert [run["arn"] for run in of_jobs] == [row["SourceArn"] for row in expected]
    for run, row in zip(of_jobs, expected, strict=True):
        for number in ("Last", "Min", "Max"):
            assert run["metric"][number.lower()] == row[f"validation:rmse - {number}"]
        assert float(run["hyperparameters"]["eta"]) == row["eta"]
        assert run["metric"]["source"] == "experiment"
        assert len(run["metric"]["curve"]) == row["validation:rmse - Count"]
    assert (by_hand["job"], by_hand["arn"], by_hand["hyperparameters"]) == ("noted", None, {"eta": "0.5"})


def test_runs_without_any_metric_are_still_put_side_by_side_newest_first(
    watcher: Watcher, aws_environment: Sandbox
):
    for age, name in enumerate(("new", "old")):
        eta = {"eta": f"0.{age}"}
        aws_environment.control.put_training_job(name, CreationTime=NOW - age - 60, HyperParameters=eta)

    ran = watcher("compare", "old", "new")
    document = watcher("compare", "old", "new", "--json").json

    first, _, *rows = ran.out.splitlines()
    assert first == "none of these runs has values in CloudWatch, or has saved losses: the newest comes first"
    assert [row.split()[1] for row in rows] == ["new", "old"]
    assert (document["metric"], document["differing"]) == (None, ["eta"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name the jobs to compare"),
        (("a", "--experiment", "b"), "name the jobs to compare"),
        (("sweep-001", "--json", "--csv"), "--csv and --json exclude each other"),
        (("sweep-001", "--by", "mean"), "--by mean: it is last, min or max"),
        (
            ("sweep-001", "--metric", "f1"),
            "none of these runs has the metric f1: they have train:rmse, valid",
        ),
        (("--tag", "team"), "--tag team: write it as --tag KEY=VALUE"),
        (("--tag", "team=none"), "no training job has the tag team=none"),
        (("--tuning-job", "none"), "there is no tuning job none in us-east-1"),
        (("--experiment", "none"), "no run belongs to an experiment none in us-east-1"),
        (("nobody",), "there is no training job nobody"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    watcher: Watcher, sweep: Sandbox, arguments: tuple[str, ...], sentence: str
):
    ran = watcher("compare", *arguments)

    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert len(ran.err.splitlines()) == 1


# -- metrics --------------------------------------------------------------------------------------


def test_the_metrics_of_a_job_are_one_line_each(watcher: Watcher, sweep: Sandbox):
    ran = watcher("metrics", "sweep-005")

    header, line = ran.out.splitlines()
    assert header.split() == ["METRIC", "VALUES", "FIRST", "LAST", "MIN", "MAX", "CURVE"]
    assert line.split()[:6] == ["validation:rmse", "40", "1", "0.0263158", "0.025641", "1"]
    assert sweep.control.calls() == {"sagemaker:DescribeTrainingJob": 1, "cloudwatch:GetMetricData": 1}


def test_the_json_of_metrics_has_every_minute(watcher: Watcher, sweep: Sandbox):
    document = json.loads(watcher("metrics", "sweep-005", "--name", "validation*", "--json").out)

    [(name, one)] = document["metrics"].items()
    assert (document["job"], name) == ("sweep-005", "validation:rmse")
    assert one["minutes"] == list(range(40))
    assert one["values"] == pytest.approx(rmse(5))


def test_each_metric_is_drawn_in_a_plot_of_its_own(watcher: Watcher, sweep: Sandbox):
    pytest.importorskip("matplotlib")

    watcher("metrics", "sweep-005", "--plot", "metrics.svg")

    assert "validation:rmse" in Path("metrics.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sweep-005", "--name", "f1*"), "no metric of sweep-005 matches f1*: it has train:rmse, valid"),
        (("bare",), "bare has no metrics: it was started without MetricDefinitions"),
        (("rich", "--name", "f1*"), "it has m0, m1, m2, m3, m4 and 19 more metrics"),
    ],
)
def test_a_job_without_such_metrics_is_told_apart(
    watcher: Watcher, sweep: Sandbox, arguments: tuple[str, ...], sentence: str
):
    sweep.control.put_training_job("bare", TrainingJobStatus="Completed")
    many = [{"Name": f"m{number}", "Regex": "(.*)"} for number in range(24)]
    algorithm = {"TrainingInputMode": "File", "MetricDefinitions": many}
    sweep.control.put_training_job("rich", TrainingJobStatus="Completed", AlgorithmSpecification=algorithm)

    ran = watcher("metrics", *arguments)

    assert ran.code == 2
    assert sentence in ran.err
