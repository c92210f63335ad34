"""Prints alerts on standard output: a panel on a terminal, plain text anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from watcher.alerts.message import (
    POSSIBLE_DUPLICATE,
    Message,
    also_found,
    missing_line,
    not_delivered,
    plain_text,
    summary,
    values_table,
)
from watcher.alerts.sentences import Ending
from watcher.delivery.channels.base import OneWayChannel, Probe
from watcher.errors import Undeliverable
from watcher.model import Severity

_COLOURS = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.INFO: "green"}


class ConsoleChannel(OneWayChannel):
    def __init__(self, file: TextIO | None = None) -> None:
        self._console = Console(file=file, highlight=False)

    def send(self, message: Message) -> str:
        console = self._console
        try:
            if console.is_terminal and console.encoding.startswith("utf"):
                console.print(render(message))
            else:
                plot = _plot(message, colour=False) if console.encoding.startswith("utf") else ""
                text = (
                    f"{message.subject}\n\n{summary(message)}"
                    if _brief(message)
                    else plain_text(message, plot)
                )
                text = text.encode(console.encoding, "replace").decode(console.encoding)
                console.file.write(f"{text}\n\n")
            console.file.flush()
        except (OSError, ValueError) as error:  # closed, or the reader of the pipe has gone
            raise Undeliverable(f"standard output cannot be written: {error}") from error
        return ""

    def probe(self) -> Probe:
        try:
            writable = self._console.file.writable()
        except (AttributeError, OSError, ValueError):  # there is none, or it is closed
            writable = False
        if not writable:
            raise Undeliverable("standard output is closed: start Watcher with one, or route elsewhere")
        return Probe("alerts are printed on the standard output of `watcher run`")

    def send_test(self, text: str, at: datetime) -> str:  # noqa: ARG002
        console = self._console
        try:
            console.file.write(f"{text}\n".encode(console.encoding, "replace").decode(console.encoding))
            console.file.flush()
        except (AttributeError, OSError, ValueError) as error:
            raise Undeliverable(f"standard output cannot be written: {error}") from error
        return "printed"


def _plot(message: Message, *, colour: bool) -> str:
    if not message.evidence.curve:
        return ""
    # Imported here because it imports numpy, which gathering a curve has loaded already.
    from watcher.alerts.text_plot import text_plot

    return text_plot(message.evidence, colour=colour)


def render(message: Message) -> RenderableType:
    """What `send` shows on a terminal."""
    colour = _colour(message)
    body = [Text(summary(message), style="bold")] if _brief(message) else list(_sections(message))
    return Panel(
        Group(*(Padding(section, (0, 0, int(i < len(body) - 1), 0)) for i, section in enumerate(body))),
        title=Text(message.subject, style=f"bold {colour}"),
        title_align="left",
        border_style=colour,
        padding=(1, 2),
    )


def _brief(message: Message) -> bool:
    """An update is short, because the alert is further up on the screen; unless something else was found."""
    return message.is_update and not message.headline_is_new


def _colour(message: Message) -> str:
    if message.ending is Ending.UNWATCHED:
        return "white"
    return "green" if message.ending else _COLOURS[message.severity]


def _sections(message: Message) -> Iterator[RenderableType]:
    """Text from outside goes through `Text`, which does not interpret markup."""
    evidence = message.evidence
    if message.repeat:
        yield Text(POSSIBLE_DUPLICATE, style="italic")
    yield Text(summary(message), style="bold")
    if evidence.explanation:
        yield Text(evidence.explanation, style="bold")
    table = Table.grid(padding=(0, 3))
    for label, value in (*message.fields, *message.details):
        table.add_row(Text(label, style="dim"), Text(value))
    yield table
    if others := also_found(message):
        yield Text(others)
    if undelivered := not_delivered(message):
        yield Text(undelivered, style="yellow")
    plot = _plot(message, colour=True)
    if values := values_table(evidence, curves=not plot):
        yield Text(values, style="cyan", no_wrap=True, overflow="ellipsis")
    if plot:
        yield Text.from_ansi(plot, no_wrap=True, overflow="crop")
    if evidence.log_lines:
        lines = Text("\n".join(evidence.log_lines), style="dim")
        yield Group(Text(message.log_label, style="dim"), Padding(lines, (0, 0, 0, 2)))
    if message.advice:
        yield Text(message.advice, style="italic")
    if message.particulars:
        rows = (f"{label}: {value}" for label, value in message.particulars)
        yield Text("\n".join(rows), style="dim")
    if missing := missing_line(evidence) or message.left_out:
        yield Text(missing, style="yellow")
    if message.links:
        yield Text("  ·  ").join(
            Text(label, style=Style(color="blue", underline=True, link=url)) for label, url in message.links
        )
