"""Decides where a finding goes and whether its run is to be stopped. Pure."""

from __future__ import annotations

from watcher.config.settings import Config
from watcher.model import Decision, Finding, FindingKind, JobSnapshot, Routing, RuleFamily, StopChoice


def wanted(kind: FindingKind, config: Config) -> bool:
    """Whether the configuration asks for findings of this kind."""
    return kind is not FindingKind.JOB_COMPLETED or config.watch.report_completed


def decide(finding: Finding, job: JobSnapshot, config: Config) -> Decision:
    """Where a finding goes, and whether its run is stopped."""
    route = next((r for r in config.route if r.matches(finding.job, finding.rule)), None)
    if route and route.to:
        to, routing = route.to, Routing.ROUTE
    elif config.slack.channel:
        to, routing = (f"slack:{config.slack.channel}",), Routing.SLACK_CHANNEL
    else:
        to, routing = ("console",), Routing.CONSOLE
    return Decision(
        to=tuple(dict.fromkeys(to)),
        routing=routing,
        stop=_stop_choice(finding, job, asked=bool(route and route.stop)),
        route=str(route) if route else "",
    )


def elsewhere(broken: str, config: Config) -> str | None:
    """Where to tell of an alert that `broken` refuses, if the alert has no other destination."""
    default = f"slack:{config.slack.channel}" if config.slack.channel else None
    return default if default != broken else None


def _stop_choice(finding: Finding, job: JobSnapshot, *, asked: bool) -> StopChoice:
    if not job.in_progress:
        return StopChoice.NOT_RUNNING
    if finding.kind is not FindingKind.RULE_ISSUE:
        return StopChoice.NOT_AN_ISSUE
    if not asked:
        return StopChoice.NOT_ASKED
    if finding.family is RuleFamily.PROFILER:
        return StopChoice.PROFILER
    return StopChoice.STOP
