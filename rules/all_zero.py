"""AllZero: a tensor consists of zeros.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows, in addition to `rules.tensor_rule`:

- The rule fires when the share of zeros reaches `threshold`, so at 100 % for the default.
- A scalar is a tensor of one element: a loss of 0 is all zero.
- NaN and infinity are not zero: a tensor of NaN is an issue for ExplodingTensor, not for this rule.
- It has recovered when each tensor that fired had fewer zeros at three saved steps in a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rules.base import EVERY_STEP_CHECKS, Breach, Evidence, Value
from rules.needs import FixedOutcome, Forest
from rules.parameters import NAMES, REGEXES, between, parameter, parse, require_one_of
from rules.tensor_rule import TensorRule


@dataclass(frozen=True, slots=True)
class Parameters:
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    threshold: float = parameter(100.0, between(0, 100))


class AllZero(TensorRule):
    name = "AllZero"
    complaint = "A tensor is all zero"
    advice = "Most values of these tensors are zero: look for a layer that got no input or no gradient."
    relief = "The tensors are no longer zero"
    unit = " % zeros"
    judges_progress = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        require_one_of(self.parameters, self.name, "collection_names", "tensor_regex")
        self._select(self.parameters.collection_names, self.parameters.tensor_regex)

    @property
    def checks_to_recover(self) -> int:
        return EVERY_STEP_CHECKS

    def fixed_outcomes(self, forest: Forest | None) -> Iterator[FixedOutcome]:  # noqa: ARG002
        if (percent := self.parameters.threshold) <= 0:
            sentence = f"threshold is {percent:g}: of every tensor at least 0 % are zeros"
            yield FixedOutcome(True, sentence, "set threshold to a percentage above 0")

    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach]:
        if isinstance(value, float):
            zeros, size = int(value == 0), 1
        else:
            zeros, size = value.size - int(np.count_nonzero(value)), value.size
        share, limit = zeros * 100 / size, self.parameters.threshold
        self._measured(tensor, step, share, well=share < limit)
        if share < limit:
            return ()
        explanation = (
            f"{share:.4g} % of {tensor} is zero at step {step} ({zeros} of {size}); the rule wants less than "
            f"{limit:g} %"
        )
        evidence = Evidence(tensor, step, share, threshold=limit, missed_by=share - limit)
        return (Breach("zeros", explanation, evidence),)
