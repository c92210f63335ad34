"""The catalogue of rules."""

from __future__ import annotations

from pathlib import Path

import pytest

import rules

THIRD_PARTY = """
from rules import Breach, Evidence, Rule

class AlwaysFires(Rule):
    name = "AlwaysFires"
    def __init__(self, parameters): super().__init__(parameters)
    def _judge(self, step, tensors):
        return [Breach("always", "It fires.", Evidence("none", step.number, 1.0))]

class Nameless(Rule):
    def __init__(self, parameters): super().__init__(parameters)
    def _judge(self, step, tensors): return None

NOT_A_RULE = 3
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution that adds rules."""
    (tmp_path / "rules_of_others.py").write_text(THIRD_PARTY)
    info = tmp_path / "rules_of_others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rules-of-others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[debugger_watcher.rules]\n"
        "AlwaysFires = rules_of_others:AlwaysFires\n"
        "LossNotDecreasing = rules_of_others:AlwaysFires\n"
        "Broken = rules_of_others:NOT_A_RULE\n"
        "Nameless = rules_of_others:Nameless\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


TWENTY = {
    "AllZero", "CheckInputImages", "ClassImbalance", "Confusion", "DeadRelu", "ExplodingTensor",
    "FeatureImportanceOverweight", "LossNotDecreasing", "NLPSequenceRatio", "Overfit", "Overtraining",
    "PoorWeightInitialization", "SaturatedActivation", "SimilarAcrossRuns", "StalledTrainingRule",
    "TensorVariance", "TreeDepth", "UnchangedTensor", "VanishingGradient", "WeightUpdateRatio",
}  # fmt: skip
"""Debugger's documented rules, without CreateXgboostReport, which writes a report and checks nothing."""

NEEDED = {
    "AllZero": {"collection_names": "losses"},
    "SimilarAcrossRuns": {"other_trials": "before"},
    "TensorVariance": {"collection_names": "losses"},
    "UnchangedTensor": {"collection_names": "losses"},
}
"""The parameters for which a rule has no default."""


def test_every_documented_rule_is_in_the_catalogue() -> None:
    assert set(rules.RULES) == TWENTY


@pytest.mark.parametrize("name", rules.RULES)
def test_a_built_in_rule_is_listed_under_its_own_name_with_all_possible_defaults(name: str) -> None:
    assert rules.RULES[name].name == name
    assert isinstance(rules.load(name, NEEDED.get(name, {})), rules.RULES[name])


@pytest.mark.parametrize("name", NEEDED)
def test_a_parameter_without_a_default_is_named(name: str) -> None:
    with pytest.raises(rules.ParameterError, match=next(iter(NEEDED[name]))):
        rules.load(name, {})


def test_rule_parameters_for_the_service_are_not_given_to_the_rule() -> None:
    rules.load(
        "LossNotDecreasing", {"rule_to_invoke": "LossNotDecreasing", "base_trial": "x", "num_steps": "3"}
    )


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(rules.UnknownRule, match=r"no rule 'LossNotFalling'; there are .*LossNotDecreasing"):
        rules.load("LossNotFalling", {})


@pytest.mark.usefixtures("third_party")
def test_an_installed_distribution_adds_a_rule_by_its_entry_point() -> None:
    assert "AlwaysFires" in rules.names()
    verdict = rules.load("AlwaysFires", {}).observe(rules.Step(3), {})
    assert verdict is not None
    assert (verdict.status, verdict.step, verdict.reason) == (rules.Status.ISSUES_FOUND, 3, "always")


@pytest.mark.usefixtures("third_party")
def test_an_entry_point_cannot_replace_a_built_in_rule() -> None:
    assert type(rules.load("LossNotDecreasing", {})) is rules.RULES["LossNotDecreasing"]


@pytest.mark.usefixtures("third_party")
def test_a_rule_without_its_own_complaint_has_one_for_its_log() -> None:
    assert rules.find("AlwaysFires").complaint == "The rule found an issue"


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(("rule", "entry"), [("Broken", "NOT_A_RULE"), ("Nameless", "Nameless")])
def test_an_entry_point_that_is_not_a_rule_is_named_in_the_error(rule: str, entry: str) -> None:
    with pytest.raises(rules.RuleError, match=f"rules_of_others:{entry}"):
        rules.load(rule, {})
