"""Chooses the saved steps that rules are shown: each step once, as its first worker saved it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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

    Leaves out the same step of another worker (the same step in another mode is a step of its own), a step
    that was read after a later one, and steps that cannot be read, with which `unreadable` is called.
    """
    shown: SavedStep | None = None
    for one in steps:
        if isinstance(one, UnreadableStep):
            unreadable(one)
        elif not one.late and not (shown and one.step == shown.step and one.worker != shown.worker):
            shown = one
            yield one


def observe(rule: Rule, saved: SavedStep) -> Verdict | None:
    return rule.observe(as_step(saved), saved.tensors)


def as_step(saved: SavedStep) -> Step:
    return Step(saved.step, Mode(saved.mode), saved.mode_step)
