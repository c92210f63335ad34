"""What the rules that judge each tensor by itself share:

- The tensors of `collection_names` and those that `tensor_regex` finds are read, together.
- Steps of every mode count, at their global number.
- Tensors without numbers (XGBoost's `trees/ID` is text) or without elements, and reductions, are left out,
  and the verdict says so.
- When several tensors fire at one step, the worst are the evidence, and the first of them gives the reason.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from rules.base import Breach, Rule, Step, Value
from rules.reductions import reduction
from rules.selection import Selection
from rules.values import numbers
from rules.worst import worst


class TensorRule(Rule):
    """A subclass has `_judge_tensor`, and calls `_select` in `__init__`."""

    def _select(self, collection_names: Sequence[str], tensor_regex: Sequence[str]) -> None:
        self._selection = Selection(collection_names, tensor_regex)
        self.selections = (self._selection,)

    @abstractmethod
    def _judge_tensor(self, step: int, tensor: str, value: Value) -> Sequence[Breach] | None:
        """The breaches of one tensor at this step; None if it was not judged. `value` is a float if the
        tensor has one element, else an array of numbers."""

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:
        judgements = []
        for tensor, value in sorted(self._values(tensors), key=itemgetter(0)):
            self._read.add(tensor)
            judged = self._judge_tensor(step.number, tensor, value)
            if judged is not None:
                judgements.append(judged)
        return worst([breach for judged in judgements for breach in judged]) if judgements else None

    def _values(self, tensors: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
        for tensor, saved in self._selection.of(tensors):
            value = _value(saved)
            if value is None:
                self._left_out.add(tensor, "no_numbers", "they hold no numbers")
            elif reduction(tensor):
                self._left_out.add(tensor, "only_reductions", "they are reductions")
            else:
                yield tensor, value

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        if not self._read:
            yield from super()._unjudged()


def _value(saved: Value) -> Value | None:
    if isinstance(saved, float):
        return saved
    array = numbers(saved)
    if array is None or array.size == 0:
        return None
    return array if array.size > 1 else float(array.item())
