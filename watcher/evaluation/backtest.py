"""Runs a rule on what a job has saved, from its first step on, with one set of parameters or with many.

The tensors are read once: each step is shown to the rule with every set of parameters before the next one is
read.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import rules
from rules import Status, Value, Verdict
from watcher.debug_output.event_files import SavedStep, Wanted
from watcher.debug_output.reader import DebugOutput
from watcher.errors import UsageError, install_extra
from watcher.evaluation import feed
from watcher.evaluation.saved_data import SavedData
from watcher.evaluation.steps import JobMetrics

MAX_SWEEP_COMBINATIONS = 200
"""Each is an evaluation of its own, with its own state."""

Parameters = Mapping[str, str]
"""RuleParameters, as SageMaker has them."""
See = Callable[[SavedStep], object]
"""Called with each step that the rule is shown."""
Find = Callable[[str], SavedData]
"""`watcher.evaluation.saved_data.find`, for the other trials that the parameters name."""


def sweep(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All combinations of the values; the last parameter changes fastest. Raises `UsageError`."""
    count = math.prod(map(len, values.values()))
    if count > MAX_SWEEP_COMBINATIONS:
        raise UsageError(f"--sweep makes {count:,} combinations, and {MAX_SWEEP_COMBINATIONS} are the most")
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


class Backtest(ABC):
    """One job, one rule, and the parameter settings to try. `run` may be called once.

    The constructor raises `UsageError` for a rule or parameters that do not exist, before anything is read.
    """

    def __init__(self, saved: SavedData, rule: str, settings: Sequence[Parameters]) -> None:
        """`settings` override the parameters of the job's own rule."""
        self.saved = saved
        own = saved.parameters(rule)
        self.rule = own.get("rule_to_invoke", rule)
        base = {name: text for name, text in own.items() if name not in rules.FOR_THE_SERVICE}
        self.settings = [{**base, **setting} for setting in settings]

    @abstractmethod
    def run(self, see: See, *, whole: bool = False) -> list[Verdict]:
        """A verdict for each of the settings.

        `whole`: whether to read on to the end when the rule has fired in every setting.
        """


def backtest(saved: SavedData, rule: str, settings: Sequence[Parameters], find: Find) -> Backtest:
    """`rule` is a name, or `FILE.py:CLASS` of a custom rule, a subclass of `smdebug.rules.rule.Rule`."""
    file, colon, name = rule.rpartition(":")
    if colon:
        return _CustomRuleBacktest(saved, Path(file), name, settings, find)
    return _RuleBacktest(saved, rule, settings, find)


class _RuleBacktest(Backtest):
    def __init__(self, saved: SavedData, rule: str, settings: Sequence[Parameters], find: Find) -> None:
        super().__init__(saved, rule, settings)
        try:
            self._rules = [rules.load(self.rule, setting) for setting in self.settings]
        except rules.RuleError as error:
            raise UsageError(str(error)) from error
        except Exception as error:  # another distribution's code: it may raise anything
            raise UsageError(f"{self.rule} cannot be used: {type(error).__name__}: {error}") from error
        if isinstance(saved.output, JobMetrics) and not rules.find(self.rule).judges_metrics:
            raise UsageError(
                f"{self.rule} needs tensors, and {saved.name} saves none; on its metrics there are "
                f"{', '.join(_judging_metrics())}"
            )
        names = {each.other_trial for each in self._rules if each.compares_runs}
        self._others = {name: _OtherTrial(find(name).tensors, self._wanted) for name in names}

    def run(self, see: See, *, whole: bool = False) -> list[Verdict]:
        if (collections := self.saved.collections()) is not None:
            for rule in self._rules:
                rule.learn(collections)
        fired: dict[int, Verdict] = {}
        for saved in feed.for_rules(self.saved.read(self._wanted)):
            see(saved)
            for number, rule in enumerate(self._rules):
                if number not in fired and (verdict := self._observe(rule, saved)):
                    fired[number] = verdict
            if len(fired) == len(self._rules) and not whole:
                break
        return [
            self._noted(rule, fired.get(number) or rule.verdict(ended=self.saved.ended))
            for number, rule in enumerate(self._rules)
        ]

    def _noted(self, rule: rules.Rule, verdict: Verdict) -> Verdict:
        note = self.saved.note(rule)
        return replace(verdict, notes=(*verdict.notes, note)) if note else verdict

    def _observe(self, rule: rules.Rule, saved: SavedStep) -> Verdict | None:
        if rule.compares_runs:
            other = self._others[rule.other_trial].at(saved.step)
            if other is not None:
                rule.compare_with(saved.step, other)
        return feed.observe(rule, saved)

    def _wanted(self, tensor: str) -> bool:
        return any(rule.wants(tensor) for rule in self._rules)


