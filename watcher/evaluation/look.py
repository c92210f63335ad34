"""One look at a job: shows its rules what is new, and says what follows for the stored evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from rules import Recovered, Status, Verdict
from watcher.evaluation.pace import next_look
from watcher.evaluation.rule_run import RuleRun
from watcher.evaluation.steps import Steps
from watcher.logs import rule_log
from watcher.model import (
    IN_PROGRESS,
    ISSUES_FOUND,
    NO_ISSUES_FOUND,
    NOT_EVALUATED,
    RECOVERED,
    RULE_ERROR,
    TRAINING,
    Evaluation,
    JobSnapshot,
    Judge,
    Outcome,
    RuleFamily,
)

NOTHING_SAVED_AFTER = timedelta(minutes=10)
"""A job that trains for so long without a saved tensor will save none: the SageMaker SDK gives most jobs a
hook configuration, with which today's TensorFlow and PyTorch containers do nothing. The profiler saves its
first file after two minutes."""

STATUSES = {
    Status.ISSUES_FOUND: ISSUES_FOUND,
    Status.NO_ISSUES_FOUND: NO_ISSUES_FOUND,
    Status.NOT_EVALUATED: NOT_EVALUATED,
    Status.ERROR: RULE_ERROR,
}


def unfinished(rule: str, before: Evaluation) -> bool:
    """Whether the evaluation of this rule goes on. That of a rule that has fired does as long as it has a
    state: then it can recover."""
    if rule in before.states:
        return True
    return all(outcome.rule != rule or outcome.status == IN_PROGRESS for outcome in before.outcomes)


def has_saved_nothing(job: JobSnapshot, now: datetime) -> bool:
    """Whether a job that has saved nothing can be expected to save nothing any more."""
    return job.ended or (job.started_at is not None and now - job.started_at > NOTHING_SAVED_AFTER)


def over(before: Evaluation) -> Evaluation:
    """The evaluation when nothing is left to judge."""
    return replace(before, due_at=None, cursor="", states={})


def look(job: JobSnapshot, before: Evaluation, run: RuleRun, steps: Steps, now: datetime) -> Evaluation:
    """Show the rules what is new, and return how far the evaluation is.

    A rule that fires for the first time has the outcome IssuesFound after this look, even if the same steps
    show that it recovered: an issue must not come and go unseen. The next look, at once, reports the rest.

    Raises `WatcherError` if the steps cannot be read.
    """
    if (collections := steps.collections()) is not None:
        run.read(collections)
    if job.secondary_status == TRAINING:  # in other phases, a job is expected to save nothing
        began = next((phase.began for phase in job.training_phases), now)
        run.tick(began, job.trained(steps.known_until(now)))
    states = run.states()
    earlier = {outcome.rule: outcome for outcome in before.outcomes}
    judged = {name: _outcome(name, run, steps, earlier.get(name), now) for name in run.rules}
    finished = {name: outcome for name, outcome in earlier.items() if name not in judged}
    to_report = {name: state for name, state in states.items() if run.has_more_to_report(name)}
    if steps.ended:
        states = to_report
    interval, due_at = next_look(before, run.steps, now)
    return Evaluation(
        due_at=None if not states else now if to_report else due_at,
        reads=before.reads,
        interval=interval,
        cursor=steps.cursor,
        states=states,
        outcomes=tuple({**finished, **judged}.values()),
    )


def log_records(
    before: Evaluation, run: RuleRun, steps: Steps
) -> Iterator[tuple[str, list[rule_log.Record]]]:
    """What the log of each rule says about the look, after it; rules without news are left out."""
    for name, rule in run.rules.items():
        records = [] if before.cursor else [rule_log.loading(steps.place), rule_log.started(rule, 0)]
        fired = name in {outcome.rule for outcome in before.outcomes if outcome.status != IN_PROGRESS}
        for change in run.changes(name):
            if isinstance(change, Recovered):
                records.append(rule_log.recovered(rule, change))
            else:
                write = rule_log.fires_again if fired else rule_log.concluded
                records += write(rule, name, change)
                fired = True
        if not run.standing(name):
            records += rule_log.concluded(rule, name, run.verdict(name))
        if records:
            yield name, records


def of_fired_rules(before: Evaluation) -> Mapping[str, str]:
    """The states of the rules that have fired."""
    fired = {outcome.rule for outcome in before.outcomes if outcome.status != IN_PROGRESS}
    return {name: state for name, state in before.states.items() if name in fired}


def _outcome(name: str, run: RuleRun, steps: Steps, earlier: Outcome | None, now: datetime) -> Outcome:
    """The outcome with SageMaker's word for the status. One without news stays as it was."""
    note = steps.note(run.rules[name])  # what a step is, if it is not smdebug's
    standing = run.standing(name)
    if standing is None:
        return _of_verdict(name, run.verdict(name), note, now)
    if opening := run.opening(name):
        return _of_verdict(name, opening, note, now)
    if earlier and not run.has_news(name):
        return earlier
    return Outcome(
        name,
        RuleFamily.DEBUGGER,
        Judge.WATCHER,
        RECOVERED if standing.recovered else ISSUES_FOUND,
        _details(standing.explanation, note),
        updated_at=now,
        step=standing.step,
    )


def _of_verdict(name: str, verdict: Verdict, note: str, now: datetime) -> Outcome:
    status = STATUSES.get(verdict.status, IN_PROGRESS)
    if status == IN_PROGRESS:
        return Outcome(name, RuleFamily.DEBUGGER, Judge.WATCHER, status)
    details = _details(verdict.explanation, note)
    return Outcome(
        name, RuleFamily.DEBUGGER, Judge.WATCHER, status, details, updated_at=now, step=verdict.step
    )


def _details(explanation: str, note: str) -> str:
    return "; ".join(filter(None, (explanation, note)))
