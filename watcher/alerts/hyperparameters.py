"""Chooses which of a job's hyperparameters an alert shows, in which order, and keeps secrets out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

from watcher.redaction import without_secrets

_TUNED = (
    *("learning_rate", "lr", "eta", "batch_size"),
    *("epochs", "epoch", "num_round", "num_boost_round", "n_estimators", "iterations", "max_steps"),
    *("optimizer", "objective", "loss", "eval_metric", "predictor_type"),
    *("max_depth", "num_leaves", "layers", "hidden", "units", "k", "num_classes", "num_class"),
    *("model", "arch", "network", "backbone"),
    *("dropout", "weight_decay", "wd", "momentum", "clip", "warmup", "scheduler"),
    *("gamma", "alpha", "lambda", "l1", "l2", "subsample", "min_child_weight", "early_stopping"),
    *("precision", "fp16", "bf16", "seed"),
)
"""Words in the names of what people tune, the most informative first."""

_PLUMBING = re.compile(r"_|sagemaker_|model_dir$")
"""The beginning of names that the SDK, tuning jobs (`_tuning_…`) and framework containers add."""

_WORD_BOUNDARY = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def shown_hyperparameters(hyperparameters: Mapping[str, str]) -> dict[str, str]:
    """What the job's owner chose, as they wrote it, the most informative first, without possible secrets.

    Framework estimators send each value as JSON; a string loses its quotes here.
    """
    own = [name for name in without_secrets(hyperparameters) if not _PLUMBING.match(name)]
    return {name: _unquoted(hyperparameters[name]) for name in sorted(own, key=_rank)}


def _rank(name: str) -> tuple[int, str]:
    words = f"_{'_'.join(_WORD_BOUNDARY.split(name)).lower()}_"
    places = (place for place, word in enumerate(_TUNED) if f"_{word}_" in words)
    return next(places, len(_TUNED)), name


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        with suppress(ValueError):
            return str(json.loads(value))
    return value
