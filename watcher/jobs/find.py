"""Finds training jobs by the names or ARNs that a command is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from watcher.arn import TRAINING_JOB_ARN, is_arn, job_name
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs, parse_job
from watcher.aws.session import Aws
from watcher.errors import AccessDenied, NoSuchJob, NotFound, UsageError
from watcher.model import JobSnapshot
from watcher.store.lookup import SHOWN_MATCHES, ambiguous


@dataclass(frozen=True, slots=True)
class DescribedJob:
    """A training job as SageMaker describes it now."""

    snapshot: JobSnapshot
    record: Mapping[str, Any]
    """The answer of `DescribeTrainingJob`, which has more than the snapshot."""
    aws: Aws
    """The job's account and region."""


def find_job(accounts: Accounts, name: str) -> JobSnapshot:
    """The job of this name or ARN. A name is looked for in every account and region.

    Raises `NoSuchJob`; `UsageError` if there are several or the ARN is of another place; and `AwsError`.
    """
    return find_described(accounts, name).snapshot


def find_described(accounts: Accounts, name: str) -> DescribedJob:
    """The same with the whole record."""
    if is_arn(name):
        return _by_arn(accounts, name)
    found = []
    for place in accounts.places:
        with suppress(NotFound):
            found.append(_described(place, name))
    match found:
        case [job]:
            return job
        case []:
            where = ", ".join(place.name for place in accounts.places)
            raise NoSuchJob(f"there is no training job {name} in {where}: check the name and the region")
        case _:
            arns = " or ".join(job.snapshot.arn for job in found)
            raise UsageError(f"several training jobs are named {name}: give the ARN, {arns}")


def _described(place: Aws, name: str) -> DescribedJob:
    record = TrainingJobs(place).record(name)
    return DescribedJob(parse_job(record), record, place)


def _by_arn(accounts: Accounts, arn: str) -> DescribedJob:
    if not TRAINING_JOB_ARN.fullmatch(arn):
        raise NoSuchJob(f"there is no training job {arn}: this is not the ARN of a training job")
    try:
        job = _described(accounts.of(arn), job_name(arn))
    except NotFound as error:
        raise NoSuchJob(f"there is no training job {arn}: check the ARN") from error
    if job.snapshot.arn != arn:
        raise UsageError(
            f"{arn} is not in this account and region: here it is {job.snapshot.arn}. "
            "To reach another account, add it as an [[account]]"
        )
    return job


def find_jobs(accounts: Accounts, names: Sequence[str]) -> list[JobSnapshot]:
    """The jobs of these names or ARNs, each once. Raises as `find_job` does, if any of them is wrong."""
    return [find_job(accounts, name) for name in dict.fromkeys(names)]


def newest_job(accounts: Accounts) -> str | None:
    """The ARN of the job that was created last, in any account and region; None if there is no job."""
    newest = [found for place in accounts.places if (found := TrainingJobs(place).newest())]
    return max(newest, key=lambda found: found[1])[0] if newest else None


def job_beginning(accounts: Accounts, prefix: str) -> str | None:
    """The ARN of the only job whose name begins with `prefix`, in any account and region; None if there is
    none, or `Search` is not allowed. Raises `UsageError` if there are several."""
    try:
        found = chain.from_iterable(TrainingJobs(place).arns_beginning(prefix) for place in accounts.places)
        # A job that is created meanwhile can be on two pages.
        arns = list(dict.fromkeys(islice(found, SHOWN_MATCHES + 1)))
    except AccessDenied:
        return None
    if len(arns) > 1:
        raise ambiguous(prefix, map(job_name, arns), "jobs", complete=len(arns) <= SHOWN_MATCHES)
    return arns[0] if arns else None
