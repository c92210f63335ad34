"""Trying it: `demo` and `sandbox`."""

from __future__ import annotations

from typing import Annotated

import typer

from watcher.errors import UsageError, install_extra


def demo() -> int:
    """The main job on a local SageMaker: training, alert, stop."""
    _need_sandbox_extra()
    from watcher.sandbox.demo import main as demonstrate

    return demonstrate()


def sandbox(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free port.")] = 5000,
) -> None:
    """A local SageMaker to try things on. Prints the environment to export."""
    _need_sandbox_extra()
    from watcher.sandbox.server import serve

    serve(port)


def _need_sandbox_extra() -> None:
    """Called first: the sandbox and its jobs are separate processes, and would only crash."""
    from importlib.util import find_spec

    for module in ("moto", "pandas", "psutil", "requests", "sagemaker", "sklearn", "smdebug", "xgboost"):
        if find_spec(module) is None:
            raise UsageError(f"{module} is missing, which the sandbox needs; {install_extra('sandbox')}")
