"""Each kind of finding is described in two tables: how alerts describe it, and what it is for policy."""

from __future__ import annotations

import pytest

from tests.alerts import FINDING, SNAPSHOT, alert
from watcher.alerts.kinds import KINDS, Log
from watcher.model import FindingKind, Severity
from watcher.policy import kinds

NOTHING_TO_DO = (FindingKind.JOB_COMPLETED, FindingKind.RULE_DEFECT)
"""The reason of a defect already says how to fix it."""


def test_every_kind_of_finding_has_a_row() -> None:
    assert set(KINDS) == set(kinds.KINDS) == set(FindingKind)


@pytest.mark.parametrize("kind", FindingKind)
def test_a_title_names_the_job_and_for_a_rule_the_rule(kind: FindingKind) -> None:
    title = alert(kind=kind).title
    assert FINDING.job in title
    assert str(FINDING.rule) in title or kind.startswith("job_")


@pytest.mark.parametrize("kind", [kind for kind in FindingKind if kind not in NOTHING_TO_DO])
def test_every_finding_says_what_to_do(kind: FindingKind) -> None:
    assert alert(kind=kind).advice
    assert alert(kind=kind, rule="RuleOfTheirOwn").advice or kind is FindingKind.RULE_ISSUE


def test_a_name_that_looks_like_a_template_is_shown_as_it_is() -> None:
    assert alert(rule="{job.__class__}").title == f"{{job.__class__}} found an issue in {SNAPSHOT.name}"


def test_a_finding_decided_by_numbers_also_has_the_rules_log() -> None:
    assert all(kind.log is Log.RULE for kind in KINDS.values() if kind.has_values)


def test_a_run_that_fails_or_trains_to_no_effect_is_critical_and_one_that_completes_is_not() -> None:
    critical = {kind for kind, row in kinds.KINDS.items() if row.severity is Severity.CRITICAL}
    assert critical == {FindingKind.RULE_ISSUE, FindingKind.JOB_FAILED}
    assert kinds.KINDS[FindingKind.JOB_COMPLETED].severity is Severity.INFO