def _judging_metrics() -> list[str]:
    return [name for name in rules.names() if (rule := rules.find_or_none(name)) and rule.judges_metrics]


class _OtherTrial:
    """The tensors of the job to compare with, read along with the job's own."""

    def __init__(self, output: DebugOutput, wanted: Wanted) -> None:
        self._output, self._wanted = output, wanted
        self._steps: Iterator[SavedStep] | None = None
        self._next: SavedStep | None = None

    def at(self, step: int) -> Mapping[str, Value] | None:
        """None if it did not save the step. Must be called with ascending steps."""
        if self._steps is None:
            self._steps = feed.for_rules(self._output.steps(wanted=self._wanted))
            self._next = next(self._steps, None)
        while self._next and self._next.step < step:
            self._next = next(self._steps, None)
        return self._next.tensors if self._next and self._next.step == step else None


class _CustomRuleBacktest(Backtest):
    """Reads the tensors again for each setting, because a custom rule fetches the values that it needs
    itself."""

    def __init__(
        self, saved: SavedData, file: Path, name: str, settings: Sequence[Parameters], find: Find
    ) -> None:
        super().__init__(saved, name, settings)
        try:
            from watcher.evaluation import custom_rule
        except ModuleNotFoundError as error:
            if error.name != "smdebug":
                raise
            raise UsageError(
                f"smdebug is missing, which custom rules need; {install_extra('sandbox')}"
            ) from error
        try:
            self._class = custom_rule.load(name, file)
        except rules.RuleError as error:
            raise UsageError(str(error)) from error
        try:
            self._evaluations = [
                custom_rule.CustomRule(self._class, setting, saved.tensors, _other_trials(setting, find))
                for setting in self.settings
            ]
        except rules.ParameterError as error:
            raise UsageError(str(error)) from error

    def run(self, see: See, *, whole: bool = False) -> list[Verdict]:  # noqa: ARG002
        return [
            evaluation.look(ended=self.saved.ended) or Verdict(Status.IN_PROGRESS)
            for evaluation in self._evaluations
        ]


def _other_trials(setting: Parameters, find: Find) -> list[DebugOutput]:
    """The trials that `other_trials` names, and those that Debugger passes as the RuleParameters
    `other_trial_0`, `other_trial_1` and so on, in the order of their numbers."""
    listed = [name.strip() for name in setting.get("other_trials", "").split(",")]
    numbered = sorted((int(key.removeprefix(_OTHER)), key) for key in setting if _OTHER_TRIAL.fullmatch(key))
    named = [*filter(None, listed), *(setting[key] for _, key in numbered)]
    return [find(name).tensors for name in named]


_OTHER = "other_trial_"
_OTHER_TRIAL = re.compile(rf"{_OTHER}[0-9]+")


# -- as documents ---------------------------------------------------------------------------------


def evaluation(run: Backtest, verdict: Verdict) -> dict[str, Any]:
    """What `watcher evaluate --json` prints for a single setting."""
    return {
        "rule": run.rule,
        "parameters": run.settings[0],
        "verdict": verdict.status,
        "reason": verdict.reason,
        "step": verdict.step,
        "steps_checked": verdict.steps_checked,
        "tensors": list(verdict.tensors),
        "evidence": [asdict(row) for row in verdict.evidence],
    }


def row(saved: SavedData, setting: Parameters, verdict: Verdict) -> dict[str, Any]:
    """A row of `watcher evaluate --sweep --json`. `step` is where the rule fired."""
    return {
        "job": saved.name,
        "parameters": setting,
        "verdict": verdict.status,
        "reason": verdict.reason,
        "step": verdict.step if verdict.status is Status.ISSUES_FOUND else None,
    }
