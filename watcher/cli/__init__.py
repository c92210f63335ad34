"""The commands. Each parses its arguments, calls the code that does the work, and prints the result. Heavy
packages are imported only when a command needs them.

Exit codes: 0 success; 1 something failed or was refused; 2 the arguments or the configuration are wrong (one
line says how to fix them).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

# Both must run before the imports below. Importing and parsing create many objects and no garbage, so collect
# less often; and pydantic, which typer imports, would search every installed distribution for plugins.
gc.set_threshold(50_000)
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import typer

from watcher import __version__
from watcher.cli import standard_streams
from watcher.cli.compare import compare
from watcher.cli.evaluate import evaluate
from watcher.cli.incident_actions import ack, redeliver, snooze, unsnooze
from watcher.cli.incidents import audit, incidents
from watcher.cli.init import init
from watcher.cli.lineage import lineage
from watcher.cli.logs import logs
from watcher.cli.metrics import metrics
from watcher.cli.permissions import permissions
from watcher.cli.profile import profile
from watcher.cli.run import check, run
from watcher.cli.sandbox import demo, sandbox
from watcher.cli.show import show
from watcher.cli.status import findings, jobs, status
from watcher.cli.stop import stop
from watcher.cli.tensors import tensors
from watcher.cli.terminal import say
from watcher.errors import ConfigError, OptionsError, UsageError, WatcherError
from watcher.text import one_line

app = typer.Typer(
    name="watcher",
    help="Watches Amazon SageMaker training jobs and alerts people when one goes wrong.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMMANDS = (
    *(init, check, permissions, run),
    *(status, incidents, jobs, show, lineage, findings, audit),
    *(ack, snooze, unsnooze, redeliver, stop),
    *(logs, metrics, tensors, evaluate, profile, compare),
    *(demo, sandbox),
)
for command in _COMMANDS:
    app.command()(command)


def _print_version(value: bool) -> None:
    if value:
        say(f"watcher {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No mistake of the user ends in a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    standard_streams.prepare()
    try:
        # The name is given because shell completion depends on it, under `python -m watcher` too.
        code = app(args=words or ["--help"], prog_name="watcher", standalone_mode=False)
        sys.stdout.flush()
    except OptionsError as error:
        code = _complain(f"{error} (see watcher {words[0]} --help)", 2)
    except WatcherError as error:
        code = _complain(str(error), 2 if isinstance(error, ConfigError | UsageError) else 1)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        named = f"watcher {words[0]}" if words and not words[0].startswith("-") else "watcher"
        command = context.command_path if context else named
        code = _complain(f"{error.format_message().rstrip('.')} (see {command} --help)", 2)
    except typer.Abort:
        code = _complain("nothing was done", 1)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader has closed the pipe. Python would print an error at exit if stdout still pointed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return code or 0


def _complain(sentence: str, code: int) -> int:
    from watcher.redaction import Redactor

    # Cleaned first, so that nothing invisible divides what the redactor looks for.
    say(f"watcher: {Redactor().text(one_line(sentence))}", to_stderr=True)
    return code
