"""The tensors that a rule selects but cannot judge, and why. The verdict says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MAX_NAMES_SHOWN = 10
"""In one sentence."""


class LeftOut:
    """Keeps the names by reason, as a part of the rule's state."""

    def __init__(self) -> None:
        self._tensors: dict[tuple[str, str], set[str]] = {}

    def add(self, tensor: str, reason: str, because: str) -> None:
        """`reason` is the verdict's word if nothing else is judged, `because` completes "left out, because".
        Neither may hold a value that changes from step to step."""
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
            yield True, reason, f"{_names(tensors)} could not be judged, because {because}"

    def state(self) -> list[list[str]]:
        return sorted([*key, *sorted(tensors)] for key, tensors in self._tensors.items())

    def restore(self, state: Sequence[Sequence[str]]) -> None:
        self._tensors = {(reason, because): set(tensors) for reason, because, *tensors in state}


def _names(tensors: set[str]) -> str:
    more = f" and {len(tensors) - _MAX_NAMES_SHOWN} more" if len(tensors) > _MAX_NAMES_SHOWN else ""
    return ", ".join(sorted(tensors)[:_MAX_NAMES_SHOWN]) + more
