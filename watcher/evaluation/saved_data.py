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
from watcher.debug_output.reader import DebugOutput, Reader, of_job
from watcher.debug_output.storage import Folder, S3Prefix, Storage
from watcher.errors import UsageError
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

    Raises `UsageError` if there is nothing. A folder needs no request to AWS.
    """
    if place.startswith("s3://"):
        return SavedData(place, DebugOutput(_checked(S3Prefix(accounts.home.s3, place))))
    folder = Path(place)
    if folder.is_dir():
        return SavedData(place, DebugOutput(_checked(Folder(folder))))
    if "/" in place and not is_arn(place):
        raise UsageError(f"there is no folder {place}")
    return _of_job(place, accounts, clock)


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


def _checked(storage: Storage) -> Storage:
    """Refuses the folder above the debug output, which would look like a job that saved nothing."""
    if any(True for _ in storage.list("debug-output/")):
        raise UsageError(f"the tensors lie one folder deeper: {storage.uri}/debug-output")
    return storage
