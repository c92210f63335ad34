"""Checks whether the metrics of an XGBoost job are losses."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.lint.subject import Check, Problem, Reason, Subject

_OF_THE_CONTAINER = frozenset(
    {"accuracy", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "f1_micro", "mae", "mse", "precision"}
    | {"precision_macro", "precision_micro", "r2", "recall", "recall_macro", "recall_micro", "rmse"}
)
"""Metrics that SageMaker's container computes. If `eval_metric` has only these, XGBoost adds its default."""
_CHANNELS = ("train", "validation")


def _metrics(subject: Subject) -> tuple[frozenset[str], bool]:
    """XGBoost's metrics that the job's record shows, and whether these are all of them."""
    listed = subject.hyperparameter("eval_metric").strip("[]").split(",")
    given = frozenset(metric.strip(" \"'") for metric in listed) - {""}
    tuned = subject.hyperparameter("_tuning_objective_metric")
    return given, bool(given - _OF_THE_CONTAINER) and not tuned


def _direction_of_metrics(subject: Subject) -> Iterator[Problem]:
    from rules import Collection
    from rules.directions import rises

    rule = subject.rule
    if rule is None or rule.rising_metrics is None or not subject.built_in_algorithm:
        return
    metrics, complete = _metrics(subject)
    names = {*subject.hook.built_in, *subject.hook.configured}
    rule.learn({name: Collection(subject.hook.all_regexes(name)) for name in names})
    read = {
        metric
        for metric in metrics
        for tensor in (f"{channel}-{metric}" for channel in _CHANNELS)
        if rule.wants(tensor) and subject.hook.saves_metric(tensor)
    }
    source = f"eval_metric {', '.join(sorted(metrics))}"
    if rising := sorted(metric for metric in read if rises(f"train-{metric}")):
        effect, fix = rule.rising_metrics
        sentence = f"{', '.join(rising)} should rise; {subject.name} {effect} ({source})"
        yield Problem(Reason.RISING_METRIC, sentence, fix)
    elif complete and not read:
        sentence = f"none of the job's metrics is saved as something that the rule reads ({source})"
        fix = "add a metric that should fall, such as logloss, to eval_metric"
        yield Problem(Reason.NO_TENSOR_MATCHES, sentence, fix)


CHECKS: tuple[Check, ...] = (_direction_of_metrics,)
