"""Evaluates an unmodified custom rule, a subclass of `smdebug.rules.rule.Rule` as `Rule.custom` jobs use
them, on what a job has saved.

    rule = CustomRule(load("CustomGradientRule", Path("my_rule.py")), {"threshold": "20"}, output)
    while not (verdict := rule.look(ended=has_ended())):
        …

The rule is invoked at each saved step in turn, as by smdebug's `invoke_rule`, and never waits:

- It is made when the first step is there, and sees all that is saved, also in its `__init__`.
- Only steps from the parameter `start_step` on and before `end_step` are judged. Debugger's container takes
  both, so a rule gets them only if it has parameters of these names.
- It ends when it fires, when it asks for a step beyond the job's end (`NoMoreData`), and with any other error
  of its own. A step, or a tensor of a step, that was not saved is passed over.
- What it prints goes to stderr: stdout is for the verdict.

Its state cannot be saved, so after a restart a new evaluation begins with the job's first step.

Importing this module imports smdebug, which the extra `sandbox` installs.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from rules import RuleError, Status, Verdict
from rules.parameters import FOR_EVERY_RULE, step_range
from watcher.debug_output.reader import DebugOutput
from watcher.evaluation.trial import SavedTrial

with redirect_stdout(sys.stderr):  # as in watcher.evaluation.trial
    from smdebug.exceptions import (
        NoMoreData,
        RuleEvaluationConditionMet,
        StepNotYetAvailable,
        StepUnavailable,
        TensorUnavailable,
        TensorUnavailableForStep,
    )
    from smdebug.rules.rule import Rule

ENTRY_POINTS = "debugger_watcher.custom_rules"
"""The group of entry points by which an installed distribution offers custom rules, by `rule_to_invoke`."""

_FOR_THE_SERVICE = re.compile(
    r"rule_to_invoke|source_s3_uri|base_trial|action_json|other_trials|other_trial_\d+"
)
"""RuleParameters for SageMaker. The rule gets all others."""

# AWS's examples, and rules based on them, call `super().__init__(base_trial)`. That works in Debugger's
# container, but release 1.0.34 requires the second argument, an action.
Rule.__init__.__defaults__ = ("", None)


def load(name: str, source: Path | None = None) -> type[Rule]:
    """The custom rule of that name in the Python file `source`, or of an installed distribution.

    Raises `rules.RuleError`.
    """
    if source is None:
        entries = entry_points(group=ENTRY_POINTS)
        if name not in entries.names:
            offered = ", ".join(sorted(entries.names)) or "none"
            raise RuleError(f"no installed distribution offers a custom rule {name!r}; there are: {offered}")
        with redirect_stdout(sys.stderr):
            found = entries[name].load()
        if not _is_rule(found):
            raise RuleError(f"{entries[name].value} is not a subclass of smdebug.rules.rule.Rule")
        return found  # type: ignore[no-any-return]
    rules_in_file: dict[str, type[Rule]] = {
        key: thing for key, thing in vars(_module(source)).items() if _is_rule(thing)
    }
    if name not in rules_in_file:
        offered = ", ".join(sorted(rules_in_file)) or "none"
        raise RuleError(f"{source} has no rule {name!r}; there are: {offered}")
    return rules_in_file[name]


def _module(source: Path) -> Any:
    # The file may have the name of a module that is in use, such as rules.py.
    name = f"watcher_custom_rules.{source.stem}"
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise RuleError(f"{source} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # As the import system does: dataclasses with postponed annotations look their module up.
    sys.modules[spec.name] = module
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise RuleError(f"{source} could not be imported: {_described(error)}") from error
    return module


def _is_rule(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Rule) and thing is not Rule


class CustomRule:
    """One evaluation. A new evaluation needs a new object."""

    def __init__(
        self,
        rule: type[Rule],
        parameters: Mapping[str, str],
        output: DebugOutput,
        other_trials: Sequence[DebugOutput] = (),
    ) -> None:
        """`parameters` are RuleParameters, as a job has them. `other_trials` are those that the parameters
        `other_trial_0` … name; their jobs have ended.

        Raises `rules.ParameterError` for a `start_step` or `end_step` that is none.
        """
        self._class = rule
        self._range = step_range(parameters, rule.__name__)
        own = inspect.signature(rule.__init__).parameters
        self._parameters = {
            key: text
            for key, text in parameters.items()
            if not _FOR_THE_SERVICE.fullmatch(key) and (key not in FOR_EVERY_RULE or key in own)
        }
        self._trial = SavedTrial(output)
        self._other_trials = [SavedTrial(other) for other in other_trials]
        self._rule: Rule | None = None
        self._due: deque[int] = deque()
        """The steps at which the rule is still to be invoked. At the first of them, it needs a later step."""
        self._newest: int | None = None
        self._checked = 0
        self._unchecked = ""
        """The error at the last step that the rule could not judge."""
        self._verdict: Verdict | None = None

    def look(self, *, ended: bool = False) -> Verdict | None:
        """Evaluate what was saved since the last look. A verdict is final: the rule fired or failed, or the
        job has `ended`."""
        if self._verdict is None:
            try:
                with redirect_stdout(sys.stderr):
                    self._verdict = self._look(ended)
            except _RuleFailed as failed:
                self._verdict = self._final(Status.ERROR, "rule_failed", str(failed))
        return self._verdict

    def _look(self, ended: bool) -> Verdict | None:
        if self._trial.begun():
            for step in self._trial.follow(ended=ended):
                self._newest = step
                if step in self._range:
                    self._due.append(step)
            if self._newest is not None:
                self._rule = self._rule or self._construct()
                if verdict := self._invoke(self._rule):
                    return verdict
        if not ended:
            return None
        if self._checked:
            return self._final(Status.NO_ISSUES_FOUND)
        if self._newest is None:
            return self._final(Status.NOT_EVALUATED, "nothing_saved", "the job saved no step")
        if not self._unchecked:
            return self._final(Status.NOT_EVALUATED, "no_step_in_range", f"no step {self._range} was saved")
        return self._final(Status.NOT_EVALUATED, "no_tensor_matches", self._unchecked)

    def _construct(self) -> Rule:
        arguments: dict[str, Any] = dict(self._parameters)
        for other in self._other_trials:
            other.begun()
            for _ in other.follow(ended=True):
                pass
        if self._other_trials:
            arguments["other_trials"] = self._other_trials
        try:
            return self._class(self._trial, **arguments)
        except (Exception, SystemExit) as error:
            raise _RuleFailed(f"it could not be made with these parameters: {_described(error)}") from error

    def _invoke(self, rule: Rule) -> Verdict | None:
        """smdebug's `invoke_rule`, up to the first step at which it would wait."""
        while self._due:
            step = self._due[0]
            try:
                rule.invoke(step)
            except StepNotYetAvailable:
                return None
            except RuleEvaluationConditionMet as met:
                self._checked += 1
                return self._final(Status.ISSUES_FOUND, "condition_met", str(met), step)
            except (TensorUnavailable, TensorUnavailableForStep, StepUnavailable) as error:
                self._unchecked = str(error)
            except NoMoreData as error:  # which ends smdebug's `invoke_rule`
                self._unchecked = str(error)
                self._due.clear()
                return None
            except (Exception, SystemExit) as error:
                raise _RuleFailed(f"at step {step}: {_described(error)}") from error
            else:
                self._checked += 1
            self._due.popleft()
        return None

    def _final(
        self, status: Status, reason: str = "", explanation: str = "", step: int | None = None
    ) -> Verdict:
        return Verdict(
            status,
            reason=reason,
            explanation=explanation,
            step=self._newest if step is None else step,
            steps_checked=self._checked,
        )


class _RuleFailed(Exception):
    """The rule raised an error of its own; the message says which."""


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
