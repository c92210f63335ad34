"""Where a finding goes, whether its run is stopped, and which rules Watcher evaluates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

import rules.profiler
from tests.jobs import NOON, a_job, an_ended_job, an_outcome
from watcher.config.settings import Config, Route, Rules, Slack, Stop, Watch
from watcher.jobs.detect import detect
from watcher.model import (
    Decision,
    FinalMetric,
    Finding,
    FindingKind,
    HookConfiguration,
    JobSnapshot,
    Judge,
    Reads,
    Routing,
    RuleConfiguration,
    RuleFamily,
    StopChoice,
)
from watcher.policy import evaluated_rules, incidents, routing
from watcher.policy.profiler_rules import PROFILER_RULES
from watcher.policy.stop_guards import Refusal, refusal

REPORTING = Config(watch=Watch(report_completed=True))
FIRING = a_job(outcomes=(an_outcome("IssuesFound"),))


def the_finding(job: JobSnapshot) -> Finding:
    case = incidents.seen(None, job, detect(None, job, stopped_by_us=False)[:1], REPORTING, NOON)
    assert case
    return case.findings[0]


def decide(job: JobSnapshot, *routes: Route, slack: str = "") -> Decision:
    return routing.decide(the_finding(job), job, Config(route=routes, slack=Slack(channel=slack)))


def test_the_first_matching_route_wins():
    decision = decide(
        FIRING,
        Route(job="prod-*", to=("console",)),
        Route(job="churn-*", rule="LossNot*", to=("slack:#growth",)),
        Route(to=("slack:#all",)),
    )
    assert (decision.to, decision.routing) == (("slack:#growth",), Routing.ROUTE)


def test_a_finding_without_a_route_goes_to_the_slack_channel():
    decision = decide(FIRING, Route(job="prod-*", to=("console",)), slack="#training-alerts")
    assert (decision.to, decision.routing) == (("slack:#training-alerts",), Routing.SLACK_CHANNEL)


def test_without_a_route_and_a_channel_a_finding_goes_to_the_console():
    assert decide(FIRING).to == ("console",)


def test_a_route_without_destinations_decides_only_about_the_stop():
    decision = decide(FIRING, Route(stop=True), slack="#training-alerts")
    assert (decision.to, decision.stop) == (("slack:#training-alerts",), StopChoice.STOP)


def test_a_destination_listed_twice_is_used_once():
    assert decide(FIRING, Route(to=("console", "console"))).to == ("console",)


def test_a_finding_about_the_job_itself_matches_routes_for_every_rule_only():
    failed = an_ended_job(status="Failed")
    decision = decide(failed, Route(rule="Loss*", to=("slack:#loss",)), Route(to=("slack:#all",)))
    assert decision.to == ("slack:#all",)


def test_stopping_is_opt_in():
    assert decide(FIRING, Route(to=("console",))).stop is StopChoice.NOT_ASKED
    assert decide(FIRING).stop is StopChoice.NOT_ASKED


def test_a_profiler_rule_never_stops_a_job():
    job = a_job(
        outcomes=(
            an_outcome(
                "IssuesFound", rule="ProfilerReport", family=RuleFamily.PROFILER, judge=Judge.DEBUGGER
            ),
        )
    )
    decision = decide(job, Route(stop=True))
    assert decision.stop is StopChoice.PROFILER


def test_a_rule_that_could_not_run_stops_nothing():
    assert decide(a_job(outcomes=(an_outcome("Error"),)), Route(stop=True)).stop is StopChoice.NOT_AN_ISSUE


def test_a_job_that_has_ended_is_not_stopped():
    job = an_ended_job(outcomes=(an_outcome("IssuesFound"),))
    assert decide(job, Route(stop=True)).stop is StopChoice.NOT_RUNNING


def test_completed_jobs_are_reported_only_when_configured():
    assert not routing.wanted(FindingKind.JOB_COMPLETED, Config())
    assert routing.wanted(FindingKind.JOB_COMPLETED, REPORTING)
    assert routing.wanted(FindingKind.JOB_FAILED, Config())


@pytest.mark.parametrize(
    ("job", "settings", "expected"),
    [
        (FIRING, Stop(), None),
        (an_ended_job(), Stop(), Refusal.NOT_IN_PROGRESS),
        (a_job(status="Stopping"), Stop(), Refusal.NOT_IN_PROGRESS),
        (FIRING, Stop(dry_run=True), Refusal.DRY_RUN),
        (a_job(started_at=NOON + timedelta(seconds=5)), Stop(), None),
        (FIRING, Stop(min_runtime=2400), None),
        (FIRING, Stop(min_runtime=2401), Refusal.TOO_YOUNG),
        (FIRING, Stop(min_runtime=2401, dry_run=True), Refusal.TOO_YOUNG),
    ],
)
def test_each_guard_refuses_a_stop(job, settings, expected):
    assert refusal(job, job.run, settings, NOON) is expected


def test_another_job_with_the_same_name_is_not_stopped():
    other = FIRING.run.replace("111122223333", "444455556666")
    assert refusal(FIRING, other, Stop(), NOON) is Refusal.ANOTHER_JOB


def test_a_later_run_of_the_same_job_is_not_stopped():
    earlier = replace(FIRING, created_at=FIRING.created_at - timedelta(milliseconds=1))
    assert refusal(FIRING, earlier.run, Stop(), NOON) is Refusal.ANOTHER_RUN


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        (None, None),
        (Watch(tags={"watch": "yes"}), None),
        (Watch(tags={"watch": "no"}), Refusal.NOT_WATCHED),
        (Watch(jobs=("prod-*",)), Refusal.NOT_WATCHED),
    ],
)
def test_a_route_stops_only_a_job_that_is_still_watched(watch, expected):
    tagged = replace(FIRING, tags={"watch": "yes"})
    assert refusal(tagged, tagged.run, Stop(), NOON, watch) is expected


MIRRORED = a_job(
    rules=(RuleConfiguration("LossNotDecreasing", RuleFamily.DEBUGGER),),
    hook=HookConfiguration("s3://bucket/debug"),
)


def rule_names(job: JobSnapshot, **settings: object) -> list[str]:
    return [rule.name for rule in evaluated_rules.local_rules(job, Rules.model_validate(settings))]


ATTACHED = {"local": "attach", "attach": [{"job": "churn-*", "rule": "Overfit"}]}


@pytest.mark.parametrize(
    ("settings", "own", "none"),
    [
        ({"local": "off"}, [], []),
        ({"local": "mirror"}, ["LossNotDecreasing"], []),
        (ATTACHED, ["LossNotDecreasing"], ["Overfit"]),
        ({**ATTACHED, "attach": [{"job": "prod-*", "rule": "Overfit"}]}, ["LossNotDecreasing"], []),
    ],
)
def test_watcher_evaluates_a_jobs_own_rules_and_attaches_rules_to_jobs_without_any(settings, own, none):
    assert rule_names(MIRRORED, **settings) == own
    assert rule_names(replace(MIRRORED, rules=()), **settings) == none


def test_a_job_that_saves_nothing_has_nothing_to_evaluate():
    assert rule_names(replace(MIRRORED, hook=None)) == []


def test_rules_are_attached_to_a_job_without_tensors_that_has_metrics():
    bare = replace(MIRRORED, hook=None, rules=())
    seen = FinalMetric("train:loss", 0.5, NOON)
    assert rule_names(bare, **ATTACHED) == []
    assert rule_names(replace(bare, metrics=("train:loss",)), **ATTACHED) == ["Overfit"]
    assert rule_names(replace(bare, final_metrics=(seen,)), **ATTACHED) == ["Overfit"]
    assert rule_names(replace(bare, metrics=("train:loss",))) == []


def test_a_jobs_own_rules_are_not_evaluated_on_metrics():
    assert rule_names(replace(MIRRORED, hook=None, metrics=("train:loss",)), **ATTACHED) == []
    assert not evaluated_rules.reads_metrics(replace(MIRRORED, metrics=("train:loss",)))


def test_tensors_are_tried_first_when_there_may_be_some():
    def first_reads(job: JobSnapshot) -> list[Reads]:
        settings = Rules.model_validate({"local": "attach", "attach": [{"rule": "Overfit"}]})
        return [*evaluated_rules.first_reads(job, settings)]

    assert first_reads(MIRRORED) == [Reads.TENSORS]
    assert first_reads(replace(MIRRORED, rules=(), hook=None, metrics=("train:loss",))) == [Reads.METRICS]


PROFILED = a_job(rules=(RuleConfiguration("ProfilerReport", RuleFamily.PROFILER),))
BOTH = {"local": "attach", "attach": [{"rule": "Overfit"}, {"rule": "cpubottleneck"}]}


def test_profiler_rules_are_attached_to_any_job_without_profiler_rules():
    bare = replace(PROFILED, rules=())
    assert rule_names(bare, **BOTH) == ["cpubottleneck"]
    assert rule_names(replace(bare, metrics=("train:loss",)), **BOTH) == ["Overfit", "cpubottleneck"]
    assert rule_names(MIRRORED, **BOTH) == ["LossNotDecreasing", "cpubottleneck"]
    assert rule_names(PROFILED, **BOTH) == []
    assert rule_names(bare, local="mirror", attach=BOTH["attach"]) == []


def test_attached_profiler_rules_read_what_every_instance_reports():
    settings = Rules.model_validate(BOTH)
    assert [*evaluated_rules.first_reads(replace(PROFILED, rules=()), settings)] == [Reads.INSTANCE_METRICS]
    assert [*evaluated_rules.first_reads(MIRRORED, settings)] == [Reads.TENSORS, Reads.INSTANCE_METRICS]


def test_the_names_of_profiler_rules_are_those_of_the_rules():
    assert sorted(rules.profiler.PROFILER_RULES) == list(PROFILER_RULES)


@pytest.mark.parametrize("judge", Judge)
def test_a_route_that_names_a_profiler_rule_does_not_stop_its_job(judge):
    outcome = an_outcome("IssuesFound", rule="CPUBottleneck", family=RuleFamily.PROFILER, judge=judge)
    job = a_job(outcomes=(outcome,))
    assert decide(job, Route(rule="CPUBottleneck", stop=True)).stop is StopChoice.PROFILER


def test_a_custom_rule_is_not_mistaken_for_the_built_in_rule_of_its_name():
    source = {"source_s3_uri": "s3://team/rules.py", "rule_to_invoke": "LossNotDecreasing"}
    custom = RuleConfiguration("LossNotDecreasing", RuleFamily.DEBUGGER, source)
    assert rule_names(replace(MIRRORED, rules=(custom,))) == []
    assert rule_names(replace(MIRRORED, rules=(custom,)), **ATTACHED) == []
