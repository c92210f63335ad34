"""Watcher's own evaluation of a job's rules, on the tensors that the job has saved so far.

One `advance` reads what is new, feeds it to the rules that have not come to an end, and returns how far
they are: small, to be stored, and enough to go on from in another process.

numpy comes with it: the daemon imports this module with the first job that has a rule to evaluate.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog

import rules
from rules import Mode, Rule, Status, Step, Verdict
from rules.similar_across_runs import SimilarAcrossRuns
from rules.stalled_training_rule import StalledTrainingRule
from watcher import policy, rule_log
from watcher.aws.accounts import Accounts
from watcher.aws.collections import SavedCollections
from watcher.aws.event_files import SavedStep, UnreadableStep
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.storage import S3Prefix
from watcher.aws.tensors import DebugOutput, Reader
from watcher.config import Rules as RuleSettings
from watcher.errors import NotFound, WatcherError
from watcher.model import (
    IN_PROGRESS,
    ISSUES_FOUND,
    NO_ISSUES_FOUND,
    NOT_EVALUATED,
    RULE_ERROR,
    Evaluation,
    JobSnapshot,
    Outcome,
    RuleSource,
)
from watcher.store.base import JobRecord

log = structlog.get_logger(__name__)

SHORTEST, LONGEST = 5.0, 120.0
"""Seconds between two looks at a job's debug output."""
STEPS_A_LOOK = 5
"""So many new steps are worth a look."""
REMEMBERED = 1000
"""Jobs whose collections are kept in memory."""


Tell = Callable[[JobSnapshot, str, Sequence[rule_log.Line], datetime], None]
"""Job, rule, lines, time."""


class Evaluator:
    """`advance` raises `WatcherError`; what was stored before stays, and the next attempt goes on from it.

    Safe to use from several threads, for different jobs.
    """

    def __init__(
        self,
        accounts: Accounts,
        settings: RuleSettings,
        clock: Callable[[], datetime],
        tell: Tell | None = None,
    ) -> None:
        """`tell` is given the lines that a rule's processing job would write to its log."""
        self._accounts, self._settings, self._clock, self._tell = accounts, settings, clock, tell
        self._collections: OrderedDict[str, SavedCollections] = OrderedDict()

    def advance(self, record: JobRecord) -> Evaluation:
        """Go on with a job's evaluation as it is in the store."""
        job, before = record.snapshot, record.evaluation or Evaluation(due_at=None)
        known = {outcome.rule: outcome for outcome in before.outcomes if outcome.final}
        live = {name: rule for name, rule in _load(job, self._settings) if name not in known}
        vanished = not record.watching and not job.ended
        if not live or vanished:
            return Evaluation(due_at=None, outcomes=before.outcomes)
        now = self._clock()
        others = {name: self._other_trial(rule, job) for name, rule in live.items()}
        run = _Run(live, self._output(job), others, before)
        if collections := self._collections_of(job, run.reader):
            run.read(collections, ended=job.ended)
        if job.secondary_status == "Training":  # elsewhere, no new tensor is nothing to wonder about
            run.tick(now, job.started_at or now)
        verdicts = {name: run.verdict(name, ended=job.ended) for name in live}
        outcomes = {**known, **{name: _outcome(name, verdict, now) for name, verdict in verdicts.items()}}
        going_on = not job.ended and any(not outcome.final for outcome in outcomes.values())
        interval = next_interval(before.interval, run.steps)
        if self._tell:
            for name, rule in live.items():
                begins = () if before.cursor else (rule_log.loading(run.place), rule_log.started(rule, 0))
                if lines := (*begins, *rule_log.concluded(rule, name, verdicts[name])):
                    self._tell(job, name, lines, now)
        return Evaluation(
            due_at=now + timedelta(seconds=interval) if going_on else None,
            interval=interval,
            cursor=run.cursor,
            states=run.states() if going_on else {},
            outcomes=tuple(outcomes.values()),
        )

    def _output(self, job: JobSnapshot) -> DebugOutput:
        return DebugOutput(S3Prefix(self._accounts.of(job.arn).s3, job.debug_output))

    def _other_trial(self, rule: Rule, job: JobSnapshot) -> DebugOutput | None:
        """What a rule is to compare the job with; None where that job is gone, or saved nothing."""
        if not isinstance(rule, SimilarAcrossRuns):
            return None
        try:
            other = TrainingJobs(self._accounts.of(job.arn)).describe(rule.other_trial)
        except NotFound:
            return None
        return self._output(other) if other.debug_output else None

    def _collections_of(self, job: JobSnapshot, reader: Reader) -> SavedCollections | None:
        """They are written once: a look at a quiet job is a single request."""
        if known := self._collections.get(job.arn):
            return known
        found = reader.collections()
        if found and found.complete:
            self._collections[job.arn] = found
            while len(self._collections) > REMEMBERED:
                self._collections.popitem(last=False)
        return found


