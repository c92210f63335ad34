"""Everything that Watcher raises on purpose.

    WatcherError
    ├── ConfigError               exit code 2: the key, the value, how to fix it
    ├── UsageError                exit code 2: an argument names what does not exist or cannot be used
    │   ├── OptionsError          options that are wrong in themselves: the command's help is named, too
    │   └── NoSuchJob             the store, or SageMaker, has no training job of this name
    ├── NothingToDo               exit code 1: what was asked for is so already, or has nothing to act on
    ├── StoreError                the store cannot be read or written
    │   ├── StoreTooNew           written by a later version
    │   └── LeaseLost             another process handles this job now
    ├── AwsError                  any refusal of an AWS API, translated at the edge
    │   ├── NotFound              it does not exist, or no longer
    │   ├── AccessDenied          a permission is missing: which action
    │   ├── CredentialsError      none, expired or invalid credentials
    │   └── Unavailable           throttled, a 5xx, or no connection: may pass
    └── DeliveryError             a destination did not take a message
        ├── Retry                 may pass: when to try again, whether it may have arrived
        ├── CannotTell            the destination cannot say whether a message has arrived
        └── Undeliverable         refused: passes only when somebody mends something
            ├── FormRefused       refused for its form: a shorter one may be taken
            └── MessageGone       the message that is to be changed was deleted

Vendor errors (botocore's, slack_sdk's, sqlite3's) are translated into these where they arise.
"""

from __future__ import annotations


class WatcherError(Exception):
    """One sentence for a person: what is wrong, and what to do about it."""


class ConfigError(WatcherError):
    pass


class UsageError(WatcherError):
    pass


class OptionsError(UsageError):
    pass


class NoSuchJob(UsageError):
    pass


def install_extra(extra: str) -> str:
    """How to install an extra. The distribution is in no index, so it is installed from its checkout."""
    return f"in a checkout of Watcher, run: pip install '.[{extra}]'"


class NothingToDo(WatcherError):
    pass


class StoreError(WatcherError):
    pass


class StoreTooNew(StoreError):
    pass


class LeaseLost(StoreError):
    pass


class AwsError(WatcherError):
    """`operation` is the API's name (`sagemaker:Search`), so that the message says what to allow."""

    def __init__(self, message: str, *, operation: str) -> None:
        super().__init__(message)
        self.operation = operation


class NotFound(AwsError):
    pass


class AccessDenied(AwsError):
    pass


class CredentialsError(AwsError):
    pass


class Unavailable(AwsError):
    pass


class DeliveryError(WatcherError):
    pass


class Retry(DeliveryError):
    """`after`: seconds to wait, None if the destination did not say. `uncertain`: it may have arrived."""

    def __init__(self, message: str, *, after: float | None = None, uncertain: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.uncertain = uncertain


class CannotTell(DeliveryError):
    pass


class Undeliverable(DeliveryError):
    pass


class FormRefused(Undeliverable):
    pass


class MessageGone(Undeliverable):
    pass
