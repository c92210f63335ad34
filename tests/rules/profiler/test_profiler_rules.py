"""What the profiler rules say, and when they say that they cannot judge."""

from __future__ import annotations

import json

import numpy as np
import pytest
from smdebug_rulesconfig.profiler_rules import rules as sent

from rules import ParameterError, UnknownRule
from rules.profiler import PROFILER_RULES, Batch, Series, SeriesKey, Source, Status, find, load, of_instance
from rules.profiler.base import MIN_INTERVAL_S
from tests.rules.profiler.oracles import Run, Work
from tests.rules.profiler.runs import BEGIN, batches, judged, metrics, steps

TEN_MINUTES = 1200
"""In values of 500 ms."""
GPU_RULES = (
    "BatchSize",
    "CPUBottleneck",
    "GPUMemoryIncrease",
    "IOBottleneck",
    "LoadBalancing",
    "LowGPUUtilization",
)
FRAMEWORK_RULES = ("Dataloader", "MaxInitializationTime", "OverallFrameworkMetrics", "StepOutlier")


def idle_gpu(cpu: float = 20.0) -> Run:
    return Run(
        metrics("GPUUtilization", "gpu0", [5.0] * TEN_MINUTES)
        + metrics("GPUMemoryUtilization", "gpu0", [5.0] * TEN_MINUTES)
        + metrics("CPUUtilization", "cpu0", [cpu] * TEN_MINUTES),
        [],
    )


@pytest.mark.parametrize("name", sorted(set(PROFILER_RULES) - {"ProfilerReport", "OverallFrameworkMetrics"}))
def test_parameters_and_defaults_are_those_that_the_sdk_sends(name: str) -> None:
    parameters = getattr(sent, name)().rule_parameters
    ours = load(name, {}).parameters
    for parameter, value in parameters.items():
        if parameter != "rule_to_invoke":
            assert str(getattr(ours, parameter)) in (str(value), f"{value}.0")
    as_strings = {parameter: str(value) for parameter, value in parameters.items()}
    assert load(name, as_strings).parameters == ours


def test_the_case_of_a_name_does_not_matter() -> None:
    assert find("DataLoader") is PROFILER_RULES["Dataloader"]
    with pytest.raises(UnknownRule, match="there are BatchSize, CPUBottleneck"):
        find("CPUBottlenecks")


def test_an_idle_gpu_is_found_with_the_numbers_that_decide() -> None:
    verdict = judged(load("LowGPUUtilization", {}), batches(idle_gpu()))
    assert verdict.status is Status.ISSUES_FOUND
    assert (verdict.reason, verdict.node, verdict.gpu) == ("low_gpu_utilization", "algo-1", "gpu0")
    [evidence] = verdict.evidence
    assert (evidence.value, evidence.threshold, evidence.unit) == (5.0, 70.0, "%")
    # The first minute's end after which there are more than 1,000 values.
    assert verdict.at == BEGIN + 9 * 60 - 0.5
    assert "95 % are at or below 5 %; the rule wants at least 70 %" in verdict.explanation


def test_busy_cores_beside_an_idle_gpu_are_a_bottleneck() -> None:
    assert judged(load("CPUBottleneck", {}), batches(idle_gpu(cpu=95.0))).reason == "cpu_bottleneck"
    assert judged(load("CPUBottleneck", {}), batches(idle_gpu(cpu=89.0))).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize("name", GPU_RULES)
def test_a_job_without_gpus_is_not_judged_by_what_judges_gpus(name: str) -> None:
    verdict = judged(load(name, {}), batches(Run(metrics("CPUUtilization", "cpu0", [5.0] * 2000), [])))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_gpu")


@pytest.mark.parametrize("name", FRAMEWORK_RULES)
def test_a_job_without_framework_metrics_is_not_judged_by_what_judges_them(name: str) -> None:
    verdict = judged(load(name, {}), batches(idle_gpu()))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "no_framework_metrics")


@pytest.mark.parametrize("name", PROFILER_RULES)
def test_a_job_that_saved_nothing_is_not_judged(name: str) -> None:
    verdict = judged(load(name, {}), [Batch(until=BEGIN)])
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "nothing_saved")


