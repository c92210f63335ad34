"""Runs a profiler rule on all that is known of how a job uses its instances.

With one set of parameters, or with many: the data are read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import rules
from rules import Status, profiler
from rules.profiler import Verdict
from watcher.errors import UsageError
from watcher.evaluation.profile import Found
from watcher.profiler_output.reader import UnreadableFile

Parameters = Mapping[str, str]
"""RuleParameters, as SageMaker has them."""


class ProfileBacktest:
    """One job, one profiler rule, and the parameter settings to try. `run` may be called once."""

    def __init__(self, found: Found, rule: str, settings: Sequence[Parameters]) -> None:
        """`settings` override the parameters of the job's own rule. Raises `UsageError` for a rule or
        parameters that do not exist, before anything is read."""
        self.found = found
        try:
            self.rule = profiler.find(rule).name
            self.settings = [{**_own_parameters(found, self.rule), **setting} for setting in settings]
            self._rules = [profiler.load(self.rule, setting, found.source) for setting in self.settings]
        except rules.RuleError as error:
            raise UsageError(str(error)) from error

    def run(self, progress: Callable[[float], object], unreadable: Callable[[str], object]) -> list[Verdict]:
        """A verdict for each of the settings. `progress` is called with the time (seconds since the epoch) up
        to which the data were read, `unreadable` with why a file was left out. Raises `WatcherError`."""
        fired: dict[int, Verdict] = {}
        for one in self.found.read():
            if isinstance(one, UnreadableFile):
                unreadable(one.reason)
                continue
            for number, rule in enumerate(self._rules):
                if number not in fired and (verdict := rule.observe(one)):
                    fired[number] = verdict
            progress(one.until)
            if len(fired) == len(self._rules):
                break
        ended = self.found.ended
        return [fired.get(number) or rule.verdict(ended=ended) for number, rule in enumerate(self._rules)]


def _own_parameters(found: Found, rule: str) -> dict[str, str]:
    """Those of the job's own rule."""
    if rule != profiler.ProfilerReport.name:
        return dict(found.parameters.get(rule, {}))
    return {
        f"{part}_{name}": text for part, texts in found.parameters.items() for name, text in texts.items()
    }


# -- as documents ---------------------------------------------------------------------------------


def evaluation(run: ProfileBacktest, verdict: Verdict) -> dict[str, Any]:
    """What `watcher evaluate --json` prints for a single setting, with the keys of a rule on tensors. A
    metric in the place of a tensor has no steps, and `steps_checked` counts its values."""
    measures = dict.fromkeys(one.measure for one in verdict.evidence)
    return {
        "rule": run.rule,
        "parameters": run.settings[0],
        "verdict": verdict.status,
        "reason": verdict.reason,
        "step": None,
        "steps_checked": verdict.values_checked,
        "tensors": list(measures),
        "evidence": [{"tensor": one.measure, "step": None, **_evidence(one)} for one in verdict.evidence],
    }


def _evidence(evidence: profiler.Evidence) -> dict[str, Any]:
    return {name: value for name, value in asdict(evidence).items() if name != "measure"}


def row(run: ProfileBacktest, setting: Parameters, verdict: Verdict) -> dict[str, Any]:
    """A row of `watcher evaluate --sweep --json`. `at` is when the rule fired, in seconds since the epoch."""
    return {
        "job": run.found.name,
        "parameters": setting,
        "verdict": verdict.status,
        "reason": verdict.reason,
        "step": None,
        "at": verdict.at if verdict.status is Status.ISSUES_FOUND else None,
    }
