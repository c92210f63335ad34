"""Whether the metrics of an XGBoost job are losses."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.lint.subject import Check, Problem, Reason, Subject

_ON_LOSSES = {
    "LossNotDecreasing": "fires when it does not fall",
    "Overfit": "takes a better validation value for a worse one",
    "Overtraining": "takes its first value for the best",
}
"""What a rule makes of a metric that should rise."""

_OF_THE_CONTAINER = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "f1_micro", "mae", "mse", "precision"}
    | {"precision_macro", "precision_micro", "r2", "recall", "recall_macro", "recall_micro", "rmse"}
)
"""Metrics that SageMaker's container computes; XGBoost adds its default one where it has no other."""
_CHANNELS = ("train", "validation")


def _metrics(subject: Subject) -> tuple[frozenset[str], bool]:
    """XGBoost's metrics as far as the record tells, and whether those are all."""
    listed = subject.hyperparameter("eval_metric").strip("[]").split(",")
    given = frozenset(metric.strip(" \"'") for metric in listed) - {""}
    tuned = subject.hyperparameter("_tuning_objective_metric")
    return given, bool(given - _OF_THE_CONTAINER) and not tuned


def _direction_of_metrics(subject: Subject) -> Iterator[Problem]:
    import rules
    from rules.losses import rises

    if not subject.built_in_algorithm or subject.name not in _ON_LOSSES or subject.name not in rules.RULES:
        return
    metrics, complete = _metrics(subject)
    rule = rules.load(subject.name, subject.rule.parameters)
    names = {*subject.hook.built_in, *subject.hook.configured}
    rule.learn({name: rules.Collection(subject.hook.all_regexes(name)) for name in names})
    read = {
        metric
        for metric in metrics
        for tensor in (f"{channel}-{metric}" for channel in _CHANNELS)
        if rule.wants(tensor) and subject.hook.saves_metric(tensor)
    }
    told = f"eval_metric {', '.join(sorted(metrics))}"
    if rising := sorted(metric for metric in read if rises(f"train-{metric}")):
        sentence = f"{', '.join(rising)} should rise; {subject.name} {_ON_LOSSES[subject.name]} ({told})"
        mend = "let the rule read a metric that should fall, such as logloss, rmse or error"
        if subject.name == "LossNotDecreasing":
            mend += ': "tensor_regex": "-logloss$", "use_losses_collection": "False"'
        yield Problem(Reason.RISING_METRIC, sentence, mend)
    elif complete and not read:
        sentence = f"none of the job's metrics is saved as something that the rule reads ({told})"
        mend = "add a metric that should fall, such as logloss, to eval_metric"
        yield Problem(Reason.NO_TENSOR_MATCHES, sentence, mend)


CHECKS: tuple[Check, ...] = (_direction_of_metrics,)
