"""Lays out a message in Slack's Block Kit.

The first screen on a phone shows what happened, how it is now, what Watcher does about the job, what the job
costs, and the links; numbers, log and small print follow.

Text from outside goes only into `plain_text` and rich text, which Slack shows literally: it cannot ping a
channel, end a code block or become a link. Only the notification's text is mrkdwn, and it is escaped.

Limits (from Slack's reference of blocks): 50 blocks in a message, 150 characters in a header, 3,000 in any
other text. Rich text has no documented limit, and is kept to 3,000 as well. From about 11,300 characters on,
Slack refuses a message as a whole (`msg_blocks_too_long`), so each part has a share, and the evidence gets
what is left. Slack counts UTF-16 units: most emoji are two. Label and value share a line, because a phone
would show the two columns of a section's fields one below the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from watcher.alerts.message import POSSIBLE_DUPLICATE, Message, missing_line, plain_text, titled, values_table
from watcher.alerts.sentences import Ending
from watcher.model import Severity

Block = dict[str, Any]

HEADER_LIMIT = 150
TEXT_LIMIT = 3000
"""UTF-16 units in one text."""
MESSAGE_LIMIT = 10_500
"""UTF-16 units in all texts and URLs of a message."""
NOTIFICATION_LIMIT = 1000
"""UTF-16 units, before escaping; a phone shows far fewer."""
PLAIN_LIMIT = 3500
"""UTF-16 units of a message without blocks, before escaping; Slack recommends at most 4,000."""

_SIGNS = {Severity.CRITICAL: "🔴", Severity.WARNING: "🟠", Severity.INFO: "🟢"}
_ENDINGS = {Ending.RECOVERED: "✅", Ending.RESOLVED: "✅", Ending.STOPPED: "🛑", Ending.UNWATCHED: "⚪"}

# Shares of MESSAGE_LIMIT. Together with the header they leave about 1,500 for the evidence, at worst.
_STOP_SHARE = 700
_EXPLANATION_SHARE = 1000
_FIELDS_SHARE = 1200
_DETAILS_SHARE = 1800
_OTHERS_SHARE = 1000
_UNDELIVERED_SHARE = 600
_ADVICE_SHARE = 500
_LINKS_SHARE = 1800
_SMALL_PRINT_SHARE = 1200


def blocks(message: Message) -> list[Block]:
    return [block for block in _parts(message, _Room()) if block]


def notification(message: Message) -> str:
    """The text of a phone's notification, as one line of mrkdwn."""
    return _escaped(shortened(message.text, NOTIFICATION_LIMIT))


def plain(message: Message) -> str:
    """The whole message as mrkdwn, for a workspace that refuses its blocks."""
    return _escaped(shortened(plain_text(message), PLAIN_LIMIT))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(slots=True)
class _Room:
    """What a message may still hold, in UTF-16 units."""

    left: int = MESSAGE_LIMIT

    def take(self, text: str, share: int = TEXT_LIMIT) -> str:
        """The beginning of the text, within the share and what is left."""
        text = shortened(text, min(share, self.left))
        self.left -= length(text)
        return text

    def take_end(self, lines: Sequence[str], share: int = TEXT_LIMIT) -> str:
        """The last lines, within the same."""
        text = _tail(lines, min(share, self.left))
        self.left -= length(text)
        return text

    def rows(self, rows: Iterable[tuple[str, str]], share: int) -> list[tuple[str, str]]:
        """Label and value, until the share is used up."""
        end = max(self.left - share, 0)
        kept = []
        for label, value in rows:
            shown = shortened(value, self.left - end - length(label) - 3)
            if shown:
                kept.append((label, shown))
                self.left -= length(label) + length(shown) + 3
        return kept

    def whole(self, links: Iterable[tuple[str, str]], share: int) -> list[tuple[str, str]]:
        """The links that fit as they are: a truncated one would lead nowhere."""
        end = max(self.left - share, 0)
        kept = []
        for label, url in links:
            size = length(label) + length(url) + 5
            if length(url) <= TEXT_LIMIT and self.left - size >= end:
                kept.append((label, url))
                self.left -= size
        return kept


