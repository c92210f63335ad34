"""The tensors that a rule selects and cannot judge, and why: said beside its verdict, and remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MAX_NAMES_SHOWN = 10
"""How many names a sentence holds."""


class LeftOut:
    def __init__(self) -> None:
        self._tensors: dict[tuple[str, str], set[str]] = {}

    def add(self, tensor: str, reason: str, because: str) -> None:
        """`reason` is the word for a verdict without any judgement, `because` completes "left out, because".
        Neither may hold a value that changes with the step."""
        self._tensors.setdefault((reason, because), set()).add(tensor)

    def __contains__(self, tensor: str) -> bool:
        return any(tensor in tensors for tensors in self._tensors.values())

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"left out, because {because}: {_names(tensors)}"
            for (_, because), tensors in sorted(self._tensors.items())
        )

    def unjudged(self) -> Iterator[tuple[bool, str, str]]:
        """For a rule's `_unjudged`."""
        for (reason, because), tensors in sorted(self._tensors.items()):
            yield True, reason, f"nothing could be judged of {_names(tensors)}, because {because}"

    def state(self) -> list[list[str]]:
        return sorted([*key, *sorted(tensors)] for key, tensors in self._tensors.items())

    def restore(self, state: Sequence[Sequence[str]]) -> None:
        self._tensors = {(reason, because): set(tensors) for reason, because, *tensors in state}


def _names(tensors: set[str]) -> str:
    more = f" and {len(tensors) - _MAX_NAMES_SHOWN} more" if len(tensors) > _MAX_NAMES_SHOWN else ""
    return ", ".join(sorted(tensors)[:_MAX_NAMES_SHOWN]) + more
