"""The rules that compare values, on the output of smdebug's own hook in XGBoost trainings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import pytest

from rules import Mode, Rule, Status, Step, Verdict
from rules.all_zero import AllZero
from rules.overfit import Overfit
from rules.overtraining import Overtraining
from rules.similar_across_runs import SimilarAcrossRuns
from rules.tensor_variance import TensorVariance
from rules.unchanged_tensor import UnchangedTensor
from watcher.debug_output.event_files import SavedStep
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder

Trials = Mapping[str, DebugOutput]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """A training that overfits, a repetition of it, and one with smaller steps."""
    folder = tmp_path_factory.mktemp("trials")
    subprocess.run(
        [sys.executable, "-m", "tests.doubles.xgboost_trials", str(folder)], check=True, timeout=120
    )
    return {
        path.name: DebugOutput(Folder(path / "debug-output")) for path in folder.iterdir() if path.is_dir()
    }


def steps(trial: DebugOutput, wants: Callable[[str], bool]) -> Iterator[SavedStep]:
    for step in trial.steps(wanted=wants):
        assert isinstance(step, SavedStep)
        yield step


def run(rule: Rule, trial: DebugOutput) -> Verdict:
    collections = trial.collections()
    assert collections is not None
    rule.learn(collections.by_name)
    for saved in steps(trial, rule.wants):
        if verdict := rule.observe(Step(saved.step, Mode(saved.mode), saved.mode_step), saved.tensors):
            return verdict
    return rule.verdict(ended=True)


def compare(trial: DebugOutput, other: DebugOutput, **parameters: str) -> Verdict:
    rule = SimilarAcrossRuns({"other_trials": "other", **parameters})
    collections = trial.collections()
    assert collections is not None
    rule.learn(collections.by_name)
    for ours, theirs in zip(steps(trial, rule.wants), steps(other, rule.wants), strict=True):
        rule.compare_with(theirs.step, theirs.tensors)
        if verdict := rule.observe(Step(ours.step), ours.tensors):
            return verdict
    return rule.verdict(ended=True)


def test_overfit_pairs_the_metrics_of_the_two_channels_and_leaves_out_auc(trials: Trials) -> None:
    verdict = run(Overfit({"patience": "3"}), trials["first"])
    assert (verdict.status, verdict.reason) == (Status.ISSUES_FOUND, "overfit")
    assert verdict.tensors == ("train-logloss", "validation-logloss")


def test_overtraining_fires_when_validation_worsens_while_training_improves(trials: Trials) -> None:
    verdict = run(Overtraining({"delta": "0.001"}), trials["first"])
    assert (verdict.status, verdict.evidence[0].tensor) == (Status.ISSUES_FOUND, "validation-logloss")
    assert verdict.explanation.endswith("the training loss still falls")


def test_labels_are_unchanged_and_predictions_are_not(trials: Trials) -> None:
    assert run(UnchangedTensor({"collection_names": "labels"}), trials["first"]).step == 4
    predictions = run(UnchangedTensor({"collection_names": "predictions"}), trials["first"])
    assert (predictions.status, predictions.steps_checked) == (Status.NO_ISSUES_FOUND, 18)


def test_the_text_of_a_tree_is_left_out_and_the_first_trees_number_is_all_zero(trials: Trials) -> None:
    verdict = run(AllZero({"collection_names": "trees"}), trials["first"])
    assert (verdict.status, verdict.step) == (Status.ISSUES_FOUND, 0)
    assert [row.tensor for row in verdict.evidence] == ["trees/Tree"]
    assert verdict.notes == (
        "left out, because they hold no numbers: trees/Category, trees/Feature, trees/ID, trees/Missing, "
        "trees/No, trees/Yes",
    )


def test_the_variance_of_predictions_grows_with_training_and_metrics_have_none(trials: Trials) -> None:
    parameters = {"collection_names": "predictions,metrics", "max_threshold": "0.1"}
    verdict = run(TensorVariance(parameters), trials["first"])
    assert [row.tensor for row in verdict.evidence] == ["predictions"]
    assert verdict.step is not None
    assert verdict.step > 0
    metrics = run(TensorVariance({"collection_names": "metrics", "max_threshold": "0"}), trials["first"])
    assert (metrics.status, metrics.reason) == (Status.NOT_EVALUATED, "no_variance")


def test_a_repeated_training_does_not_differ_and_another_one_does_but_not_in_its_labels(
    trials: Trials,
) -> None:
    again = compare(trials["first"], trials["again"], collection_names="metrics")
    assert again.status is Status.NO_ISSUES_FOUND
    assert again.tensors == ("train-auc", "train-logloss", "validation-auc", "validation-logloss")
    careful = compare(trials["first"], trials["careful"], collection_names="labels,predictions")
    assert (careful.status, careful.step) == (Status.ISSUES_FOUND, 0)
    assert [row.tensor for row in careful.evidence] == ["predictions"]
    labels = compare(trials["first"], trials["careful"], collection_names="labels")
    assert labels.status is Status.NO_ISSUES_FOUND
