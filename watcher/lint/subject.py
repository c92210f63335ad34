"""What the checks look at, and what they find."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

from watcher.lint.hook import Framework, Hook, Mode, Schedule, framework
from watcher.model import JobSnapshot, RuleConfiguration


class Reason(StrEnum):
    TOO_MANY_RULES = "too_many_rules"
    SAME_NAME = "same_name"
    """Two rules are configured under one name: their outcomes cannot be told apart."""
    NO_HOOK = "no_hook"
    UNSUPPORTED_DISTRIBUTION = "unsupported_distribution"
    HOOK_FAILS = "hook_fails"
    """smdebug does not accept the hook's configuration."""
    WRONG_FRAMEWORK = "wrong_framework"
    REFUSED_PARAMETERS = "refused_parameters"
    UNKNOWN_COLLECTION = "unknown_collection"
    COLLECTION_NOT_SAVED = "collection_not_saved"
    REGEX_IS_A_NUMBER = "regex_is_a_number"
    NO_TENSOR_MATCHES = "no_tensor_matches"
    NO_VALUES_IN_MODE = "no_values_in_mode"
    TOO_FEW_STEPS = "too_few_steps"
    """The steps that are saved are too few for a single verdict."""
    FIRST_STEP_ONLY = "first_step_only"
    INTERVAL_IS_NOT_NUM_STEPS = "interval_is_not_num_steps"
    RISING_METRIC = "rising_metric"
    NEVER_FIRES = "never_fires"
    ALWAYS_FIRES = "always_fires"


class Problem(NamedTuple):
    """A defect of the rule that is being looked at."""

    reason: Reason
    sentence: str
    mend: str


class Length(NamedTuple):
    steps: int
    told_by: str


class Subject:
    """One rule of a job, with what the checks ask of both."""

    def __init__(self, job: JobSnapshot, rule: RuleConfiguration) -> None:
        self.job, self.rule = job, rule
        self.framework = framework(job.image)

    @property
    def name(self) -> str:
        return self.rule.invokes

    @property
    def custom(self) -> bool:
        """A rule of the user's own source, whatever it calls itself."""
        return "source_s3_uri" in self.rule.parameters

    @cached_property
    def hook(self) -> Hook:
        assert self.job.hook is not None  # noqa: S101 - the first check ends the others where it is
        return Hook(self.job.hook, self.framework)

    @property
    def built_in_algorithm(self) -> bool:
        """SageMaker's own XGBoost: its hyperparameters mean what they say, and no script adds to it."""
        return self.framework is Framework.XGBOOST and "sagemaker_program" not in self.job.hyperparameters

    def text(self, parameter: str) -> str:
        return self.rule.parameters.get(parameter, "").strip()

    def names(self, parameter: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.text(parameter).split(",") if name.strip())

    def number(self, parameter: str) -> float:
        """As the rule itself reads it, by default too. For None, and for what is too large for a float, it
        is NaN, with which no comparison holds."""
        value = getattr(self._rule.parameters, parameter)
        try:
            return math.nan if value is None else float(value)
        except OverflowError:
            return math.nan

    @cached_property
    def _rule(self) -> Any:
        import rules

        return rules.load(self.name, self.rule.parameters)

    def hyperparameter(self, name: str) -> str:
        """The SDK sends a framework's hyperparameters as JSON: a string comes with its quotes."""
        return self.job.hyperparameters.get(name, "").strip().strip("\"'")

    def count(self, name: str) -> int:
        """A hyperparameter that counts something; 0 where it is not there, or nothing to count with."""
        try:
            number = float(self.hyperparameter(name))
        except ValueError:
            return 0
        return int(number) if 0 < number < 1e12 else 0

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """Those that the rule reads by name."""
        named = self.names("collection_names")
        match self.name:
            case "LossNotDecreasing" if not named and not self.text("tensor_regex"):
                asks = self.text("use_losses_collection").lower() not in ("false", "0")
                return ("losses",) if asks else ()
            case "Overfit" | "Overtraining" if not self.text("tensor_regex"):
                return ("losses",)
            case "VanishingGradient":
                return ("gradients",)
            case "WeightUpdateRatio":
                return ("weights",)
        if self.framework is Framework.XGBOOST:
            named += self._collections_of_xgboost()
        return named

    def _collections_of_xgboost(self) -> tuple[str, ...]:
        """XGBoost's hook writes these tensors nowhere else, so reading them by regex is the same."""
        match self.name:
            case "TreeDepth":
                return ("trees",)
            case "FeatureImportanceOverweight" if not self.text("tensor_regex"):
                return ("feature_importance",)
            case "Confusion":
                roles = ("labels", "predictions")
                return tuple(self.text(f"{role}_collection") or role for role in roles)
            case "ClassImbalance" if not (self.text("labels_regex") or self.text("predictions_regex")):
                return ("labels", "predictions")
        return ()

    @cached_property
    def schedules(self) -> set[Schedule]:
        """When the tensors that the rule reads may be saved, at the most."""
        mode = self.text("mode").lower()
        modes = (Mode(mode),) if mode in (Mode.TRAIN, Mode.EVAL) else tuple(Mode)
        by_name_alone = self.collections and not self.text("tensor_regex")
        if self.name == "LossNotDecreasing" and by_name_alone:
            return self.hook.schedules((*self.collections, "losses"), modes)
        return self.hook.schedules(self.collections if by_name_alone else (), modes)

    @cached_property
    def length(self) -> Length | None:
        """How many steps the run takes at the most, as its hyperparameters tell."""
        if self.framework is Framework.XGBOOST:
            rounds = self.count("num_round")
            return Length(rounds, "num_round") if rounds else None
        if self.framework is None or self.text("mode").upper() == "EVAL":
            return None
        accumulated = max(self.count("gradient_accumulation_steps"), 1)
        if steps := self.count("max_steps"):
            return Length(steps * accumulated, "max_steps")
        if steps := self.count("epochs") * self.count("steps_per_epoch"):
            return Length(steps, "epochs * steps_per_epoch")
        return None


Check = Callable[[Subject], Iterator[Problem]]
