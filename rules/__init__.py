"""Debugger's documented built-in rules, evaluated locally, and the catalogue of all rules.

Another distribution adds a rule with an entry point of the group `debugger_watcher.rules`: its name is the
name of the rule, its object a subclass of `rules.Rule`. It cannot replace a built-in rule.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoints, entry_points

from rules.all_zero import AllZero
from rules.base import Breach, Evidence, Mode, Rule, Status, Step, Value, Verdict, scalar
from rules.check_input_images import CheckInputImages
from rules.class_imbalance import ClassImbalance
from rules.confusion import Confusion
from rules.dead_relu import DeadRelu
from rules.exploding_tensor import ExplodingTensor
from rules.feature_importance_overweight import FeatureImportanceOverweight
from rules.loss_not_decreasing import LossNotDecreasing
from rules.needs import (
    FirstSteps,
    FixedOutcome,
    Forest,
    ModelKind,
    MxnetNames,
    RisingMetrics,
    SameInterval,
    SavedSteps,
    StepsApart,
    StepsNeeded,
)
from rules.nlp_sequence_ratio import NLPSequenceRatio
from rules.overfit import Overfit
from rules.overtraining import Overtraining
from rules.parameters import ParameterError, RuleError
from rules.poor_weight_initialization import PoorWeightInitialization
from rules.recovery import Recovered
from rules.saturated_activation import SaturatedActivation
from rules.selection import Collection, Selection
from rules.similar_across_runs import SimilarAcrossRuns
from rules.stalled_training_rule import StalledTrainingRule
from rules.tensor_variance import TensorVariance
from rules.tree_depth import TreeDepth
from rules.unchanged_tensor import UnchangedTensor
from rules.vanishing_gradient import VanishingGradient
from rules.weight_update_ratio import WeightUpdateRatio

__all__ = [
    "RULES",
    "Breach",
    "Collection",
    "Evidence",
    "FirstSteps",
    "FixedOutcome",
    "Forest",
    "Mode",
    "ModelKind",
    "MxnetNames",
    "ParameterError",
    "Recovered",
    "RisingMetrics",
    "Rule",
    "RuleError",
    "SameInterval",
    "SavedSteps",
    "Selection",
    "Status",
    "Step",
    "StepsApart",
    "StepsNeeded",
    "UnknownRule",
    "Value",
    "Verdict",
    "find",
    "find_or_none",
    "load",
    "names",
    "scalar",
]

ENTRY_POINTS = "debugger_watcher.rules"

RULES: Mapping[str, type[Rule]] = {
    rule.name: rule
    for rule in (
        AllZero,
        CheckInputImages,
        ClassImbalance,
        Confusion,
        DeadRelu,
        ExplodingTensor,
        FeatureImportanceOverweight,
        LossNotDecreasing,
        NLPSequenceRatio,
        Overfit,
        Overtraining,
        PoorWeightInitialization,
        SaturatedActivation,
        SimilarAcrossRuns,
        StalledTrainingRule,
        TensorVariance,
        TreeDepth,
        UnchangedTensor,
        VanishingGradient,
        WeightUpdateRatio,
    )
}
"""The built-in rules by Debugger's name."""

FOR_THE_SERVICE = frozenset({"rule_to_invoke", "source_s3_uri", "base_trial", "action_json"})
"""RuleParameters by which SageMaker knows which rule to start on which data; the rule does not get them."""


class UnknownRule(RuleError):
    """No rule has this name; the message lists those that exist."""


def names() -> list[str]:
    """The names of all rules, sorted."""
    return sorted({*RULES, *_installed(tuple(sys.path)).names})


def load(name: str, parameters: Mapping[str, str]) -> Rule:
    """A new evaluation of the rule, with RuleParameters as a job has them.

    Raises `UnknownRule`, which lists the known rules, or `ParameterError`.
    """
    return find(name)({key: text for key, text in parameters.items() if key not in FOR_THE_SERVICE})


def find(name: str) -> type[Rule]:
    """The class of the rule, which describes it.

    Raises `UnknownRule`, `RuleError` if the entry point is not a rule, and any error that its import raises.
    """
    if name in RULES:
        return RULES[name]
    for entry in _installed(tuple(sys.path)).select(name=name):
        found = entry.load()
        if not (isinstance(found, type) and issubclass(found, Rule) and hasattr(found, "name")):
            raise RuleError(
                f"the rule {name}: its entry point {entry.value} is not a subclass of rules.Rule with a name"
            )
        return found
    from rules.profiler import PROFILER_RULES

    raise UnknownRule(
        f"there is no rule {name!r}; there are {', '.join(names())}, and the profiler rules "
        f"{', '.join(sorted(PROFILER_RULES))}"
    )


def find_or_none(name: str) -> type[Rule] | None:
    """As `find`, but None for a rule that does not exist or cannot be imported: an alert, or the check of a
    job's configuration, must not fail because of it."""
    try:
        return find(name)
    except Exception:  # another distribution's code: it may raise anything
        return None


@lru_cache(maxsize=1)
def _installed(_path: tuple[str, ...]) -> EntryPoints:
    """Looked up once for each `sys.path`: it reads the metadata of every distribution, which takes 25 ms."""
    return entry_points(group=ENTRY_POINTS)
