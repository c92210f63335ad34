"""Snapshots become findings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs import FIRED, NOON, a_job, an_ended_job, an_outcome
from watcher.jobs.detect import detect, parse_step
from watcher.model import FindingKind, JobSnapshot, Outcome, RuleSource


def kinds(before: JobSnapshot | None, after: JobSnapshot, *, stopped_by_us: bool = False) -> list[str]:
    return [finding.kind for finding in detect(before, after, now=NOON, stopped_by_us=stopped_by_us)]


def test_a_rule_that_found_an_issue_is_a_finding_with_its_step_and_sentence():
    before = a_job(outcomes=(an_outcome("InProgress"),))
    after = a_job(outcomes=(an_outcome("IssuesFound", details=FIRED),))
    (finding,) = detect(before, after, now=NOON, stopped_by_us=False)
    assert (finding.kind, finding.rule, finding.source) == ("rule_issue", "LossNotDecreasing", "debugger")
    assert (finding.step, finding.reason, finding.opened_at) == (140, FIRED, NOON)


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
    profiler = an_outcome("IssuesFound", rule="Same", source=RuleSource.PROFILER)
    first = detect(None, a_job(outcomes=(debugger,)), now=NOON, stopped_by_us=False)
    both = detect(
        a_job(outcomes=(debugger,)), a_job(outcomes=(debugger, profiler)), now=NOON, stopped_by_us=False
    )
    assert [finding.source for finding in both] == [RuleSource.PROFILER]
    assert first[0].id != both[0].id


def test_a_rule_that_could_not_run_is_a_finding():
    assert kinds(None, a_job(outcomes=(an_outcome("Error"),))) == [FindingKind.RULE_ERROR]


@pytest.mark.parametrize("status", ["InProgress", "NoIssuesFound", "Stopping", "Stopped", "Pondering", ""])
def test_other_rule_statuses_are_not_findings(status):
    assert kinds(None, a_job(outcomes=(an_outcome(status),))) == []


def test_a_failed_job_is_reported_with_its_reason():
    after = an_ended_job(status="Failed", failure_reason="AlgorithmError: exit code 1")
    (finding,) = detect(a_job(), after, now=NOON, stopped_by_us=False)
    assert (finding.kind, finding.reason) == (FindingKind.JOB_FAILED, "AlgorithmError: exit code 1")


def test_a_job_stopped_by_somebody_else_is_reported():
    assert kinds(a_job(), an_ended_job(status="Stopped")) == [FindingKind.JOB_STOPPED]


def test_a_job_that_watcher_stopped_is_not_reported_as_stopped():
    assert kinds(a_job(), an_ended_job(status="Stopped"), stopped_by_us=True) == []


def test_a_stop_by_a_limit_says_which():
    after = an_ended_job(status="Stopped", secondary_status="MaxRuntimeExceeded")
    (finding,) = detect(a_job(), after, now=NOON, stopped_by_us=False)
    assert finding.reason == "MaxRuntimeExceeded"


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
        source=st.sampled_from(list(RuleSource)),
    ),
    max_size=6,
    unique_by=lambda outcome: (outcome.rule, outcome.source),
).map(tuple)
jobs = st.builds(
    lambda status, found: a_job(status=status, outcomes=found),
    st.sampled_from(["InProgress", "Stopping", "Stopped", "Completed", "Failed", "Unheard-of"]),
    outcomes,
)


@given(st.lists(jobs, max_size=5), jobs)
def test_every_final_issue_is_found_for_any_sequence_of_snapshots(way, end):
    found, before = set(), None
    for job in [*way, end]:
        found |= {finding.id for finding in detect(before, job, now=NOON, stopped_by_us=False)}
        before = job
    assert {finding.id for finding in detect(None, end, now=NOON, stopped_by_us=False)} <= found


def local(status: str, rule: str = "LossNotDecreasing", **changes: object) -> Outcome:
    return an_outcome(status, rule=rule, source=RuleSource.LOCAL, **changes)


def test_a_local_outcome_is_a_finding_with_its_own_step():
    job = a_job(outcomes=(local("IssuesFound", step=14, details="train-error fell 1.2 %"),))
    (finding,) = detect(None, job, now=NOON, stopped_by_us=False)
    assert (finding.kind, finding.source, finding.step) == ("rule_issue", RuleSource.LOCAL, 14)


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
    findings = detect(None, job, now=NOON, stopped_by_us=False)
    assert [(f.kind, f.reason) for f in findings if f.rule] == [("rule_unevaluated", "the job saved no step")]


def test_an_unevaluated_rule_is_reported_when_debugger_does_not_run_it():
    assert FindingKind.RULE_UNEVALUATED in kinds(None, an_ended_job(outcomes=(local("NotEvaluated"),)))


@pytest.mark.parametrize("theirs", ["InProgress", "Error", "IssuesFound", "Stopped"])
def test_an_unevaluated_rule_is_not_reported_when_debugger_has_another_outcome(theirs):
    job = an_ended_job(outcomes=(an_outcome(theirs), local("NotEvaluated")))
    assert FindingKind.RULE_UNEVALUATED not in kinds(None, job)
