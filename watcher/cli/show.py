"""`show`: everything that is known of one job, from the store and from SageMaker."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    Verbose,
    err,
    existing_store,
    load_settings,
    now,
    out,
    print_json,
)
from watcher.errors import NoSuchJob, StoreError, UsageError, WatcherError

if TYPE_CHECKING:
    from watcher.aws.accounts import Accounts
    from watcher.cli.show_document import Shown
    from watcher.config.settings import Config
    from watcher.jobs.find import DescribedJob
    from watcher.model import AlertEvidence, JobSnapshot
    from watcher.store.base import JobRecord, Store

MAX_FINDINGS_READ = 8
"""Of how many findings, the newest, the deciding values are read again."""


def show(
    job: Annotated[str, typer.Argument(help="The job's name or ARN, the beginning of its name, or latest.")],
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show one job: phases, cost, rules, findings and their routes."""
    settings = load_settings(config, verbose=verbose)
    from watcher.aws.accounts import Accounts
    from watcher.aws.session import IMPATIENT
    from watcher.cli import job_tables
    from watcher.cli.show_document import document
    from watcher.store.memory import MemoryStore

    with ExitStack() as opened:
        store: Store = MemoryStore()
        no_store: StoreError | None = None
        try:
            store = opened.enter_context(existing_store(settings))
        except StoreError as error:
            no_store = error
        accounts = Accounts(settings.region, settings.account, config=IMPATIENT)
        with err().status(f"reading {job} …"):
            read = _Reader(store, no_store, settings, accounts).read(job)
        shown = document(read, store, settings, now())
    if as_json:
        print_json(shown)
    else:
        job_tables.print_job(shown, now(), out())


@dataclass(frozen=True, slots=True)
class _Reader:
    store: Store
    no_store: StoreError | None
    """Why `store` is empty, if the real one could not be opened."""
    settings: Config
    accounts: Accounts

    def read(self, word: str) -> Shown:
        """The run that `word` names, with what SageMaker says of it now.

        Raises `UsageError` if neither the store nor SageMaker has it, and `StoreError` if there is no store
        and SageMaker cannot be asked.
        """
        from watcher.store.lookup import find_run

        try:
            record = find_run(self.store, word)
        except UsageError as unknown:
            if self.store.jobs(word):  # several jobs of exactly this name
                raise
            return self._fresh(self._unknown(word, unknown))
        try:
            described = self._described(word, record.snapshot)
        except NoSuchJob:
            return _stored(record, "SageMaker no longer has this job: shown as the store has it")
        except WatcherError as error:
            return _stored(record, f"SageMaker: {error}; shown as the store has it")
        job = described.snapshot
        if "@" in word and job.run != record.snapshot.run:
            created = f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"
            return _stored(record, f"SageMaker has only the run that was created at {created}")
        return self._fresh(described)

    def _fresh(self, described: DescribedJob) -> Shown:
        from watcher.cli.show_document import Shown
        from watcher.store.views import unknown_run

        job = described.snapshot
        stored = self.store.job(job.run)
        if stored:
            record = replace(stored, snapshot=_newest(job, stored.snapshot))
        else:
            record = unknown_run(job, now())
        not_read = (f"findings: {self.no_store}",) if self.no_store else ()
        values = self._values(record.snapshot)
        return Shown(record, stored is not None, described.record, not_read, values)

    def _unknown(self, word: str, unknown: UsageError) -> DescribedJob:
        """The job that only SageMaker knows."""
        from watcher.cli.job_names import described_job

        try:
            return described_job(word, self.settings, self.accounts)
        except NoSuchJob as error:
            raise (error if self.no_store else unknown) from None
        except UsageError:
            raise
        except WatcherError as error:
            asked = f"SageMaker could not be asked: {error}"
            if self.no_store:
                raise StoreError(f"{self.no_store}; {asked}") from None
            raise UsageError(f"{unknown}; {asked}") from None

    def _described(self, word: str, job: JobSnapshot) -> DescribedJob:
        """The job of exactly this name; or `job`, whose name begins so."""
        from watcher.jobs.find import find_described
        from watcher.store.lookup import LATEST

        if word not in (job.name, job.arn, job.run, LATEST):
            with suppress(NoSuchJob):
                return find_described(self.accounts, word)
        return find_described(self.accounts, job.arn)

    def _values(self, job: JobSnapshot) -> dict[str, AlertEvidence]:
        from concurrent.futures import ThreadPoolExecutor

        from watcher.alerts.evidence import Gatherer
        from watcher.alerts.kinds import KINDS
        from watcher.jobs.earlier_runs import EarlierRuns

        decided = [each for each in self.store.findings(job.run) if KINDS[each.kind].has_values]
        if not decided:
            return {}
        gatherer = Gatherer(self.accounts, self.settings.rules, now, since=EarlierRuns(self.store).since)
        with ThreadPoolExecutor(MAX_FINDINGS_READ) as pool:
            newest = decided[:MAX_FINDINGS_READ]
            read = pool.map(lambda finding: gatherer.values(finding, job), newest)
            return {finding.id: evidence for finding, evidence in zip(newest, read, strict=True)}


def _stored(record: JobRecord, why: str) -> Shown:
    from watcher.cli.show_document import Shown

    return Shown(record, known=True, description=None, not_read=(why,))


def _newest(described: JobSnapshot, stored: JobSnapshot) -> JobSnapshot:
    """The described run with what only the store has: its tags, and Watcher's own outcomes."""
    from watcher.model import Judge

    own = tuple(outcome for outcome in stored.outcomes if outcome.judge is Judge.WATCHER)
    return replace(described, tags=stored.tags, outcomes=(*described.outcomes, *own))
