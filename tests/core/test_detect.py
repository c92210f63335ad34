"""Snapshots become reports of what opened and what is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import FIRED, a_job, an_ended_job, an_outcome
from watcher.jobs.detect import detect, parse_step
from watcher.model import Closing, FindingKind, JobSnapshot, Judge, Outcome, Report, RuleFamily


def opened(before: JobSnapshot | None, after: JobSnapshot, *, stopped_by_us: bool = False) -> list[Report]:
    reports = detect(before, after, stopped_by_us=stopped_by_us)
    return [report for report in reports if report.closing is None]


def over(before: JobSnapshot | None, after: JobSnapshot) -> list[Report]:
    return [report for report in detect(before, after, stopped_by_us=False) if report.closing]


def kinds(before: JobSnapshot | None, after: JobSnapshot, *, stopped_by_us: bool = False) -> list[str]:
    return [report.kind for report in opened(before, after, stopped_by_us=stopped_by_us)]


def test_a_rule_that_found_an_issue_is_a_finding_with_its_step_and_sentence():
    before = a_job(outcomes=(an_outcome("InProgress"),))
    after = a_job(outcomes=(an_outcome("IssuesFound", details=FIRED),))
    (report,) = opened(before, after)
    assert (report.kind, report.rule, report.judge) == ("rule_issue", "LossNotDecreasing", "debugger")
    assert (report.status, report.step, report.reason) == ("IssuesFound", 140, FIRED)


def test_a_job_first_seen_with_an_issue_is_reported():
    assert kinds(None, a_job(outcomes=(an_outcome("IssuesFound"),))) == [FindingKind.RULE_ISSUE]


def test_an_outcome_of_the_last_snapshot_is_not_found_again():
    job = a_job(outcomes=(an_outcome("IssuesFound"), an_outcome("Error", rule="Overfit")))
    assert kinds(job, job) == []


def test_rules_are_matched_by_name_in_any_order():
    fired, quiet = an_outcome("IssuesFound", rule="A"), an_outcome("InProgress", rule="B")
    assert kinds(a_job(outcomes=(fired, quiet)), a_job(outcomes=(quiet, fired))) == []


def test_a_debugger_rule_and_a_profiler_rule_with_one_name_are_two_rules():
    debugger = an_outcome("IssuesFound", rule="Same")
    profiler = an_outcome("IssuesFound", rule="Same", family=RuleFamily.PROFILER, judge=Judge.DEBUGGER)
    both = opened(a_job(outcomes=(debugger,)), a_job(outcomes=(debugger, profiler)))
    assert [report.family for report in both] == [RuleFamily.PROFILER]


def test_a_rule_that_could_not_run_is_a_finding():
    assert kinds(None, a_job(outcomes=(an_outcome("Error"),))) == [FindingKind.RULE_ERROR]


@pytest.mark.parametrize("status", ["InProgress", "NoIssuesFound", "Stopping", "Stopped", "Pondering", ""])
def test_other_rule_statuses_are_not_findings(status):
    assert kinds(None, a_job(outcomes=(an_outcome(status),))) == []


def test_a_failed_job_is_reported_with_its_reason():
    after = an_ended_job(status="Failed", failure_reason="AlgorithmError: exit code 1")
    (report,) = detect(a_job(), after, stopped_by_us=False)
    assert (report.kind, report.reason) == (FindingKind.JOB_FAILED, "AlgorithmError: exit code 1")


def test_a_job_stopped_by_somebody_else_is_reported():
    assert kinds(a_job(), an_ended_job(status="Stopped")) == [FindingKind.JOB_STOPPED]


def test_a_job_that_watcher_stopped_is_not_reported_as_stopped():
    assert kinds(a_job(), an_ended_job(status="Stopped"), stopped_by_us=True) == []


def test_a_stop_by_a_limit_says_which():
    after = an_ended_job(status="Stopped", secondary_status="MaxRuntimeExceeded")
    (report,) = detect(a_job(), after, stopped_by_us=False)
    assert report.reason == "MaxRuntimeExceeded"


def test_a_completed_job_is_a_finding():
    assert kinds(a_job(), an_ended_job()) == [FindingKind.JOB_COMPLETED]


@pytest.mark.parametrize("status", ["Stopping", "Deleting", "Hibernating"])
def test_a_job_status_that_is_not_final_is_not_a_finding(status):
    assert kinds(a_job(), a_job(status=status)) == []


def test_an_outcome_that_arrives_with_the_end_of_its_job_is_found():
    before = a_job(outcomes=(an_outcome("InProgress"),))
    after = an_ended_job(outcomes=(an_outcome("IssuesFound", details=FIRED),))
    assert kinds(before, after) == [FindingKind.RULE_ISSUE, FindingKind.JOB_COMPLETED]


@pytest.mark.parametrize(
    ("details", "step"),
    [
        (FIRED, 140),
        ("RuleEvaluationConditionMet: Evaluation of the rule at step 3 of 9 at step 7 resulted", 3),
        ("ClientError: No debugging data was saved by the training job.", None),
        ("stopped at step 12", None),
        ("", None),
    ],
)
def test_the_step_is_read_from_the_message_of_the_met_condition(details, step):
    assert parse_step(details) == step


statuses = st.sampled_from(["InProgress", "IssuesFound", "NoIssuesFound", "Error", "Stopped", "Unheard-of"])
outcomes = st.lists(
    st.builds(
        an_outcome,
        statuses,
        rule=st.sampled_from("ABC"),
        family=st.sampled_from(RuleFamily),
        judge=st.sampled_from(Judge),
    ),
    max_size=6,
    unique_by=lambda outcome: outcome.key,
).map(tuple)
jobs = st.builds(
    lambda status, found: a_job(status=status, outcomes=found),
    st.sampled_from(["InProgress", "Stopping", "Stopped", "Completed", "Failed", "Unheard-of"]),
    outcomes,
)


def things(reports: list[Report]) -> set[tuple[object, ...]]:
    return {(report.kind, report.rule, report.family, report.judge) for report in reports}


@given(st.lists(jobs, max_size=5), jobs)
def test_every_final_issue_is_found_for_any_sequence_of_snapshots(way, end):
    found, before = set(), None
    for job in [*way, end]:
        found |= things(opened(before, job))
        before = job
    assert things(opened(None, end)) <= found


def local(status: str, rule: str = "LossNotDecreasing", **changes: object) -> Outcome:
    return an_outcome(status, rule=rule, family=RuleFamily.DEBUGGER, judge=Judge.WATCHER, **changes)


def test_a_local_outcome_is_a_finding_with_its_own_step():
    job = a_job(outcomes=(local("IssuesFound", step=14, details="train-error fell 1.2 %"),))
    (report,) = detect(None, job, stopped_by_us=False)
    assert (report.kind, report.judge, report.step) == ("rule_issue", Judge.WATCHER, 14)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("IssuesFound", "NoIssuesFound"), ("NoIssuesFound", "IssuesFound")]
)
def test_contradicting_final_outcomes_are_a_divergence(ours, theirs):
    before = a_job(outcomes=(an_outcome("InProgress"), local(ours)))
    after = an_ended_job(outcomes=(an_outcome(theirs), local(ours)))
    assert FindingKind.DIVERGENCE in kinds(before, after)
    assert FindingKind.DIVERGENCE not in kinds(after, after)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("IssuesFound", "IssuesFound"),
        ("IssuesFound", "InProgress"),
        ("IssuesFound", "Stopped"),
        ("IssuesFound", "Error"),
        ("InProgress", "IssuesFound"),
        ("NotEvaluated", "IssuesFound"),
    ],
)
def test_equal_or_unfinished_outcomes_are_not_a_divergence(ours, theirs):
    assert FindingKind.DIVERGENCE not in kinds(None, an_ended_job(outcomes=(an_outcome(theirs), local(ours))))


def test_an_unevaluated_rule_is_reported_when_debugger_found_no_issue():
    job = an_ended_job(
        outcomes=(an_outcome("NoIssuesFound"), local("NotEvaluated", details="the job saved no step"))
    )
    reports = opened(None, job)
    assert [(each.kind, each.reason) for each in reports if each.rule] == [
        ("rule_unevaluated", "the job saved no step")
    ]


def test_an_unevaluated_rule_is_reported_when_debugger_does_not_run_it():
    assert FindingKind.RULE_UNEVALUATED in kinds(None, an_ended_job(outcomes=(local("NotEvaluated"),)))


@pytest.mark.parametrize("theirs", ["InProgress", "Error", "IssuesFound", "Stopped"])
def test_an_unevaluated_rule_is_not_reported_when_debugger_has_another_outcome(theirs):
    job = an_ended_job(outcomes=(an_outcome(theirs), local("NotEvaluated")))
    assert FindingKind.RULE_UNEVALUATED not in kinds(None, job)


def test_an_issue_that_watcher_sees_recover_is_over_for_the_reason_it_gives():
    before = a_job(outcomes=(local("IssuesFound", step=14),))
    after = a_job(outcomes=(local("Recovered", step=31, details="train-error fell by 7 % at step 31"),))
    (report,) = detect(before, after, stopped_by_us=False)
    assert (report.kind, report.closing) == (FindingKind.RULE_ISSUE, Closing.RECOVERED)
    assert (report.judge, report.reason) == (Judge.WATCHER, "train-error fell by 7 % at step 31")
    assert detect(after, after, stopped_by_us=False) == []


def test_an_issue_that_comes_back_is_found_again():
    recovered, broken = a_job(outcomes=(local("Recovered"),)), a_job(outcomes=(local("IssuesFound"),))
    assert kinds(recovered, broken) == [FindingKind.RULE_ISSUE]


@pytest.mark.parametrize("theirs", ["IssuesFound", "NoIssuesFound"])
def test_a_rule_that_has_recovered_contradicts_none_of_debuggers_verdicts(theirs):
    job = a_job(outcomes=(an_outcome(theirs), local("Recovered")))
    assert not {FindingKind.DIVERGENCE, FindingKind.RULE_UNEVALUATED} & set(kinds(None, job))


def test_what_debugger_finds_after_the_recovery_is_over_as_well():
    before = a_job(outcomes=(an_outcome("InProgress"), local("Recovered")))
    after = a_job(outcomes=(an_outcome("IssuesFound", details=FIRED), local("Recovered")))
    reports = detect(before, after, stopped_by_us=False)
    closings = [report.closing for report in reports if report.kind is FindingKind.RULE_ISSUE]
    assert closings == [None, Closing.RECOVERED]


def test_a_divergence_is_over_when_the_verdicts_no_longer_contradict_each_other():
    apart = a_job(outcomes=(an_outcome("NoIssuesFound"), local("IssuesFound")))
    after = a_job(outcomes=(an_outcome("NoIssuesFound"), local("Recovered")))
    divergence = next(report for report in over(apart, after) if report.kind is FindingKind.DIVERGENCE)
    assert divergence.closing is Closing.RECOVERED
    assert divergence.reason.endswith("Debugger says NoIssuesFound, and Watcher Recovered")


def test_a_rule_that_gets_a_verdict_after_all_is_no_longer_unevaluated():
    before = a_job(outcomes=(local("NotEvaluated"),))
    after = a_job(outcomes=(an_outcome("InProgress"), local("NotEvaluated")))
    (report,) = detect(before, after, stopped_by_us=False)
    assert (report.kind, report.closing) == (FindingKind.RULE_UNEVALUATED, Closing.RECOVERED)


@pytest.mark.parametrize("status", ["NoIssuesFound", "IssuesFound", "Error", "Stopped"])
def test_a_rule_that_has_ended_is_not_stuck_any_more(status):
    before, after = a_job(outcomes=(an_outcome("InProgress"),)), a_job(outcomes=(an_outcome(status),))
    (report,) = over(before, after)
    assert (report.kind, report.rule, report.judge) == ("rule_stuck", "LossNotDecreasing", "debugger")
    assert status in report.reason
    assert over(after, after) == []


# -- profiler rules --------------------------------------------------------------------------------


def profiled(status: str, judge: Judge = Judge.WATCHER, **changes: object) -> Outcome:
    return an_outcome(status, rule="CPUBottleneck", family=RuleFamily.PROFILER, judge=judge, **changes)


def test_an_issue_of_a_profiler_rule_that_watcher_finds_is_one_of_its_family():
    [report] = opened(a_job(), a_job(outcomes=(profiled("IssuesFound", details="61 % of the time"),)))
    assert (report.kind, report.family, report.judge) == ("rule_issue", RuleFamily.PROFILER, Judge.WATCHER)


def test_a_profiler_rule_recovers_whoever_else_found_its_issue():
    theirs = profiled("IssuesFound", Judge.DEBUGGER)
    before = a_job(outcomes=(theirs, profiled("IssuesFound")))
    after = a_job(outcomes=(theirs, profiled("Recovered", details="3 % of the time")))
    [report] = detect(before, after, stopped_by_us=False)
    assert (report.family, report.closing) == (RuleFamily.PROFILER, Closing.RECOVERED)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("IssuesFound", "NoIssuesFound"), ("NoIssuesFound", "IssuesFound"), ("NotEvaluated", "NoIssuesFound")],
)
def test_a_profiler_rule_is_not_compared_with_sagemakers(ours, theirs):
    after = a_job(outcomes=(profiled(theirs, Judge.DEBUGGER), profiled(ours)))
    assert {report.kind for report in detect(a_job(), after, stopped_by_us=False)} <= {FindingKind.RULE_ISSUE}
