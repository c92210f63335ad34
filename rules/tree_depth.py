"""TreeDepth: a tree of an XGBoost model is deeper than it should be.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- AWS takes the depth from the "base 2 logarithm of the largest node ID", which is nearly one too many for a
  full tree. Here depth = floor(log2(id + 1)), and the rule fires when that is greater than `depth`.
- This is exact for a full tree. XGBoost numbers nodes in the order in which it makes them, so a lopsided
  tree is deeper than its ids say; if it prunes afterwards (`tree_method` exact, `gamma`), the remaining ids
  may be those of a deeper tree. AWS's formula has the same faults.
- smdebug's hook saves one tree at each step, the one with the step's number. If a round grows several trees
  (one for each class, or a forest), the rule sees only a part of the model.
- Node ids that are not whole numbers from 0 on (NaN, text), which smdebug's hook never saves, are left out,
  and the verdict says so. A step without a tree is not judged.
- A tree that was grown stays in the model, so what the rule found does not recover.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rules.base import Breach, Evidence, Rule, Step, Value
from rules.needs import FixedOutcome, Forest, ModelKind
from rules.parameters import number, parameter, parse
from rules.selection import Selection
from rules.values import numbers


@dataclass(frozen=True, slots=True)
class Parameters:
    depth: float = parameter(4.0, number(at_least=0))


class TreeDepth(Rule):
    name = "TreeDepth"
    complaint = "A tree is too deep"
    advice = "The trees grow deep: lower max_depth, or raise min_child_weight and gamma."
    model_kind = ModelKind.TREES
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._nodes = Selection(regexes=("^trees/Node$",))
        self.selections = (self._nodes,)

    def required_collections(self, kind: ModelKind | None) -> tuple[str, ...]:
        return ("trees",) if kind is ModelKind.TREES else ()

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:
        """A tree of depth d has node ids below 2^(d+1): in AWS's reading, too, its depth is below d + 1."""
        if forest and self.parameters.depth >= forest.max_depth + 1:
            sentence = (
                f"depth is {self.parameters.depth:g}, and max_depth lets no tree grow deeper than "
                f"{forest.max_depth}"
            )
            yield FixedOutcome(False, sentence, f"set depth below {forest.max_depth}")

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        breaches: list[Breach] | None = None
        for tensor, value in self._nodes.of(tensors):
            self._read.add(tensor)
            largest = self._largest_id(tensor, value)
            if largest is None:
                continue
            breaches = []
            depth = (largest + 1).bit_length() - 1  # floor(log2(id + 1)), without rounding
            allowed = self.parameters.depth
            if depth > allowed:
                evidence = Evidence(tensor, step.number, depth, threshold=allowed, missed_by=depth - allowed)
                explanation = (
                    f"the tree of step {step.number} is {depth} deep (its largest node id is {largest}); "
                    f"the rule allows {allowed:g}"
                )
                breaches.append(Breach("too_deep", explanation, evidence))
        return breaches

    def _largest_id(self, tensor: str, value: Value) -> int | None:
        ids = numbers(value)
        if ids is not None and ids.size == 0:
            return None
        if ids is None or not (np.isfinite(ids).all() and ids.min() >= 0 and (np.floor(ids) == ids).all()):
            self._left_out.add(tensor, "no_node_ids", "they hold no node ids")
            return None
        return int(ids.max())

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield (
            not self._read,
            "no_tensor_matches",
            "the job saves no trees: its hook has to save the collection trees",
        )
        yield from super()._unjudged()
        yield True, "no_tree", "no saved step holds a tree"
