"""Debug output of the cookbook's training, written by smdebug's own hook.

    python -m tests.trials FOLDER

trains in a process of its own (smdebug warns, and keeps state in its process), and prints where the debug
output is and at which step the cookbook's rule fires.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import rules
from watcher.sandbox.cookbook import PARAMETERS, two_class_data

ROOT = Path(__file__).parents[1]
ROUNDS = 80
SAVE_INTERVAL = 2
CREATED_AT = int(time.time()) - 3600
"""The `CreationTime` of a job that is placed after its debug output was uploaded: what was saved before a job
was created is of an earlier run."""


def save_trial(folder: Path) -> tuple[Path, int]:
    """The debug output, and the step at which the rule fires. If several processes need the trial in one
    folder, the first trains and the others wait."""
    result = folder / "result.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            command = [sys.executable, "-m", "tests.trials", str(folder)]
            # A dependency installs a package `tests` of its own: ours comes first only in its folder.
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            result.write_text(done.stdout.splitlines()[-1])
    output, step = json.loads(result.read_text())
    return Path(output), step


def _train(folder: Path) -> tuple[Path, int | None]:
    import xgboost

    from watcher.sandbox.containers.xgboost_hook import create_hook

    csv = {
        channel: np.loadtxt(data.decode().splitlines(), delimiter=",")
        for channel, data in two_class_data().items()
    }
    sets = {channel: xgboost.DMatrix(rows[:, 1:], rows[:, 0]) for channel, rows in csv.items()}
    metrics = {"CollectionName": "metrics", "CollectionParameters": {"save_interval": str(SAVE_INTERVAL)}}
    job = {
        "TrainingJobName": "trial",
        "DebugHookConfig": {"S3OutputPath": str(folder), "CollectionConfigurations": [metrics]},
    }
    hook = create_hook(job, folder, sets["train"], sets["validation"])
    losses: dict[str, dict[str, list[float]]] = {}
    xgboost.train(
        {"objective": "binary:logistic", "max_depth": 16, "eta": 0.1, "nthread": 1},
        sets["train"],
        ROUNDS,
        evals=[(data, channel) for channel, data in sets.items()],
        evals_result=losses,
        callbacks=[hook],
        verbose_eval=False,
    )
    hook.close()
    rule = rules.load("LossNotDecreasing", PARAMETERS)
    rule.learn({"metrics": rules.Collection(include_regex=(".*",))})
    fires = None
    for step in range(0, ROUNDS, SAVE_INTERVAL):
        saved = {f"{channel}-logloss": losses[channel]["logloss"][step] for channel in sets}
        if rule.observe(rules.Step(step), saved):
            fires = step
            break
    return folder / "trial" / "debug-output", fires


def upload(trial: Path, s3: Any, bucket: str, job: str) -> None:
    """Put a debug output where a job with `S3OutputPath` s3://BUCKET/debug would have written it."""
    for path in sorted(trial.rglob("*")):
        if path.is_file():
            key = f"debug/{job}/debug-output/{path.relative_to(trial)}"
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())


if __name__ == "__main__":
    output, fires = _train(Path(sys.argv[1]))
    print(json.dumps([str(output), fires]))
