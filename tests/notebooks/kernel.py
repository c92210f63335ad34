"""Runs notebooks one after the other: `python -m tests.notebooks.kernel FOLDER NOTEBOOK.py …`.

A notebook is a script with `# %%` cells, which VS Code, and Jupyter with jupytext, open as such. Each runs in
its own process, forked after the modules in NOTEBOOK_IMPORTS are imported, which takes seconds. FOLDER gets
the output of each, and the requests that it made. For each, this prints a line of JSON: {"notebook", "code",
"seconds"}.

The SDKs are as they come, but their waiting is not. They look every five seconds or more, and SDK v2 checks
its own schema for each setting that it looks up, which takes eight seconds in total.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

LONGEST_WAIT_S = 0.3
sleep = time.sleep
EXIT_CODE = 1


def main(folder: Path, notebooks: list[str]) -> None:
    hasten()
    for module in os.environ.get("NOTEBOOK_IMPORTS", "").split():
        import_module(module)
    if session := sys.modules.get("sagemaker.session"):
        session.time = FastClock()
    for notebook in map(Path, notebooks):
        started = time.monotonic()
        if (child := os.fork()) == 0:
            run(notebook, folder)
        _, status = os.waitpid(child, 0)
        code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - started
        print(json.dumps({"notebook": notebook.stem, "code": code, "seconds": round(seconds, 1)}), flush=True)


def run(notebook: Path, folder: Path) -> None:
    """Does not return: the process is the notebook's."""
    out = os.open(folder / f"{notebook.stem}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    record(folder / f"{notebook.stem}.requests")
    (folder / notebook.stem).mkdir(exist_ok=True)
    os.chdir(folder / notebook.stem)
    code = 0
    try:
        runpy.run_path(str(notebook), run_name="__main__")
    except BaseException:  # whatever it is, the notebook has failed
        traceback.print_exc()
        code = EXIT_CODE
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def record(file: Path) -> None:
    """Write a line of JSON for each request to AWS: [service, operation, parameters]."""
    from botocore.client import BaseClient

    call = BaseClient._make_api_call

    def recorded(self, operation, parameters):
        with file.open("a") as lines:
            request = [self.meta.service_model.service_name, operation, parameters]
            lines.write(json.dumps(request, default=str) + "\n")
        return call(self, operation, parameters)

    file.unlink(missing_ok=True)
    BaseClient._make_api_call = recorded


def hasten() -> None:
    import jsonschema

    time.sleep = lambda seconds: sleep(min(seconds, LONGEST_WAIT_S))
    jsonschema.Draft202012Validator.check_schema = lambda *_, **__: None


class FastClock:
    """The module `time` for SDK v2's sessions, which describe a job every 30 seconds while they print its
    log: what is not waited passes all the same."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def time(self) -> float:
        return time.time() + self._ahead_s

    def sleep(self, seconds: float) -> None:
        self._ahead_s += max(seconds - LONGEST_WAIT_S, 0)
        time.sleep(seconds)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
