"""Each profiler rule agrees with its oracle on any run, however the run is divided into batches, and whatever
process goes on with it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.profiler import PROFILER_RULES, Status, load
from tests.rules.profiler import oracles
from tests.rules.profiler.oracles import Metric, Run, Work
from tests.rules.profiler.runs import BEGIN, batches, judged

DIMENSIONS = ("CPUUtilization", "I/OWaitPercentage", "GPUUtilization", "GPUMemoryUtilization")


class Case(NamedTuple):
    parameters: dict[str, str]
    oracle: Callable[[Run], int | None]


CASES: dict[str, list[Case]] = {
    "CPUBottleneck": [
        Case(
            {"threshold": "30", "gpu_threshold": "40", "cpu_threshold": "60", "patience": "20"},
            oracles.bottleneck(
                "CPUUtilization", threshold=30, gpu_threshold=40, core_threshold=60, patience=20
            ),
        )
    ],
    "IOBottleneck": [
        Case(
            {"threshold": "30", "gpu_threshold": "40", "io_threshold": "60", "patience": "20"},
            oracles.bottleneck(
                "I/OWaitPercentage", threshold=30, gpu_threshold=40, core_threshold=60, patience=20
            ),
        )
    ],
    "LowGPUUtilization": [
        Case(
            {"threshold_p95": "70", "threshold_p5": "10", "patience": "20", "window": "30"},
            oracles.low_gpu(threshold_p95=70, threshold_p5=10, patience=20, window=30),
        )
    ],
    "BatchSize": [
        Case(
            {
                "cpu_threshold_p95": "60",
                "gpu_threshold_p95": "80",
                "gpu_memory_threshold_p95": "80",
                "patience": "20",
                "window": "15",
            },
            oracles.batch_size(cpu=60, gpu=80, memory=80, patience=20, window=15),
        )
    ],
    "GPUMemoryIncrease": [
        Case(
            {"increase": "30", "patience": "20", "window": "7"},
            oracles.memory_increase(increase=30, patience=20, window=7),
        )
    ],
    "LoadBalancing": [
        Case({"threshold": "0.6", "patience": "20"}, oracles.load_balancing(threshold=0.6, patience=20))
    ],
    "StepOutlier": [
        Case({"stddev": "2", "n_outliers": "3"}, oracles.step_outlier(stddev=2, n_outliers=3)),
        Case(
            {"stddev": "2", "n_outliers": "3", "mode": "TRAIN"},
            oracles.step_outlier(stddev=2, n_outliers=3, mode="TRAIN"),
        ),
    ],
    "MaxInitializationTime": [Case({"threshold": "2"}, oracles.initialization(threshold=2))],
    "Dataloader": [
        Case({"min_threshold": "70", "max_threshold": "200"}, oracles.dataloader(minimum=70, maximum=200))
    ],
}
PAIRS = [(name, case) for name, cases in CASES.items() for case in cases]


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """A run of one or two nodes, with values that make any rule fire now and then. The values themselves come
    from a seeded generator, which is much faster than drawing each."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    nodes = draw(st.integers(1, 2))
    cores, gpus = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    jitter = draw(st.sampled_from([0.0, 0.004, 0.012, 0.3]))
    pace = draw(st.sampled_from([0.5, 2.0, 7.0]))
    offset = draw(st.sampled_from([0.0, 13.0, 59.99]))
    count = draw(st.integers(0, 70))
    metrics: list[Metric] = []
    work: list[Work] = []
    for node in (f"algo-{number + 1}" for number in range(nodes)):
        for dimension in DIMENSIONS:
            devices = gpus if dimension.startswith("GPU") else cores
            for device in range(devices):
                levels = [dice.randrange(101) for _ in range(3)]
                spread = dice.choice([1, 10, 60])
                for index in range(count):
                    level = levels[index * 3 // count] + dice.randint(-spread, spread)
                    at = BEGIN + offset + index * pace + dice.random() * jitter
                    name = f"{'gpu' if dimension.startswith('GPU') else 'cpu'}{device}"
                    metrics.append(Metric(at, node, name, dimension, float(min(100, max(0, level)))))
        at = BEGIN + offset + dice.choice([0, 0, 100, 200])
        for _ in range(draw(st.sampled_from([0, 0, 5, 150, 300]))):
            duration = dice.choice([0.5, 0.5, 0.5, 0.6]) if dice.random() < 0.97 else dice.choice([3.0, 9.0])
            mode = dice.choice(["TRAIN", "TRAIN", "EVAL"])
            name = f"Step:ModeKeys.{mode}"
            work.append(Work(at, at + duration, node, name, name))
            at += duration
        loaders = draw(st.integers(0, 8))
        for second in range(draw(st.sampled_from([0, 5, 30]))):
            for pid in range(dice.randint(min(loaders, 1), loaders)):
                at = BEGIN + offset + second
                work.append(Work(at, at + 0.3, node, "DataLoaderWorker", "fetch", pid))
    return Run(metrics, work)


CUTS = st.lists(st.floats(BEGIN - 5, BEGIN + 900), max_size=4)


@pytest.mark.parametrize(("name", "case"), PAIRS, ids=[name for name, _ in PAIRS])
@settings(max_examples=20, deadline=None)
@given(run=runs(), cuts=CUTS)
def test_a_rule_fires_when_its_oracle_does(name: str, case: Case, run: Run, cuts: list[float]) -> None:
    expected = case.oracle(run)
    verdict = judged(load(name, case.parameters), batches(run, cuts))
    assert (verdict.status is Status.ISSUES_FOUND) == (expected is not None)
    if expected is not None:
        assert verdict.evidence
        assert verdict.at is not None
        # A snapshot at the end of a minute may belong to the next one.
        assert expected - 1 <= verdict.at // 60 <= expected


@pytest.mark.parametrize("name", PROFILER_RULES)
@settings(max_examples=6, deadline=None)
@given(run=runs(), cuts=CUTS)
def test_neither_the_batches_nor_a_restart_change_a_verdict(name: str, run: Run, cuts: list[float]) -> None:
    parameters = CASES[name][0].parameters if name in CASES else {}
    rule = load(name, parameters)
    whole = judged(rule, batches(run))
    divided = load(name, parameters)
    assert judged(divided, batches(run, cuts)) == whole
    assert divided.report() == rule.report()
    restarted = load(name, parameters)
    for batch in batches(run, cuts):
        verdict = restarted.observe(batch)
        state = json.loads(json.dumps(restarted.state()))
        restarted = load(name, parameters)
        restarted.restore(state)
        if verdict:
            assert verdict == whole
            break
    assert restarted.verdict(ended=True) == whole
    assert restarted.report() == rule.report()
