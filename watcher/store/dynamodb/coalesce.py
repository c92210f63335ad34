"""Requests that several threads make at the same time, as one: group commit, as databases call it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class _News(Enum):
    """What whoever asked is told: nobody is woken for the news of others."""

    YOUR_TURN = auto()
    """To send what waits."""
    ANSWERED = auto()


@dataclass(slots=True, eq=False)
class _Asked(Generic[A, B]):
    request: A
    waits: bool = True
    """Until somebody sends it."""
    has_turn: bool = False
    answer: B | BaseException | None = None
    news: SimpleQueue[_News] = field(default_factory=SimpleQueue)


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
        self._lock = threading.Lock()

    def ask(self, request: A) -> B:
        """Raises what `do` answers, or raises, for this request."""
        mine: _Asked[A, B] = _Asked(request)
        with self._lock:
            self._queue.append(mine)
            if not self._under_way:
                self._give_turn(mine)
        while self._news(mine) is _News.YOUR_TURN:
            self._linger()
            self._go(self._together(mine))
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer  # type: ignore[return-value]  # it is done

    def _give_turn(self, asked: _Asked[A, B]) -> None:
        if not asked.has_turn:
            asked.has_turn = True
            self._under_way += 1
            asked.news.put(_News.YOUR_TURN)

    def _news(self, mine: _Asked[A, B]) -> _News:
        """Whoever still waits when its patience is over takes a turn beside the one that is under way."""
        with suppress(Empty):
            return mine.news.get(timeout=self._patience)
        with self._lock:
            if mine.waits:
                self._give_turn(mine)
        return mine.news.get()

    def _together(self, mine: _Asked[A, B]) -> list[_Asked[A, B]]:
        """What goes now: perhaps without mine, which may have gone with another's."""
        with self._lock:
            mine.has_turn = False
            fitting = self._fitting([asked.request for asked in self._queue])
            together = [self._queue.popleft() for _ in range(min(fitting, len(self._queue)))]
            for asked in together:
                asked.waits = False
            return together

    def _go(self, together: Sequence[_Asked[A, B]]) -> None:
        answers: Sequence[B | BaseException]
        try:
            answers = self._do([asked.request for asked in together]) if together else []
        except BaseException as error:
            answers = [error] * len(together)
        with self._lock:
            self._under_way -= 1
            if self._queue and not self._under_way:
                self._give_turn(self._queue[0])
        for asked, answer in zip(together, answers, strict=True):
            asked.answer = answer
            asked.news.put(_News.ANSWERED)
