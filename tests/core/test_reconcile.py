"""Which jobs are described in which pass: decisions without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.jobs import NOON, a_job, an_ended_job, an_outcome
from watcher.config.settings import Watch
from watcher.jobs.pipeline import PROFILER_REFRESH_S, fingerprint, schedule
from watcher.jobs.reconcile import due
from watcher.jobs.work import Urgency
from watcher.model import FinalMetric, Judge, RuleConfiguration, RuleFamily
from watcher.policy.watched import matches
from watcher.store.base import WatchedJob

PROFILED = a_job(rules=(RuleConfiguration("ProfilerReport", RuleFamily.PROFILER),))


def watched(name: str, status: str = "InProgress", describe_in: float | None = None) -> WatchedJob:
    at = None if describe_in is None else NOON + timedelta(seconds=describe_in)
    return WatchedJob(run=f"arn:{name}@noon", name=name, status=status, fingerprint="", describe_at=at)


def test_a_job_that_search_no_longer_finds_in_progress_is_described():
    assert list(due([watched("gone")], set(), NOON)) == [("arn:gone", Urgency.ENDED)]


def test_a_job_in_progress_is_not_described_until_it_is_due():
    jobs = [watched("never"), watched("later", describe_in=1), watched("now", describe_in=0)]
    assert list(due(jobs, {job.run for job in jobs}, NOON)) == [("arn:now", Urgency.DUE)]


def test_a_run_whose_job_is_in_progress_as_another_run_is_looked_at():
    earlier = watched("churn")
    assert list(due([earlier], {"arn:churn@later"}, NOON)) == [("arn:churn", Urgency.ENDED)]


@pytest.mark.parametrize("status", ["Stopping", "Stopped", "Completed", "Failed", "Hibernating"])
def test_an_ended_job_that_is_followed_is_described_in_each_pass(status):
    assert list(due([watched("ended", status)], set(), NOON)) == [("arn:ended", Urgency.ENDED)]


def test_without_search_every_job_is_described():
    assert list(due([watched("one"), watched("two", "Stopped")], None, NOON)) == [
        ("arn:one", Urgency.DUE),
        ("arn:two", Urgency.ENDED),
    ]


@pytest.mark.parametrize(("spread", "factor"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_profiler_rules_are_read_again_after_about_ten_minutes(spread, factor):
    watching, at = schedule(PROFILED, NOON, follow=1800, spread=spread)
    assert watching
    assert at == NOON + timedelta(seconds=PROFILER_REFRESH_S * factor)


def test_a_running_job_without_profiler_rules_is_not_described_again():
    assert schedule(a_job(outcomes=(an_outcome(),)), NOON, follow=1800, spread=0) == (True, None)


def test_an_ended_job_is_followed_until_each_of_its_rules_is_final():
    job = an_ended_job(outcomes=(an_outcome("NoIssuesFound"), an_outcome("InProgress", rule="Overfit")))
    assert schedule(job, NOON, follow=1800, spread=0) == (True, NOON)
    final = replace(job, outcomes=(an_outcome("NoIssuesFound"), an_outcome("Error", rule="Overfit")))
    assert schedule(final, NOON, follow=1800, spread=0) == (False, None)


def test_a_job_is_followed_for_a_bounded_time_after_its_end():
    job = an_ended_job(outcomes=(an_outcome("Pondering"),))
    assert schedule(job, NOON + timedelta(seconds=1800), follow=1800, spread=0)[0]
    assert not schedule(job, NOON + timedelta(seconds=1801), follow=1800, spread=0)[0]


def test_a_job_that_is_stopping_is_watched_without_a_time_limit():
    job = a_job(status="Stopping", modified_at=NOON - timedelta(days=1))
    assert schedule(job, NOON, follow=1800, spread=0) == (True, NOON)


def test_search_and_describe_give_the_same_fingerprint():
    searched = a_job(tags={"team": "growth"}, modified_at=NOON)
    profiler = an_outcome(rule="ProfilerReport", family=RuleFamily.PROFILER, judge=Judge.DEBUGGER)
    described = replace(PROFILED, outcomes=(profiler,))
    assert fingerprint(searched) == fingerprint(described)


def test_a_fingerprint_changes_with_the_job():
    changes = [
        {"status": "Stopping"},
        {"secondary_status": "Uploading"},
        {"outcomes": (an_outcome(),)},
        {"outcomes": (an_outcome("IssuesFound"),)},
        {"failure_reason": "x"},
    ]
    assert len({fingerprint(a_job(**change)) for change in [{}, *changes]}) == 6


def test_a_fingerprint_does_not_change_with_each_value_of_a_metric():
    early, late = (FinalMetric("train:loss", value, NOON) for value in (0.5, 0.25))
    assert fingerprint(a_job(final_metrics=(early,))) == fingerprint(a_job(final_metrics=(late,)))


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        (Watch(), True),
        (Watch(jobs=("churn-*",)), True),
        (Watch(jobs=("prod-*", "*-xgb-*")), True),
        (Watch(jobs=("prod-*",)), False),
        (Watch(tags={"team": "growth"}), True),
        (Watch(tags={"team": "growth", "stage": "prod"}), False),
        (Watch(tags={"team": "core"}), False),
    ],
)
def test_a_job_is_selected_by_its_name_and_tags(watch, expected):
    assert matches(a_job(tags={"team": "growth"}), watch) is expected


def test_a_job_with_unknown_tags_matches_as_untagged():
    assert not matches(a_job(tags=None), Watch(tags={"team": "growth"}))
    assert matches(a_job(tags=None), Watch())
