"""smdebug's own histograms, charts and heat maps, in a Jupyter kernel, of a training in the sandbox.

They need bokeh 2, which needs numpy 1: `make notebooks-histograms` runs the notebook in an environment of its
own. The suite reads the same files with smdebug's reader (`system_metrics.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.doubles import containers
from tests.doubles.training_requests import training_request
from tests.waiting import WAIT_LIMIT_S
from watcher.sandbox.process import Sandbox

HERE = Path(__file__).parent / "histograms"
PICTURE = "application/vnd.bokehjs_exec.v0+json"


@pytest.mark.skipif("HISTOGRAMS_PYTHON" not in os.environ, reason="make notebooks-histograms")
def test_smdebugs_own_pictures_show_how_a_training_used_its_machine() -> None:
    profiler = {"S3OutputPath": "s3://churn/profiles", "ProfilingIntervalInMilliseconds": 100}
    with Sandbox.start(pace=0.05, trainers={"xgboost": containers.TRAINER}) as sandbox:
        sandbox.client("s3").create_bucket(Bucket="churn")
        sandbox.control.set_gpus("idle", [(30.0, 80.0), (5.0, 80.0)])
        lasts = {"seconds": "3"}
        sandbox.client("sagemaker").create_training_job(
            **training_request("idle", ProfilerConfig=profiler, HyperParameters=lasts)
        )
        ran = subprocess.run(
            [os.environ["HISTOGRAMS_PYTHON"], HERE / "execute.py", HERE / "histograms.py"],
            env={**os.environ, **sandbox.env, "JOB_NAME": "idle"},
            capture_output=True,
            text=True,
            timeout=10 * WAIT_LIMIT_S,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout.splitlines()[-1])
    assert [PICTURE in kinds for kinds in shown] == [False, False, True, True, True, True]
