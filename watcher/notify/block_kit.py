"""A message in Slack's Block Kit.

Text from outside stands only in `plain_text` and rich text, which Slack takes literally: nothing in it can
ping a channel, end a code block or turn into a link. Only the notification's text is mrkdwn, and escaped.

Limits (Slack's reference of blocks): 50 blocks a message, 150 characters a header, 10 fields a section,
2,000 characters a field, 3,000 characters another text. Rich text has no limit of its own there, and is
kept to the same 3,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from watcher.message import REPEATED, Message, missing_line, values_table
from watcher.model import FindingKind

Block = dict[str, Any]

TEXT_LIMIT = 3000
SHORT = 80
"""Longer values get lines of their own: half of a message's width is too narrow for them."""
ROWS = 5
"""A label and a value are two of a section's ten fields."""

_SIGNS = {
    FindingKind.RULE_ISSUE: "🔴",
    FindingKind.RULE_ERROR: "🟠",
    FindingKind.RULE_UNEVALUATED: "🟠",
    FindingKind.DIVERGENCE: "🟠",
    FindingKind.RULE_MUTE: "🟠",
    FindingKind.RULE_DEFECT: "🟠",
    FindingKind.JOB_FAILED: "🔴",
    FindingKind.JOB_STOPPED: "🟠",
    FindingKind.JOB_COMPLETED: "🟢",
}


def blocks(message: Message) -> list[Block]:
    return list(_blocks(message))


def notification(message: Message) -> str:
    """The line that a phone shows, in mrkdwn."""
    return _head(message.text, 1000).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(message: Message) -> Iterator[Block]:
    evidence = message.evidence
    yield {"type": "header", "text": _plain(f"{_SIGNS[message.finding.kind]} {message.title}")}
    if message.repeat:
        yield {"type": "context", "elements": [_plain(REPEATED)]}
    if message.stop:
        yield _rich(_section(_text(message.stop, bold=True)))
    short = [field for field in message.fields if len(field[1]) <= SHORT]
    for start in range(0, len(short), ROWS):
        rows = short[start : start + ROWS]
        yield {"type": "section", "fields": [cell for row in rows for cell in _row(*row)]}
    for label, value in message.fields:
        if len(value) > SHORT:
            yield _rich(_section(_text(f"{label}\n", bold=True), _text(value)))
    if evidence.explanation:
        yield _rich(_section(_text(evidence.explanation)))
    if table := values_table(evidence):
        yield _rich(_preformatted(_head(table, TEXT_LIMIT)))
    if excerpt := _tail(evidence.log_lines, TEXT_LIMIT):
        yield _rich(_section(_text(message.log_label, bold=True)), _preformatted(excerpt))
    if message.advice:
        yield _rich(_section(_text(message.advice)))
    if missing := missing_line(evidence):
        yield {"type": "context", "elements": [_plain(_head(missing, 2000))]}
    # A URL that is cut leads nowhere.
    if links := [link for link in message.links if len(link[1]) <= TEXT_LIMIT]:
        yield _rich(_section(*_link_line(links)))


def _row(label: str, value: str) -> tuple[Block, Block]:
    return {"type": "mrkdwn", "text": f"*{label}*"}, _plain(value)


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
    element: Block = {"type": "text", "text": _head(text, TEXT_LIMIT)}
    return element | {"style": {"bold": True}} if bold else element


def _head(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _tail(lines: Sequence[str], limit: int) -> str:
    """The last lines that fit; of a last line that alone is too long, its end."""
    text = "\n".join(lines)
    if len(text) <= limit:
        return text.strip("\n")
    kept = text[-(limit - 2) :]
    whole_lines = kept.partition("\n")[2]
    return f"…\n{whole_lines or kept}"
