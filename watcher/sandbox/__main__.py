"""Runs the sandbox as a child process, which `process.Sandbox` starts and which ends when its parent does.

Its one argument is the settings as JSON. Once it is ready, it prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from watcher.end_signals import on_end_signals
from watcher.sandbox.server import running
from watcher.sandbox.settings import Settings


def main() -> None:
    ending = threading.Event()
    on_end_signals(ending.set)
    threading.Thread(target=_end_with_parent, args=(ending,), name="parent", daemon=True).start()
    with running(Settings.from_json(sys.argv[1]), port=0) as (endpoint, directory):
        ready = json.dumps({"endpoint": endpoint, "directory": str(directory)})
        try:
            os.write(sys.stdout.fileno(), f"{ready}\n".encode())
        except BrokenPipeError:  # the parent has ended meanwhile
            return
        ending.wait()


def _end_with_parent(ending: threading.Event) -> None:
    """stdin is a pipe without data, so reading it returns when the parent closes it or has ended."""
    sys.stdin.buffer.read()
    ending.set()


if __name__ == "__main__":
    main()
