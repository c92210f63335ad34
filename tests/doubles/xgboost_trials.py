"""Three XGBoost trainings, saved by smdebug's own hook: one that overfits, the same again, and a careful one.

    python -m tests.doubles.xgboost_trials FOLDER

Runs as a separate process, because importing smdebug causes many warnings, and warnings fail the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xgboost

from watcher.sandbox.containers.xgboost_hook import create_hook

ETA = {"first": 0.5, "again": 0.5, "careful": 0.1}
ROUNDS = 40
SAVED = ("metrics", "predictions", "labels", "feature_importance", "trees")
"""Saved in every second round."""


def train(folder: Path, name: str) -> None:
    random = np.random.default_rng(7)
    rows = random.normal(size=(300, 4))
    labels = (rows[:, 0] + random.normal(0, 2, 300) > 0).astype(float)
    sets = {
        "train": xgboost.DMatrix(rows[:200], labels[:200]),
        "validation": xgboost.DMatrix(rows[200:], labels[200:]),
    }
    job = {
        "TrainingJobName": name,
        "DebugHookConfig": {
            "S3OutputPath": str(folder),
            "CollectionConfigurations": [
                {"CollectionName": each, "CollectionParameters": {"save_interval": "2"}} for each in SAVED
            ],
        },
    }
    xgboost.train(
        {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"], "eta": ETA[name], "nthread": 1},
        sets["train"],
        ROUNDS,
        evals=[(data, channel) for channel, data in sets.items()],
        callbacks=[create_hook(job, folder, sets["train"], sets["validation"])],
        verbose_eval=False,
    )


if __name__ == "__main__":
    for each in ETA:
        train(Path(sys.argv[1]), each)
