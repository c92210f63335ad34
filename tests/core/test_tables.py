from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from tests.contract.samples import NOON
from watcher.cli.store_tables import print_jobs
from watcher.cli.tables import TERMINAL_ROWS_LIMIT, Table
from watcher.store.views import JobView
from watcher.text import ago, roughly


def printed(table: Table, *, terminal: bool, width: int = 80) -> str:
    file = io.StringIO()
    table.print(Console(file=file, force_terminal=terminal, width=width, color_system="truecolor"))
    return file.getvalue()


def job(number: int, **changes: Any) -> JobView:
    view: dict[str, Any] = {
        "job": f"job-{number}",
        "arn": f"arn:aws:sagemaker:us-east-1:111122223333:training-job/job-{number}",
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


def test_on_a_terminal_a_status_has_its_colour_and_a_long_cell_is_folded_not_cut():
    long = "x" * 60
    text = printed(Table(("job", "status"), [(long, "IssuesFound")]), terminal=True, width=40)

    assert "\x1b[1;31mIssuesFound" in text
    assert text.count("x") == 60


@pytest.mark.parametrize("terminal", [True, False])
def test_text_of_a_job_cannot_move_the_cursor_or_act_as_markup(terminal):
    text = printed(Table(("why",), [("\x1b[2Jgone\r\nand [bold]loud[/bold] :smile:",)]), terminal=terminal)

    assert "\x1b[2J" not in text
    assert "[bold]loud[/bold] :smile:" in text


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
