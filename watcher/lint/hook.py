"""Which collections smdebug's hook saves at which steps, according to a job's record. Pure.

The rules are those of smdebug 1.0.34: `core/json_config.py`, `core/save_config.py`, `core/hook.py` and each
framework's `hook.py` and `collection.py`. Tests compare the steps and the collections with smdebug itself.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from itertools import groupby

from watcher.model import HookConfiguration

DEFAULT_SAVE_INTERVAL_STEPS = 500
"""Used for a collection without `save_interval`. The SageMaker SDK's rules send the same value."""
_XGBOOST_SAVE_INTERVAL_STEPS = 10
"""Used for a collection that XGBoost's hook saves without being configured to."""


class Framework(StrEnum):
    XGBOOST = "XGBoost"
    TENSORFLOW = "TensorFlow"
    PYTORCH = "PyTorch"
    MXNET = "MXNet"


_REPOSITORIES = {
    "sagemaker-xgboost": Framework.XGBOOST,
    "tensorflow-training": Framework.TENSORFLOW,
    "huggingface-tensorflow-training": Framework.TENSORFLOW,
    "sagemaker-tensorflow-scriptmode": Framework.TENSORFLOW,
    "pytorch-training": Framework.PYTORCH,
    "huggingface-pytorch-training": Framework.PYTORCH,
    "sagemaker-pytorch": Framework.PYTORCH,
    "mxnet-training": Framework.MXNET,
    "sagemaker-mxnet": Framework.MXNET,
}
"""AWS's training images, by repository name."""

_DEEP_LEARNING = frozenset({"all", "default", "weights", "biases", "gradients", "losses"})
BUILT_IN: Mapping[Framework, frozenset[str]] = {
    Framework.XGBOOST: frozenset(
        {"all", "default", "hyperparameters", "metrics", "losses", "predictions", "labels"}
        | {"feature_importance", "average_shap", "full_shap", "trees"}
    ),
    Framework.TENSORFLOW: _DEEP_LEARNING
    | {"metrics", "inputs", "outputs", "layers", "sm_metrics"}
    | {"optimizer_variables", "tensorflow_summaries"},
    Framework.PYTORCH: _DEEP_LEARNING,
    Framework.MXNET: _DEEP_LEARNING,
}
"""The collections that each hook defines itself."""

_SCALARS = frozenset({"losses", "metrics", "sm_metrics"})
_ALWAYS_SAVED = {
    Framework.XGBOOST: frozenset({"metrics"}),
    Framework.TENSORFLOW: _SCALARS,
    Framework.PYTORCH: frozenset({"losses"}),
    Framework.MXNET: frozenset({"losses"}),
}
_OVERLAPPING = (_SCALARS, frozenset({"inputs", "outputs", "layers"}))
"""Built-in collections that have tensors in common."""

XGBOOST_REGEXES = {
    "metrics": "^[a-zA-z]+-[a-zA-z0-9]+$",
    "losses": "^[a-zA-z]+-.+(?<!(auc|map))$",
}
"""How XGBoost's hook assigns the values of `eval_metric` (`train-logloss` …) to collections."""


def framework(image: str) -> Framework | None:
    """The framework of one of AWS's training images; None for any other image."""
    repository = re.split("[:@]", image.rpartition("/")[2])[0]
    return _REPOSITORIES.get(repository)


class HookMode(StrEnum):
    """smdebug's `ModeKeys`, as the hook's parameters name them (`train.save_interval`). Each mode counts its
    own steps. XGBoost saves everything as GLOBAL."""

    GLOBAL = "global"
    TRAIN = "train"
    EVAL = "eval"
    PREDICT = "predict"


