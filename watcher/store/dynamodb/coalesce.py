"""Sends requests of several threads as one ("group commit" in databases), which is faster and costs less."""

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

# A request, from the call of `ask` to its return. The thread that asked does the work; there is no other.
#
#                      no request is under way,
#             ask      or the one that was has ended            linger, then send
#     ┌─────┐      ┌─────────┐              ┌─────────────┐              ┌──────┐    do    ┌──────────┐
#     │ new │ ───► │ waiting │ ───────────► │ has a turn  │ ───────────► │ sent │ ───────► │ answered │
#     └─────┘      └─────────┘              └─────────────┘              └──────┘          └──────────┘
#                       │      or after `max_wait`                          ▲
#                       └───────────────────────────────────────────────────┘
#                            another thread has a turn and sends it, too
#
# A turn is the duty to send what waits at its end, as much as fits. It ends with the answer; then the first
# that still waits is given the next turn. So at most one request is under way, unless it hangs: each thread
# that has waited for `max_wait` takes a turn of its own.
#
# For example, four threads ask, and `do` takes 5 ms:
#
#     ms         0        3              8        11             16
#     thread A   ask ···· sends A, B ··· answer
#     thread B     ask ················· answer
#     thread C                ask ······ turn ··· sends C, D ··· answer
#     thread D                  ask ···························· answer
#     turns      A lingers, is under way C lingers, is under way
#
# A sends its own request and B's, because B asked while A lingered. C and D ask while that request is under
# way. When it ends, A gives C the turn.
#
# A thread may have a turn although its request has been sent: it waited for too long, took a turn, and
# another thread was faster. Then it sends what else waits, perhaps nothing, and waits for its answer again.


class _Signal(Enum):
    """What a waiting thread is woken for."""

    YOUR_TURN = auto()
    ANSWERED = auto()


@dataclass(slots=True, eq=False)
class _Asked(Generic[A, B]):
    request: A
    waiting: bool = True
    """Until a thread sends it."""
    has_turn: bool = False
    answer: B | BaseException | None = None
    signals: SimpleQueue[_Signal] = field(default_factory=SimpleQueue)
    """Each request has its own, so that no thread wakes up for another's answer."""


class Coalesced(Generic[A, B]):
    """Sends a request when `linger` returns, together with what other threads have asked by then. What they
    ask while a request is under way goes together in the next one: the busier it gets, the fewer requests it
    takes.

    `do` answers several requests, each with a value or with the exception that its thread is to raise.
    `fitting` says how many of the waiting requests, from the first on, can go together: at least one.
    `max_wait` is how many seconds a request waits for one that is under way.
    """

    def __init__(
        self,
        do: Callable[[Sequence[A]], Sequence[B | Exception]],
        fitting: Callable[[Sequence[A]], int],
        linger: Callable[[], object],
        max_wait: float,
    ) -> None:
        self._do, self._fitting, self._linger, self._max_wait = do, fitting, linger, max_wait
        self._lock = threading.Lock()
        """Guards `_turns`, `_queue`, `waiting` and `has_turn`. Not `answer`: it is set once, before the
        signal that wakes its thread."""
        self._turns = 0
        """How many turns have been given and have not ended."""
        self._queue: deque[_Asked[A, B]] = deque()
        """The waiting requests, oldest first."""

    def ask(self, request: A) -> B:
        """Raises what `do` answers, or raises, for this request."""
        mine: _Asked[A, B] = _Asked(request)
        with self._lock:
            self._queue.append(mine)
            if not self._turns:
                self._give_turn(mine)
        while self._signal(mine) is _Signal.YOUR_TURN:
            self._linger()
            self._send(self._take_waiting(mine))
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer  # type: ignore[return-value]  # `do` has answered it

    def _give_turn(self, asked: _Asked[A, B]) -> None:
        if not asked.has_turn:
            asked.has_turn = True
            self._turns += 1
            asked.signals.put(_Signal.YOUR_TURN)

    def _signal(self, mine: _Asked[A, B]) -> _Signal:
        """Wait for a signal; after `max_wait`, take a turn next to the one that is under way."""
        with suppress(Empty):
            return mine.signals.get(timeout=self._max_wait)
        with self._lock:
            if mine.waiting:
                self._give_turn(mine)
        # Without a limit: either this thread has a turn now, or its request has been sent, and the thread
        # that sent it will answer.
        return mine.signals.get()

    def _take_waiting(self, mine: _Asked[A, B]) -> list[_Asked[A, B]]:
        """The requests that go together in this turn; perhaps none."""
        with self._lock:
            mine.has_turn = False
            fitting = self._fitting([asked.request for asked in self._queue])
            together = [self._queue.popleft() for _ in range(min(fitting, len(self._queue)))]
            for asked in together:
                asked.waiting = False
            return together

    def _send(self, together: Sequence[_Asked[A, B]]) -> None:
        answers: Sequence[B | BaseException]
        try:
            answers = self._do([asked.request for asked in together]) if together else []
        except BaseException as error:  # the other threads would wait for their answers forever
            answers = [error] * len(together)
        with self._lock:
            self._turns -= 1
            if self._queue and not self._turns:
                self._give_turn(self._queue[0])
        for asked, answer in zip(together, answers, strict=True):
            asked.answer = answer
            asked.signals.put(_Signal.ANSWERED)
