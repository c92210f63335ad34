"""Finds training jobs by the names or ARNs that a command is given."""

from __future__ import annotations

from collections.abc import Sequence

from watcher.arn import TRAINING_JOB_ARN, is_arn, job_name
from watcher.aws.accounts import Accounts
from watcher.aws.sagemaker import TrainingJobs
from watcher.errors import NotFound, UsageError
from watcher.model import JobSnapshot


def find_job(accounts: Accounts, name: str) -> JobSnapshot:
    """The job of this name or ARN. A name is looked for in every account and region.

    Raises `UsageError` if there is no such job or more than one, and `AwsError`.
    """
    if is_arn(name):
        return _by_arn(accounts, name)
    found = []
    for place in accounts.places:
        try:
            found.append(TrainingJobs(place).describe(name))
        except NotFound:
            continue
    match found:
        case [job]:
            return job
        case []:
            where = ", ".join(place.name for place in accounts.places)
            raise UsageError(f"there is no training job {name} in {where}: check the name and the region")
        case _:
            arns = " or ".join(job.arn for job in found)
            raise UsageError(f"several training jobs are named {name}: give the ARN, {arns}")


def _by_arn(accounts: Accounts, arn: str) -> JobSnapshot:
    if not TRAINING_JOB_ARN.fullmatch(arn):
        raise UsageError(f"there is no training job {arn}: this is not the ARN of a training job")
    try:
        job = TrainingJobs(accounts.of(arn)).describe(job_name(arn))
    except NotFound as error:
        raise UsageError(f"there is no training job {arn}: check the ARN") from error
    if job.arn != arn:
        raise UsageError(
            f"{arn} is not in this account and region: here it is {job.arn}. "
            "To reach another account, add it as an [[account]]"
        )
    return job


def find_jobs(accounts: Accounts, names: Sequence[str]) -> list[JobSnapshot]:
    """The jobs of these names or ARNs, each once. Raises as `find_job` does, if any of them is wrong."""
    return [find_job(accounts, name) for name in dict.fromkeys(names)]
