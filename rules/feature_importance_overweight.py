"""FeatureImportanceOverweight: a few features decide nearly all of an XGBoost model.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The importances of one type (`feature_importance/weight/…`, `…/gain/…`) are summed separately: smdebug's
  hook normalises each type to 1. If a regex finds several types, each is judged, and one overweight type is
  enough to fire. The type of any other name is the part before its last slash.
- The rule fires when the sum of the `nfeatures` largest is greater than `threshold`. A model that uses no
  more than `nfeatures` features always fires; the sentence says how many it uses.
- The hook saves only features that the model uses. A step without any is not judged.
- NaN or infinity among the importances fires, for the reason `non_finite`.
- Tensors with several elements, text and reductions are left out, and the verdict says so.
- It has recovered when each type that fired was not overweight at three judged steps in a row.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Rule, Step, Value, scalar
from rules.needs import FixedOutcome, Forest, ModelKind
from rules.parameters import REGEXES, between, parameter, parse, whole
from rules.reductions import reduction
from rules.selection import Selection

_TYPE = re.compile(r"(.*?\bfeature_importance/[^/]+)/(.+)|(.+)/([^/]+)")


@dataclass(frozen=True, slots=True)
class Parameters:
    threshold: float = parameter(0.8, between(0, 1))
    nfeatures: int = parameter(3, whole(at_least=1))
    tensor_regex: tuple[str, ...] = parameter((".*feature_importance/weight",), REGEXES)


class FeatureImportanceOverweight(Rule):
    name = "FeatureImportanceOverweight"
    complaint = "Few features decide nearly everything"
    advice = "A few features carry the model: check them for leakage from the label."
    model_kind = ModelKind.TREES
    relief = "More features decide again"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._importances = Selection(regexes=self.parameters.tensor_regex)
        self.selections = (self._importances,)
        self._named: dict[str, tuple[str, str]] = {}
        """Type and feature of each tensor: names repeat at every step, and regexes are slow."""

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:
        by_default = self.parameters.tensor_regex == Parameters().tensor_regex
        return ("feature_importance",) if kind is ModelKind.TREES and by_default else ()

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:
        p = self.parameters
        if p.threshold >= 1:
            because = "the importances of all features add up to 1, and no more"
            sentence = f"threshold is {p.threshold:g}: {because}"
            yield FixedOutcome(False, sentence, "set a share below 1")
        elif p.tensor_regex == Parameters().tensor_regex and forest:
            yield from self._few_splits(forest)

    def _few_splits(self, forest: Forest) -> Iterator[FixedOutcome]:
        """A few small trees cannot use more features than they have splits."""
        first, depth, counted = forest.first_step, forest.max_depth, self.parameters.nfeatures
        if first is None or depth >= 32:
            return
        splits = (first + 1) * forest.trees_per_step * (2**depth - 1)
        if splits <= counted:
            sentence = (
                f"at the first saved step, {first}, the model has at most {splits} splits (max_depth "
                f"{depth}): no more features than nfeatures, {counted}, which therefore make up everything"
            )
            fix = "set nfeatures lower, or start_step in the parameters of the collection feature_importance"
            yield FixedOutcome(True, sentence, fix)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        types: dict[str, dict[str, float]] = {}
        for tensor, value in self._importances.of(tensors):
            importance = None if reduction(tensor) else scalar(value)
            if importance is None:
                self._left_out.add(tensor, "no_scalar", "they are not single numbers, or are reductions")
                continue
            kind, feature = self._named.get(tensor) or self._name(tensor)
            types.setdefault(kind, {})[feature] = importance
            self._read.add(tensor)
        if not types:
            return None
        breaches = (self._weigh(step.number, kind, types[kind]) for kind in sorted(types))
        return [breach for breach in breaches if breach]

    def _name(self, tensor: str) -> tuple[str, str]:
        matched = _TYPE.fullmatch(tensor)
        kind, feature = (part for part in matched.groups() if part) if matched else (tensor, tensor)
        self._named[tensor] = kind, feature
        return kind, feature

    def _weigh(self, step: int, kind: str, importances: Mapping[str, float]) -> Breach | None:
        allowed, count = self.parameters.threshold, self.parameters.nfeatures
        for feature, importance in importances.items():
            if not math.isfinite(importance):
                explanation = f"{kind} of {feature} is {importance:g} at step {step}"
                return Breach("non_finite", explanation, Evidence(kind, step, importance, threshold=allowed))
        largest = heapq.nlargest(count, importances, key=importances.__getitem__)
        share = math.fsum(importances[feature] for feature in largest)
        self._measured(kind, step, share, well=share <= allowed)
        if share <= allowed:
            return None
        those = f"all {len(importances)}" if len(importances) <= count else f"{count} of {len(importances)}"
        explanation = (
            f"{those} features that the model uses ({', '.join(largest)}) make up {share:.4g} of {kind} "
            f"at step {step}; the rule allows {allowed:g} for the {count} largest"
        )
        evidence = Evidence(kind, step, share, threshold=allowed, missed_by=share - allowed)
        return Breach("overweight", explanation, evidence)
