"""The options that limit a list: `--status`, `--state`, `--kind` and `--since`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated

import typer

from watcher.errors import UsageError
from watcher.logs.since import parse as parse_since

JobStatus = Annotated[
    list[str] | None,
    typer.Option("--status", help="Only jobs with this status, such as InProgress; can be repeated."),
]
FindingStatus = Annotated[
    list[str] | None,
    typer.Option("--status", help="Only findings with this status, such as IssuesFound; can be repeated."),
]
Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only findings of this kind, such as rule_issue; can be repeated."),
]
State = Annotated[
    list[str] | None,
    typer.Option("--state", help="Only incidents in this state, such as open; can be repeated."),
]
CreatedSince = Annotated[
    str | None, typer.Option("--since", "-s", help="Only jobs created from then on: 2h, 3d, or 2026-11-20.")
]
FoundSince = Annotated[
    str | None, typer.Option("--since", "-s", help="Only findings from then on: 2h, 3d, or 2026-11-20.")
]
OpenedSince = Annotated[
    str | None,
    typer.Option("--since", "-s", help="Only incidents opened from then on: 2h, 3d, or 2026-11-20."),
]
ChangedSince = Annotated[
    str | None, typer.Option("--since", "-s", help="Only what happened from then on: 2h, 3d, or 2026-11-20.")
]


def words(option: str, given: Sequence[str] | None, known: Iterable[str]) -> frozenset[str]:
    """The words that a list is limited to: those given, or all known ones if none is given.

    Raises `UsageError` that names a word which is not known, and the nearest one that is.
    """
    all_words = frozenset(known)
    for word in given or ():
        if word not in all_words:
            raise UsageError(f"{option} {word}: unknown; {_hint(word, all_words)}")
    return frozenset(given) if given else all_words


def _hint(word: str, known: frozenset[str]) -> str:
    by_letters = {_letters(each): each for each in sorted(known)}
    close = get_close_matches(_letters(word), by_letters, n=1)
    return f"did you mean {by_letters[close[0]]}?" if close else f"use one of {', '.join(sorted(known))}"


def _letters(word: str) -> str:
    """`in_progress`, `in progress` and `InProgress` are the same."""
    return "".join(filter(str.isalnum, word)).lower()


def moment(since: str | None, now: datetime) -> datetime | None:
    """The moment that `--since` names; None without it. Raises `UsageError`."""
    return parse_since(since, now) if since is not None else None
