"""Reads the collections files, in which smdebug's hook describes what it saves and how often.

collections/000000000/<worker>_collections.json      one for each worker, after its first saved step
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rules.selection import Collection
from watcher.debug_output.storage import Storage
from watcher.errors import WatcherError

PREFIX = "collections/000000000/"
_FILE = re.compile(re.escape(PREFIX) + r"(.+)_collections\.json")


MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a JSON file of another form raises. OverflowError: a number is infinite. RecursionError: it is
nested thousands of levels deep."""


class NoCollectionsFile(WatcherError):
    """There are files where collections files belong, but none of them is one."""


@dataclass(frozen=True, slots=True)
class SaveConfig:
    """When a collection is saved in one mode; steps are the mode's own."""

    save_interval: int
    start_step: int = 0
    end_step: int | None = None
    """The first step that is not saved any more."""
    save_steps: tuple[int, ...] = ()
    """If there are any, exactly these steps are saved."""


@dataclass(frozen=True, slots=True)
class SavedCollection(Collection):
    save_configs: Mapping[str, SaveConfig] | None = None
    """By mode (`TRAIN` …); None for a collection that is not saved."""
    reductions: tuple[str, ...] = ()
    """As smdebug names them: `mean`, `abs_max`, `l2_norm` …"""
    save_raw_tensor: bool = True
    save_shape: bool = False


@dataclass(frozen=True, slots=True)
class SavedCollections:
    """The files of all workers, merged."""

    by_name: Mapping[str, SavedCollection]
    num_workers: int
    """As the hook wrote it; 1 if it did not know."""
    workers: tuple[str, ...]
    """The workers whose files were read."""
    damaged: tuple[str, ...]
    """Files that could not be read: where, and what is wrong."""
    document: Mapping[str, Any]
    """The same in the form of one of smdebug's files."""

    @property
    def complete(self) -> bool:
        return len(self.workers) + len(self.damaged) >= self.num_workers

    @property
    def save_shapes(self) -> bool:
        """Whether shapes are saved without their tensors. Only index files hold these."""
        return any(collection.save_shape for collection in self.by_name.values())


def read(storage: Storage) -> SavedCollections | None:
    """None while there are no files, which is until after the first saved step.

    Raises `NoCollectionsFile` if there are files and none can be read.
    """
    documents: dict[str, Any] = {}
    damaged: dict[str, str] = {}
    for stored in storage.list(PREFIX):
        if matched := _FILE.fullmatch(stored.key):
            text = storage.get(stored.key)
            if text is None:
                continue
            try:
                documents[worker_name(matched[1])] = _checked(json.loads(text))
            except MALFORMED as error:
                damaged[f"{storage.uri}/{stored.key}"] = repr(error)
    if not documents:
        for place in damaged:
            raise NoCollectionsFile(f"{place} is not a collections file of smdebug; was it overwritten?")
        return None
    merged = _merged(documents.values())
    return SavedCollections(
        by_name={name: _collection(one) for name, one in merged["collections"].items()},
        num_workers=merged["_meta"]["num_workers"],
        workers=tuple(sorted(documents)),
        damaged=tuple(f"{place}: {reason}" for place, reason in damaged.items()),
        document=merged,
    )


def worker_name(part: str) -> str:
    """The name of the worker from this part of a file's name. There, TensorFlow's device
    `/replica:0/task:1/device:GPU:0` is written as `_replica-0_task-1_device-GPU-0`."""
    return part.replace("_", "/").replace("-", ":") if part.startswith("_") else part


def _checked(document: Any) -> Any:
    """The document, if it has the structure that the rest of this module needs; else raises."""
    int(document["_meta"]["num_workers"])
    for collection in document["collections"].values():
        _collection(collection)
        for name in ("include_regex", "tensor_names"):
            texts = collection[name]
            if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
                raise TypeError(f"{name} is not a list of texts")
    return document


def _merged(documents: Iterable[Any]) -> dict[str, Any]:
    """Workers may have different tensors in a collection, but they save it at the same steps."""
    merged: dict[str, Any] = {}
    workers = 1
    for document in documents:
        workers = max(workers, int(document["_meta"]["num_workers"]))
        for name, one in document["collections"].items():
            known = merged.setdefault(name, one)
            merged[name] = known | {
                "include_regex": list(dict.fromkeys(known["include_regex"] + one["include_regex"])),
                "tensor_names": sorted({*known["tensor_names"], *one["tensor_names"]}),
            }
    return {"collections": merged, "_meta": {"num_workers": workers}}


def _collection(document: Any) -> SavedCollection:
    reduction = document.get("reduction_config") or {}
    configs = document.get("save_config")
    return SavedCollection(
        include_regex=tuple(document["include_regex"]),
        tensor_names=frozenset(document["tensor_names"]),
        save_configs=configs and {mode: _save_config(one) for mode, one in configs.items() if one},
        reductions=tuple(filter(None, reduction.get("reductions", "").split(","))),
        save_raw_tensor=reduction.get("save_raw_tensor", True),
        save_shape=reduction.get("save_shape", False),
    )


def _save_config(document: Any) -> SaveConfig:
    return SaveConfig(
        int(document["save_interval"]),
        document["start_step"] or 0,
        document["end_step"],
        tuple(document["save_steps"] or ()),
    )
