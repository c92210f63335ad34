"""Trying Watcher without an AWS account: `demo` and `sandbox`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from watcher.errors import OptionsError, UsageError, install_extra

DEFAULT_PORT = 5566
"""Not 5000, on which macOS listens, and not 4566, which is LocalStack's."""

_SMDEBUG_BREAKS_AT = (3, 13)
"""The first Python on which smdebug 1.0.34 cannot be imported: its profiler needs pyinstrument 3.4.2."""
_NEEDED = (
    *("boto3", "distutils", "moto", "pandas", "psutil", "requests", "sagemaker", "sklearn", "smdebug"),
    "xgboost",
)


def demo() -> int:
    """Train a job on a local SageMaker, alert, and stop it."""
    _require_sandbox()
    from watcher.sandbox.demo import main as demonstrate

    return demonstrate()


def sandbox(
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            envvar="WATCHER_SANDBOX_PORT",
            help="The port to listen on; 0 for any free port.",
        ),
    ] = DEFAULT_PORT,
    *,
    print_env: Annotated[
        bool,
        typer.Option("--print-env", help="Print the environment of the running sandbox, and exit."),
    ] = False,
) -> None:
    """Run a local SageMaker to try things on.

    It prints the environment to export. In another terminal: eval "$(watcher sandbox --print-env)"
    """
    _require_sandbox()
    if print_env:
        _print_environment(port)
        return
    from watcher.sandbox.server import serve

    serve(port)


def _print_environment(port: int) -> None:
    if not port:
        raise OptionsError("--print-env needs the --port of the running sandbox")
    from watcher.cli.terminal import err, write
    from watcher.sandbox.environment import exports, of_running

    with err().status(f"waiting for the sandbox on port {port} …"):
        variables = of_running(port)
    write(f"{exports(variables)}\n")


def _require_sandbox() -> None:
    """Checked first: the sandbox and its jobs are processes of their own, which could only crash."""
    if why := missing_for_sandbox(sys.version_info[:2], _is_installed):
        raise UsageError(why)


def missing_for_sandbox(python: tuple[int, int], is_installed: Callable[[str], bool]) -> str:
    """Why the sandbox cannot run here; empty if it can."""
    if python >= _SMDEBUG_BREAKS_AT:
        return (
            "the sandbox needs Python 3.11 or 3.12, because smdebug does not run on newer ones "
            "(everything else of Watcher does)"
        )
    for module in _NEEDED:
        if not is_installed(module):
            return f"{module} is missing, which the sandbox needs; {install_extra('sandbox')}"
    return ""


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None
