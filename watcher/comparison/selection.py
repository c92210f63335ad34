"""Finds the runs to compare: by name, or those of an experiment, of a tuning job, or with a tag.

One `Search` returns a hundred of them, with all that a comparison needs but the curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from watcher.arn import is_arn
from watcher.aws.accounts import Accounts
from watcher.aws.experiments import Component, Experiments, Tuning
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.comparison.runs import Measured, Run, Source
from watcher.errors import AccessDenied, NotFound, UsageError
from watcher.model import JobSnapshot


def named(words: Sequence[str], accounts: Accounts, describe: Callable[[str], JobSnapshot]) -> list[Run]:
    """The jobs that these words name, each once. `describe` finds what is no whole name, or of several jobs.

    Raises what `describe` raises, and `AwsError`.
    """
    names = [word for word in dict.fromkeys(words) if not is_arn(word)]
    found: dict[str, list[JobSnapshot]] = {}
    for place in accounts.places:
        for job in _by_name(place, names):
            found.setdefault(job.name, []).append(job)
    jobs = {}
    for word in dict.fromkeys(words):
        match found.get(word, ()):
            case [job]:
                pass
            case _:
                job = describe(word)
        jobs[job.arn] = job
    return [_run(job) for job in jobs.values()]


def _by_name(place: Aws, names: Sequence[str]) -> Iterator[JobSnapshot]:
    try:
        for page in TrainingJobs(place).named(names):
            yield from page
    except AccessDenied:  # DescribeTrainingJob, which is asked next, is a more common permission
        return


def with_tags(tags: Sequence[tuple[str, str]], accounts: Accounts) -> list[Run]:
    """The jobs that carry all of these tags, newest first. Raises `AwsError`."""
    return [
        _run(job)
        for place in accounts.places
        for page in TrainingJobs(place).tagged(dict(tags))
        for job in page
    ]


def of_tuning_job(name: str, accounts: Accounts) -> tuple[list[Run], Tuning]:
    """The jobs that a tuning job started, and its objective. Raises `UsageError` if there is none of this
    name, and `AwsError`."""
    for place in accounts.places:
        try:
            tuning = Experiments(place).tuning_job(name)
        except NotFound:
            continue
        jobs = (job for page in TrainingJobs(place).matching("TuningJobArn", tuning.arn) for job in page)
        return [_run(job) for job in jobs], tuning
    where = ", ".join(place.name for place in accounts.places)
    raise UsageError(f"there is no tuning job {name} in {where}: check the name and the region")


def of_experiment(name: str, accounts: Accounts) -> list[Run]:
    """The training jobs of all trials of an experiment, and what notebooks tracked there themselves.

    Raises `UsageError` if nothing belongs to an experiment of this name, and `AwsError`.
    """
    runs: dict[str, Run] = {}
    for place in accounts.places:
        components = [
            each for each in Experiments(place).components(name) if each.of_training or not each.source_arn
        ]
        for each, job in _with_jobs(place, components):
            run = _of_component(each, job)
            runs.setdefault(run.id, run)
    if not runs:
        where = ", ".join(place.name for place in accounts.places)
        raise UsageError(f"no run belongs to an experiment {name} in {where}: check the name and the region")
    return list(runs.values())


def _with_jobs(place: Aws, components: Iterable[Component]) -> Iterator[tuple[Component, JobSnapshot | None]]:
    """Each component with its training job. Search returns the records along with the components; those that
    it left out are asked for together."""
    components = list(components)
    missing = [each.source_arn for each in components if each.of_training and each.job is None]
    names = [arn.rpartition("/")[2] for arn in missing]
    jobs = {job.arn: job for page in TrainingJobs(place).named(names) for job in page} if names else {}
    for each in components:
        yield each, each.job or jobs.get(each.source_arn)


def _run(job: JobSnapshot) -> Run:
    return Run(
        id=job.arn,
        name=job.name,
        status=job.status,
        created_at=job.created_at,
        parameters=job.hyperparameters,
        began_at=job.started_at,
        ended_at=job.ended_at,
        job=job,
    )


def _of_component(component: Component, job: JobSnapshot | None) -> Run:
    summaries = {
        name: Measured(Source.EXPERIMENT, each.last, each.min, each.max)
        for name, each in component.metrics.items()
    }
    if job:
        return replace(_run(job), summaries=summaries)
    return Run(
        id=component.name,
        name=component.label,
        status=component.status,
        created_at=component.created_at,
        parameters=component.parameters,
        began_at=component.began_at,
        ended_at=component.ended_at,
        summaries=summaries,
    )
