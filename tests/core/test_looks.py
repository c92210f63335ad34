"""Looks at a run, one after the other. What is open at the end depends on how the run is, and not on when
somebody looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.jobs import NOON, a_job, an_outcome
from watcher.config.settings import Config, Route, Stop, Watch
from watcher.jobs.detect import detect
from watcher.model import (
    Case,
    ChangeKind,
    DeliveryKind,
    DeliveryState,
    IncidentState,
    JobSnapshot,
    Judge,
    Outcome,
    RuleFamily,
    StopPhase,
)
from watcher.policy import incidents

CONFIG = Config(
    watch=Watch(report_completed=True),
    route=(Route(to=("console", "slack:#alerts"), stop=True),),
    stop=Stop(grace=60),
)
JUDGED = (
    (RuleFamily.DEBUGGER, Judge.DEBUGGER),
    (RuleFamily.DEBUGGER, Judge.WATCHER),
    (RuleFamily.PROFILER, Judge.DEBUGGER),
)
OPENINGS = {ChangeKind.OPENED, ChangeKind.WORSE, ChangeKind.ADDED}

# How the status of a thing goes on: from each to these, or it stays as it is. What is listed twice is tried
# more often.
JOB = {
    "InProgress": ("Stopping", "Stopped", "Completed", "Failed"),
    "Stopping": ("Stopped", "Completed", "Failed"),
}
DEBUGGER = {
    "": ("InProgress",),
    "InProgress": ("IssuesFound", "IssuesFound", "NoIssuesFound", "Error", "Stopping"),
    "Stopping": ("Stopped",),
}
OURS = {
    "": ("InProgress", "InProgress", "NotEvaluated"),
    "InProgress": ("IssuesFound", "IssuesFound", "NoIssuesFound", "NotEvaluated", "Error"),
    "IssuesFound": ("Recovered",),
    "Recovered": ("IssuesFound",),
}


def ways(transitions: dict[str, tuple[str, ...]], start: str, length: int) -> st.SearchStrategy[list[str]]:
    """The statuses of one thing in each of `length` snapshots."""

    def walk(choices: Sequence[int]) -> list[str]:
        way = [start]
        for choice in choices:
            following = transitions.get(way[-1], ())
            goes_on = bool(choice and following)
            way.append(following[(choice - 1) % len(following)] if goes_on else way[-1])
        return way[1:]

    return st.lists(st.integers(0, 5), min_size=length, max_size=length).map(walk)


def snapshots(
    jobs: list[str], debugger: list[str], ours: list[str], profiler: list[str]
) -> list[JobSnapshot]:
    def outcomes(*statuses: str) -> tuple[Outcome, ...]:
        return tuple(
            an_outcome(status, rule="A", family=family, judge=judge)
            for (family, judge), status in zip(JUDGED, statuses, strict=True)
            if status
        )

    return [
        a_job(status=status, secondary_status=status, outcomes=outcomes(*each))
        for status, *each in zip(jobs, debugger, ours, profiler, strict=True)
    ]


runs = st.integers(1, 8).flatmap(
    lambda length: st.builds(
        snapshots,
        # Most jobs go on for a while.
        st.integers(0, length).flatmap(
            lambda running: ways(JOB, "InProgress", length - running).map(
                lambda way: ["InProgress"] * running + way
            )
        ),
        ways(DEBUGGER, "", length),
        ways(OURS, "", length),
        ways(DEBUGGER, "InProgress", length),
    )
)


def after_looks(at: Sequence[JobSnapshot]) -> Case | None:
    """The run's case after looks that found these snapshots, as the pipeline makes them; with its history."""
    case, before, history = None, None, ()
    for number, job in enumerate(at):
        reports = detect(before, job, stopped_by_us=False)
        just_ended = job.ended and not (before and before.ended)
        if reports or just_ended:
            now = NOON + timedelta(seconds=number)
            after = incidents.seen(case, job, reports, CONFIG, now)
            history += after.changes if after else ()
            case = replace(after, changes=()) if after else case
        before = job
    return replace(case, changes=history) if case else None


def open_findings(case: Case | None) -> set[tuple[str, str | None, bool]]:
    findings = case.findings if case else ()
    return {
        (finding.kind, finding.rule, finding.family is RuleFamily.PROFILER)
        for finding in findings
        if finding.open
    }


def a_run(debugger: Sequence[str], ours: Sequence[str]) -> list[JobSnapshot]:
    number = len(ours)
    return snapshots(["InProgress"] * number, [*debugger], [*ours], ["InProgress"] * number)


ISSUE, WAITS, BETTER = "IssuesFound", "InProgress", "Recovered"
RECOVERS_TWICE = a_run([ISSUE] * 4, [WAITS, ISSUE, BETTER, ISSUE])
DEBUGGER_IS_LATE = a_run([WAITS, WAITS, WAITS, ISSUE], [WAITS, ISSUE, BETTER, BETTER])


@settings(max_examples=500)
@given(runs, st.lists(st.booleans(), min_size=8, max_size=8))
@example(RECOVERS_TWICE, [True, False, True])
@example(DEBUGGER_IS_LATE, [True, False, True])
def test_what_is_open_at_the_end_does_not_depend_on_which_snapshots_were_seen(run, sees):
    *way, end = run
    seen = [job for job, sees_it in zip(way, sees, strict=False) if sees_it]
    assert open_findings(after_looks([*seen, end])) == open_findings(after_looks(run))


@given(runs)
def test_looking_twice_changes_nothing(run):
    twice = [job for job in run for _ in range(2)]
    once, again = after_looks(run), after_looks(twice)
    assert (once and [change.kind for change in once.changes]) == (
        again and [change.kind for change in again.changes]
    )


@given(runs, st.integers(0, 7))
def test_an_old_answer_of_sagemaker_in_between_tells_nothing_twice(run, old):
    run = [
        replace(job, outcomes=tuple(o for o in job.outcomes if o.judge is not Judge.WATCHER)) for job in run
    ]
    again = after_looks([*run, run[min(old, len(run) - 1)], run[-1]])
    once = after_looks(run)
    told, told_again = (
        [change.text for change in case.changes if change.kind in OPENINGS] if case else []
        for case in (once, again)
    )
    assert told_again == told


@given(runs)
def test_the_history_tells_each_episode_of_each_finding_once(run):
    case = after_looks(run)
    for finding in case.findings if case else ():
        told = [change for change in case.changes if change.finding == finding.id and change.kind in OPENINGS]
        assert len(told) == finding.episode


@given(runs)
def test_an_incident_is_resolved_exactly_when_nothing_is_open(run):
    if case := after_looks(run):
        resolved = case.incident.state is IncidentState.RESOLVED
        assert resolved is not any(finding.open for finding in case.findings)
        assert [change.revision for change in case.changes] == [
            number + 1 for number in range(case.incident.revision)
        ]


@given(runs)
def test_a_stop_waits_only_while_an_issue_of_a_running_job_is_open(run):
    if case := after_looks(run):
        stops = [row for row in case.deliveries if row.kind is DeliveryKind.STOP]
        waits = [row for row in stops if row.state is DeliveryState.PENDING]
        phase = case.incident.stop.phase if case.incident.stop else None
        if phase is StopPhase.WAITING:
            [row] = waits
            asker = case.finding(row.finding)
            assert asker
            assert asker.open
            assert not run[-1].ended
