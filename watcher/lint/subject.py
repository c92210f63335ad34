"""One rule of a job, as the checks of this folder read it, and the problems that they return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from watcher.lint.hook import Framework, Hook, HookMode, Schedule, framework
from watcher.model import JobSnapshot, RuleConfiguration

if TYPE_CHECKING:
    from rules import ModelKind, MxnetNames, Rule


class Reason(StrEnum):
    """Why a rule does not work, in one word."""

    TOO_MANY_RULES = "too_many_rules"
    SAME_NAME = "same_name"
    """Two rules are configured under one name: their outcomes cannot be told apart."""
    NO_HOOK = "no_hook"
    NO_PROFILER_OUTPUT = "no_profiler_output"
    NO_GPU = "no_gpu"
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
    """Too few steps are saved for a verdict."""
    FIRST_STEP_ONLY = "first_step_only"
    INTERVAL_IS_NOT_NUM_STEPS = "interval_is_not_num_steps"
    RISING_METRIC = "rising_metric"
    NEVER_FIRES = "never_fires"
    ALWAYS_FIRES = "always_fires"


class Problem(NamedTuple):
    """A defect of the rule that is checked."""

    reason: Reason
    sentence: str
    fix: str


class Length(NamedTuple):
    """How long the run is."""

    steps: int
    source: str
    """The hyperparameters that say so."""


class Subject:
    """One rule of a job, with what the checks need to know about both.

    The checks never test for the name of a rule: the rule describes itself.
    """

    def __init__(self, job: JobSnapshot, configuration: RuleConfiguration) -> None:
        self.job, self.configuration = job, configuration
        self.framework = framework(job.image)

    @property
    def name(self) -> str:
        return self.configuration.invokes

    @property
    def custom(self) -> bool:
        """Whether it is the user's own source, which may have the name of any rule."""
        return "source_s3_uri" in self.configuration.parameters

    @cached_property
    def rule_class(self) -> type[Rule] | None:
        """How the rule describes itself; None for a custom rule, or one that Watcher does not know."""
        import rules  # not at the top: it imports numpy, which takes long, and most jobs have no rule

        return None if self.custom else rules.find_or_none(self.name)

    @cached_property
    def loaded(self) -> Rule | str | None:
        """The rule with its parameters, or why it refuses them; None as for `rule_class`."""
        import rules

        if self.rule_class is None:
            return None
        try:
            return rules.load(self.name, self.configuration.parameters)
        except rules.RuleError as error:
            return str(error)

    @property
    def rule(self) -> Rule | None:
        """The rule with its parameters; None if there is none, or if it refuses them."""
        return None if isinstance(self.loaded, str) else self.loaded

    @property
    def mxnet_names(self) -> MxnetNames | None:
        return self.rule_class.mxnet_names if self.rule_class else None

    @property
    def model_kind(self) -> ModelKind | None:
        """None if the framework is not known."""
        from rules import ModelKind

        if self.framework is None:
            return None
        return ModelKind.TREES if self.framework is Framework.XGBOOST else ModelKind.DEEP_LEARNING

    @cached_property
    def hook(self) -> Hook:
        assert self.job.hook is not None  # noqa: S101 - without a hook, the first check ends the others
        return Hook(self.job.hook, self.framework)

    @property
    def built_in_algorithm(self) -> bool:
        """Whether it is SageMaker's own XGBoost: no script changes what the hyperparameters mean."""
        return self.framework is Framework.XGBOOST and "sagemaker_program" not in self.job.hyperparameters

    def text(self, parameter: str) -> str:
        return self.configuration.parameters.get(parameter, "").strip()

    def names(self, parameter: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.text(parameter).split(",") if name.strip())

    def hyperparameter(self, name: str) -> str:
        """The SDK sends a framework's hyperparameters as JSON: a string comes with its quotes."""
        return self.job.hyperparameters.get(name, "").strip().strip("\"'")

    def count(self, name: str) -> int:
        """A hyperparameter that counts something; 0 if it is missing or not a usable number."""
        try:
            number = float(self.hyperparameter(name))
        except ValueError:
            return 0
        return int(number) if 0 < number < 1e12 else 0

    @cached_property
    def collections(self) -> tuple[str, ...]:
        """The collections that the rule cannot do without."""
        if self.rule is None:
            return self.names("collection_names")
        return self.rule.required_collections(self.model_kind)

    @cached_property
    def schedules(self) -> set[Schedule]:
        """All schedules by which the tensors that the rule reads may be saved."""
        mode = self.text("mode").lower()
        modes = (HookMode(mode),) if mode in (HookMode.TRAIN, HookMode.EVAL) else tuple(HookMode)
        if not self.collections or self.text("tensor_regex"):  # the tensors may be in any collection
            return self.hook.schedules((), modes)
        optional = self.rule.optional_collections() if self.rule else ()
        return self.hook.schedules((*self.collections, *optional), modes)

    @cached_property
    def length(self) -> Length | None:
        """The number of steps that the run takes at most, according to its hyperparameters."""
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
