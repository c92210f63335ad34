"""Collects the values of each tensor over the steps, for curves, tables and `--json`.

A single number is kept. Of a larger tensor, only its shape and three numbers are kept, so that memory does
not grow with the size of a model.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from watcher.debug_output.event_files import SavedStep, Wanted

GLOBAL = "GLOBAL"


class Summary(NamedTuple):
    """A tensor with no element or more than one. The numbers are None if it holds no numbers, or if only its
    shape was saved."""

    shape: tuple[int, ...]
    min: float | None = None
    max: float | None = None
    mean: float | None = None


Value = float | int | str | Summary | NDArray[Any]
"""The number or text of one element, a summary, or a whole array if that was asked for."""


@dataclass(slots=True)
class Series:
    """One tensor, as one worker saved it in one mode. Steps ascend."""

    tensor: str
    mode: str
    worker: str
    steps: array[int] = field(default_factory=lambda: array("q"))
    """Global steps."""
    mode_steps: array[int] = field(default_factory=lambda: array("q"))
    """The same steps in the count of the mode."""
    values: list[Value | None] = field(default_factory=list)
    """None for a value that was not read."""

    def add(self, step: int, mode_step: int, value: Value | None) -> None:
        self.steps.append(step)
        self.mode_steps.append(mode_step)
        self.values.append(value)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The first known shape; () for a single element, None if no value was read."""
        for value in self.values:
            if isinstance(value, Summary | np.ndarray):
                return value.shape
            if value is not None:
                return ()
        return None


class Collector:
    """Collects the series of the tensors whose names fit, from steps in their order."""

    def __init__(self, fits: Wanted = bool, *, full: bool = False) -> None:
        """`fits` selects tensors by name; all by default. `full`: keep whole tensors."""
        self._fits, self._full = fits, full
        self._series: dict[tuple[str, str, str], Series] = {}

    def add(self, saved: SavedStep) -> None:
        for name in dict.fromkeys((*saved.names, *saved.shapes)):
            if not self._fits(name):
                continue
            key = (name, saved.mode, saved.worker)
            series = self._series.get(key) or self._series.setdefault(key, Series(*key))
            series.add(saved.step, saved.mode_step, self._value(saved, name))

    def _value(self, saved: SavedStep, name: str) -> Value | None:
        if name in saved.tensors:
            return kept(saved.tensors[name], full=self._full)
        return Summary(saved.shapes[name]) if name in saved.shapes else None

    def series(self) -> list[Series]:
        """By tensor, mode and worker."""
        return [self._series[key] for key in sorted(self._series)]


def kept(value: NDArray[Any], *, full: bool = False) -> Value:
    """What to keep of a tensor: the number or text of one element, a summary or, with `full`, all of it."""
    if value.size == 1:
        return _element(value.item())
    if full:
        return value.copy()  # a view would keep the whole file in memory
    if not value.size or value.dtype.kind not in "biuf":
        return Summary(value.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = value.mean(dtype=np.float64)
    return Summary(value.shape, float(value.min()), float(value.max()), float(mean))


def _element(item: Any) -> float | int | str:
    if isinstance(item, int | float):
        return item if isinstance(item, float) else int(item)
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def once(fits: Wanted) -> Wanted:
    """Wants each tensor only once, which is enough to show its shape."""
    seen = set()

    def wanted(name: str) -> bool:
        if name in seen or not fits(name):
            return False
        seen.add(name)
        return True

    return wanted


# -- as a document --------------------------------------------------------------------------------


def document(series: Iterable[Series]) -> dict[str, Any]:
    """`{NAME: {MODE: {WORKER: {"steps": […], "values": […]}}}}`, which `watcher tensors --json` prints.

    Steps are those of smdebug's `Tensor.steps(mode=MODE)`: `GLOBAL` has all steps of the tensor with their
    global numbers, each other mode has its own steps in its own count. A reduction has the name by which
    smdebug saved it (`smdebug/reductions/…`).
    """
    named: dict[str, Any] = {}
    for tensor, of_tensor in groupby(series, key=lambda one: one.tensor):
        modes: dict[str, Any] = {}
        everywhere: dict[str, list[tuple[int, Any]]] = {}
        for one in of_tensor:
            values = [shown(value) for value in one.values]
            everywhere.setdefault(one.worker, []).extend(zip(one.steps, values, strict=True))
            if one.mode != GLOBAL:
                modes.setdefault(one.mode, {})[one.worker] = {"steps": list(one.mode_steps), "values": values}
        named[tensor] = {
            GLOBAL: {worker: _merged(everywhere[worker]) for worker in sorted(everywhere)},
            **modes,
        }
    return named


def _merged(pairs: list[tuple[int, Any]]) -> dict[str, list[Any]]:
    pairs.sort(key=lambda pair: pair[0])
    return {"steps": [step for step, _ in pairs], "values": [value for _, value in pairs]}


def shown(value: Value | None) -> Any:
    """The value for a JSON document."""
    if isinstance(value, Summary):
        return value._asdict()
    return _nested(value) if isinstance(value, np.ndarray) else value


def _nested(array: NDArray[Any]) -> Any:
    if array.dtype.kind in "biuf":
        return array.tolist()
    return [_nested(part) if isinstance(part, np.ndarray) else _element(part) for part in array]


def curve(series: Series) -> Iterator[tuple[int, float]]:
    """The global steps and the numbers of a tensor with one element."""
    for step, value in zip(series.steps, series.values, strict=True):
        if isinstance(value, int | float):
            yield step, float(value)
