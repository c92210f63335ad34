"""Which of a job's hyperparameters tell something, which of them first, and which are nobody's business."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress

_TELLING = (
    *("learning_rate", "lr", "eta", "batch_size"),
    *("epochs", "epoch", "num_round", "num_boost_round", "n_estimators", "iterations", "max_steps"),
    *("optimizer", "objective", "loss", "eval_metric", "predictor_type"),
    *("max_depth", "num_leaves", "layers", "hidden", "units", "k", "num_classes", "num_class"),
    *("model", "arch", "network", "backbone"),
    *("dropout", "weight_decay", "wd", "momentum", "clip", "warmup", "scheduler"),
    *("gamma", "alpha", "lambda", "l1", "l2", "subsample", "min_child_weight", "early_stopping"),
    *("precision", "fp16", "bf16", "seed"),
)
"""Words that stand in the names of what people tune, the most telling first."""

_PLUMBING = re.compile(r"_|sagemaker_|model_dir$")
"""At the beginning of names that the SDK, tuning jobs (`_tuning_…`) and framework containers add."""

_SECRET = re.compile(
    r"token|passw|passphrase|pwd|secret|key|credential|auth|private|://[^/\s]*@", re.IGNORECASE
)
_BORDER = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def telling(hyperparameters: Mapping[str, str]) -> dict[str, str]:
    """What the job's owner chose, the most telling first, as they wrote it.

    Estimators of frameworks send each value as JSON; a string loses its quotes here. Nothing that smells of a
    secret is among them.
    """
    own = [name for name in public(hyperparameters) if not _PLUMBING.match(name)]
    return {name: _unquoted(hyperparameters[name]) for name in sorted(own, key=_rank)}


def public(named: Mapping[str, str]) -> dict[str, str]:
    """What may be shown. Rather a `max_tokens` too few than a token too many: the name and the value (which
    may be a whole document) are searched for the words."""
    return {name: value for name, value in named.items() if not _SECRET.search(f"{name} {value}")}


def _rank(name: str) -> tuple[int, str]:
    words = f"_{'_'.join(_BORDER.split(name)).lower()}_"
    places = (place for place, word in enumerate(_TELLING) if f"_{word}_" in words)
    return next(places, len(_TELLING)), name


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        with suppress(ValueError):
            return str(json.loads(value))
    return value
