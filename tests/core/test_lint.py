"""Each defect that lint finds: a job that has it, and the most similar job that does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from tests.jobs import a_job
from watcher.lint import Defect, Reason, lint
from watcher.model import HookConfiguration, JobSnapshot, RuleConfiguration, RuleFamily
from watcher.sandbox import cookbook

ECR = "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
XGBOOST = ECR + "sagemaker-xgboost:1.3-1"
PYTORCH = ECR + "pytorch-training:1.8.1-gpu-py36"
TENSORFLOW = ECR + "tensorflow-training:2.5.0-gpu-py37"
MXNET = ECR + "mxnet-training:1.8.0-gpu-py37"

Collections = tuple[tuple[str, dict[str, str]], ...]


def a_rule(invokes: str = "LossNotDecreasing", name: str = "", /, **parameters: Any) -> RuleConfiguration:
    given = {name: str(value) for name, value in parameters.items()}
    return RuleConfiguration(name or invokes, RuleFamily.DEBUGGER, {"rule_to_invoke": invokes, **given})


def linted(
    *configured: RuleConfiguration,
    image: str = XGBOOST,
    collections: Collections = (),
    hook: Mapping[str, str] | None = None,
    **hyperparameters: Any,
) -> list[Defect]:
    return lint(
        a_job(
            rules=configured,
            image=image,
            hook=HookConfiguration("s3://bucket/debug", hook or {}, collections),
            hyperparameters={name: str(value) for name, value in hyperparameters.items()},
        )
    )


def reasons(*configured: RuleConfiguration, **job: Any) -> list[Reason]:
    return [defect.reason for defect in linted(*configured, **job)]


def every(steps: int, *names: str) -> Collections:
    return tuple((name, {"save_interval": str(steps)}) for name in names)


# -- jobs without a defect ------------------------------------------------------------------------


def test_the_demo_job_has_no_defect():
    rule = a_rule(**cookbook.PARAMETERS)
    hyperparameters = {"objective": "binary:logistic", "max_depth": 16, "eta": 0.1, "num_round": 10000}
    # The SDK adds the collection that the rule needs.
    collections = (*every(500, "losses"), *every(2, "metrics"))
    assert linted(rule, collections=collections, **hyperparameters) == []


def test_a_job_without_rules_has_no_defect():
    assert lint(a_job()) == []


def test_well_configured_rules_for_deep_learning_have_no_defect():
    relu = ("relu", {"include_regex": ".*relu_output", "save_interval": "50"})
    assert (
        linted(
            a_rule(),
            a_rule("VanishingGradient"),
            a_rule("WeightUpdateRatio", num_steps=50),
            a_rule("DeadRelu"),
            a_rule("ExplodingTensor"),
            a_rule("TensorVariance", collection_names="weights", max_threshold=10),
            image=PYTORCH,
            collections=(*every(50, "losses", "gradients", "weights"), relu),
            max_steps=2000,
        )
        == []
    )


def test_well_configured_rules_for_xgboost_have_no_defect():
    collections = every(5, "metrics", "losses", "trees", "feature_importance", "labels", "predictions")
    named = ("LossNotDecreasing", "Overfit", "Overtraining", "TreeDepth", "Confusion", "ClassImbalance")
    configured = [a_rule(name) for name in (*named, "FeatureImportanceOverweight")]
    assert linted(*configured, collections=collections, num_round=200, eval_metric="logloss") == []


def test_custom_rules_are_not_checked():
    custom = a_rule("VanishingGradient", source_s3_uri="s3://bucket/mine.py", collection_names="mine")
    assert linted(custom) == []


def test_an_unknown_image_gives_no_defect_of_what_is_saved():
    unknown = {"image": "111122223333.dkr.ecr.us-east-1.amazonaws.com/ours:1", "num_round": 20}
    assert reasons(a_rule("TreeDepth"), a_rule(), a_rule("CheckInputImages"), **unknown) == []


# -- the job and its hook -------------------------------------------------------------------------


def test_a_job_without_hook_configuration_leaves_every_rule_without_input():
    job = a_job(rules=(a_rule(), a_rule("StalledTrainingRule")), image=XGBOOST, hook=None)
    assert [(defect.rule, defect.reason) for defect in lint(job)] == [
        ("LossNotDecreasing", Reason.NO_HOOK),
        ("StalledTrainingRule", Reason.NO_HOOK),
    ]


def test_two_rules_with_one_name_are_one_defect_but_a_profiler_rule_may_share_the_name():
    profiler = RuleConfiguration("losses", RuleFamily.PROFILER)
    twins = linted(a_rule("LossNotDecreasing", "losses"), a_rule("Overfit", "losses"))
    assert [(defect.rule, defect.reason) for defect in twins] == [("losses", Reason.SAME_NAME)]
    assert Reason.SAME_NAME not in reasons(a_rule("LossNotDecreasing", "losses"), profiler)


def test_rules_beyond_the_twentieth_are_reported():
    configured = [a_rule("LossNotDecreasing", f"rule-{number}") for number in range(21)]
    assert [(defect.rule, defect.reason) for defect in linted(*configured)] == [
        ("rule-20", Reason.TOO_MANY_RULES)
    ]
    assert linted(*configured[:20]) == []


@pytest.mark.parametrize(
    ("unsupported", "supported"),
    [
        ({"sagemaker_parameter_server_enabled": "true"}, {"sagemaker_parameter_server_enabled": "false"}),
        ({"mp_parameters": '{"partitions": 2}'}, {"mp_parameters": "{}"}),
    ],
)
def test_debugger_is_not_available_for_some_kinds_of_distributed_training(unsupported: Any, supported: Any):
    assert reasons(a_rule(), image=TENSORFLOW, **unsupported) == [Reason.UNSUPPORTED_DISTRIBUTION]
    assert reasons(a_rule(), image=TENSORFLOW, **supported) == []


def test_awss_example_saves_a_collection_tree_that_smdebug_does_not_know():
    (defect,) = linted(a_rule("TreeDepth"), collections=every(5, "tree"))
    assert defect.reason is Reason.HOOK_FAILS
    assert "tree is not one of smdebug's own and has no include_regex" in defect.sentence
    assert "did you mean trees?" in defect.fix
    assert reasons(a_rule("TreeDepth"), collections=every(5, "trees")) == []


def test_a_collection_that_is_only_named_may_be_filled_by_a_script():
    named = every(5, "mine")
    assert reasons(a_rule(), collections=named, image=XGBOOST) == [Reason.HOOK_FAILS]
    assert reasons(a_rule(), collections=named, image=XGBOOST, sagemaker_program="train.py") == []
    assert reasons(a_rule(collection_names="mine"), collections=named, image=PYTORCH) == []


def test_a_hook_that_smdebug_cannot_read_fails_custom_rules_too():
    custom = a_rule("Mine", source_s3_uri="s3://bucket/mine.py")
    assert reasons(custom, hook={"save_interval": "often"}) == [Reason.HOOK_FAILS]
    assert reasons(custom, hook={"save_interval": "10"}) == []


# -- rules and their parameters -------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "wrong"), [("VanishingGradient", XGBOOST), ("TreeDepth", PYTORCH)])
def test_a_rule_for_another_framework_is_reported(rule: str, wrong: str):
    assert reasons(a_rule(rule), image=wrong) == [Reason.WRONG_FRAMEWORK]


def test_a_rule_for_every_framework_is_not_reported_as_one_for_another_framework():
    for image in (XGBOOST, PYTORCH, TENSORFLOW, MXNET):
        zeros = a_rule("AllZero", tensor_regex=".*")
        assert reasons(zeros, image=image) == []


def test_a_parameter_that_the_rule_refuses_is_reported_in_the_rules_own_words():
    (defect,) = linted(a_rule(num_step=3))
    assert defect.reason is Reason.REFUSED_PARAMETERS
    assert "did you mean num_steps?" in defect.sentence
    assert reasons(a_rule(diff_percent=100)) == [Reason.REFUSED_PARAMETERS]
    assert reasons(a_rule(diff_percent=99)) == []


def test_an_action_on_a_rule_is_not_a_parameter_of_the_rule():
    assert linted(a_rule(action_json='{"name": "StopTraining"}')) == []


@pytest.mark.parametrize(
    ("rule", "parameter", "hopeless", "fine", "reason"),
    [
        ("VanishingGradient", "threshold", 20.0, 0.9, Reason.ALWAYS_FIRES),  # as in AWS's example
        ("AllZero", "threshold", 0, 0.1, Reason.ALWAYS_FIRES),
        ("ClassImbalance", "threshold_imbalance", 0.9, 1, Reason.ALWAYS_FIRES),
        ("DeadRelu", "threshold_layer", 100, 99.9, Reason.NEVER_FIRES),
        ("DeadRelu", "threshold_inactivity", 0, 0.1, Reason.NEVER_FIRES),
        ("SaturatedActivation", "threshold_layer", 100, 99.9, Reason.NEVER_FIRES),
    ],
)
def test_a_threshold_that_everything_or_nothing_passes_is_reported(
    rule: str, parameter: str, hopeless: float, fine: float, reason: Reason
):
    saved: dict[str, Any] = {"image": PYTORCH, "hook": {"save_all": "True", "save_interval": "10"}}
    given = {"tensor_regex": "."} if rule == "AllZero" else {}
    assert reasons(a_rule(rule, **given, **{parameter: hopeless}), **saved) == [reason]
    assert reasons(a_rule(rule, **given, **{parameter: fine}), **saved) == []


def test_a_threshold_of_all_feature_importance_never_fires():
    saved = {"collections": every(5, "feature_importance")}
    assert reasons(a_rule("FeatureImportanceOverweight", threshold=1), **saved) == [Reason.NEVER_FIRES]
    assert reasons(a_rule("FeatureImportanceOverweight", threshold=0.99), **saved) == []


def test_tensor_variance_without_bounds_never_fires():
    variance = {"collection_names": "losses"}
    assert reasons(a_rule("TensorVariance", **variance)) == [Reason.NEVER_FIRES]
    assert reasons(a_rule("TensorVariance", **variance, min_threshold=0.1)) == []
    both = a_rule("TensorVariance", **variance, min_threshold=2, max_threshold=1)
    assert reasons(both)[0] in (Reason.ALWAYS_FIRES, Reason.REFUSED_PARAMETERS)


def test_a_tree_cannot_be_deeper_than_max_depth():
    saved = {"collections": every(5, "trees")}
    (defect,) = linted(a_rule("TreeDepth"), **saved, max_depth=3)
    assert defect.reason is Reason.NEVER_FIRES
    assert "depth is 4, and max_depth lets no tree grow deeper than 3" in defect.sentence
    assert reasons(a_rule("TreeDepth"), **saved, max_depth=4) == []
    assert reasons(a_rule("TreeDepth"), **saved, max_depth=0) == []
    assert reasons(a_rule("TreeDepth", depth=7), **saved) == [Reason.NEVER_FIRES]
    assert reasons(a_rule("TreeDepth", depth=7), **saved, sagemaker_program="train.py") == []


def test_trees_with_too_few_features_never_fire():
    overweight = a_rule("FeatureImportanceOverweight")
    (defect,) = linted(overweight, collections=every(5, "feature_importance"), max_depth=2)
    assert defect.reason is Reason.ALWAYS_FIRES
    assert "at most 3 splits (max_depth 2)" in defect.sentence
    later = (("feature_importance", {"save_interval": "5", "start_step": "5"}),)
    assert reasons(overweight, collections=later, max_depth=2) == []
    for more in ({"max_depth": 3}, {"max_depth": 2, "num_class": 2}, {"max_depth": 2, "booster": "gblinear"}):
        assert reasons(overweight, collections=every(5, "feature_importance"), **more) == []


# -- what the rule reads --------------------------------------------------------------------------


def test_an_unknown_collection_is_reported_with_the_closest_known_one():
    (defect,) = linted(a_rule(collection_names="metric"))
    assert (defect.rule, defect.reason) == ("LossNotDecreasing", Reason.UNKNOWN_COLLECTION)
    assert "did you mean metrics?" in defect.fix
    assert reasons(a_rule(collection_names="metrics")) == []
    own = (("mine", {"include_regex": "rmse$"}),)
    assert reasons(a_rule(collection_names="mine"), collections=own) == []


def test_a_collection_that_the_hook_does_not_save_is_reported():
    trees = a_rule("TreeDepth")
    assert reasons(trees) == [Reason.COLLECTION_NOT_SAVED]
    assert reasons(trees, collections=every(50, "trees")) == []
    assert reasons(trees, hook={"save_all": "true"}) == []


@pytest.mark.parametrize("rule", ["VanishingGradient", "WeightUpdateRatio", "DeadRelu", "CheckInputImages"])
def test_nothing_is_said_of_what_a_script_may_still_save(rule: str):
    assert reasons(a_rule(rule), image=MXNET) == []


@pytest.mark.parametrize(
    "watched",
    [
        a_rule("AllZero", collection_names="made_in_code"),
        a_rule(collection_names="metric"),
        a_rule("Confusion"),
        a_rule("TreeDepth"),
    ],
)
def test_nothing_is_said_of_collections_that_a_script_may_still_make_or_fill(watched: RuleConfiguration):
    assert reasons(watched) != []
    assert reasons(watched, sagemaker_program="train.py") == []


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        ("TreeDepth", ("trees",)),
        ("FeatureImportanceOverweight", ("feature_importance",)),
        ("Confusion", ("labels", "predictions")),
        ("ClassImbalance", ("labels", "predictions")),
    ],
)
def test_xgboosts_hook_saves_a_rules_collection_only_when_configured(rule: str, needed: tuple[str, ...]):
    assert reasons(a_rule(rule), collections=every(5, *needed)) == []
    assert reasons(a_rule(rule), collections=every(5, *needed[1:])) == [Reason.COLLECTION_NOT_SAVED]


def test_awss_example_writes_the_interval_as_a_regex():
    def collections(key: str) -> Collections:
        return (*every(5, "labels"), ("predictions", {key: "25"}))

    (defect,) = linted(a_rule("Confusion"), collections=collections("include_regex"))
    assert defect.reason is Reason.REGEX_IS_A_NUMBER
    assert defect.fix == '"save_interval": "25" was probably meant'
    assert reasons(a_rule("Confusion"), collections=collections("save_interval")) == []


@pytest.mark.parametrize(
    ("rule", "parameter", "image"),
    [
        ("CheckInputImages", "regex", TENSORFLOW),
        ("CheckInputImages", "regex", PYTORCH),
        ("NLPSequenceRatio", "tensor_regex", TENSORFLOW),
        ("NLPSequenceRatio", "tensor_regex", PYTORCH),
        ("DeadRelu", "tensor_regex", TENSORFLOW),
        ("SaturatedActivation", "tensor_regex", TENSORFLOW),
    ],
)
def test_mxnets_tensor_names_match_nothing_in_other_frameworks(rule: str, parameter: str, image: str):
    saved: dict[str, Any] = {"collections": (("mine", {"include_regex": "put", "save_interval": "10"}),)}
    assert reasons(a_rule(rule), image=image, **saved) == [Reason.NO_TENSOR_MATCHES]
    assert reasons(a_rule(rule), image=MXNET, **saved) == []
    assert reasons(a_rule(rule, **{parameter: "my_layer"}), image=image, **saved) == []


def test_pytorch_modules_may_be_named_relu():
    saved: Collections = (("mine", {"include_regex": "relu_output", "save_interval": "10"}),)
    assert reasons(a_rule("DeadRelu"), image=PYTORCH, collections=saved) == []


def test_xgboost_saves_no_values_by_mode():
    assert reasons(a_rule(mode="EVAL")) == [Reason.NO_VALUES_IN_MODE]
    assert reasons(a_rule(mode="GLOBAL")) == []
    assert reasons(a_rule(mode="EVAL"), image=PYTORCH) == []


# -- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["auc", "aucpr", "map", "ndcg", "accuracy", "logloss,auc", '["auc"]'])
def test_a_metric_that_should_rise_is_not_a_loss(metric: str):
    watched = a_rule(collection_names="metrics")
    (defect,) = linted(watched, eval_metric=metric)
    assert defect.reason is Reason.RISING_METRIC
    assert "should rise; LossNotDecreasing fires when it does not fall" in defect.sentence


@pytest.mark.parametrize("metric", ["logloss", "rmse,mae", "merror", ""])
def test_a_metric_that_should_fall_is_a_loss(metric: str):
    assert reasons(a_rule(collection_names="metrics"), eval_metric=metric) == []


def test_the_collection_losses_excludes_auc_but_includes_aucpr():
    assert reasons(a_rule(), eval_metric="logloss,auc") == []
    assert reasons(a_rule(), eval_metric="logloss,aucpr") == [Reason.RISING_METRIC]


def test_a_rising_metric_that_the_rule_does_not_read_is_not_a_defect():
    logloss = a_rule(tensor_regex="-logloss$", use_losses_collection="False")
    assert reasons(logloss, eval_metric="logloss,aucpr") == []


def test_a_rule_whose_losses_do_not_exist_is_reported():
    assert reasons(a_rule(), eval_metric="auc") == [Reason.NO_TENSOR_MATCHES]
    # The container adds XGBoost's own metric to those that it computes itself.
    assert reasons(a_rule(tensor_regex="-rmse$", use_losses_collection="0"), eval_metric="f1") == []


def test_a_metric_with_a_threshold_in_its_name_is_saved_only_by_the_collection_losses():
    assert reasons(a_rule(), eval_metric="error@0.7") == [Reason.NO_TENSOR_MATCHES]
    assert reasons(a_rule(), eval_metric="error@0.7", collections=every(5, "losses")) == []


def test_in_script_mode_the_metrics_come_from_the_script():
    assert reasons(a_rule(), eval_metric="aucpr", sagemaker_program="train.py") == []


# -- when it is saved -----------------------------------------------------------------------------


def test_the_sdks_interval_of_500_saves_only_the_first_step_of_a_short_run():
    collections = every(500, "metrics", "losses")
    (defect,) = linted(a_rule(), collections=collections, num_round=400)
    assert defect.reason is Reason.TOO_FEW_STEPS
    assert defect.sentence == (
        "of the run's 400 steps (num_round) only step 0 is saved with save_interval 500; "
        "the rule compares steps that are 10 apart (num_steps)"
    )
    assert defect.fix == 'set "save_interval": "10" in the parameters of the collection losses'
    assert reasons(a_rule(), collections=collections, num_round=501) == []
    assert reasons(a_rule(), collections=collections) == []


def test_xgboosts_metrics_are_saved_often_enough_with_any_interval_of_losses():
    assert reasons(a_rule(), collections=every(500, "losses"), num_round=400) == []


def test_num_steps_longer_than_the_run_compares_nothing():
    (defect,) = linted(a_rule(num_steps=50), num_round=50)
    assert (defect.reason, defect.fix) == (Reason.TOO_FEW_STEPS, "set num_steps well below 50")
    assert reasons(a_rule(num_steps=40), num_round=50) == []


def test_a_hook_that_starts_after_the_end_saves_nothing():
    (defect,) = linted(a_rule(), hook={"start_step": "100"}, num_round=100)
    assert "no step is saved" in defect.sentence
    assert reasons(a_rule(), hook={"start_step": "80"}, num_round=100) == []


@pytest.mark.parametrize(
    ("hyperparameters", "short"),
    [
        ({"max_steps": 500}, True),
        ({"max_steps": 501}, False),
        ({"max_steps": -1}, False),
        ({"max_steps": 500, "gradient_accumulation_steps": 2}, False),
        ({"epochs": 5, "steps_per_epoch": 100}, True),
        ({"epochs": 5}, False),
        ({"num_round": 50}, False),
    ],
)
def test_the_length_of_a_deep_learning_run_comes_only_from_its_hyperparameters(
    hyperparameters: dict[str, int], short: bool
):
    found = reasons(
        a_rule("VanishingGradient"),
        image=PYTORCH,
        collections=every(500, "gradients"),
        **hyperparameters,
    )
    assert found == ([Reason.FIRST_STEP_ONLY] if short else [])


def test_an_interval_set_for_a_mode_counts():
    collections = (("gradients", {"save_interval": "500", "train.save_interval": "50"}),)
    assert reasons(a_rule("VanishingGradient"), image=PYTORCH, collections=collections, max_steps=400) == []


@pytest.mark.parametrize(
    ("rule", "parameters", "rounds"),
    [
        ("UnchangedTensor", {"collection_names": "metrics"}, 21),
        ("UnchangedTensor", {"collection_names": "metrics", "num_steps": 5}, 41),
        ("Overtraining", {}, 101),
        ("Overfit", {"patience": 4}, 31),
    ],
)
def test_a_rule_that_needs_several_saved_steps_gets_enough_of_them(rule: str, parameters: Any, rounds: int):
    assert reasons(a_rule(rule, **parameters), num_round=rounds) == []
    assert reasons(a_rule(rule, **parameters), num_round=rounds - 1) == [Reason.TOO_FEW_STEPS]


def test_the_save_interval_of_weights_must_match_num_steps():
    def ratio(interval: Mapping[str, str], **parameters: int) -> list[Defect]:
        configured = a_rule("WeightUpdateRatio", **parameters)
        return linted(configured, image=PYTORCH, collections=(("weights", dict(interval)),))

    (defect,) = ratio({"save_interval": "500"}, num_steps=10)
    assert defect.reason is Reason.INTERVAL_IS_NOT_NUM_STEPS
    assert "no two saved steps lie so close together" in defect.sentence
    assert [defect.reason for defect in ratio({"save_interval": "5"}, num_steps=10)] == [defect.reason]
    assert ratio({"train.save_interval": "10"}, num_steps=10) == []
    assert ratio({"save_interval": "500"}) == []
    assert ratio({"save_steps": "1,2,3,4"}, num_steps=2) == []


def test_poor_initialization_needs_the_first_steps():
    weights = a_rule("PoorWeightInitialization")
    relu = {"include_regex": ".*relu_input"}
    (defect,) = linted(weights, image=MXNET, collections=(("relu_input", {**relu, "save_interval": "500"}),))
    assert defect.reason is Reason.TOO_FEW_STEPS
    assert "with save_interval 500 one of them is saved" in defect.sentence
    often = (("relu_input", {**relu, "save_interval": "9"}),)
    assert reasons(weights, image=MXNET, collections=often) == []
    assert reasons(a_rule("PoorWeightInitialization", steps=501), image=MXNET) == []


# -- every job ------------------------------------------------------------------------------------

names = st.sampled_from([*rules.RULES, "Mine"])
keys = st.one_of(
    st.sampled_from(["collection_names", "tensor_regex", "num_steps", "threshold", "steps", "patience"]),
    st.sampled_from(["mode", "depth", "nfeatures", "max_threshold", "source_s3_uri", "other_trial_0"]),
    st.sampled_from(["save_interval", "train.save_interval", "save_steps", "start_step", "end_step"]),
    st.sampled_from(["include_regex", "save_all", "eval_metric", "num_round", "max_depth", "max_steps"]),
)
texts = st.one_of(
    st.sampled_from(
        ["0", "1", "10", "1e999", "nan", "-3", "9" * 400, "9" * 5000, "a{9999999999999}", "auc", "TRAIN"]
    ),
    st.sampled_from(["losses", "trees", "weights,tree", "True", ".*", "(", ""]),
    st.text(max_size=8),
)
some = st.dictionaries(keys, texts, max_size=6)
jobs = st.builds(
    a_job,
    image=st.one_of(st.sampled_from([XGBOOST, PYTORCH, TENSORFLOW, MXNET]), st.text(max_size=20)),
    hyperparameters=some,
    rules=st.lists(
        st.builds(
            lambda name, given: RuleConfiguration(
                name, RuleFamily.DEBUGGER, {"rule_to_invoke": name, **given}
            ),
            names,
            some,
        ),
        max_size=4,
    ).map(tuple),
    hook=st.one_of(
        st.none(),
        st.builds(
            HookConfiguration,
            st.just("s3://bucket/debug"),
            some,
            st.lists(
                st.tuples(st.sampled_from(["losses", "trees", "weights", "all", "mine"]), some), max_size=4
            ).map(tuple),
        ),
    ),
)


@pytest.mark.filterwarnings("ignore:Possible (nested set|set):FutureWarning")  # for unusual regexes
@given(jobs)
def test_any_job_can_be_linted(job: JobSnapshot):
    configured = {rule.name for rule in job.rules}
    for defect in lint(job):
        assert defect.rule in configured
        assert defect.sentence
        assert defect.fix


# -- profiler rules --------------------------------------------------------------------------------


def profiled(*configured: RuleConfiguration, **job: Any) -> list[tuple[str, Reason]]:
    values = {"profiler_path": "s3://bucket/profile", "instance_type": "ml.p3.2xlarge", **job}
    defects = lint(a_job(rules=configured, **values))
    assert {defect.family for defect in defects} <= {RuleFamily.PROFILER}
    return [(defect.rule, defect.reason) for defect in defects]


def profiler_rule(invokes: str = "LowGPUUtilization", **given: str) -> RuleConfiguration:
    return RuleConfiguration(invokes, RuleFamily.PROFILER, {"rule_to_invoke": invokes, **given})


def test_a_profiler_rule_that_can_work_has_no_defect():
    assert profiled(profiler_rule(), profiler_rule("ProfilerReport", CPUBottleneck_threshold="60")) == []


def test_a_profiler_rule_does_not_take_the_parameters_of_another():
    assert profiled(profiler_rule(treshold_p95="60")) == [("LowGPUUtilization", Reason.REFUSED_PARAMETERS)]
    assert profiled(profiler_rule("ProfilerReport", CPUBottlenek_threshold="60")) == [
        ("ProfilerReport", Reason.REFUSED_PARAMETERS)
    ]


def test_a_rule_on_gpus_can_never_fire_on_instances_without():
    assert profiled(profiler_rule(), profiler_rule("OverallSystemUsage"), instance_type="ml.c5.xlarge") == [
        ("LowGPUUtilization", Reason.NO_GPU)
    ]
    mixed = (("ml.c5.xlarge", 1), ("ml.p3.2xlarge", 2))
    assert profiled(profiler_rule(), instance_type="", instance_groups=mixed) == []
    assert profiled(profiler_rule(), instance_type="ml.of-the-future.xlarge") == []


def test_a_profiler_rule_without_profiler_output_has_nothing_to_read():
    assert profiled(profiler_rule(), instance_type="ml.c5.xlarge", profiler_path="") == [
        ("LowGPUUtilization", Reason.NO_PROFILER_OUTPUT)
    ]


def test_custom_and_unknown_profiler_rules_are_not_checked():
    custom = profiler_rule(source_s3_uri="s3://bucket/mine.py", what="ever")
    assert profiled(custom, profiler_rule("OfTheFuture"), profiler_path="") == []


def test_profiler_rules_do_not_count_among_debuggers():
    rules = [a_rule("LossNotDecreasing", f"rule-{number}") for number in range(20)]
    assert linted(*rules, profiler_rule()) == linted(*rules) + linted(profiler_rule())
