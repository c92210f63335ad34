"""Tables and labelled facts: fitted to a terminal, plain columns elsewhere.

Plain columns are never cut, so that grep and awk work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from watcher.cli.table_layout import SEPARATOR, Layout, layout
from watcher.text import clean, in_row

TERMINAL_ROWS_LIMIT = 50
"""How many rows of a long list a terminal shows without --all."""

_STYLES = {
    "InProgress": "cyan",
    "Completed": "green",
    "NoIssuesFound": "green",
    "delivered": "green",
    "ok": "green",
    "Recovered": "green",
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
    "open": "bold red",
    "acknowledged": "cyan",
    "resolved": "green",
    "refused": "bold red",
    "critical": "bold red",
}
"""Style for a cell whose whole text is this word."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. A terminal shows each row on one line, with prose folded in its column or below the row;
    `table_layout` decides what gives way. Elsewhere, every cell is shown in full."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    names: Sequence[str] = ("job",)
    """The columns that are never cut."""
    prose: Sequence[str] = ()
    """The columns that are folded, not cut."""
    optional: Sequence[str] = ()
    """The columns that a narrow terminal leaves out first, least important first."""

    @property
    def _headings(self) -> list[str]:
        """Some are texts from outside, such as the names of hyperparameters."""
        return [in_row(column) for column in self.columns]

    def print(self, console: Console) -> None:
        rows = [[in_row(content) for content in row] for row in self.rows]
        if console.is_terminal:
            self._draw(rows, console)
        else:
            print_line(console, "\n".join(self._plain(rows)))  # in one write, however many rows

    def _draw(self, rows: Sequence[Sequence[str]], console: Console) -> None:
        prose = frozenset(self._indexes(self.prose))
        shape = layout(
            [max(map(cell_len, cells)) for cells in zip(self._headings, *rows, strict=True)],
            console.width,
            names=frozenset(self._indexes(self.names)),
            prose=prose,
            optional=self._indexes(self.optional),
        )
        if self.title:
            console.print(Text(f"\n{in_row(self.title)}", style="bold"))
        total = sum(shape.widths.values()) + len(SEPARATOR) * (len(shape.widths) - 1)
        header = [Text(column, style="bold") for column in self._headings]
        _print_row(header, shape, frozenset(), console)
        print_text(Text(("─" if _is_utf(console) else "-") * min(total, console.width), style="dim"), console)
        for row in rows:
            cells = [Text(cell, style=_STYLES.get(cell, "")) for cell in row]
            _print_row(cells, shape, prose, console)
            for index in shape.below:
                if row[index]:
                    _print_below(self._headings[index], cells[index], console)
        if shape.hidden:
            hidden = ", ".join(self._headings[index] for index in shape.hidden)
            console.print(Text(f"(a wider terminal also shows: {hidden})", style="dim"))

    def _indexes(self, columns: Sequence[str]) -> list[int]:
        return [self.columns.index(column) for column in columns if column in self.columns]

    def _plain(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        if self.title:
            yield f"\n{in_row(self.title)}"
        lines = [[column.upper() for column in self._headings], *rows]
        widths = [max(map(len, cells)) for cells in zip_longest(*lines, fillvalue="")]
        for line in lines:
            yield SEPARATOR.join(
                (cell or "-").ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()


def _print_row(cells: Sequence[Text], shape: Layout, prose: frozenset[int], console: Console) -> None:
    """One line, unless prose is folded."""
    columns = [
        list(cells[index].wrap(console, width, overflow="fold"))
        if index in prose
        else [_cut(cells[index], width, console)]
        for index, width in shape.widths.items()
    ]
    for parts in zip_longest(*columns, fillvalue=Text()):
        padded = [
            Text.assemble(part, " " * (width - part.cell_len))
            for part, width in zip(parts, shape.widths.values(), strict=True)
        ]
        line = Text(SEPARATOR).join(padded)
        line.rstrip()
        print_text(line, console)


def _print_below(column: str, cell: Text, console: Console) -> None:
    text = Text.assemble((f"{column}: ", "dim"), cell)
    for line in text.wrap(console, console.width - len(SEPARATOR), overflow="fold"):
        print_text(Text.assemble(SEPARATOR, line), console)


def _cut(cell: Text, width: int, console: Console) -> Text:
    if cell.cell_len <= width:
        return cell
    end = "…" if _is_utf(console) else "..."
    kept = set_cell_size(cell.plain, width - len(end)).rstrip()
    return Text(kept + end, style=cell.style)


def _is_utf(console: Console) -> bool:
    return console.encoding.startswith("utf")


def print_text(text: Text, console: Console) -> None:
    """Print a line as it is: neither wrapped nor cut."""
    console.print(text, highlight=False, soft_wrap=True)


def print_line(console: Console, line: str) -> None:
    """Print a line, or several, as they are: not wrapped, and without markup."""
    console.print(clean(line), markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_facts(pairs: Iterable[tuple[str, str]], console: Console) -> None:
    """Print one label and value per line; empty values are left out."""
    shown = [(in_row(label), in_row(value)) for label, value in pairs if value]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        line = Text.assemble((label.ljust(width), "bold"), "  ", (value, _STYLES.get(value, "")))
        print_text(line, console)


def print_limited(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    more: str,
    console: Console,
    *,
    show_all: bool,
    names: Sequence[str] = ("job",),
    prose: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    shown = rows if show_all or not console.is_terminal else rows[:TERMINAL_ROWS_LIMIT]
    Table(columns, shown, names=names, prose=prose, optional=optional).print(console)
    if len(shown) < len(rows):
        print_line(console, f"… and {len(rows) - len(shown)} more {more}")
