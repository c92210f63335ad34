"""SimilarAcrossRuns: a tensor is the same as in another training job.

AWS documents only that two trials are compared, and does not publish the code. This rule works as follows,
in addition to `rules.tensor_rule`:

- A tensor that both trials have is compared at every step that both saved, as `numpy.allclose(value, the
  other trial's, rtol, atol)`. The rule fires when it is close at all of them; so it fires at the end of the
  job, never before. `rtol` and `atol` are additions of Watcher, with numpy's defaults.
- After the first step at which a tensor differs, it is not read or compared any more.
- A different shape differs. NaN equals NaN: two runs that break in the same way are the same.
- Without `collection_names` and `tensor_regex` all tensors are compared.
- What it found is true of the whole job, and does not recover.

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

from rules.base import Breach, Step, Value, Verdict
from rules.closeness import Element, close, nearest_to_differing
from rules.parameters import NAMES, REGEXES, TEXT, number, parameter, parse, require_one_of
from rules.tensor_rule import TensorRule
from rules.worst import worst


@dataclass(frozen=True, slots=True)
class Parameters:
    other_trials: str = parameter("", TEXT)
    """The name of one training job, although the name is plural."""
    collection_names: tuple[str, ...] = parameter((), NAMES)
    tensor_regex: tuple[str, ...] = parameter((), REGEXES)
    rtol: float = parameter(1e-05, number(at_least=0))
    atol: float = parameter(1e-08, number(at_least=0))


@dataclass(slots=True)
class _Track:
    """The state of a tensor that was close at all common steps so far."""

    steps: int
    nearest_step: int
    nearest: Element
    """The element that came nearest to differing, at `nearest_step`."""


class SimilarAcrossRuns(TensorRule):
    name = "SimilarAcrossRuns"
    complaint = "A tensor is the same as in another run"
    advice = "The tensors equal those of the other run: check that this run really differs."
    compares_runs = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        require_one_of(self.parameters, self.name, "other_trials")
        names, regexes = self.parameters.collection_names, self.parameters.tensor_regex
        self._select(names, regexes if names or regexes else (".*",))
        self._similar: dict[str, _Track] = {}
        self._different: set[str] = set()
        self._handed: tuple[int, dict[str, Value]] | None = None
        self._other: Mapping[str, Value] = {}
        """What the other trial saved at the step that is being judged."""
        self._common = False
        """Whether the other trial has any of the job's steps."""

    @property
    def other_trial(self) -> str:
        return self.parameters.other_trials

    def wants(self, tensor: str) -> bool:
        return tensor not in self._different and super().wants(tensor)

    def compare_with(self, step: int, tensors: Mapping[str, Value]) -> None:
        """Kept until the `observe` of the same step, and no longer."""
        self._handed = step, dict(self._values(tensors))

    def verdict(self, *, ended: bool) -> Verdict:
        if ended and self._similar:
            return self._fired(self._newest, worst([self._same(tensor) for tensor in sorted(self._similar)]))
        return super().verdict(ended=ended)

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        if self._handed and self._handed[0] == step.number:
            self._common, self._other = True, self._handed[1]
        judged = super()._judge(step, tensors)
        self._handed, self._other = None, {}
        return judged

    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach] | None:
        other = self._other.get(tensor)
        if other is None or tensor in self._different:
            return None
        rtol, atol = self.parameters.rtol, self.parameters.atol
        if not close(value, other, rtol, atol, equal_nan=True):
            self._similar.pop(tensor, None)
            self._different.add(tensor)
            return ()
        nearest = nearest_to_differing(value, other, rtol, atol)
        track = self._similar.get(tensor)
        if track is None:
            self._similar[tensor] = _Track(1, step, nearest)
        else:
            track.steps += 1
            if nearest.margin < track.nearest.margin:
                track.nearest_step, track.nearest = step, nearest
        return ()

    def _same(self, tensor: str) -> Breach:
        track = self._similar[tensor]
        nearest, steps = track.nearest, "step" if track.steps == 1 else "steps"
        explanation = (
            f"{tensor} is the same as in {self.other_trial} at {track.steps} common {steps}: its greatest "
            f"difference, {nearest.difference:.3g}, is within the tolerance of {nearest.tolerance:.3g}"
        )
        return Breach("similar", explanation, nearest.evidence(tensor, track.nearest_step))

    def _state(self) -> dict[str, Any]:
        return super()._state() | {
            "similar": {
                tensor: [track.steps, track.nearest_step, list(track.nearest)]
                for tensor, track in self._similar.items()
            },
            "different": sorted(self._different),
            "common": self._common,
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._similar = {
            tensor: _Track(steps, nearest_step, Element(*nearest))
            for tensor, (steps, nearest_step, nearest) in state["similar"].items()
        }
        self._different = set(state["different"])
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
