"""The rules for XGBoost on the output of smdebug's own hook: its names, shapes, types and collections."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import xgboost

from rules.base import Rule, Status, Step, Verdict
from rules.class_imbalance import ClassImbalance
from rules.confusion import Confusion
from rules.feature_importance_overweight import FeatureImportanceOverweight
from rules.selection import Collection
from rules.tree_depth import TreeDepth
from tests.rules.replay import Saved, run
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder
from watcher.debug_output.tfevents import decode
from watcher.sandbox.containers.xgboost_hook import create_hook
from watcher.sandbox.containers.xgboost_report import page

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_SixMetaPathImporter:ImportWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

ROUNDS = 4
COLLECTIONS = ("labels", "predictions", "trees", "feature_importance")


class Trial(NamedTuple):
    folder: Path
    saved: Saved
    collections: Mapping[str, Collection]

    def judge(self, rule: type[Rule], **parameters: str) -> Verdict:
        evaluation = rule(parameters)
        evaluation.learn(self.collections)
        return run(evaluation, self.saved)


def train(folder: Path, classes: int, objective: str) -> Trial:
    """Each class is a corner of the first two features; the other features are noise. Class 0 occurs three
    times as often as any other."""
    random = np.random.default_rng(0)
    labels = np.concatenate([np.arange(classes), np.zeros(2, int)]).repeat(50)
    features = random.normal(size=(len(labels), 5)) * 0.1
    features[:, 0] += labels % 2
    features[:, 1] += labels // 2
    data = xgboost.DMatrix(features, labels)
    every_round = {"CollectionParameters": {"save_interval": "1"}}
    collections = [{"CollectionName": name, **every_round} for name in COLLECTIONS]
    job = {
        "TrainingJobName": "trial",
        "DebugHookConfig": {"S3OutputPath": str(folder), "CollectionConfigurations": collections},
    }
    parameters = {"objective": objective, "max_depth": 2, "eta": 1.0, "nthread": 1}
    if classes > 2:
        parameters["num_class"] = classes
    xgboost.train(parameters, data, ROUNDS, callbacks=[create_hook(job, folder, data, data)])
    events = [decode(file.read_bytes()) for file in sorted(folder.rglob("*.tfevents"))]
    (file,) = folder.rglob("worker_0_collections.json")
    return Trial(
        folder,
        [(Step(tensors[0].step), {tensor.name: tensor.value for tensor in tensors}) for tensors in events],
        {
            name: Collection(tuple(found["include_regex"]), frozenset(found["tensor_names"]))
            for name, found in json.loads(file.read_text())["collections"].items()
        },
    )


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trial]:
    trained: dict[str, Trial] = {}

    def trial(objective: str) -> Trial:
        if objective not in trained:
            classes = 4 if objective.startswith("multi:") else 2
            trained[objective] = train(tmp_path_factory.mktemp("trial"), classes, objective)
        return trained[objective]

    return trial


OBJECTIVES = ["binary:logistic", "multi:softmax", "multi:softprob"]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_correct_model_confuses_no_class(trial: Callable[[str], Trial], objective: str) -> None:
    verdict = trial(objective).judge(Confusion)
    assert (verdict.status, verdict.steps_checked) == (Status.NO_ISSUES_FOUND, ROUNDS)
    assert (verdict.tensors, verdict.notes) == (("labels", "predictions"), ())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_with_awss_formula_even_a_correct_model_falls_below_the_default(
    trial: Callable[[str], Trial], objective: str
) -> None:
    verdict = trial(objective).judge(Confusion, formula="aws")
    assert (verdict.reason, verdict.step) == ("diagonal", 0)
    assert max(row.value for row in verdict.evidence) <= 0.75


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_classes_are_counted_and_their_predictions_are_judged(
    trial: Callable[[str], Trial], objective: str
) -> None:
    argmax = str(objective == "multi:softprob")
    verdict = trial(objective).judge(ClassImbalance, argmax=argmax)
    assert (verdict.status, verdict.notes) == (Status.NO_ISSUES_FOUND, ())
    assert verdict.steps_checked >= 2
    (row,) = trial(objective).judge(ClassImbalance, argmax=argmax, threshold_imbalance="2.5").evidence
    assert (row.tensor, row.value) == ("labels", 3)


def test_without_argmax_vectors_are_not_judged_and_the_note_says_how_to_judge_them(
    trial: Callable[[str], Trial],
) -> None:
    verdict = trial("multi:softprob").judge(ClassImbalance)
    assert "argmax=True" in verdict.notes[0]


def test_the_report_names_the_most_important_features_first(trial: Callable[[str], Trial]) -> None:
    [debug_output] = (index.parent for index in trial("binary:logistic").folder.rglob("events"))

    text = page("trial <1>", DebugOutput(Folder(debug_output)))

    assert "XGBoost report of trial &lt;1&gt;" in text
    [gains] = re.findall(r"<th>gain</th></tr>(.*?)</table>", text, re.DOTALL)
    assert re.findall(r"<td>(\w+)</td>", gains)[0] == "f0"
    assert "The job saved no metrics." in text


def test_the_two_informative_features_are_overweight(trial: Callable[[str], Trial]) -> None:
    of = trial("multi:softprob")
    verdict = of.judge(FeatureImportanceOverweight, nfeatures="2", tensor_regex="/total_gain/")
    assert (verdict.reason, verdict.evidence[0].tensor) == ("overweight", "feature_importance/total_gain")
    assert "(f1, f0)" in verdict.explanation or "(f0, f1)" in verdict.explanation
    every = of.judge(FeatureImportanceOverweight, nfeatures="5", tensor_regex="feature_importance/")
    assert {row.tensor: round(row.value, 9) for row in every.evidence} == {
        f"feature_importance/{kind}": 1 for kind in ("weight", "gain", "cover", "total_gain", "total_cover")
    }


def test_the_depth_of_a_full_tree_is_exactly_that_of_the_training(trial: Callable[[str], Trial]) -> None:
    of = trial("multi:softprob")
    full = [tensors["trees/Node"].size for _, tensors in of.saved].index(7)
    verdict = of.judge(TreeDepth, depth="1")
    assert (verdict.status, verdict.evidence[0].value) == (Status.ISSUES_FOUND, 2)
    assert verdict.step is not None
    assert verdict.step <= full
    assert of.judge(TreeDepth, depth="2").status is Status.NO_ISSUES_FOUND
