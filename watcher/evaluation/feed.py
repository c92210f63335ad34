"""Makes the saved steps that rules are shown: each step once, with what all its workers saved.

Each tensor is as the first worker that has it saved it, as smdebug's `Tensor.value` returns it. So a tensor
that only a later worker saves is judged as well: with TensorFlow's MirroredStrategy, the outputs of each
replica have names of their own, which stand in that worker's file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import structlog

from rules import Mode, Rule, Step, Verdict
from watcher.debug_output.event_files import SavedStep, UnreadableStep

log = structlog.get_logger(__name__)


def log_unreadable(step: UnreadableStep) -> None:
    log.warning("unreadable_step", step=step.step, worker=step.worker, error=step.reason)


def for_rules(
    steps: Iterable[SavedStep | UnreadableStep],
    unreadable: Callable[[UnreadableStep], object] = log_unreadable,
) -> Iterator[SavedStep]:
    """The steps that a rule is shown. `steps` are in order of step, then worker.

    A step that workers saved in several modes is a step in each of these. Leaves out what was read after a
    later step, and what cannot be read, with which `unreadable` is called.
    """
    for _, of_step in groupby(_readable(steps, unreadable), key=lambda one: one.step):
        yield from merged([one for one in of_step if not one.late])


def _readable(
    steps: Iterable[SavedStep | UnreadableStep], unreadable: Callable[[UnreadableStep], object]
) -> Iterator[SavedStep]:
    for one in steps:
        if isinstance(one, UnreadableStep):
            unreadable(one)
        else:
            yield one


def merged(workers: Sequence[SavedStep]) -> Iterator[SavedStep]:
    """What several workers saved at one step, once for each mode. `workers` are in their order."""
    if len(workers) == 1:  # most jobs have one worker
        yield workers[0]
        return
    taken: set[str] = set()
    by_mode: dict[str, SavedStep] = {}
    for _, files in groupby(workers, key=lambda one: one.worker):
        names: set[str] = set()
        for one in files:
            new = {name: value for name, value in one.tensors.items() if name not in taken}
            names.update(one.names, one.shapes)
            first = by_mode.get(one.mode)
            if first is None and (new or not by_mode):
                by_mode[one.mode] = replace(one, tensors=new)
            elif first is not None:
                by_mode[one.mode] = replace(
                    first,
                    tensors={**first.tensors, **new},
                    names=tuple(dict.fromkeys((*first.names, *one.names))),
                    shapes={**one.shapes, **first.shapes},
                )
        taken |= names
    yield from by_mode.values()


def observe(rule: Rule, saved: SavedStep) -> Verdict | None:
    return rule.observe(as_step(saved), saved.tensors)


def as_step(saved: SavedStep) -> Step:
    return Step(saved.step, Mode(saved.mode), saved.mode_step)
