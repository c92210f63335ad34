"""Checks whether the rule can work on this job at all."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.lint.hook import Framework
from watcher.lint.subject import Check, Problem, Reason, Subject


def _no_hook(subject: Subject) -> Iterator[Problem]:
    if subject.job.hook is None:
        sentence = "the job has no DebugHookConfig: no tensor is saved, and the rule has nothing to read"
        yield Problem(
            Reason.NO_HOOK, sentence, "add a DebugHookConfig with the collections that the rule reads"
        )


def _unsupported_distribution(subject: Subject) -> Iterator[Problem]:
    """As on the developer guide's page debugger-considerations."""
    strategies = {
        "a parameter server": subject.hyperparameter("sagemaker_parameter_server_enabled").lower() == "true",
        "SageMaker's model parallelism": subject.hyperparameter("mp_parameters") not in ("", "{}"),
    }
    for strategy, used in strategies.items():
        if used:
            sentence = f"the job trains with {strategy}, for which Debugger is not available"
            fix = "train with Horovod or data parallelism, or drop the rule"
            yield Problem(Reason.UNSUPPORTED_DISTRIBUTION, sentence, fix)


def _hook_fails(subject: Subject) -> Iterator[Problem]:
    if fault := subject.hook.fault(filled_by_code=not subject.built_in_algorithm):
        sentence, fix = fault
        yield Problem(Reason.HOOK_FAILS, f"smdebug refuses the hook's configuration: {sentence}", fix)


def _wrong_framework(subject: Subject) -> Iterator[Problem]:
    if subject.custom or subject.framework is None:
        return
    if subject.name in _XGBOOST_REPORTS:
        meant, suits = str(Framework.XGBOOST), subject.framework is Framework.XGBOOST
    else:
        kind = subject.rule_class and subject.rule_class.model_kind
        meant, suits = str(kind), kind in (None, subject.model_kind)
    if not suits:
        sentence = f"{subject.name} is a rule for {meant}, and the job trains with {subject.framework}"
        yield Problem(Reason.WRONG_FRAMEWORK, sentence, "drop the rule, or use one for this framework")


_XGBOOST_REPORTS = frozenset({"CreateXgboostReport"})
"""Rules of Debugger that make a report for XGBoost. They judge nothing, so they are not in `rules`."""


def _refused_parameters(subject: Subject) -> Iterator[Problem]:
    if subject.rule_class is None:
        return
    # The SDK may send a path for each other trial (other_trial_0 …) instead of the names in other_trials.
    if subject.rule_class.compares_runs and "other_trial_0" in subject.configuration.parameters:
        return
    if isinstance(subject.loaded, str):
        yield Problem(Reason.REFUSED_PARAMETERS, subject.loaded, "correct or remove the parameter")


CHECKS: tuple[Check, ...] = (
    _no_hook,
    _unsupported_distribution,
    _hook_fails,
    _wrong_framework,
    _refused_parameters,
)
