"""Watcher's own evaluation of a job's rules, on what there is of it so far: its tensors or, where it saves
none, its metrics.

One `advance` reads what is new, feeds it to the rules that have not come to an end, and returns how far
they are: small, to be stored, and enough to go on from in another process. Metrics of many jobs are read
together.

numpy comes with it: the daemon imports this module with the first job that has a rule to evaluate.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

import rules
from rules import Collection, Mode, Rule, Status, Step, Verdict
from rules.similar_across_runs import SimilarAcrossRuns
from rules.stalled_training_rule import StalledTrainingRule
from watcher.aws.accounts import Accounts
from watcher.aws.metrics import Metrics
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Rules as RuleSettings
from watcher.debug_output.collections import SavedCollections
from watcher.debug_output.event_files import SavedStep, UnreadableStep, Wanted
from watcher.debug_output.reader import DebugOutput, Reader
from watcher.debug_output.storage import S3Prefix
from watcher.errors import NotFound, WatcherError
from watcher.evaluation.steps import Incomplete, MetricSteps, Steps, TensorSteps, of_another_worker
from watcher.logs import rule_log
from watcher.model import (
    IN_PROGRESS,
    ISSUES_FOUND,
    NO_ISSUES_FOUND,
    NOT_EVALUATED,
    RULE_ERROR,
    Evaluation,
    JobSnapshot,
    Outcome,
    Reads,
    RuleSource,
)
from watcher.policy import evaluated_rules
from watcher.store.base import JobRecord

log = structlog.get_logger(__name__)

SHORTEST, LONGEST = 5.0, 120.0
"""Seconds between two looks at what a job saves."""
STEPS_A_LOOK = 5
"""So many new steps are worth a look."""
A_LOOK_BACK = 240
"""So many values of each metric are read in one look at a job that is behind. It bounds the memory for
hundreds of jobs that have trained for days when Watcher starts."""
A_MINUTE = 60.0
"""Seconds in which metrics have one new value."""
SAVES_NOTHING = timedelta(minutes=10)
"""A job that trains for so long without a saved tensor is taken for one whose hook saves none: the SageMaker
SDK gives most jobs a hook configuration, with which today's TensorFlow and PyTorch containers do nothing."""
REMEMBERED = 1000
"""Jobs whose collections are kept in memory."""
MOST_STATE = 2_000_000
"""Characters of JSON that all rules of a job may remember together: some hundred for each tensor and rule. It
bounds what is read and written at every look."""


Tell = Callable[[JobSnapshot, str, Sequence[rule_log.Line], datetime], None]
"""Job, rule, lines, time."""


