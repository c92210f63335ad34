"""NLPSequenceRatio: a token, such as padding or "unknown", takes up too much of the input sequences.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The share of a token is that in the whole tensor saved at a step, all sequences of the batch together, in
  percent. It fires when the share is greater than the token's threshold. Steps are judged by themselves.
- Each of `token_thresholds_percent` belongs to one of `token_values`, by position. A single threshold, as
  the default, holds for every token.
- Tokens may be saved as floats, as MXNet does.
- NaN and infinity are not tokens: they do not count as part of the sequence, and the verdict says so. A
  tensor with nothing else is not judged.
- What it found is true of the input, and does not recover.
- Text, empty tensors and tensors of which only reductions were saved are left out, and the verdict says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.base import Breach, Evidence, Rule, Step, Value
from rules.needs import ModelKind, MxnetNames
from rules.parameters import NUMBERS, REGEXES, Kind, ParameterError, parameter, parse
from rules.reductions import WithReductions, arrays


def _percentages(text: str) -> tuple[float, ...]:
    percentages = NUMBERS.read(text)
    if not all(0 <= percentage <= 100 for percentage in percentages):
        raise ValueError
    return percentages


_DEFAULT_REGEX = ".*embedding0_input_0"
"""As MXNet names tensors."""


@dataclass(frozen=True, slots=True)
class Parameters:
    tensor_regex: tuple[str, ...] = parameter((_DEFAULT_REGEX,), REGEXES)
    token_values: tuple[float, ...] = parameter((0.0,), NUMBERS)
    token_thresholds_percent: tuple[float, ...] = parameter(
        (50.0,), Kind("numbers from 0 to 100 separated by commas", _percentages)
    )


class NLPSequenceRatio(Rule):
    name = "NLPSequenceRatio"
    complaint = "A token fills the input sequences"
    advice = "One token fills much of the sequences: shorten the padding, or sort by length."
    model_kind = ModelKind.DEEP_LEARNING
    mxnet_names = MxnetNames("tensor_regex", _DEFAULT_REGEX)

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        tokens, thresholds = self.parameters.token_values, self.parameters.token_thresholds_percent
        if len(thresholds) == 1:
            thresholds *= len(tokens)
        if len(thresholds) != len(tokens):
            raise ParameterError(
                f"{self.name}: token_thresholds_percent must be one number, or one for each of the "
                f"{len(tokens)} token_values, not {len(thresholds)}"
            )
        self._allowed = tuple(zip(tokens, thresholds, strict=True))
        self._inputs = WithReductions(regexes=self.parameters.tensor_regex)
        self.selections = (self._inputs,)
        self._not_finite: set[str] = set()

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        breaches: list[Breach] | None = None
        for tensor, array in arrays(self._inputs, tensors, self._left_out):
            self._read.add(tensor)
            tokens = array[np.isfinite(array)]
            if tokens.size < array.size:
                self._not_finite.add(tensor)
            if tokens.size:
                breaches = [*(breaches or []), *self._too_frequent(step.number, tensor, tokens)]
        return breaches

    def _too_frequent(self, step: int, tensor: str, tokens: NDArray[Any]) -> Iterator[Breach]:
        for token, allowed in self._allowed:
            count = int(np.count_nonzero(tokens == token))
            percent = 100 * count / tokens.size
            if percent > allowed:
                explanation = (
                    f"{tensor}: at step {step}, {count} of {tokens.size} tokens are {token:g}, which is "
                    f"{percent:.4g} %; the rule allows {allowed:g} %"
                )
                evidence = Evidence(tensor, step, percent, threshold=allowed, missed_by=percent - allowed)
                yield Breach("too_frequent", explanation, evidence)

    def _state(self) -> dict[str, Any]:
        return {"not_finite": sorted(self._not_finite)}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._not_finite = set(state["not_finite"])

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield from super()._unjudged()
        yield bool(self._not_finite), "non_finite", "the selected tensors hold nothing but NaN or infinity"

    def _notes(self) -> tuple[str, ...]:
        holds = f"NaN or infinity was left out of {', '.join(sorted(self._not_finite))}"
        return (*super()._notes(), *((holds,) if self._not_finite else ()))
