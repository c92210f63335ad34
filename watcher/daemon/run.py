"""`watcher run`: the daemon from its start to the exit code of its process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from watcher.aws.accounts import Accounts
from watcher.config.settings import Config
from watcher.daemon.app import App
from watcher.end_signals import on_end_signals
from watcher.jobs.find import find_jobs


def run(config: Config, names: Sequence[str] = (), once: bool = False) -> int:
    """Returns the exit code. Raises `UsageError` if one of the named jobs does not exist."""
    accounts = Accounts(config.region, config.account)
    _ = accounts.home.region  # raises ConfigError if there is none, instead of an error in every loop
    app = App(config, [job.arn for job in find_jobs(accounts, names)], once=once)
    on_end_signals(app.stop)
    done = True
    if once:
        done = app.run_once()
    else:
        app.run()
    app.close()
    code = 0 if done and app.failure is None else 1
    if not app.drained:
        # The interpreter would wait for the threads of the outbox, and one of them hangs in a request. Its
        # delivery is in flight in the store, so it is looked up before it is sent again.
        sys.stdout.flush()
        os._exit(code)
    return code
