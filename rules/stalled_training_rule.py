"""StalledTrainingRule: the job is training, and yet saves nothing new.

AWS documents the rule but not its code. If the documentation leaves something open, this rule works as
follows:

- The rule fires when no step was saved for `threshold` seconds while the job's secondary status was
  `Training`. A job that has saved nothing at all stalls like any other.
- Only time in which the job's secondary status was `Training` counts, all such times together: downloading
  data, waiting for a spot instance or the upload of the model are not a stall.
- It has no clock and does not know the status. The caller observes new steps first and then calls
  `tick(now)` on a clock that stands still while the job does not train. `training_began` gives the time at
  which that clock began.
- A step that is saved again counts as new: after an interruption, a job may begin again at step 0 or at a
  checkpoint, and writes over its old files.
- With `start_step` or `end_step`, the job can stall only while its newest step is among these.
- A step counts as saved when the first tick after it comes, so with rare ticks the alert comes later, never
  earlier.
- `stop_training_on_fire` and `training_job_name_prefix` are accepted and have no effect: a rule does not
  decide whether a job is stopped. AWS stops nothing either when several jobs have the prefix.
- It has recovered when the job has saved another step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rules.base import Breach, Evidence, Rule, Status, Step, Value, Verdict
from rules.parameters import FLAG, TEXT, parameter, parse, whole

ANY_TENSOR = "*"
"""The name in the evidence: the rule waits for any tensor."""
_WAITED = "waited"


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
    relief = "Training saves again"
    unit = " s"
    judges_metrics = True
    counts_every_step = True

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__(parameters)
        self.parameters = parse(Parameters, parameters, self.name)
        self._since: float | None = None
        """The time from which the wait counts (seconds since the epoch); None until the first tick."""
        self._new_step = False
        """Whether a step was saved since the last tick."""

    @property
    def checks_to_recover(self) -> int:
        return 1

    def wants(self, tensor: str) -> bool:  # noqa: ARG002
        """The rule has to know that a step was saved, but needs none of its tensors."""
        return False

    def training_began(self, at: float) -> None:
        self._since = at if self._since is None else max(self._since, at)

    def anew(self) -> Self:
        return self  # it compares no steps, and a step that comes again is news

    def saved_again(self) -> None:
        self._new_step = True

    def tick(self, now: float) -> Verdict | None:
        if (self._newest or 0) not in self._steps:
            self._since, self._new_step = now, False
            return None
        if self._new_step:
            self._checked += 1
            self._measured(_WAITED, self._newest, now - (self._since or now), well=True)
        if self._new_step or self._since is None:
            self._since, self._new_step = now, False
        waited = now - self._since
        if waited < self.parameters.threshold:
            return None
        self._since = now  # from which a successor waits
        return self._stalled(waited)

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

    def _found(self, verdict: Verdict) -> Iterator[tuple[str, int | None, float]]:
        # Without a saved step, there is no evidence.
        waited = verdict.evidence[0].value if verdict.evidence else self.parameters.threshold
        yield _WAITED, verdict.step, waited

    def _succeed(self, fired: Self) -> None:
        self._since = fired._since

    def _state(self) -> dict[str, Any]:
        return {"since": self._since, "new_step": self._new_step}

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._since, self._new_step = state["since"], state["new_step"]

    def _unjudged(self) -> Iterator[tuple[bool, str, str]]:
        yield (
            True,
            "not_watched",
            "a stall can be seen only while the job trains, and the job was not watched then",
        )


def _evidence(step: int, waited: float, allowed: int) -> Evidence:
    return Evidence(ANY_TENSOR, step, waited, threshold=allowed, missed_by=waited - allowed)
