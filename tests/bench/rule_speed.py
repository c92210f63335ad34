"""How many saved steps a rule judges per second, compared with smdebug's `invoke_rule`.

    python -m tests.bench.rule_speed

The rules on scalars get the losses of a long training on which they never fire, two tensors per step. The
comparison runs the same check (a loss against the previous one) as a rule of smdebug and as ours, on the same
trial in a folder, including reading. It counts processor time, because smdebug waits for a second before it
assumes that the training has ended.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np

import rules
from rules import Collection, Step
from tests.doubles.debug_output import SavedJob
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder

STEPS = 100_000
TRIAL_STEPS = 1_000
PAIRS = 3
NEVER_FIRES: dict[str, dict[str, str]] = {
    "AllZero": {"tensor_regex": ".*"},
    "ExplodingTensor": {"tensor_regex": ".*"},
    "FeatureImportanceOverweight": {"threshold": "1"},
    "LossNotDecreasing": {"tensor_regex": ".*", "diff_percent": "0.0000001"},
    "Overfit": {"ratio_threshold": "1000"},
    "Overtraining": {"delta": "0"},
    "UnchangedTensor": {"tensor_regex": ".*", "rtol": "0", "atol": "0"},
}
"""The rules that judge scalars, with parameters under which a falling loss never fires."""
IMPORTANCE = {f"feature_importance/weight/f{number}": 0.25 for number in range(4)}


def scalars(rule: str) -> Iterator[tuple[Step, dict[str, float]]]:
    for number in range(STEPS):
        loss = 2.0 - number / STEPS
        values = {"train-loss": loss, "validation-loss": loss + 0.01}
        yield Step(number), IMPORTANCE if rule == "FeatureImportanceOverweight" else values


def steps_per_second(name: str) -> float:
    rule = rules.load(name, NEVER_FIRES[name])
    rule.learn({"losses": Collection(include_regex=("loss",))})
    saved = list(scalars(name))
    begin = time.process_time()
    for step, tensors in saved:
        if verdict := rule.observe(step, tensors):
            raise AssertionError(f"{name} fired: {verdict.explanation}")
    seconds = time.process_time() - begin
    assert rule.verdict(ended=True).steps_checked > 0, f"{name} judged nothing"
    return STEPS / seconds


def saved_trial(folder: Path) -> Path:
    """A folder with the two losses of a training, written by smdebug."""
    job = SavedJob(folder / "debug-output")
    for step in range(TRIAL_STEPS):
        loss = 2.0 - step / TRIAL_STEPS
        job.step(step, {"train-loss": np.float64(loss), "validation-loss": np.float64(loss + 0.01)})
    job.collections()
    job.end()
    return job.folder


def compared_with_smdebug(folder: Path) -> dict[str, float]:
    """Processor seconds that each needs to read and judge the whole trial, the medians of several pairs."""
    output = saved_trial(folder)
    ours, smdebugs = [], []
    for _ in range(PAIRS):
        begin = time.process_time()
        checked = run_ours(output)
        ours.append(time.process_time() - begin)
        seconds, smdebug_checked = run_smdebug(output)
        smdebugs.append(seconds)
        assert smdebug_checked == checked
    return {
        "ours": statistics.median(ours),
        "smdebug": statistics.median(smdebugs),
        "ratio": statistics.median(map(truediv, smdebugs, ours)),
        "steps": checked,
    }


def run_ours(output: Path) -> int:
    rule = rules.load("LossNotDecreasing", {"tensor_regex": ".*", "num_steps": "2", "diff_percent": "1e-9"})
    judged = 0
    for saved in DebugOutput(Folder(output)).steps(wanted=rule.wants):
        assert isinstance(saved, SavedStep)
        rule.observe(Step(saved.step), saved.tensors)
        judged += 1
    return judged


def run_smdebug(output: Path) -> tuple[float, int]:
    from smdebug.exceptions import NoMoreData
    from smdebug.rules import Rule
    from smdebug.rules.rule_invoker import invoke_rule
    from smdebug.trials import create_trial

    class LossNotDecreasing(Rule):
        judged = 0

        def invoke_at_step(self, step: int) -> bool:
            self.judged += 1
            if step < 2:
                return False
            for name in self.base_trial.tensor_names(regex=".*"):
                tensor = self.base_trial.tensor(name)
                before, now = tensor.value(step - 2).item(), tensor.value(step).item()
                (before - now) / max(abs(before), 1e-12) * 100 < 1e-9  # noqa: B015 - it may not fire here
            return False

    begin = time.process_time()
    rule: Any = LossNotDecreasing(create_trial(str(output)), action_str="")
    with suppress(NoMoreData):
        invoke_rule(rule, raise_eval_cond=True)
    return time.process_time() - begin, rule.judged


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Rows for the table of `make bench`."""
    yield "saved steps per second of CPU judged by a rule on scalars", "", "≥ 50,000"
    for name, speed in sorted(figures["steps_per_second"].items()):
        yield f"  {name}", f"{speed:,.0f}", ""
    trial = figures["trial"]
    yield (
        f"reading and judging {trial['steps']:,} steps in a folder: ours",
        f"{trial['ours']:.3f} s of CPU",
        "",
    )
    yield "  smdebug's create_trial and invoke_rule ÷ ours", f"{trial['ratio']:.0f}", ""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(
            json.dumps(
                {
                    "steps_per_second": {name: steps_per_second(name) for name in NEVER_FIRES},
                    "trial": compared_with_smdebug(Path(folder)),
                }
            )
        )


if __name__ == "__main__":
    main()