class Evaluator:
    """What was stored before an error stays, and the next attempt goes on from it.

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
        """Go on with the evaluation of a job that saves tensors, as it is in the store.

        Raises `WatcherError`.
        """
        job, before = record.snapshot, _before(record)
        live = self._live(job, before)
        if not live or _vanished(record):
            return Evaluation(due_at=None, outcomes=before.outcomes)
        now = self._clock()
        steps = TensorSteps(
            self._output(job),
            before.cursor,
            ended=job.ended,
            collections=lambda reader: self._collections_of(job, reader),
        )
        if (
            evaluated_rules.reads_metrics(job)
            and _has_saved_nothing(job, now)
            and steps.collections() is None
        ):
            return Evaluation(due_at=now, reads=Reads.METRICS, outcomes=before.outcomes)
        return self._advanced(job, before, live, steps, now)

    def advance_together(
        self, aws: Aws, records: Iterable[JobRecord]
    ) -> Iterator[tuple[JobRecord, Evaluation]]:
        """Go on with the evaluations of jobs of one account and region that read metrics.

        Raises `AwsError` where CloudWatch refuses them all.
        """
        now = self._clock()
        begun = []
        for record in records:
            job, before = record.snapshot, _before(record)
            before = replace(before, outcomes=(*before.outcomes, *self._unsuitable(job, before, now)))
            live = self._live(job, before)
            if not live or _vanished(record):
                yield record, replace(before, due_at=None, cursor="", states={})
            else:
                begun.append((record, before, live, MetricSteps(job, before.cursor, now, A_LOOK_BACK)))
        queries = [query for *_, live, steps in begun for query in steps.queries(_wanted(live, steps))]
        answers = Metrics(aws).read(queries)
        for record, before, live, steps in begun:
            try:
                steps.take(answers)
            except Incomplete as error:
                log.warning("metrics_incomplete", job=record.snapshot.name, error=str(error))
                yield record, replace(before, due_at=next_minute(now, A_MINUTE))
            else:
                after = self._advanced(record.snapshot, before, live, steps, now)
                yield record, replace(after, due_at=now) if after.due_at and steps.behind else after

    def _advanced(
        self, job: JobSnapshot, before: Evaluation, live: Mapping[str, Rule], steps: Steps, now: datetime
    ) -> Evaluation:
        run = _Run(live, steps, {name: self._other_trial(rule, job) for name, rule in live.items()}, before)
        if (collections := steps.collections()) is not None:
            run.read(collections)
        if job.secondary_status == "Training":  # elsewhere, no new step is nothing to wonder about
            run.tick(steps.known_until(now), job.started_at or now)
        states = run.states()
        verdicts = {name: run.verdict(name) for name in live}
        known = {outcome.rule: outcome for outcome in before.outcomes if outcome.final}
        judged = {
            name: _outcome(name, verdict, steps.note(live[name]), now) for name, verdict in verdicts.items()
        }
        outcomes = {**known, **judged}
        going_on = not steps.ended and any(not outcome.final for outcome in outcomes.values())
        if self._tell:
            for name, rule in live.items():
                begins = () if before.cursor else (rule_log.loading(steps.place), rule_log.started(rule, 0))
                if lines := (*begins, *rule_log.concluded(rule, name, verdicts[name])):
                    self._tell(job, name, lines, now)
        interval, due_at = next_look(before, run.steps, now)
        return Evaluation(
            due_at=due_at if going_on else None,
            reads=before.reads,
            interval=interval,
            cursor=steps.cursor,
            states=states if going_on else {},
            outcomes=tuple(outcomes.values()),
        )

    def _live(self, job: JobSnapshot, before: Evaluation) -> dict[str, Rule]:
        """The rules that have not come to an end, by the names of their configurations."""
        known = {outcome.rule for outcome in before.outcomes if outcome.final}
        return {name: rule for name, rule in _load(job, self._settings) if name not in known}

    def _unsuitable(self, job: JobSnapshot, before: Evaluation, now: datetime) -> Iterator[Outcome]:
        """Of rules that need tensors, on a job that saves none."""
        known = {outcome.rule for outcome in before.outcomes}
        for rule in evaluated_rules.local_rules(job, self._settings):
            if rule.invokes not in evaluated_rules.JUDGE_METRICS and rule.name not in known:
                details = (
                    f"{rule.invokes} needs tensors, and the job saves none: its metrics are single numbers. "
                    "Attach it to jobs that have a Debugger hook"
                )
                yield Outcome(rule.name, RuleSource.LOCAL, NOT_EVALUATED, details, updated_at=now)

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


def _before(record: JobRecord) -> Evaluation:
    return record.evaluation or Evaluation(due_at=None)


def _vanished(record: JobRecord) -> bool:
    return not record.watching and not record.snapshot.ended


def _has_saved_nothing(job: JobSnapshot, now: datetime) -> bool:
    """Whether it is time to believe it, should there be nothing."""
    return job.ended or (job.started_at is not None and now - job.started_at > SAVES_NOTHING)


def _wanted(live: Mapping[str, Rule], steps: MetricSteps) -> Wanted:
    """A rule about stalls wants no value, but to know that there was one: of whichever metric."""
    for rule in live.values():
        rule.learn(steps.collections())
    every = any(isinstance(rule, StalledTrainingRule) for rule in live.values())
    return lambda name: every or any(rule.wants(name) for rule in live.values())


class _Run:
    """The rules of one job, fed with what is new."""

    def __init__(
        self,
        live: Mapping[str, Rule],
        steps: Steps,
        others: Mapping[str, DebugOutput | None],
        before: Evaluation,
    ) -> None:
        self._live, self._source, self._others = live, steps, others
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

    def read(self, collections: Mapping[str, Collection]) -> None:
        """Feed the rules what is new. A rule sees each step once, as its first worker saved it."""
        for name, rule in self._going():
            with self._by_itself(name):
                rule.learn(collections)
                for number in rule.recalls():
                    if seen := _first(self._source, number, rule):
                        rule.recall(_step(seen), seen.tensors)
        fed: SavedStep | None = None
        for one in self._source.read(self._wanted):
            if isinstance(one, UnreadableStep):
                log.warning("unreadable_step", step=one.step, worker=one.worker, error=one.reason)
            elif not (one.late or (fed and of_another_worker(one, fed))):
                fed = one
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

    def verdict(self, name: str) -> Verdict:
        if name not in self._ended:
            with self._by_itself(name):
                return self._live[name].verdict(ended=self._source.ended)
        return self._ended[name]

    def states(self) -> dict[str, str]:
        """What each rule remembers. One that remembers too much beside the others comes to its end."""
        states = {name: json.dumps(rule.state()) for name, rule in self._going()}
        while sum(map(len, states.values())) > MOST_STATE:
            name = max(states, key=lambda name: len(states[name]))
            failure = (
                f"{self._live[name].name} would have to remember {len(states[name]) / 1e6:.1f} MB of what it "
                "selects: select fewer tensors, by collection_names or tensor_regex"
            )
            self._ended[name] = Verdict(Status.ERROR, reason="too_many_tensors", explanation=failure)
            del states[name]
        return states

    def _going(self) -> list[tuple[str, Rule]]:
        return [(name, rule) for name, rule in self._live.items() if name not in self._ended]

    def _wanted(self, tensor: str) -> bool:
        return any(rule.wants(tensor) for rule in self._live.values())

    def _compare(self, name: str, rule: Rule, step: int) -> None:
        other = self._others.get(name)
        if isinstance(rule, SimilarAcrossRuns) and other and (one := _first(other, step, rule)):
            rule.compare_with(step, one.tensors)


def _first(source: Steps | DebugOutput, step: int, rule: Rule) -> SavedStep | None:
    """What the first worker saved at a step; None where it cannot be read (any more)."""
    return next((one for one in source.at(step, rule.wants) if isinstance(one, SavedStep)), None)


def _step(saved: SavedStep) -> Step:
    return Step(saved.step, Mode(saved.mode), saved.mode_step)


def _load(job: JobSnapshot, settings: RuleSettings) -> Iterator[tuple[str, Rule]]:
    for configuration in evaluated_rules.local_rules(job, settings):
        try:
            yield configuration.name, rules.load(configuration.invokes, configuration.parameters)
        except rules.RuleError as error:
            # A custom rule, or parameters that the lint has told of already.
            log.debug("rule_not_evaluated", rule=configuration.name, error=str(error))
        except Exception:
            log.exception("rule_failed", rule=configuration.name)


def _outcome(name: str, verdict: Verdict, note: str, now: datetime) -> Outcome:
    """In SageMaker's words, as far as it has one. `note`: what a step is, if it is not smdebug's."""
    status = {
        Status.ISSUES_FOUND: ISSUES_FOUND,
        Status.NO_ISSUES_FOUND: NO_ISSUES_FOUND,
        Status.NOT_EVALUATED: NOT_EVALUATED,
        Status.ERROR: RULE_ERROR,
    }.get(verdict.status, IN_PROGRESS)
    if status == IN_PROGRESS:
        return Outcome(name, RuleSource.LOCAL, status)
    details = "; ".join(filter(None, (verdict.explanation, note)))
    return Outcome(name, RuleSource.LOCAL, status, details, updated_at=now, step=verdict.step)


def next_interval(last: float, steps: int) -> float:
    """Seconds until the next look, from the last interval and how many steps were new after it. Pure.

    Aims at a handful of new steps a look; a job that saves nothing is looked at less and less.
    """
    if not steps:
        return min(max(last * 2, SHORTEST), LONGEST)
    return min(max(last * STEPS_A_LOOK / steps, SHORTEST), LONGEST)


def next_look(before: Evaluation, steps: int, now: datetime) -> tuple[float, datetime]:
    """The interval, in seconds, and the time of the next look after one that found `steps` new ones. Pure."""
    if before.reads is Reads.TENSORS:
        interval = next_interval(before.interval, steps)
        return interval, now + timedelta(seconds=interval)
    interval = A_MINUTE if steps else min(max(before.interval * 2, A_MINUTE), LONGEST)
    return interval, next_minute(now, interval)


def next_minute(now: datetime, interval: float) -> datetime:
    """When metrics are looked at next: in `interval` (whole minutes, in seconds) or less, at a time at which
    those of all other jobs are, too. Pure."""
    seconds = now.timestamp()
    return datetime.fromtimestamp((seconds // interval + 1) * interval, UTC)