@pytest.mark.parametrize("name", GPU_RULES)
def test_too_few_values_are_not_judged_and_the_verdict_says_how_many_it_takes(name: str) -> None:
    run = Run(
        [
            metric
            for dimension in ("GPUUtilization", "GPUMemoryUtilization", "CPUUtilization", "I/OWaitPercentage")
            for number in (0, 1)
            for metric in metrics(
                dimension, f"{'gpu' if dimension.startswith('GPU') else 'cpu'}{number}", [1.0] * 500
            )
        ],
        [],
    )
    verdict = judged(load(name, {}), batches(run))
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "too_few_values")
    assert "500" in verdict.explanation
    assert "1,000" in verdict.explanation


def test_slow_start_is_found_when_other_framework_metrics_came_but_no_step() -> None:
    loading = [
        Work(BEGIN + minute * 60, BEGIN + minute * 60 + 1, "algo-1", "load", "load") for minute in range(30)
    ]
    verdict = judged(load("MaxInitializationTime", {}), batches(Run([], loading)))
    assert verdict.reason == "slow_start"
    assert verdict.at is not None
    assert 20 * 60 < verdict.at - BEGIN < 22 * 60


def test_a_first_step_after_the_limit_is_found_although_nothing_came_before_it() -> None:
    run = Run(metrics("CPUUtilization", "cpu0", [5.0] * 4000), steps([1.0], begin=BEGIN + 25 * 60))
    verdict = judged(load("MaxInitializationTime", {}), batches(run))
    assert verdict.reason == "slow_start"
    assert "25 minutes after the job began" in verdict.explanation


def test_a_first_step_in_time_ends_the_wait() -> None:
    run = Run(metrics("CPUUtilization", "cpu0", [5.0] * 4000), steps([1.0], begin=BEGIN + 60))
    assert judged(load("MaxInitializationTime", {}), batches(run)).status is Status.NO_ISSUES_FOUND


def test_rules_that_only_sum_up_never_fire_and_report_what_they_read() -> None:
    rule = load("OverallSystemUsage", {})
    assert judged(rule, batches(idle_gpu())).status is Status.NO_ISSUES_FOUND
    assert rule.report()["Details"]["GPU"]["algo-1"]["p95"] == 5.0
    framework = load("OverallFrameworkMetrics", {})
    run = Run([], steps([1.0] * 3) + steps([1.0], mode="EVAL", begin=BEGIN + 10))
    assert judged(framework, batches(run)).status is Status.NO_ISSUES_FOUND
    assert framework.report()["Details"]["phase"] == {"Step:ModeKeys.EVAL": 25.0, "Step:ModeKeys.TRAIN": 75.0}


def test_the_report_fires_at_the_end_when_a_rule_did() -> None:
    rule = load("ProfilerReport", {})
    [batch] = batches(idle_gpu())
    assert rule.observe(batch) is None
    assert rule.verdict(ended=False).status is Status.IN_PROGRESS
    assert "LowGPUUtilization: " in rule.verdict(ended=False).explanation
    assert rule.verdict(ended=True).status is Status.ISSUES_FOUND


