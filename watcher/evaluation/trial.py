"""smdebug's `Trial` on top of Watcher's reader instead of smdebug's own.

It has the same names, steps, modes, workers, reductions and values as the result of `create_trial`, but never
waits for what is not saved yet. A value that is asked for again comes from memory, or takes one request.

Importing this module imports smdebug, which the extra `sandbox` installs.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput, Reader

with redirect_stdout(sys.stderr):  # smdebug logs to what is stdout now, and stdout is for data
    from smdebug.core.collection_manager import CollectionManager
    from smdebug.core.locations import TensorLocation, TensorShape
    from smdebug.core.modes import ModeKeys
    from smdebug.core.tensor import StepState
    from smdebug.exceptions import NoMoreData, StepNotYetAvailable, StepUnavailable, TensorUnavailableForStep
    from smdebug.trials.trial import Trial

VALUE_CACHE_BYTES = 64 << 20
"""How much the values take that are kept in memory, for a rule that looks back."""


class SavedTrial(Trial):  # type: ignore[misc] # smdebug is not typed
    """The steps that `follow` has read so far, all of them complete.

    Like smdebug it remembers which tensors exist at each step, but of their values no more than
    `VALUE_CACHE_BYTES`.
    """

    def __init__(self, output: DebugOutput, name: str = "") -> None:
        super().__init__(name or output.uri.rpartition("/")[2])
        self.path = self.trial_dir = output.uri
        self.collection_manager = CollectionManager()
        self.index_reader = _Values(output)
        self.last_complete_step: int = -1
        self._reader = Reader(output)
        self._has_collections = False

    def begun(self) -> bool:
        """Whether anything is saved yet. The trial is empty until it is."""
        if not self._has_collections and (found := self._reader.collections()):
            self.collection_manager = CollectionManager.load_from_string(json.dumps(found.document))
            self.num_workers = found.num_workers
            self.worker_set.update(found.workers)
            self._has_collections = True
        return self._has_collections

    def follow(self, *, ended: bool) -> Iterator[int]:
        """Reads what is new, and yields each new global step before it reads the next one. A step that
        arrives after a later one is read but not yielded.

        `ended`: the job has ended, and no more steps will follow.
        """
        newest = max(self._global_to_mode, default=-1)
        wanted = self.index_reader.wants
        for step, files in groupby(self._reader.read(wanted=wanted, ended=ended), lambda saved: saved.step):
            for saved in files:
                if isinstance(saved, SavedStep):
                    self._add(saved)
            if step > newest and step in self._global_to_mode:
                newest = step
                yield step
        self.loaded_all_steps = ended
        self.index_reader.fills = False

    def _add(self, saved: SavedStep) -> None:
        mode = ModeKeys[saved.mode]
        for name in saved.names:
            where = _Location(name, mode, saved.mode_step, saved.step, saved.worker)
            self._add_tensor(saved.step, saved.worker, where, None)
        for name, shape in saved.shapes.items():
            self._add_tensor(saved.step, saved.worker, None, TensorShape(name, mode, saved.mode_step, shape))
        self.worker_set.add(saved.worker)
        self.last_complete_step = max(self.last_complete_step, saved.step)
        self.index_reader.keep(saved)

    # -- where smdebug would read, and wait ---------------------------------------------------------

    def maybe_refresh(self, name: str | None = None) -> None:
        pass

    def has_passed_step(self, step: int, mode: ModeKeys = ModeKeys.GLOBAL) -> StepState:
        steps = self._global_to_mode if mode is ModeKeys.GLOBAL else self._mode_to_global.get(mode, {})
        if step in steps:
            return StepState.AVAILABLE
        passed = self.loaded_all_steps or step < max(steps, default=-1)
        return StepState.UNAVAILABLE if passed else StepState.NOT_YET_AVAILABLE

    def wait_for_steps(self, required_steps: Sequence[int], mode: ModeKeys = ModeKeys.GLOBAL) -> None:
        """Raises `StepNotYetAvailable` where smdebug would wait."""
        for step in required_steps:
            state = self.has_passed_step(step, mode)
            if state is StepState.NOT_YET_AVAILABLE:
                raise StepNotYetAvailable(step, mode)
            if state is StepState.UNAVAILABLE:
                last = max(self._all_steps(mode), default=-1)
                raise StepUnavailable(step, mode) if step < last else NoMoreData(step, mode, last)

    def _get_collection_files(self) -> list[str]:
        raise NotImplementedError("the reader reads them")

    def _read_collections(self, collection_files: list[str]) -> None:
        raise NotImplementedError("the reader reads them")


class _Location(TensorLocation):  # type: ignore[misc] # smdebug is not typed
    """Needs only the step, while smdebug stores a file and a span in it."""

    def __init__(self, name: str, mode: ModeKeys, mode_step: int, step: int, worker: str) -> None:
        super().__init__(name, mode, mode_step, "", 0, 0, worker)
        self.step = step


class _Values:
    """Returns the values of smdebug's `Tensor`s. Each value is a copy, which a rule may change."""

    def __init__(self, output: DebugOutput) -> None:
        self._output = output
        self._kept: OrderedDict[tuple[int, str, str], NDArray[Any]] = OrderedDict()
        self._size = 0
        self.asked: set[str] = set()
        """The names of the tensors whose value the rule has asked for. They are fetched with each later
        step."""

        self.fills = True
        """Whether all values are kept as long as there is room: until the end of the first reading, because
        what the rule will ask for is not known yet."""

    def wants(self, tensor: str) -> bool:
        """Whether to fetch this tensor with a step that is read. Called from several threads."""
        return tensor in self.asked or (self.fills and self._size < VALUE_CACHE_BYTES)

    def fetch_tensor_value(self, location: _Location) -> NDArray[Any]:
        self.asked.add(location.tensorname)
        key = (location.step, location.worker, location.tensorname)
        if key not in self._kept:
            for saved in self._output.at(location.step, self.asked.__contains__):
                if isinstance(saved, SavedStep) and saved.worker == location.worker:
                    self.keep(saved)
        if key not in self._kept:
            raise TensorUnavailableForStep(location.tensorname, location.mode_step, location.mode)
        return self._kept[key].copy()

    def keep(self, saved: SavedStep) -> None:
        """Always keeps the newest value, however large."""
        for name, value in saved.tensors.items():
            key = (saved.step, saved.worker, name)
            full = self.fills and self._size + value.nbytes > VALUE_CACHE_BYTES
            if key not in self._kept and not full:
                self._kept[key] = value.copy()  # a view would keep the whole file in memory
                self._size += value.nbytes
        while self._size > VALUE_CACHE_BYTES and len(self._kept) > 1:
            self._size -= self._kept.popitem(last=False)[1].nbytes
