"""SimilarAcrossRuns: the tensors differ from those of another training job.

AWS documents only that two trials are compared, and does not publish the code. Its first documentation (2019)
says that the rule fires when tensors are different at a step. This rule works as follows, in addition to
`rules.tensor_rule`:

- A tensor that both trials have is compared at every step that both saved, as `numpy.allclose(value, the
  other trial's, rtol, atol)`. The rule fires at the first of these steps at which any tensor is not close.
  `rtol` and `atol` are additions of Watcher, with numpy's defaults.
- A different shape differs. NaN equals NaN: two runs that break in the same way are the same.
- Without `collection_names` and `tensor_regex` all tensors are compared.
- What only one of the two trials saved is not compared.
- Two runs that have parted do not come together again, so what it found does not recover.

The other trial comes in step by step, so neither has to fit into memory:

    rule.other_trial                               # its name: a completed training job
    for step, tensors in saved:
        if other := the tensors of that trial at step.number that the rule wants:
            rule.compare_with(step.number, other)
        rule.observe(step, tensors)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules.base import Breach, Evidence, Step, Value
from rules.closeness import close, furthest_from_close
from rules.parameters import NAMES, REGEXES, TEXT, number, parameter, parse, require_one_of
from rules.tensor_rule import TensorRule


@dataclass(frozen=True, slots=True)
class Parameters:
    other_trials: str = parameter("", TEXT)
    """The name of one training job, although the name is plural."""
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    rtol: float = parameter(1e-05, number(at_least=0))
    atol: float = parameter(1e-08, number(at_least=0))


class SimilarAcrossRuns(TensorRule):
    name = "SimilarAcrossRuns"
    complaint = "A tensor differs from that of another run"
    advice = "The tensors no longer equal those of the other run: compare their data, seeds and versions."
    compares_runs = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        require_one_of(self.parameters, self.name, "other_trials")
        names, regexes = self.parameters.collection_names, self.parameters.tensor_regex
        self._select(names, regexes if names or regexes else (".*",))
        self._handed: tuple[int, dict[str, Value]] | None = None
        self._other: Mapping[str, Value] = {}
        """What the other trial saved at the step that is being judged."""
        self._common = False
        """Whether the other trial has any of the job's steps."""

    @property
    def other_trial(self) -> str:
        return self.parameters.other_trials

    def compare_with(self, step: int, tensors: Mapping[str, Value]) -> None:
        """Kept until the `observe` of the same step, and no longer."""
        self._handed = step, dict(self._values(tensors))

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        if self._handed and self._handed[0] == step.number:
            self._common, self._other = True, self._handed[1]
        judged = super()._judge(step, tensors)
        self._handed, self._other = None, {}
        return judged

    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach] | None:
        other = self._other.get(tensor)
        if other is None:
            return None
        rtol, atol = self.parameters.rtol, self.parameters.atol
        if close(value, other, rtol, atol, equal_nan=True):
            return ()
        return [self._different(step, tensor, value, other)]

    def _different(self, step: int, tensor: str, value: Value, other: Value) -> Breach:
        ours, theirs = np.shape(value), np.shape(other)
        if ours != theirs:
            explanation = (
                f"at step {step}, {tensor} has the shape {ours} and in {self.other_trial} the shape {theirs}"
            )
            return Breach("different_shape", explanation, Evidence(tensor, step, float(np.size(value))))
        element = furthest_from_close(value, other, self.parameters.rtol, self.parameters.atol)
        explanation = (
            f"at step {step}, {tensor} differs from that of {self.other_trial}: {element.value:.6g} instead "
            f"of {element.reference:.6g}, with a tolerance of {element.tolerance:.3g}"
        )
        return Breach("different", explanation, element.evidence_of_difference(tensor, step))

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"common": self._common}

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._common = state["common"]

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        other = self.other_trial
        yield from super()._unjudged()
        yield not self._common, "no_common_step", f"no step was saved both by the job and by {other}"
        yield (
            bool(self._read),
            "no_common_tensor",
            f"at the common steps, {other} saved none of the tensors that the job did",
        )
