"""A pipeline with its dependencies, and passes over all jobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.jobs import NOON
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.config.settings import Config
from watcher.instruments import Instruments
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.reconcile import Pass, Reconciler
from watcher.jobs.work import LocalWork
from watcher.model import Case, JobSnapshot
from watcher.store.base import Store


def a_pipeline(store: Store, **changes: Any) -> Pipeline:
    """A pipeline that never waits, with the clock at noon."""
    values: dict[str, Any] = {
        "accounts": Accounts("us-east-1"),
        "config": Config(),
        "clock": lambda: NOON,
        "spread": lambda: 0.5,
        "committed": lambda changed: None,
        "owner": "us",
        "wait": lambda seconds: None,
        "instruments": Instruments(),
    }
    return Pipeline(store=store, **{**values, **changes})


class Process:
    """The part of a process that finds jobs and looks at them; one after the other, in the test's thread.

    `told` collects the cases that changed, as the outbox gets them.
    """

    def __init__(self, store: Store, clock: Any, config: Config | None = None, *only: str) -> None:
        config = config or Config()
        self.store, self.clock = store, clock
        self.work = LocalWork()
        self.told: list[tuple[Case, JobSnapshot]] = []
        accounts = Accounts("us-east-1", config.account)
        self.pipeline = a_pipeline(
            store, accounts=accounts, config=config, clock=clock, committed=self.told.extend
        )
        self.reconciler = Reconciler(
            accounts=accounts,
            store=store,
            pipeline=self.pipeline,
            watch=config.watch,
            work=self.work,
            refused=RefusedCalls(accounts),
            clock=clock,
            stopping=lambda: False,
            only=only,
        )

    def make_a_pass(self, at: datetime | None = None) -> Pass:
        """One pass, at this time, and the looks that it asks for."""
        if at:
            self.clock.now = at
        done = self.reconciler.run()
        self.look_at_queued_jobs()
        return done

    def look_at_queued_jobs(self) -> list[str]:
        """The ARNs of the jobs that were looked at."""
        looked_at = []
        while self.work.waiting():
            arn = self.work.take()
            assert arn
            self.pipeline.look_again(arn)
            self.work.done(arn)
            looked_at.append(arn)
        return looked_at
