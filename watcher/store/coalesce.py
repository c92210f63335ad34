"""Requests that several threads make at the same time, as one: group commit, as databases call it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class _State(Enum):
    WAITING = auto()
    UNDER_WAY = auto()
    DONE = auto()


@dataclass(slots=True, eq=False)
class _Asked(Generic[A, B]):
    request: A
    state: _State = _State.WAITING
    answer: B | BaseException | None = None


class Coalesced(Generic[A, B]):
    """A request goes when `linger` returns, with what others ask meanwhile. What is asked while one is under
    way goes together in the next one: the busier it gets, the fewer requests it takes. One that takes longer
    than `patience` seconds is not waited for.

    `do` answers several requests, each with a value or with the exception that its thread is to raise.
    `fitting` tells how many of those that wait, from the first on, can go together: at least one.
    """

    def __init__(
        self,
        do: Callable[[Sequence[A]], Sequence[B | Exception]],
        fitting: Callable[[Sequence[A]], int],
        linger: Callable[[], object],
        patience: float,
    ) -> None:
        self._do, self._fitting, self._linger, self._patience = do, fitting, linger, patience
        self._under_way = 0
        self._queue: deque[_Asked[A, B]] = deque()
        self._changed = threading.Condition()

    def ask(self, request: A) -> B:
        """Raises what `do` answers, or raises, for this request."""
        mine: _Asked[A, B] = _Asked(request)
        with self._changed:
            self._queue.append(mine)
        while self._is_next(mine):
            self._linger()
            self._go(self._together())
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer  # type: ignore[return-value]  # it is done

    def _is_next(self, mine: _Asked[A, B]) -> bool:
        """Waits until whoever asked this is to send what waits; False as soon as it is done."""
        with self._changed:
            self._changed.wait_for(
                lambda: mine.state is not _State.WAITING or not self._under_way, self._patience
            )
            if mine.state is not _State.WAITING:
                self._changed.wait_for(lambda: mine.state is _State.DONE)
                return False
            self._under_way += 1
            return True

    def _together(self) -> list[_Asked[A, B]]:
        with self._changed:
            fitting = self._fitting([asked.request for asked in self._queue])
            together = [self._queue.popleft() for _ in range(min(fitting, len(self._queue)))]
            for asked in together:
                asked.state = _State.UNDER_WAY
            return together

    def _go(self, together: Sequence[_Asked[A, B]]) -> None:
        answers: Sequence[B | BaseException]
        try:
            answers = self._do([asked.request for asked in together]) if together else []
        except BaseException as error:
            answers = [error] * len(together)
        with self._changed:
            self._under_way -= 1
            for asked, answer in zip(together, answers, strict=True):
                asked.answer, asked.state = answer, _State.DONE
            self._changed.notify_all()
