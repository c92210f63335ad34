from __future__ import annotations

import io
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.contract.samples import NOON
from watcher.cli.store_tables import print_findings, print_jobs, print_status
from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table, print_facts, print_line
from watcher.store.views import FindingView, JobView, StatusView
from watcher.text import ago, roughly

LONGEST_NAME = "prod-recommender-xgb-hyperparameter-tuning-2026-11-20-10-00-001"
"""SageMaker allows 63 characters."""
REASON = "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 140 resulted in it"


def printed(table: Table, *, terminal: bool, width: int = 80) -> str:
    file = io.StringIO()
    table.print(Console(file=file, force_terminal=terminal, width=width, color_system="truecolor"))
    return file.getvalue()


def drawn(draw: Callable[[Console], None], width: int) -> list[str]:
    """The lines that a terminal of this width gets, without colours."""
    file = io.StringIO()
    draw(Console(file=file, force_terminal=True, width=width, color_system=None))
    return file.getvalue().splitlines()


def job(number: int, **changes: Any) -> JobView:
    view: dict[str, Any] = {
        "job": f"job-{number}",
        "arn": f"arn:aws:sagemaker:us-east-1:111122223333:training-job/job-{number}",
        "run": f"arn:aws:sagemaker:us-east-1:111122223333:training-job/job-{number}@2026-11-20T12:00:00.000Z",
        "status": "InProgress",
        "secondary_status": "Training",
        "created_at": NOON - timedelta(minutes=3),
        "ended_at": None,
        "instance_type": "ml.m5.xlarge",
        "instance_count": 2,
        "watching": True,
        "changed_at": NOON,
        "rules": {"IssuesFound": 1},
        "findings": 1,
    }
    return JobView(**{**view, **changes})  # type: ignore[typeddict-item]


def finding(**changes: Any) -> FindingView:
    view: dict[str, Any] = {
        "id": "6c0f2d0a1b9e4f37",
        "job": LONGEST_NAME,
        "rule": "LossNotDecreasing",
        "source": "debugger",
        "kind": "rule_issue",
        "status": "IssuesFound",
        "reason": REASON,
        "step": 140,
        "sources": ["debugger"],
        "opened_at": NOON - timedelta(minutes=3),
        "closed_at": None,
        "episode": 1,
        "incident": "5ea5b87c16b70c1c",
        "deliveries": [{"to": "slack:#ml", "state": "delivered", "attempts": 1, "delivered_at": NOON}],
    }
    return FindingView(**{**view, **changes})  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-30, "just now"),
        (4, "just now"),
        (5, "5 s ago"),
        (89, "89 s ago"),
        (180, "3 min ago"),
        (2 * 3600, "2 h ago"),
        (3 * 86400, "3 days ago"),
    ],
)
def test_a_time_is_shown_in_relative_words(seconds, words):
    assert ago(NOON - timedelta(seconds=seconds), NOON) == words


def test_an_unknown_time_is_left_empty():
    assert ago(None, NOON) == ""
    assert roughly(90) == "2 min"


def test_without_a_terminal_columns_are_plain_aligned_and_never_cut():
    long = "x" * 200
    table = Table(("job", "why"), [("a", long), ("longer", "")])

    assert printed(table, terminal=False) == f"JOB     WHY\na       {long}\nlonger  -\n"


def test_on_a_terminal_a_status_has_its_colour():
    text = printed(Table(("job", "status"), [("churn", "IssuesFound")]), terminal=True, width=40)

    assert "\x1b[1;31mIssuesFound" in text


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_job_is_one_line_with_its_whole_name_at_every_width(width):
    lines = drawn(
        lambda console: print_jobs([job(1, job=LONGEST_NAME)], NOON, console, show_all=False), width
    )

    assert [line for line in lines if LONGEST_NAME in line] == [lines[2]]
    assert ("InProgress" in lines[2]) == (width >= 80)
    assert ("1 IssuesFound" in lines[2]) == (width >= 120)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_finding_is_one_line_with_its_whole_name_its_kind_and_as_much_of_its_reason_as_fits(width):
    lines = drawn(lambda console: print_findings([finding()], NOON, console, show_all=False), width)

    assert [line for line in lines if LONGEST_NAME in line] == [lines[2]]
    assert ("rule_issue" in lines[2]) == (width >= 80)
    assert ("RuleEval" in lines[2]) == (width >= 120)
    assert ("delivered" in lines[2]) == (width >= 200)


def test_a_terminal_that_is_too_narrow_for_some_columns_says_which():
    lines = drawn(
        lambda console: print_jobs([job(1, job=LONGEST_NAME)], NOON, console, show_all=False), width=80
    )

    said = " ".join(lines[3:])
    assert said == "(a wider terminal also shows: doing, created, instances, rules, findings)"


def test_prose_is_folded_in_its_column_or_stands_below_its_row_on_a_narrow_terminal():
    table = Table(("state", "what happened"), [("failed", REASON), ("ok", "")], prose=("what happened",))

    wide, narrow = (drawn(table.print, width) for width in (60, 24))

    assert wide[2].startswith("failed  RuleEvaluationConditionMet:")
    assert narrow[2] == "failed"
    assert narrow[3].startswith("  what happened:")
    for lines in (wide, narrow):
        text = re.sub("what happened:|^(failed|ok) ", "", " ".join(lines[2:])).replace("ok", "")
        assert "".join(text.split()).replace("failed", "") == "".join(REASON.split())


