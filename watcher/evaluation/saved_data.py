"""Finds the data for a command: by a job's name or ARN, a place on S3, or a folder.

The data are the job's tensors or, if it saves none, its metrics in CloudWatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rules import Collection, Rule
from watcher.arn import is_arn
from watcher.aws.accounts import Accounts
from watcher.aws.metrics import Metrics
from watcher.debug_output.event_files import SavedStep, UnreadableStep, Wanted
from watcher.debug_output.places import holds_debug_output, nearest
from watcher.debug_output.reader import DebugOutput, Reader, of_job
from watcher.debug_output.storage import Folder, S3Prefix, Storage
from watcher.errors import NotFound, UsageError
from watcher.evaluation import feed
from watcher.evaluation.steps import JobMetrics
from watcher.jobs.find import find_job
from watcher.model import JobSnapshot, RuleConfiguration, RuleFamily
from watcher.policy import evaluated_rules


@dataclass(frozen=True, slots=True)
class SavedData:
    name: str
    """The job's name, or the place as it was given."""
    output: DebugOutput | JobMetrics
    job: JobSnapshot | None = None
    """None if only the place is known."""

    @property
    def tensors(self) -> DebugOutput:
        """Raises `UsageError` if there are none."""
        if isinstance(self.output, JobMetrics):
            raise UsageError(_saves_nothing(self.name, self.job))
        return self.output

    @property
    def ended(self) -> bool:
        """Whether no step will follow. A place without a known job counts as complete."""
        if isinstance(self.output, JobMetrics):
            return self.output.ended
        return self.job is None or self.job.ended

    def collections(self) -> Mapping[str, Collection] | None:
        """The collections that are saved; None while nothing is."""
        if isinstance(self.output, JobMetrics):
            return self.output.collections()
        found = self.output.collections()
        return found.by_name if found else None

    def note(self, rule: Rule) -> str:
        """What to add to a verdict on metrics, after `read`; empty for tensors."""
        return self.output.note(rule) if isinstance(self.output, JobMetrics) else ""

    def read(self, wanted: Wanted | None = None) -> Iterator[SavedStep]:
        """All saved steps in order of step, then worker; of a job in progress, only the complete steps. A
        step that cannot be read is logged and skipped."""
        if isinstance(self.output, JobMetrics):
            yield from self.output.steps(wanted=wanted or bool)
            return
        for one in Reader(self.output).read(wanted=wanted, ended=self.ended):
            if isinstance(one, UnreadableStep):
                feed.log_unreadable(one)
            else:
                yield one

    def parameters(self, rule: str) -> Mapping[str, str]:
        """The parameters of the job's own rule, by the name of its configuration or of the rule; empty if the
        job does not have it. Raises `UsageError` if the job has the rule more than once."""
        own = [each for each in self.job.rules if each.family is RuleFamily.DEBUGGER] if self.job else []
        found = [each for each in own if each.name == rule] or [each for each in own if each.invokes == rule]
        if len(found) > 1:
            raise UsageError(f"{self.name} has {rule} as {_listed(found)}: name one of these as the rule")
        return found[0].parameters if found else {}


def _listed(rules: list[RuleConfiguration]) -> str:
    return ", ".join(rule.name for rule in rules)


def find(place: str, accounts: Accounts, clock: Callable[[], datetime]) -> SavedData:
    """A name with a slash, or of an existing folder, is a place; any other is that of a job.

    Raises `UsageError` if no debug output lies there, with the places near it that have some. A folder needs
    no request to AWS.
    """
    if place.startswith("s3://"):
        storage = S3Prefix(accounts.home.s3, place)
        if not _holds_something(storage, place):
            bucket, _, path = place.removeprefix("s3://").partition("/")
            root = S3Prefix(accounts.home.s3, f"s3://{bucket}")
            hint = _did_you_mean(root, path, f"s3://{bucket}/")
            raise UsageError(f"no debug output lies at {place}{hint}")
        return SavedData(place, DebugOutput(storage))
    folder = Path(place)
    if folder.is_dir() or ("/" in place and not is_arn(place)):
        if not holds_debug_output(Folder(folder)):
            here = folder.resolve()
            top = here.parents[min(len(here.parents), _LEVELS_UP) - 1] if here.parents else here
            hint = _did_you_mean(Folder(top), str(here.relative_to(top)), f"{top}/".replace("//", "/"))
            nothing = "no debug output lies at" if folder.is_dir() else "there is no folder"
            raise UsageError(f"{nothing} {place}{hint}")
        return SavedData(place, DebugOutput(Folder(folder)))
    return _of_job(place, accounts, clock)


def _holds_something(storage: S3Prefix, place: str) -> bool:
    try:
        return holds_debug_output(storage)
    except NotFound as error:
        raise UsageError(f"{place}: there is no such bucket") from error


def _did_you_mean(root: Storage, path: str, prefix: str) -> str:
    near = [prefix + found for found in nearest(root, path)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


_LEVELS_UP = 2
"""How far above a local folder its neighbours are looked for."""


def _of_job(name: str, accounts: Accounts, clock: Callable[[], datetime]) -> SavedData:
    try:
        job = find_job(accounts, name)
    except UsageError as error:
        raise UsageError(f"{error}; and there is no folder of that name") from error
    aws = accounts.of(job.arn)
    output = of_job(aws.s3, job) if job.debug_output else None
    if output and (not evaluated_rules.reads_metrics(job) or output.collections()):
        return SavedData(job.name, output, job)
    if job.metrics or job.final_metrics:
        return SavedData(job.name, JobMetrics(Metrics(aws), job, clock), job)
    raise UsageError(f"{_saves_nothing(name, job)}, and it has no metrics")


def _saves_nothing(name: str, job: JobSnapshot | None) -> str:
    if job and job.debug_output:
        return f"{name} has saved no tensors in {job.debug_output}"
    return f"{name} saves no tensors: it was started without a DebugHookConfig"
