"""smdebug's own hook for XGBoost, made from a job's DebugHookConfig as SageMaker's container makes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xgboost import DMatrix


def debug_output(job: Mapping[str, Any]) -> str:
    """Where the hook of this job saves: `s3://BUCKET/PATH/JOB/debug-output`."""
    return f"{job['DebugHookConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/debug-output"


def create_hook(job: Mapping[str, Any], directory: Path, train: DMatrix, validation: DMatrix | None) -> Any:
    """The hook, a callback of `xgboost.train`. `directory` takes its configuration file.

    SageMaker writes `debughookconfig.json` and smdebug reads it, so that what a collection means, twice
    named or with an interval of its own, is smdebug's affair here too.
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
    try:
        from smdebug.xgboost import Hook
    finally:
        del sys.modules["pkg_resources"]
    return Hook


def _pkg_resources() -> ModuleType:
    """The two functions by which smdebug asks for XGBoost's version.

    setuptools no longer brings the module, and the real one finds no distribution `xgboost` where the
    wheel is the one without CUDA, `xgboost-cpu`.
    """
    import xgboost
    from packaging.version import Version

    module = ModuleType("pkg_resources")
    module.parse_version = Version  # type: ignore[attr-defined]
    module.get_distribution = lambda _: SimpleNamespace(version=xgboost.__version__)  # type: ignore[attr-defined]
    return module