def test_the_report_hands_parameters_to_its_rules_in_any_case() -> None:
    given = {
        "lowgpuutilization_THRESHOLD_P95": "3",
        "LowGPUUtilization_threshold_p5": "1",
        "BatchSize_cpu_threshold_p95": "1",
        "opt_out_telemetry": "True",
    }
    assert judged(load("ProfilerReport", given), batches(idle_gpu())).status is Status.NO_ISSUES_FOUND


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"CPUBottlneck_threshold": "50"}, "write <Rule>_<parameter>, such as CPUBottleneck_"),
        ({"CPUBottleneck_treshold": "50"}, "did you mean threshold"),
        ({"CPUBottleneck_threshold": "101"}, "CPUBottleneck: threshold must be a number from 0 to 100"),
    ],
)
def test_the_report_refuses_what_no_rule_takes(given: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        load("ProfilerReport", given)


# -- CloudWatch's instance metrics ----------------------------------------------------------------


def minutes(count: int, **values: float) -> Batch:
    times = BEGIN + 60 * np.arange(count, dtype=np.float64)
    series = [
        of_instance("algo-1", metric, times, np.full(count, value), cores=8, gpus=4)
        for metric, value in values.items()
    ]
    return Batch(BEGIN + 60 * count, dict(one for one in series if one))


def test_instance_metrics_are_divided_by_the_cores_or_gpus_that_they_add_up() -> None:
    batch = minutes(1, CPUUtilization=600.0, GPUUtilization=200.0, MemoryUtilization=30.0)
    assert {key.dimension or key.name: one.values[0] for key, one in batch.series.items()} == {
        "CPUUtilization": 75.0,
        "GPUUtilization": 50.0,
        "MemoryUsedPercent": 30.0,
    }
    assert of_instance("algo-1", "CPUUtilization", np.zeros(1), np.zeros(1), cores=0, gpus=0) is None


@pytest.mark.parametrize(
    ("patience", "count", "status"),
    [
        # 1,000 values of 500 ms are 8.3 minutes; whoever gives another number counts minutes.
        ("1000", 9, Status.NOT_EVALUATED),
        ("1000", 10, Status.ISSUES_FOUND),
        ("", 10, Status.ISSUES_FOUND),
        ("20", 20, Status.NOT_EVALUATED),
        ("20", 21, Status.ISSUES_FOUND),
    ],
)
def test_patience_on_instance_metrics(patience: str, count: int, status: Status) -> None:
    rule = load("LowGPUUtilization", {"patience": patience}, Source.INSTANCE_METRICS)
    verdict = judged(rule, [minutes(count, GPUUtilization=200.0)])
    assert verdict.status is status
    assert verdict.notes == ("a value is the mean of an instance's GPUs over a minute",)
    assert verdict.gpu == ""


@pytest.mark.parametrize(
    "name", [name for name, rule in PROFILER_RULES.items() if not rule.judges_instance_metrics]
)
def test_other_rules_say_that_they_cannot_judge_instance_metrics(name: str) -> None:
    verdict = judged(
        load(name, {}, Source.INSTANCE_METRICS), [minutes(100, GPUUtilization=1, CPUUtilization=1)]
    )
    assert (verdict.status, verdict.reason) == (Status.NOT_EVALUATED, "instance_metrics")


@pytest.mark.parametrize(
    "name", [name for name, rule in PROFILER_RULES.items() if rule.judges_instance_metrics]
)
def test_a_rule_that_can_judge_instance_metrics_says_how_it_reads_them(name: str) -> None:
    assert find(name).instance_metrics_reading


# -- odd input ------------------------------------------------------------------------------------


def test_values_that_come_too_late_are_left_out_and_counted() -> None:
    key = SeriesKey("algo-1", "gpu", "gpu0", "GPUUtilization")
    rule = load("LowGPUUtilization", {"patience": "1"})
    good = np.full(10, 90.0)
    rule.observe(Batch(BEGIN + 60, {key: Series(BEGIN + np.arange(10.0), good)}))
    rule.observe(Batch(BEGIN + 120, {key: Series(BEGIN + np.arange(10.0), np.zeros(10))}))
    verdict = rule.verdict(ended=True)
    assert verdict.status is Status.NO_ISSUES_FOUND
    assert verdict.notes == ("10 values came too late and were left out",)


def test_a_wild_time_does_not_make_the_rule_count_all_minutes_since_1970() -> None:
    key = SeriesKey("algo-1", "gpu", "gpu0", "GPUUtilization")
    rule = load("LowGPUUtilization", {"scan_interval_us": "1"})
    rule.observe(Batch(BEGIN, {key: Series(np.array([0.0, BEGIN - 1]), np.array([1.0, 1.0]))}))
    assert rule.verdict(ended=True).values_checked == 2
    assert MIN_INTERVAL_S == 1.0


def test_a_state_is_small_when_batches_end_with_a_minute() -> None:
    rule = load("BatchSize", {"cpu_threshold_p95": "0"})
    dice = np.random.default_rng(0)
    series = {}
    for dimension, kind, count in (
        ("CPUUtilization", "cpu", 16),
        ("GPUUtilization", "gpu", 8),
        ("GPUMemoryUtilization", "gpu", 8),
    ):
        for number in range(count):
            values = np.round(dice.random(7200) * 100, 1)
            series[SeriesKey("algo-1", kind, f"{kind}{number}", dimension)] = Series(
                BEGIN + 0.5 * np.arange(7200), values
            )
    rule.observe(Batch(BEGIN + 3600, series))
    assert len(json.dumps(rule.state())) < 50_000