class Unreadable(ValueError):
    """A parameter of the hook that smdebug cannot read. The message names it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """At which steps something is saved: smdebug's `SaveConfigMode`."""

    interval: int = DEFAULT_SAVE_INTERVAL_STEPS
    start: int = 0
    end: int | None = None
    """The first step that is not saved any more."""
    steps: tuple[int, ...] = ()
    """`save_steps`: these are saved in addition."""

    def saved(self, length: int) -> Iterator[int]:
        """The saved steps among 0 to `length` - 1, ascending."""
        steps = sorted(step for step in set(self.steps) if 0 <= step < length)
        return heapq.merge(self._regular(length), steps)

    def last(self, length: int) -> int | None:
        """The last step of `saved`."""
        steps = (step for step in self.steps if 0 <= step < length)
        return max((*self._regular(length)[-1:], *steps), default=None)

    def _regular(self, length: int) -> range:
        first = -(-max(self.start, 0) // self.interval) * self.interval
        return range(first, length if self.end is None else min(length, self.end), self.interval)


def saved_by_any(schedules: Iterable[Schedule], length: int) -> Iterator[int]:
    """The steps that at least one of them saves, ascending, each once."""
    merged = heapq.merge(*(schedule.saved(length) for schedule in schedules))
    return (step for step, _ in groupby(merged))


def schedule(parameters: Mapping[str, str], default_interval: int) -> Schedule:
    """Raises `Unreadable`."""
    interval = _whole(parameters, "save_interval", default_interval)
    if interval == 0:
        raise Unreadable("save_interval is 0")
    steps = parameters["save_steps"].split(",") if "save_steps" in parameters else []
    return Schedule(
        interval=abs(interval),  # smdebug tests for a remainder of 0, which ignores the sign
        start=_whole(parameters, "start_step", 0),
        end=_whole(parameters, "end_step", 0) if "end_step" in parameters else None,
        steps=tuple(_whole({"save_steps": step}, "save_steps", 0) for step in steps),
    )


def _whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    try:
        return default if text is None else int(text)
    except ValueError:
        raise Unreadable(f"{name} is {text!r}, which is not a whole number") from None


class Hook:
    """A hook as `DebugHookConfig` describes it. A hook that a script creates in code is not known."""

    def __init__(self, configuration: HookConfiguration, framework: Framework | None) -> None:
        self.framework = framework
        self._parameters = configuration.parameters
        # If a collection is configured twice, the last one says when it is saved.
        self.configured = dict(configuration.collections)
        self._regexes: dict[str, list[str]] = {}
        for name, parameters in configuration.collections:
            self._add_regexes(name, parameters)
        if "include_regex" in self._parameters:
            self._add_regexes("default", self._parameters)

    def _add_regexes(self, collection: str, parameters: Mapping[str, str]) -> None:
        if "include_regex" in parameters:
            regexes = parameters["include_regex"].split(",")
            self._regexes.setdefault(collection, []).extend(regex.strip() for regex in regexes)

    @cached_property
    def built_in(self) -> frozenset[str]:
        """The framework's own collections; those of all frameworks if it is not known."""
        return BUILT_IN[self.framework] if self.framework else frozenset().union(*BUILT_IN.values())

    @cached_property
    def saves_everything(self) -> bool:
        """With the collection `all`, every other collection is saved too, each at its own interval."""
        return self._save_all or "all" in self.configured

    @property
    def _save_all(self) -> bool:
        return self._parameters.get("save_all", "").lower() not in ("", "false")

    @cached_property
    def saved(self) -> frozenset[str]:
        """The names of the collections that are saved."""
        always = _ALWAYS_SAVED[self.framework] if self.framework else _SCALARS
        asked_for = {*self.configured, *(("default",) if "include_regex" in self._parameters else ())}
        return always | asked_for | (self.built_in if self.saves_everything else frozenset())

    def regexes(self, collection: str) -> tuple[str, ...]:
        """The regexes that the configuration adds to the collection."""
        return tuple(self._regexes.get(collection, ()))

    def fault(self, *, filled_by_code: bool = False) -> tuple[str, str] | None:
        """Why smdebug cannot work with this configuration, and how to fix it; None if it can.

        `filled_by_code`: whether a script may give a collection its tensors, which the configuration only
        names.
        """
        for name in () if filled_by_code else self.configured:
            if name not in self.built_in and name not in self._regexes:
                close = get_close_matches(name, sorted(self.built_in), n=1)
                fix = f"give {name} an include_regex" + (f", or did you mean {close[0]}?" if close else "")
                return f"the collection {name} is not one of smdebug's own and has no include_regex", fix
        for regex in (regex for regexes in self._regexes.values() for regex in regexes):
            try:
                re.compile(regex)
            except (re.error, OverflowError, RecursionError):
                problem = f"include_regex {regex!r} is not a regular expression"
                return problem, "correct it; commas separate several"
        for name in ("", *self.configured):
            try:
                for mode in self._modes:
                    self._schedule(name, mode)
            except Unreadable as error:
                where = f" (collection {name})" if name else ""
                return f"{error}{where}", "write a whole number from 1 on"
        return None

    def may_save(self, collection: str) -> bool:
        """Whether a tensor of the collection may be saved, possibly as part of another collection."""
        if self.framework is Framework.XGBOOST and collection not in _SCALARS:
            # It computes trees, importances and so on only if their own collection is configured.
            return collection in self.saved
        return any(self._may_share(saved, collection) for saved in self.saved)

    def schedules(self, collections: Iterable[str], modes: Iterable[HookMode] = HookMode) -> set[Schedule]:
        """When tensors of these collections may be saved; of all collections if none is given."""
        wanted = tuple(collections)
        sources = [
            saved
            for saved in self.saved
            if not wanted or any(self._may_share(saved, collection) for collection in wanted)
        ]
        used = [mode for mode in modes if mode in self._modes]
        return {self._schedule(source, mode) for source in sources for mode in used}

    def saves_metric(self, tensor: str) -> bool:
        """Whether XGBoost's hook saves a metric of this name."""
        return any(re.search(regex, tensor) for name in self.saved for regex in self.all_regexes(name))

    def all_regexes(self, collection: str) -> tuple[str, ...]:
        """All regexes for metrics of one of XGBoost's collections."""
        everything = (".*",) if collection == "all" and self._save_all else ()
        own = (XGBOOST_REGEXES[collection],) if collection in XGBOOST_REGEXES else ()
        return everything + own + self.regexes(collection)

    @property
    def _modes(self) -> tuple[HookMode, ...]:
        return (HookMode.GLOBAL,) if self.framework is Framework.XGBOOST else tuple(HookMode)

    def _may_share(self, saved: str, collection: str) -> bool:
        """Whether one tensor may be in both collections."""
        if saved == collection:
            return True
        if saved == "all":  # XGBoost's hook gives this name a meaning only with `save_all`
            return self._save_all or self.framework is not Framework.XGBOOST
        # A regex that is only a number is a mistake: no tensor has such a name.
        if any(not regex.isdigit() for name in (saved, collection) for regex in self.regexes(name)):
            return True
        return any({saved, collection} <= group for group in _OVERLAPPING)

    def _schedule(self, collection: str, mode: HookMode) -> Schedule:
        """As in smdebug, the collection's parameters override the hook's, and those of one mode override
        those of all modes."""
        if collection in self.configured:
            default, own = DEFAULT_SAVE_INTERVAL_STEPS, self.configured[collection]
        else:
            often = self.framework in (Framework.XGBOOST, None)  # an unknown one may be XGBoost
            default, own = _XGBOOST_SAVE_INTERVAL_STEPS if often else DEFAULT_SAVE_INTERVAL_STEPS, {}
        merged = {**_of_mode(self._parameters, mode), **_of_mode(own, mode)}
        return schedule(merged, default)


def _of_mode(parameters: Mapping[str, str], mode: HookMode) -> dict[str, str]:
    """The parameters as they hold for one mode: `train.save_interval` comes before `save_interval`."""
    prefix = f"{mode}."
    own = {key.removeprefix(prefix): text for key, text in parameters.items() if key.startswith(prefix)}
    return {**parameters, **own}
