"""Debug output of any kind, written by smdebug's own writers into a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REDUCTIONS = "mean,abs_max,l2_norm"


class SavedJob:
    """What the hooks of a job's workers save, in the order that a test chooses."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder = folder
        self.workers = [f"worker_{number}" for number in range(workers)]

    def collections(self, num_workers: int | None = None, **named: Mapping[str, Any]) -> None:
        """Save each worker's collections file. `named` are further collections, with arguments of smdebug's
        `Collection`."""
        for worker in self.workers:
            self.collections_of(worker, len(self.workers) if num_workers is None else num_workers, **named)

    def collections_of(self, worker: str, num_workers: int, **named: Mapping[str, Any]) -> None:
        from smdebug.core.collection import Collection
        from smdebug.core.collection_manager import CollectionManager
        from smdebug.core.reduction_config import ReductionConfig
        from smdebug.core.save_config import SaveConfig, SaveConfigMode

        manager = CollectionManager()
        every_step = SaveConfig.from_save_config_mode(SaveConfigMode(save_interval=1, start_step=0))
        raw = {"reduction_config": ReductionConfig(save_raw_tensor=True), "save_config": every_step}
        for name, members in {"losses": {"include_regex": ["loss"]}, **named}.items():
            manager.add(Collection(name, **(raw | members)))
        manager.set_num_workers(num_workers)
        manager.export(str(self.folder), f"{worker}_collections.json")

    def step(
        self,
        step: int,
        tensors: Mapping[str, Any],
        *,
        worker: str = "worker_0",
        mode: str = "GLOBAL",
        mode_step: int | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Path:
        """Saves one step of one worker; returns the path of its event file."""
        from smdebug.core.modes import ModeKeys
        from smdebug.core.writer import FileWriter

        counted = step if mode_step is None else mode_step
        writer = FileWriter(trial_dir=str(self.folder), worker=worker, step=step)
        for name, value in tensors.items():
            writer.write_tensor(value, name, mode=ModeKeys[mode], mode_step=counted)
        writer.flush()  # otherwise its thread and this one would both open the index file
        for name, shape in (shapes or {}).items():
            writer.write_shape(name, shape, mode=ModeKeys[mode], mode_step=counted)
        writer.close()
        return self.event_file(step, worker)

    def event_file(self, step: int, worker: str = "worker_0") -> Path:
        return self.folder / f"events/{step:012}/{step:012}_{worker}.tfevents"

    def index_file(self, step: int, worker: str = "worker_0") -> Path:
        return self.folder / f"index/{step // 1000:09}/{step:012}_{worker}.json"

    def end(self) -> None:
        (self.folder / "training_job_end.ts").touch()


def reduced(name: str, **reductions: float) -> dict[str, float]:
    """Reductions of a tensor, with the names under which smdebug saves them."""
    from smdebug.core.reductions import get_reduction_tensor_name

    return {
        get_reduction_tensor_name(name, re.sub("^abs_", "", one), one.startswith("abs_")): value
        for one, value in reductions.items()
    }
