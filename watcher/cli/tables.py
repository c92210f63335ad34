"""Tables and labelled facts: drawn by rich on a terminal, plain columns elsewhere.

Plain columns are never cut, so that grep and awk work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

TERMINAL_ROWS_LIMIT = 50
"""How many rows of a long list a terminal shows without --all."""

_STYLES = {
    "InProgress": "cyan",
    "Completed": "green",
    "NoIssuesFound": "green",
    "delivered": "green",
    "ok": "green",
    "IssuesFound": "bold red",
    "Failed": "bold red",
    "dead": "bold red",
    "failed": "bold red",
    "Error": "yellow",
    "Stopped": "yellow",
    "no_issues_found": "green",
    "issues_found": "bold red",
    "error": "bold red",
    "not_evaluated": "yellow",
    "in_progress": "cyan",
    "warning": "yellow",
}
"""Style for a cell whose whole text is this word."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""

    def print(self, console: Console) -> None:
        rows = [[_CONTROL.sub(" ", cell) for cell in row] for row in self.rows]
        if console.is_terminal:
            console.print(self._drawn(rows))
        else:
            for line in self._plain(rows):
                print_line(console, line)

    def _drawn(self, rows: Sequence[Sequence[str]]) -> RichTable:
        table = RichTable(
            title=f"\n{self.title}" if self.title else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
        )
        for column in self.columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        return table

    def _plain(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        if self.title:
            yield f"\n{self.title}"
        lines = [[column.upper() for column in self.columns], *rows]
        widths = [max(map(len, cells)) for cells in zip_longest(*lines, fillvalue="")]
        for line in lines:
            yield "  ".join(
                (cell or "-").ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: not wrapped, and without markup."""
    console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_facts(pairs: Iterable[tuple[str, str]], console: Console) -> None:
    """Print one label and value per line; empty values are left out."""
    shown = [(label, _CONTROL.sub(" ", value)) for label, value in pairs if value]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        line = Text.assemble((label.ljust(width), "bold"), "  ", (value, _STYLES.get(value, "")))
        console.print(line, soft_wrap=True, highlight=False)


def print_limited(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    more: str,
    console: Console,
    *,
    show_all: bool,
) -> None:
    shown = rows if show_all or not console.is_terminal else rows[:TERMINAL_ROWS_LIMIT]
    Table(columns, shown).print(console)
    if len(shown) < len(rows):
        print_line(console, f"… and {len(rows) - len(shown)} more {more}")