class _Run:
    """The rules of one job, and the reading of its debug output."""

    def __init__(
        self,
        live: Mapping[str, Rule],
        output: DebugOutput,
        others: Mapping[str, DebugOutput | None],
        before: Evaluation,
    ) -> None:
        self._live, self._output, self._others = live, output, others
        self.reader = Reader(output, json.loads(before.cursor) if before.cursor else None)
        self._ended: dict[str, Verdict] = {}
        self.steps = 0
        """How many new ones were read."""
        for name, rule in live.items():
            with self._by_itself(name):
                if name in before.states:
                    rule.restore(json.loads(before.states[name]))

    @contextmanager
    def _by_itself(self, name: str) -> Iterator[None]:
        """A rule may be anybody's: what it raises ends its own evaluation, and no other's."""
        try:
            yield
        except WatcherError:  # its input could not be read: that may pass
            raise
        except Exception as error:
            log.exception("rule_failed", rule=name)
            failure = f"Watcher's own evaluation failed with {type(error).__name__}: {error}"
            self._ended[name] = Verdict(Status.ERROR, reason="failed", explanation=failure)

    @property
    def place(self) -> str:
        """Where the rules' input lies."""
        return self._output.uri

    @property
    def cursor(self) -> str:
        return json.dumps(self.reader.cursor)

    def read(self, collections: SavedCollections, *, ended: bool) -> None:
        """Feed the rules what is new. A rule sees each step once, as its first worker saved it."""
        for name, rule in self._going():
            with self._by_itself(name):
                rule.learn(collections.by_name)
                for number in rule.recalls():
                    if seen := _first(self._output, number, rule):
                        rule.recall(_step(seen), seen.tensors)
        fed = None
        for one in self.reader.read(wanted=self._wanted, ended=ended):
            if isinstance(one, UnreadableStep):
                log.warning("unreadable_step", step=one.step, worker=one.worker, error=one.reason)
            elif one.step != fed and not one.late:
                fed = one.step
                self.steps += 1
                for name, rule in self._going():
                    with self._by_itself(name):
                        self._compare(name, rule, one.step)
                        if verdict := rule.observe(_step(one), one.tensors):
                            self._ended[name] = verdict

    def tick(self, now: datetime, began: datetime) -> None:
        for name, rule in self._going():
            with self._by_itself(name):
                if isinstance(rule, StalledTrainingRule):
                    rule.training_began(began.timestamp())
                if verdict := rule.tick(now.timestamp()):
                    self._ended[name] = verdict

    def verdict(self, name: str, *, ended: bool) -> Verdict:
        if name not in self._ended:
            with self._by_itself(name):
                return self._live[name].verdict(ended=ended)
        return self._ended[name]

    def states(self) -> dict[str, str]:
        return {name: json.dumps(rule.state()) for name, rule in self._going()}

    def _going(self) -> list[tuple[str, Rule]]:
        return [(name, rule) for name, rule in self._live.items() if name not in self._ended]

    def _wanted(self, tensor: str) -> bool:
        return any(rule.wants(tensor) for rule in self._live.values())

    def _compare(self, name: str, rule: Rule, step: int) -> None:
        other = self._others.get(name)
        if isinstance(rule, SimilarAcrossRuns) and other and (one := _first(other, step, rule)):
            rule.compare_with(step, one.tensors)


def _first(output: DebugOutput, step: int, rule: Rule) -> SavedStep | None:
    """What the first worker saved at a step; None where it cannot be read (any more)."""
    return next((one for one in output.at(step, rule.wants) if isinstance(one, SavedStep)), None)


def _step(saved: SavedStep) -> Step:
    return Step(saved.step, Mode(saved.mode), saved.mode_step)


def _load(job: JobSnapshot, settings: RuleSettings) -> Iterator[tuple[str, Rule]]:
    for configuration in policy.local_rules(job, settings):
        try:
            yield configuration.name, rules.load(configuration.invokes, configuration.parameters)
        except rules.RuleError as error:
            # A custom rule, or parameters that the lint has told of already.
            log.debug("rule_not_evaluated", rule=configuration.name, error=str(error))
        except Exception:
            log.exception("rule_failed", rule=configuration.name)


def _outcome(name: str, verdict: Verdict, now: datetime) -> Outcome:
    """In SageMaker's words, as far as it has one."""
    status = {
        Status.ISSUES_FOUND: ISSUES_FOUND,
        Status.NO_ISSUES_FOUND: NO_ISSUES_FOUND,
        Status.NOT_EVALUATED: NOT_EVALUATED,
        Status.ERROR: RULE_ERROR,
    }.get(verdict.status, IN_PROGRESS)
    if status == IN_PROGRESS:
        return Outcome(name, RuleSource.LOCAL, status)
    return Outcome(name, RuleSource.LOCAL, status, verdict.explanation, updated_at=now, step=verdict.step)


def next_interval(last: float, steps: int) -> float:
    """Seconds until the next look, from the last interval and how many steps were new after it. Pure.

    Aims at a handful of new steps a look; a job that saves nothing is looked at less and less.
    """
    if not steps:
        return min(max(last * 2, SHORTEST), LONGEST)
    return min(max(last * STEPS_A_LOOK / steps, SHORTEST), LONGEST)
