"""Slack's complaints about blocks that break its rules (https://docs.slack.dev/reference/block-kit/blocks)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_BLOCKS = 50
MAX_TEXT = 3000
MAX_MESSAGE_TEXT = 40_000
"""The text of a message without blocks."""
MAX_MESSAGE = 11_300
"""Slack refuses longer messages as a whole (`msg_blocks_too_long`), as users report."""


def length(text: str) -> int:
    """As Slack counts: in UTF-16 units, so that most emoji are two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def is_too_long(blocks: Any) -> bool:
    return _total(blocks) > MAX_MESSAGE


def _total(thing: Any) -> int:
    """The length of all texts and URLs."""
    if isinstance(thing, list):
        return sum(map(_total, thing))
    if not isinstance(thing, dict):
        return 0
    own = sum(length(thing[key]) for key in ("text", "url") if isinstance(thing.get(key), str))
    return own + sum(_total(item) for item in thing.values())


def problems(blocks: Any) -> list[str]:
    if not isinstance(blocks, list):
        return ["blocks: must be an array"]
    found = [] if len(blocks) <= MAX_BLOCKS else [f"no more than {MAX_BLOCKS} items allowed"]
    for index, block in enumerate(blocks):
        found += [f"/blocks/{index}: {problem}" for problem in _block(block)]
    return found


def _block(block: dict[str, Any]) -> Iterator[str]:  # noqa: PLR0912 - a case for each type of block
    match block.get("type"):
        case "header":
            yield from _text_object(block["text"], 150, {"plain_text"})
            yield from _unknown(block, {"type", "text", "block_id"})
        case "section":
            fields = block.get("fields", [])
            if not fields and "text" not in block:
                yield "section needs text or fields"
            if len(fields) > 10:
                yield "more than 10 fields"
            if "text" in block:
                yield from _text_object(block["text"], MAX_TEXT, {"plain_text", "mrkdwn"})
            for field in fields:
                yield from _text_object(field, 2000, {"plain_text", "mrkdwn"})
            yield from _unknown(block, {"type", "text", "fields", "block_id"})
        case "context":
            if not 1 <= len(block["elements"]) <= 10:
                yield "context takes 1 to 10 elements"
            for element in block["elements"]:
                yield from _text_object(element, MAX_TEXT, {"plain_text", "mrkdwn"})
            yield from _unknown(block, {"type", "elements", "block_id"})
        case "rich_text":
            if not block["elements"]:
                yield "rich_text is empty"
            for element in block["elements"]:
                yield from _rich_element(element)
            yield from _unknown(block, {"type", "elements", "block_id"})
        case "divider":
            yield from _unknown(block, {"type", "block_id"})
        case unknown:
            yield f"unsupported block type {unknown!r}"


def _rich_element(element: dict[str, Any]) -> Iterator[str]:
    if element.get("type") not in ("rich_text_section", "rich_text_preformatted"):
        yield f"unsupported element {element.get('type')!r}"
        return
    if not element["elements"]:
        yield f"{element['type']} is empty"
    for leaf in element["elements"]:
        match leaf.get("type"):
            case "text":
                yield from _length(leaf["text"], MAX_TEXT)
                yield from _unknown(leaf, {"type", "text", "style"})
            case "link":
                yield from _length(leaf["url"], MAX_TEXT)
                if not leaf["url"].startswith(("https://", "http://")):
                    yield f"invalid url {leaf['url']!r}"
                yield from _unknown(leaf, {"type", "url", "text", "style"})
            case unknown:
                yield f"unsupported element {unknown!r}"


def _text_object(text: dict[str, Any], limit: int, kinds: set[str]) -> Iterator[str]:
    if text.get("type") not in kinds:
        yield f"text must be one of {sorted(kinds)}"
    yield from _length(text["text"], limit)
    if text.get("type") == "mrkdwn":
        yield from mrkdwn_problems(text["text"])
        yield from _unknown(text, {"type", "text", "verbatim"})
    else:
        yield from _unknown(text, {"type", "text", "emoji"})


def mrkdwn_problems(text: str) -> Iterator[str]:
    """Our own rule, not Slack's: markup in what Watcher writes must not ping people or make links."""
    if "<" in text or ">" in text:
        yield f"unescaped markup in {text!r}"


def _length(text: str, limit: int) -> Iterator[str]:
    if not text:
        yield "must be more than 0 characters"
    if length(text) > limit:
        yield f"must be less than {limit + 1} characters"
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        yield "has characters that are not text"


def _unknown(thing: dict[str, Any], known: set[str]) -> Iterator[str]:
    if extra := thing.keys() - known:
        yield f"unknown keys {sorted(extra)}"