def test_the_reason_of_a_dead_letter_is_shown_in_full_at_80_columns():
    letter = {
        "id": "1",
        "kind": "alert",
        "job": LONGEST_NAME,
        "rule": None,
        "incident": "5ea5b87c16b70c1c",
        "to": "slack:#ml",
        "attempts": 9,
        "error": "Slack's #ml refused: channel_not_found; the channel does not exist, or it is private",
        "created_at": NOON,
    }
    status: dict[str, Any] = {
        "store": "sqlite:///watcher.db",
        "jobs": {},
        "watching": 0,
        "incidents": {"open": 1},
        "findings": 1,
        "undelivered": 1,
        "deliveries": {},
        "refused": [],
        "retrying": [],
        "dead_letters": [letter],
        "changed_at": None,
    }

    lines = drawn(lambda console: print_status(StatusView(**status), NOON, console), 80)  # type: ignore[typeddict-item]

    assert sum(LONGEST_NAME in line for line in lines) == 1
    assert letter["error"] in " ".join(" ".join(lines).split())


names = st.from_regex(r"[a-z0-9](-?[a-z0-9]){0,31}", fullmatch=True)
cells = st.text(st.characters(exclude_categories=["Cs", "Cc", "Mn", "Me", "Cf", "Zl", "Zp"]), max_size=40)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """`job` stands anywhere; some of the other columns are prose, and some may be left out first."""
    others = [f"column {number}" for number in range(draw(st.integers(0, 6)))]
    columns = draw(st.permutations(["job", *others]))
    chosen = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    rows = [[name if column == "job" else draw(cells) for column in columns] for name in chosen]
    prose = draw(st.sets(st.sampled_from(others))) if others else set()
    optional = [column for column in others if column not in prose and draw(st.booleans())]
    return Table(columns, rows, prose=sorted(prose), optional=optional)


@given(tables(), st.integers(20, 200))
def test_every_name_stands_whole_on_one_line_and_no_line_is_longer_than_it_must_be(table: Table, width: int):
    lines = drawn(table.print, width)
    place = table.columns.index("job")
    chosen = [row[place] for row in table.rows]

    for name in chosen:
        whole = re.compile(rf"(?<![a-z0-9-]){name}(?![a-z0-9-])")
        assert any(whole.search(line) for line in lines)
    assert all(cell_len(line) <= max(width, *map(len, chosen)) for line in lines)


@given(tables().filter(lambda table: not table.prose), st.integers(20, 200))
def test_without_prose_each_row_is_exactly_one_line(table: Table, width: int):
    lines = drawn(table.print, width)

    rows = lines[2 : 2 + len(table.rows)]
    place = table.columns.index("job")
    assert all(row[place] in line for row, line in zip(table.rows, rows, strict=True))
    assert len(lines) == 2 + len(table.rows) or lines[2 + len(table.rows)].startswith("(a wider")


@given(tables())
def test_plain_output_holds_every_cell_in_full(table: Table):
    file = io.StringIO()
    table.print(Console(file=file, width=20))
    lines = file.getvalue().split("\n")[1:-1]

    for row, line in zip(table.rows, lines, strict=True):
        assert all(cell.rstrip() in line for cell in row)


@pytest.mark.parametrize("terminal", [True, False])
def test_text_of_a_job_cannot_move_the_cursor_or_act_as_markup(terminal):
    text = printed(Table(("why",), [("\x1b[2Jgone\r\nand [bold]loud[/bold] :smile:",)]), terminal=terminal)

    assert "\x1b[2J" not in text
    assert "[bold]loud[/bold] :smile:" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_no_text_from_outside_reverses_or_erases_what_stands_around_it(terminal):
    hostile = "a\x1b[31mb\x1b]0;title\x07\u202ec\nd"
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80, color_system=None)

    Table((f"name{hostile}",), [(hostile,)], names=()).print(console)
    print_facts([("is", hostile)], console)
    print_line(console, f"\nthen: {hostile}")

    assert not {"\x1b", "\x07", "\u202e"} & {*file.getvalue()}
    assert "is  abc d" in file.getvalue()


def test_a_long_list_is_cut_on_a_terminal_and_says_how_to_see_the_rest():
    jobs = [job(number) for number in range(TERMINAL_ROWS_LIMIT + 7)]
    file = io.StringIO()
    print_jobs(jobs, NOON, Console(file=file, force_terminal=True, width=200), show_all=False)

    assert f"job-{TERMINAL_ROWS_LIMIT - 1}" in file.getvalue()
    assert f"job-{TERMINAL_ROWS_LIMIT} " not in file.getvalue()
    assert "… and 7 older ones: use --all" in file.getvalue()


@pytest.mark.parametrize(("terminal", "show_all"), [(True, True), (False, False)])
def test_a_long_list_is_complete_with_all_and_when_output_is_not_a_terminal(terminal, show_all):
    jobs = [job(number) for number in range(TERMINAL_ROWS_LIMIT + 7)]
    file = io.StringIO()
    print_jobs(jobs, NOON, Console(file=file, force_terminal=terminal, width=200), show_all=show_all)

    assert f"job-{TERMINAL_ROWS_LIMIT + 6}" in file.getvalue()
    assert "older ones" not in file.getvalue()


def test_a_job_is_one_line_with_what_matters():
    file = io.StringIO()
    print_jobs([job(1)], NOON, Console(file=file, width=200), show_all=False)

    _, line = file.getvalue().splitlines()
    assert line.split("  ") == [
        "job-1",
        "InProgress",
        "Training",
        "3 min ago",
        "2 × ml.m5.xlarge",
        "1 IssuesFound",
        "1",
    ]
