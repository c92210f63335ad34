"""Finds the job that a command names, in the store or at SageMaker.

A job is named by its name, its ARN, a beginning that no other job's name has, or `latest`. What the store
does not know is looked for at SageMaker; so is everything if there is no store.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from watcher.arn import is_arn
from watcher.cli.terminal import existing_store
from watcher.errors import NoSuchJob, NothingToDo, StoreError, UsageError, WatcherError

if TYPE_CHECKING:
    from watcher.aws.accounts import Accounts
    from watcher.config.settings import Config
    from watcher.jobs.find import DescribedJob
    from watcher.store.base import Store


def described_job(word: str, settings: Config, accounts: Accounts) -> DescribedJob:
    """The job that `word` names, as SageMaker describes it now.

    Raises `UsageError` if there is no such job, or several begin with `word`; and `AwsError`.
    """
    from watcher.jobs.find import find_described

    found = _with_store(word, settings, accounts)
    return find_described(accounts, found) if isinstance(found, str) else found


def whole_name(word: str, settings: Config, accounts: Accounts) -> str:
    """The name or ARN of the job that `word` names or abbreviates. `word` itself if it is a place on S3, a
    folder, or names no job. Raises as `described_job` does, except for what names no job."""
    if "/" in word or Path(word).is_dir():
        return word
    found = _with_store(word, settings, accounts)
    return found if isinstance(found, str) else found.snapshot.arn


def completed(word: str, store: Store, accounts: Accounts) -> str:
    """The same with a store, for a job."""
    found = _found(word, store, accounts)
    return found if isinstance(found, str) else found.snapshot.arn


def without_incident(word: str, settings: Config, unknown: NoSuchJob) -> WatcherError:
    """The error about a job that the store does not know, for a command that changes its incident: SageMaker
    may have the job. `unknown` is the store's own, and is returned if SageMaker cannot be asked either."""
    from watcher.aws.accounts import Accounts
    from watcher.jobs.find import find_job

    try:
        job = find_job(Accounts(settings.region, settings.account), word)
    except WatcherError:
        return unknown
    return NothingToDo(f"{job.name} has no incident: Watcher has not seen this job")


def _with_store(word: str, settings: Config, accounts: Accounts) -> str | DescribedJob:
    try:
        with existing_store(settings) as store:
            return _found(word, store, accounts)
    except StoreError:
        return _found(word, None, accounts)


def _found(word: str, store: Store | None, accounts: Accounts) -> str | DescribedJob:
    """The job, or its name or ARN if that is known without describing it. A job of exactly this name comes
    first, whether the store knows it or only SageMaker does. `word` itself if it names no job."""
    from watcher.jobs.find import find_described, job_beginning, newest_job
    from watcher.store.lookup import LATEST, known_name

    if is_arn(word) or (store and store.jobs(word)):
        return word
    name = ambiguous = None
    if store:
        try:
            name = known_name(store, word)
        except UsageError as error:
            ambiguous = error
    if word == LATEST:
        return name or newest_job(accounts) or word
    try:
        return find_described(accounts, word)
    except NoSuchJob:
        if ambiguous:
            raise ambiguous from None
        return name or job_beginning(accounts, word) or word
