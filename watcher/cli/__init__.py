"""The commands. Each reads its words, calls what does the work, and prints; what is heavy is imported late.

Exit codes: 0 fine, 1 something failed or was refused, 2 the command or the configuration is wrong (one line
says how to mend it).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

# Both before anything heavy is imported. Importing and parsing make many objects, none of them garbage; and
# pydantic, which typer imports, would look through every installed distribution for plugins.
gc.set_threshold(50_000)
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

import typer

from watcher.cli.logs import logs
from watcher.cli.run import check, run
from watcher.cli.sandbox import demo, sandbox
from watcher.cli.status import findings, jobs, show, status
from watcher.cli.stop import stop
from watcher.cli.tensors import evaluate, tensors
from watcher.errors import ConfigError, UsageError, WatcherError

app = typer.Typer(
    name="watcher",
    help="Watches Amazon SageMaker training jobs and tells people what went wrong.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (run, check, status, jobs, show, findings, logs, tensors, evaluate, stop, demo, sandbox):
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What a user can cause never ends in a traceback."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(args=words or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except WatcherError as error:
        code = _complain(str(error), 2 if isinstance(error, ConfigError | UsageError) else 1)
    except typer.TyperException as error:
        code = _complain(f"{error.format_message()} (see watcher --help)", 2)
    except typer.Abort:
        code = _complain("nothing was done", 1)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain at its end if stdout still had a pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    return code or 0


def _complain(sentence: str, code: int) -> int:
    from watcher.log import Redactor

    typer.echo(f"watcher: {Redactor().text(' '.join(sentence.split()))}", err=True)
    return code
