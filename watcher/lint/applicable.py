"""Whether the rule can work on this job at all."""

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
    """From the developer guide's page debugger-considerations."""
    strategies = {
        "a parameter server": subject.hyperparameter("sagemaker_parameter_server_enabled").lower() == "true",
        "SageMaker's model parallelism": subject.hyperparameter("mp_parameters") not in ("", "{}"),
    }
    for strategy, used in strategies.items():
        if used:
            sentence = f"the job trains with {strategy}, for which Debugger is not available"
            mend = "train with Horovod or data parallelism, or drop the rule"
            yield Problem(Reason.UNSUPPORTED_DISTRIBUTION, sentence, mend)


def _hook_fails(subject: Subject) -> Iterator[Problem]:
    if fault := subject.hook.fault():
        sentence, mend = fault
        yield Problem(Reason.HOOK_FAILS, f"smdebug refuses the hook's configuration: {sentence}", mend)


_DEEP_LEARNING_ONLY = frozenset(
    {"ExplodingTensor", "VanishingGradient", "WeightUpdateRatio", "DeadRelu", "SaturatedActivation"}
    | {"PoorWeightInitialization", "CheckInputImages", "NLPSequenceRatio"}
)
_XGBOOST_ONLY = frozenset({"FeatureImportanceOverweight", "TreeDepth", "CreateXgboostReport"})


def _wrong_framework(subject: Subject) -> Iterator[Problem]:
    if subject.custom or subject.framework is None:
        return
    xgboost = subject.framework is Framework.XGBOOST
    if subject.name in (_DEEP_LEARNING_ONLY if xgboost else _XGBOOST_ONLY):
        meant = "deep learning" if xgboost else "XGBoost"
        sentence = f"{subject.name} is a rule for {meant}, and the job trains with {subject.framework}"
        yield Problem(Reason.WRONG_FRAMEWORK, sentence, "drop the rule, or take one for this framework")


def _refused_parameters(subject: Subject) -> Iterator[Problem]:
    import rules  # numpy comes with it: only where a job has a rule

    # In place of other_trials, the SDK may send a path for each of them (other_trial_0 …).
    other_trials = subject.name == "SimilarAcrossRuns" and "other_trial_0" in subject.rule.parameters
    if subject.custom or other_trials or subject.name not in rules.RULES:
        return
    try:
        rules.load(subject.name, subject.rule.parameters)
    except rules.RuleError as error:
        yield Problem(Reason.REFUSED_PARAMETERS, str(error), "correct or remove the parameter")


CHECKS: tuple[Check, ...] = (
    _no_hook,
    _unsupported_distribution,
    _hook_fails,
    _wrong_framework,
    _refused_parameters,
)
