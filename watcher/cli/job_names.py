"""Completes what a command was given as a job, for commands that ask SageMaker about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from watcher.arn import is_arn
from watcher.cli.terminal import existing_store
from watcher.errors import StoreError, UsageError

if TYPE_CHECKING:
    from watcher.aws.accounts import Accounts
    from watcher.config.settings import Config
    from watcher.store.base import Store


def whole_name(word: str, settings: Config, accounts: Accounts) -> str:
    """The name or ARN of the job that `word` names or abbreviates. `word` itself if it is a place on S3, a
    folder, or no abbreviation that the store knows; or if there is no store."""
    if "/" in word or Path(word).is_dir():
        return word
    try:
        with existing_store(settings) as store:
            return completed(word, store, accounts)
    except StoreError:
        return word


def completed(word: str, store: Store, accounts: Accounts) -> str:
    """The same with a store. A job of exactly this name comes first, whether the store knows it or only
    SageMaker does. Raises `UsageError` if several jobs begin with `word`."""
    from watcher.jobs.find import find_job
    from watcher.store.lookup import known_name

    if is_arn(word) or store.jobs(word):
        return word
    ambiguous: UsageError | None = None
    try:
        name = known_name(store, word)
        if name is None:
            return word
    except UsageError as error:
        name, ambiguous = word, error
    try:
        find_job(accounts, word)
    except UsageError:
        if ambiguous:
            raise ambiguous from None
        return name
    return word