def _parts(message: Message, room: _Room) -> Iterator[Block | None]:
    """The blocks in their order; None for what the message does not have. The evidence comes last, and gets
    the room that is left: the small print first, then the log."""
    evidence = message.evidence
    sign = _ENDINGS[message.ending] if message.ending else _SIGNS[message.severity]
    yield {"type": "header", "text": _plain(room.take(f"{sign} {message.title}", HEADER_LIMIT))}
    yield _context(room.take(POSSIBLE_DUPLICATE if message.repeat else ""))
    yield _paragraph(room.take(message.status, _STOP_SHARE))
    yield _paragraph(room.take(message.stop, _STOP_SHARE), bold=True)
    yield _paragraph(room.take(evidence.explanation, _EXPLANATION_SHARE))
    yield _rich_section(_lines(room.rows(message.fields, _FIELDS_SHARE)))
    yield _rich_section(_link_line(room.whole(message.links, _LINKS_SHARE)))
    yield _paragraph(room.take(titled("Also found", message.others), _OTHERS_SHARE))
    yield _paragraph(room.take(titled("Not delivered everywhere", message.undelivered), _UNDELIVERED_SHARE))
    yield _rich_section(_lines(room.rows(message.details, _DETAILS_SHARE)))
    yield _paragraph(room.take(message.advice, _ADVICE_SHARE))
    yield _context(room.take(message.left_out, _ADVICE_SHARE))
    small_print = room.take(_small_print(message), _SMALL_PRINT_SHARE)
    label = room.take(message.log_label if evidence.log_lines else "")
    excerpt = room.take_end(evidence.log_lines)
    if table := room.take(values_table(evidence)):
        yield _rich(_preformatted(table))
    if excerpt:
        yield _rich(_section(_text(label, bold=True)), _preformatted(excerpt))
    yield _context(small_print)


def _small_print(message: Message) -> str:
    rows = [f"{label}: {value}" for label, value in message.particulars]
    missing = missing_line(message.evidence)
    return "\n".join([*rows, missing] if missing else rows)


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


def _context(text: str) -> Block | None:
    return {"type": "context", "elements": [_plain(text)]} if text else None


def _paragraph(text: str, *, bold: bool = False) -> Block | None:
    return _rich(_section(_text(text, bold=bold))) if text else None


def _rich_section(elements: Iterable[Block]) -> Block | None:
    found = list(elements)
    return _rich(_section(*found)) if found else None


def _rich(*elements: Block) -> Block:
    return {"type": "rich_text", "elements": list(elements)}


def _section(*elements: Block) -> Block:
    return {"type": "rich_text_section", "elements": list(elements)}


def _preformatted(text: str) -> Block:
    return {"type": "rich_text_preformatted", "elements": [_text(text)]}


def _text(text: str, *, bold: bool = False) -> Block:
    element: Block = {"type": "text", "text": shortened(text, TEXT_LIMIT)}
    return element | {"style": {"bold": True}} if bold else element


def length(text: str) -> int:
    """As Slack counts it: in UTF-16 units."""
    return len(text) + sum(character > "\uffff" for character in text)


def shortened(text: str, limit: int) -> str:
    """At most `limit` UTF-16 units; a text that is longer ends in an ellipsis. Empty if nothing fits."""
    if length(text) <= limit:
        return text
    return f"{_beginning(text, limit - 1)}…" if limit > 0 else ""


def _beginning(text: str, limit: int) -> str:
    units = text.encode("utf-16-le")[: 2 * limit]
    return units.decode("utf-16-le", errors="ignore")


def _tail(lines: Sequence[str], limit: int) -> str:
    """The last lines that fit into `limit` UTF-16 units; if the last one alone does not, its end."""
    text = "\n".join(lines).strip("\n")
    if length(text) <= limit:
        return text
    if limit <= len("…\n"):
        return ""
    units = text.encode("utf-16-le")[-2 * (limit - len("…\n")) :]
    kept = units.decode("utf-16-le", errors="ignore")
    whole_lines = kept.partition("\n")[2]
    return f"…\n{whole_lines or kept}"
