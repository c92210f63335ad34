"""Whether any tensor can pass the thresholds, or every one does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from watcher.lint.hook import saved_by_any
from watcher.lint.subject import Check, Problem, Reason, Subject


class _Bound(NamedTuple):
    rule: str
    parameter: str
    hopeless: Callable[[float], bool]
    reason: Reason
    because: str
    mend: str


_BOUNDS = (
    _Bound("VanishingGradient", "threshold", lambda least: least >= 1, Reason.ALWAYS_FIRES,
           "the mean absolute gradient of nearly every model is smaller",
           "leave threshold out (Debugger's default is 0.0000001)"),
    _Bound("AllZero", "threshold", lambda percent: percent <= 0, Reason.ALWAYS_FIRES,
           "of every tensor at least 0 % are zeros", "set threshold to a percentage above 0"),
    _Bound("ClassImbalance", "threshold_imbalance", lambda ratio: ratio < 1, Reason.ALWAYS_FIRES,
           "the largest class is never smaller than the smallest", "set a ratio above 1"),
    _Bound("FeatureImportanceOverweight", "threshold", lambda share: share >= 1, Reason.NEVER_FIRES,
           "the importances of all features make up 1, and no more", "set a share below 1"),
    _Bound("DeadRelu", "threshold_layer", lambda percent: percent >= 100, Reason.NEVER_FIRES,
           "no more than all units of a layer can be dead", "set a percentage below 100"),
    _Bound("DeadRelu", "threshold_inactivity", lambda percent: percent <= 0, Reason.NEVER_FIRES,
           "no unit is active less often than never", "set a percentage above 0"),
    _Bound("SaturatedActivation", "threshold_layer", lambda percent: percent >= 100, Reason.NEVER_FIRES,
           "no more than all nodes of a layer can be saturated", "set a percentage below 100"),
)  # fmt: skip
"""Thresholds that a rule accepts, and that no tensor can pass, or every one. No default is among them."""


def _hopeless_threshold(subject: Subject) -> Iterator[Problem]:
    for bound in _BOUNDS:
        if bound.rule == subject.name and bound.hopeless(value := subject.number(bound.parameter)):
            yield Problem(bound.reason, f"{bound.parameter} is {value:g}: {bound.because}", bound.mend)


def _variance_without_bounds(subject: Subject) -> Iterator[Problem]:
    if subject.name != "TensorVariance":
        return
    if not subject.text("max_threshold") and not subject.text("min_threshold"):
        sentence = "neither max_threshold nor min_threshold is set: no variance is wrong"
        yield Problem(Reason.NEVER_FIRES, sentence, "set max_threshold, min_threshold, or both")
    most, least = subject.number("max_threshold"), subject.number("min_threshold")
    if least > most:
        sentence = f"min_threshold {least:g} is above max_threshold {most:g}: every variance is outside"
        yield Problem(Reason.ALWAYS_FIRES, sentence, "set min_threshold below max_threshold")


_MAX_DEPTH = 6
"""XGBoost's own default of `max_depth`."""


def _deepest(subject: Subject) -> int:
    """How deep a tree of SageMaker's XGBoost may grow; 0 where that is not known, or has no limit."""
    if not subject.built_in_algorithm or subject.hyperparameter("booster") == "gblinear":
        return 0
    return subject.count("max_depth") if "max_depth" in subject.job.hyperparameters else _MAX_DEPTH


def _depth_of_trees(subject: Subject) -> Iterator[Problem]:
    """A tree of depth d has node ids below 2^(d+1): in AWS's reading of depth, too, it stays below d + 1."""
    if subject.name != "TreeDepth":
        return
    allowed, deepest = subject.number("depth"), _deepest(subject)
    if deepest and allowed >= deepest + 1:
        sentence = f"depth is {allowed:g}, and max_depth lets no tree grow deeper than {deepest}"
        yield Problem(Reason.NEVER_FIRES, sentence, f"set depth below {deepest}")


def _features_of_small_trees(subject: Subject) -> Iterator[Problem]:
    """A few small trees cannot use more features than they have splits."""
    if subject.name != "FeatureImportanceOverweight" or subject.text("tensor_regex"):
        return
    deepest, counted = _deepest(subject), subject.number("nfeatures")
    first = next(saved_by_any(subject.schedules, 1_000_000), None)
    if first is None or not 0 < deepest < 32 or subject.number("threshold") >= 1:
        return
    trees = (first + 1) * max(subject.count("num_class"), 1) * max(subject.count("num_parallel_tree"), 1)
    splits = trees * (2**deepest - 1)
    if splits <= counted:
        sentence = (
            f"at the first saved step, {first}, the model has at most {splits} splits (max_depth {deepest}): "
            f"no more features than nfeatures, {counted:g}, which therefore make up everything"
        )
        mend = 'set nfeatures lower, or "start_step" in the parameters of the collection feature_importance'
        yield Problem(Reason.ALWAYS_FIRES, sentence, mend)


CHECKS: tuple[Check, ...] = (
    _hopeless_threshold,
    _variance_without_bounds,
    _depth_of_trees,
    _features_of_small_trees,
)
