"""StalledTrainingRule: the job is training, and yet saves nothing new.

AWS describes the rule and keeps its code to itself. Where the description is silent, these are the
readings taken here:

- The rule fires when no step was saved for `threshold` seconds while the job's secondary status was
  `Training`. A job that has saved nothing at all stalls like any other.
- It has no clock and does not know the status. Whoever runs it hands over new steps first, then calls
  `tick(now)`, and ticks only while the status is `Training`: downloading data, a spot interruption or the
  upload of the model are no stall. `training_began` tells it when that status began, as `DescribeTrainingJob`
  has it (SecondaryStatusTransitions), so that neither an interruption nor a late look is counted wrongly.
- A step counts as saved when the first tick after it comes, so a rare look makes the alert late, never early.
- `stop_training_on_fire` and `training_job_name_prefix` are read, and change nothing here: whether a job is
  stopped is not for a rule to say. AWS stops nothing either when several jobs have the prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rules.base import Breach, Evidence, Rule, Status, Step, Value, Verdict
from rules.parameters import FLAG, TEXT, parameter, parse, whole

ANY_TENSOR = "*"
"""What the evidence names: the wait is for whichever tensor comes next."""


@dataclass(frozen=True, slots=True)
class Parameters:
    threshold: int = parameter(1800, whole(at_least=1))
    """Seconds."""
    stop_training_on_fire: bool = parameter(False, FLAG)
    training_job_name_prefix: str = parameter("", TEXT)


class StalledTrainingRule(Rule):
    name = "StalledTrainingRule"
    complaint = "Training has stalled"
    advice = "Nothing was saved for long: look for a hung data loader or a lost worker."
    judges_metrics = True
    counts_every_step = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._since: float | None = None
        """From when the wait counts (seconds since the epoch); None until a tick or `training_began` says."""
        self._new_step = False
        """Whether a step was saved since the last tick."""

    def wants(self, tensor: str) -> bool:  # noqa: ARG002
        """That a step was saved is all it has to know: it can be handed over without its tensors."""
        return False

    def training_began(self, at: float) -> None:
        """The secondary status turned to `Training` at this time (seconds since the epoch). May be told
        again and again, and has to be after an interruption."""
        self._since = at if self._since is None else max(self._since, at)

    def tick(self, now: float) -> Verdict | None:
        """To be called only while the job's secondary status is `Training`, and after all that is new was
        observed."""
        if self._new_step:
            self._checked += 1
        if self._new_step or self._since is None:
            self._since, self._new_step = now, False
        waited = now - self._since
        return self._stalled(waited) if waited >= self.parameters.threshold else None

    def _stalled(self, waited: float) -> Verdict:
        step, allowed = self._newest, self.parameters.threshold
        saved = "nothing was saved" if step is None else f"nothing was saved after step {step}"
        evidence = () if step is None else (_evidence(step, waited, allowed),)
        return self._verdict(
            Status.ISSUES_FOUND,
            reason="stalled",
            explanation=f"{saved} for {waited:.0f} s of training; the rule allows less than {allowed} s",
            evidence=evidence,
        )

    def _judge(self, step: Step, tensors: Mapping[str, Value]) -> Sequence[Breach] | None:  # noqa: ARG002
        self._new_step = True
        return None

    def _state(self) -> dict[str, Any]:
        return {"since": self._since, "new_step": self._new_step}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._since, self._new_step = state["since"], state["new_step"]

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield (
            True,
            "not_watched",
            "a stall shows only while a job is training, and nobody watched the time then",
        )


def _evidence(step: int, waited: float, allowed: int) -> Evidence:
    return Evidence(ANY_TENSOR, step, waited, threshold=allowed, missed_by=waited - allowed)
