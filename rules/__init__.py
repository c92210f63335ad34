"""Debugger's documented built-in rules, evaluated locally, and the catalogue of them.

A third party adds a rule by an entry point of the group `debugger_watcher.rules`, whose name is the
rule's name and whose object is a subclass of `rules.base.Rule`. It cannot replace a built-in rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points

from rules.all_zero import AllZero
from rules.base import Breach, Evidence, Mode, Rule, Status, Step, Value, Verdict
from rules.check_input_images import CheckInputImages
from rules.class_imbalance import ClassImbalance
from rules.confusion import Confusion
from rules.dead_relu import DeadRelu
from rules.exploding_tensor import ExplodingTensor
from rules.feature_importance_overweight import FeatureImportanceOverweight
from rules.loss_not_decreasing import LossNotDecreasing
from rules.nlp_sequence_ratio import NLPSequenceRatio
from rules.overfit import Overfit
from rules.overtraining import Overtraining
from rules.parameters import ParameterError, RuleError
from rules.poor_weight_initialization import PoorWeightInitialization
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
    "Mode",
    "ParameterError",
    "Rule",
    "RuleError",
    "Selection",
    "Status",
    "Step",
    "UnknownRule",
    "Value",
    "Verdict",
    "load",
    "names",
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
"""RuleParameters that tell SageMaker which rule to start on what, and mean nothing to the rule."""


class UnknownRule(RuleError):
    pass


def names() -> list[str]:
    """Every rule that `load` knows, sorted."""
    return sorted({*RULES, *entry_points(group=ENTRY_POINTS).names})


def load(name: str, parameters: Mapping[str, str]) -> Rule:
    """A new evaluation of the rule, with RuleParameters as a job has them.

    Raises `UnknownRule`, which lists the rules there are, or `ParameterError`.
    """
    return _find(name)({key: text for key, text in parameters.items() if key not in FOR_THE_SERVICE})


def _find(name: str) -> type[Rule]:
    if name in RULES:
        return RULES[name]
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        found = entry.load()
        if not (isinstance(found, type) and issubclass(found, Rule)):
            raise RuleError(f"the entry point {entry.value} of the rule {name} is no subclass of rules.Rule")
        return found
    raise UnknownRule(f"there is no rule {name!r}; there are {', '.join(names())}")
