"""Creates smdebug's own hook for XGBoost from a job's DebugHookConfig, as SageMaker's container does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from watcher.sandbox.sagemaker.training_job import debug_output

if TYPE_CHECKING:
    from xgboost import DMatrix


def create_hook(job: Mapping[str, Any], directory: Path, train: DMatrix, validation: DMatrix | None) -> Any:
    """The hook, a callback of `xgboost.train`. Its configuration file is written to `directory`.

    As on SageMaker, smdebug itself reads `debughookconfig.json`. So it also decides what a collection means
    that is named twice or has its own interval.
    """
    configuration = directory / "debughookconfig.json"
    configuration.write_text(json.dumps({**job["DebugHookConfig"], "LocalPath": debug_output(job)}))
    hook = _hook_class().create_from_json_file(str(configuration))
    hook.hyperparameters = dict(job.get("HyperParameters") or {})
    hook.train_data = train
    hook.validation_data = validation
    return hook


def _hook_class() -> Any:
    sys.modules["pkg_resources"] = _pkg_resources()
    # Where it is installed, smdebug would write metrics with it to a folder in the root of this machine.
    sys.modules["smexperiments"] = None  # type: ignore[assignment]
    try:
        from smdebug.xgboost import Hook
    finally:
        del sys.modules["pkg_resources"], sys.modules["smexperiments"]
    return Hook


def _pkg_resources() -> ModuleType:
    """A module with the two functions by which smdebug reads XGBoost's version.

    Newer setuptools lack this module. The real one would fail as well: it looks for the distribution
    `xgboost`, but the one without CUDA is `xgboost-cpu`.
    """
    import xgboost
    from packaging.version import Version

    module = ModuleType("pkg_resources")
    module.parse_version = Version  # type: ignore[attr-defined]
    module.get_distribution = lambda _: SimpleNamespace(version=xgboost.__version__)  # type: ignore[attr-defined]
    return module
