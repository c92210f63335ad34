"""Lays out a message in Slack's Block Kit.

The first screen on a phone shows what happened, what Watcher does about the job, what the job costs, and the
links; numbers, log and small print follow.

Text from outside goes only into `plain_text` and rich text, which Slack shows literally: it cannot ping a
channel, end a code block or become a link. Only the notification's text is mrkdwn, and it is escaped.

Limits (from Slack's reference of blocks): 50 blocks in a message, 150 characters in a header, 3,000 in any
other text. Rich text has no documented limit, and is kept to 3,000 as well. Label and value share a line,
because a phone would show the two columns of a section's fields one below the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from watcher.alerts.message import POSSIBLE_DUPLICATE, Message, missing_line, values_table
from watcher.model import Severity
from watcher.text import truncated

Block = dict[str, Any]

TEXT_LIMIT = 3000
"""Characters in one text."""
NOTIFICATION_LIMIT = 1000
"""Characters, before escaping; a phone shows far fewer."""

_SIGNS = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🟢"}


def blocks(message: Message) -> list[Block]:
    return list(_blocks(message))


def notification(message: Message) -> str:
    """The text of a phone's notification, as one line of mrkdwn."""
    text = truncated(message.text, NOTIFICATION_LIMIT)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(message: Message) -> Iterator[Block]:
    evidence = message.evidence
    yield {"type": "header", "text": _plain(f"{_SIGNS[message.severity]} {message.title}")}
    if message.repeat:
        yield {"type": "context", "elements": [_plain(POSSIBLE_DUPLICATE)]}
    if message.stop:
        yield _rich(_section(_text(message.stop, bold=True)))
    if evidence.explanation:
        yield _rich(_section(_text(evidence.explanation)))
    if message.fields:
        yield _rich(_section(*_lines(message.fields)))
    if message.advice:
        yield _rich(_section(_text(message.advice)))
    # A URL that is too long is left out, since a truncated one would lead nowhere.
    if links := [link for link in message.links if len(link[1]) <= TEXT_LIMIT]:
        yield _rich(_section(*_link_line(links)))
    if table := values_table(evidence):
        yield _rich(_preformatted(truncated(table, TEXT_LIMIT)))
    if excerpt := _tail(evidence.log_lines, TEXT_LIMIT):
        yield _rich(_section(_text(message.log_label, bold=True)), _preformatted(excerpt))
    small_print = [f"{label}: {value}" for label, value in message.particulars]
    if missing := missing_line(evidence):
        small_print.append(missing)
    if small_print:
        yield {"type": "context", "elements": [_plain(truncated("\n".join(small_print), TEXT_LIMIT))]}


def _lines(rows: Sequence[tuple[str, str]]) -> Iterator[Block]:
    for index, (label, value) in enumerate(rows):
        yield _text(f"{label}: " if index == 0 else f"\n{label}: ", bold=True)
        yield _text(value)


def _link_line(links: Sequence[tuple[str, str]]) -> Iterator[Block]:
    for index, (label, url) in enumerate(links):
        if index:
            yield _text("  ·  ")
        yield {"type": "link", "url": url, "text": label}


def _plain(text: str) -> Block:
    return {"type": "plain_text", "text": text, "emoji": False}


def _rich(*elements: Block) -> Block:
    return {"type": "rich_text", "elements": list(elements)}


def _section(*elements: Block) -> Block:
    return {"type": "rich_text_section", "elements": list(elements)}


def _preformatted(text: str) -> Block:
    return {"type": "rich_text_preformatted", "elements": [_text(text)]}


def _text(text: str, *, bold: bool = False) -> Block:
    element: Block = {"type": "text", "text": truncated(text, TEXT_LIMIT)}
    return element | {"style": {"bold": True}} if bold else element


def _tail(lines: Sequence[str], limit: int) -> str:
    """The last lines that fit into `limit` characters; if the last one alone does not, its end."""
    text = "\n".join(lines)
    if len(text) <= limit:
        return text.strip("\n")
    kept = text[-(limit - 2) :]
    whole_lines = kept.partition("\n")[2]
    return f"…\n{whole_lines or kept}"
