"""What smdebug's hook saves, compared with smdebug itself."""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.lint.hook import (
    BUILT_IN,
    XGBOOST_REGEXES,
    Framework,
    Hook,
    HookMode,
    Schedule,
    framework,
    saved_by_any,
)
from watcher.model import HookConfiguration

ECR = "683313688378.dkr.ecr.us-east-1.amazonaws.com/"
LENGTH = 60

counts = st.integers(1, 20).map(str)
save_parameters = st.dictionaries(
    st.builds(
        "{}{}".format,
        st.sampled_from(["", "train.", "eval.", "global."]),
        st.sampled_from(["save_interval", "start_step", "end_step"]),
    ),
    counts,
    max_size=4,
)
listed_steps = st.one_of(st.just({}), st.lists(counts, min_size=1).map(lambda s: {"save_steps": ",".join(s)}))
parameters = st.builds(lambda a, b: {**a, **b}, save_parameters, listed_steps)


def a_hook(*collections: tuple[str, dict[str, str]], of: Framework | None = None, **parameters: str) -> Hook:
    return Hook(HookConfiguration("s3://bucket/debug", parameters, collections), of)


def steps(hook: Hook, collection: str, mode: HookMode) -> list[int]:
    return list(saved_by_any(hook.schedules([collection], [mode]), LENGTH))


@given(parameters, parameters, st.sampled_from([HookMode.TRAIN, HookMode.EVAL, HookMode.GLOBAL]))
def test_a_collection_is_saved_at_the_steps_at_which_smdebug_saves_it(
    of_the_hook: dict[str, str], of_the_collection: dict[str, str], mode: HookMode
):
    from smdebug.core.json_config import parse_save_config_modes_dict
    from smdebug.core.modes import ModeKeys
    from smdebug.core.save_config import SaveConfigMode

    base = parse_save_config_modes_dict(of_the_hook)
    modes = parse_save_config_modes_dict(of_the_collection, base_config_modes=base)
    theirs = SaveConfigMode.from_dict(modes[ModeKeys[mode.name]])
    ours = a_hook(("gradients", of_the_collection), of=Framework.PYTORCH, **of_the_hook)
    assert steps(ours, "gradients", mode) == [s for s in range(LENGTH) if theirs.should_save_step(s)]


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        (Framework.TENSORFLOW, "DEFAULT_TF_COLLECTIONS"),
        (Framework.PYTORCH, "DEFAULT_PYTORCH_COLLECTIONS"),
        (Framework.MXNET, "DEFAULT_MXNET_COLLECTIONS"),
        (Framework.XGBOOST, "DEFAULT_XGBOOST_COLLECTIONS"),
    ],
)
def test_the_built_in_collections_are_those_of_smdebug(kind: Framework, theirs: str):
    from smdebug.core import collection

    made_later = {
        Framework.XGBOOST: {"metrics", "losses"},
        Framework.TENSORFLOW: {"tensorflow_summaries"},
    }
    assert BUILT_IN[kind] == getattr(collection, theirs) | made_later.get(kind, set())


def test_the_regexes_of_xgboosts_metrics_are_those_of_smdebug():
    spec = find_spec("smdebug")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    # Read and not imported: the package requires another version of XGBoost.
    source = (Path(spec.submodule_search_locations[0]) / "xgboost/collection.py").read_text()
    for name, regex in XGBOOST_REGEXES.items():
        assert f"CollectionKeys.{name.upper()}).include({json.dumps(regex)})" in source


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (ECR + "sagemaker-xgboost:1.3-1", Framework.XGBOOST),
        (ECR + "pytorch-training:1.8.1-gpu-py36-cu111-ubuntu18.04", Framework.PYTORCH),
        (ECR + "huggingface-pytorch-training@sha256:0123", Framework.PYTORCH),
        (ECR + "tensorflow-training:2.5.0-cpu-py37", Framework.TENSORFLOW),
        (ECR + "my-xgboost:latest", None),
        ("", None),
    ],
)
def test_the_framework_is_known_only_for_awss_own_images(image: str, kind: Framework | None):
    assert framework(image) is kind


def test_a_collection_without_an_interval_is_saved_every_500_steps_in_any_framework():
    for kind in Framework:
        hook = a_hook(("losses", {}), ("gradients", {}), of=kind)
        assert Schedule(500) in hook.schedules(["losses"])


def test_xgboosts_metrics_are_saved_every_10_steps_by_default():
    hook = a_hook(("losses", {"save_interval": "500"}), of=Framework.XGBOOST)
    assert steps(hook, "losses", HookMode.GLOBAL) == [0, 10, 20, 30, 40, 50]


def test_xgboost_only_has_the_global_mode():
    hook = a_hook(("trees", {"train.save_interval": "5"}), of=Framework.XGBOOST)
    assert hook.schedules(["trees"]) == {Schedule(500)}


def test_the_last_interval_of_a_repeated_collection_counts():
    hook = a_hook(
        ("gradients", {"save_interval": "3"}), ("gradients", {"save_interval": "20"}), of=Framework.PYTORCH
    )
    assert steps(hook, "gradients", HookMode.TRAIN) == [0, 20, 40]


def test_a_collection_with_a_regex_may_save_the_tensors_of_any_other():
    hook = a_hook(("mine", {"include_regex": "fc1", "save_interval": "30"}), of=Framework.PYTORCH)
    assert hook.may_save("gradients")
    assert steps(hook, "gradients", HookMode.TRAIN) == [0, 30]


def test_xgboost_writes_no_trees_for_a_regex():
    assert not a_hook(("mine", {"include_regex": "^trees"}), of=Framework.XGBOOST).may_save("trees")


@pytest.mark.parametrize(
    "hook",
    [
        a_hook(save_all="True", of=Framework.XGBOOST),
        a_hook(("all", {"save_interval": "5"}), of=Framework.XGBOOST),
    ],
)
def test_all_saves_every_collection_at_its_own_interval(hook: Hook):
    assert hook.may_save("trees")
    assert steps(hook, "trees", HookMode.GLOBAL) == [0, 10, 20, 30, 40, 50]


def fault(*collections: Any, **parameters: str) -> str:
    return (a_hook(*collections, of=Framework.XGBOOST, **parameters).fault() or ("", ""))[0]


def test_a_configuration_that_smdebug_refuses_is_reported():
    assert "tree is not one of smdebug's own" in fault(("tree", {"save_interval": "5"}))
    assert "'*relu' is not a regular expression" in fault(("mine", {"include_regex": "loss,*relu"}))
    assert "save_interval is '5.0', which is not a whole number (collection trees)" in fault(
        ("trees", {"save_interval": "5.0"})
    )
    assert fault(save_interval="0") == "save_interval is 0"
    assert "save_steps is ' x'" in fault(save_steps="1, x")


def test_a_configuration_that_smdebug_accepts_has_no_fault():
    assert (
        fault(("trees", {"save_interval": "-5"}), ("mine", {"include_regex": "a,b"}), save_steps="1, 2") == ""
    )


def test_the_schedule_of_a_long_run_is_computed_lazily():
    assert list(islice(Schedule(7, start=10**11).saved(10**12), 1)) == [100000000002]
    assert Schedule(7).last(10**12) == 999999999999
    assert Schedule(7, end=0).last(10**12) is None
