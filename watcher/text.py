"""Writes text, times and numbers for people, and keeps out what people cannot see."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cache

# -- the gate --------------------------------------------------------------------------------------
#
# Text from outside (names, tags, reasons, log lines) may hold what a reader does not see: terminal escapes,
# characters that turn the direction of writing, and invisible ones in which text can hide. Whatever shows
# text to a person takes it through `printable`, `one_line` or `in_row`. JSON needs no gate: it escapes all
# of these.
#
# What remains is what people write: every script's letters, and emoji. Some invisible characters belong to
# them, and are kept there and nowhere else: a joiner between two emoji (a family) or between letters of
# scripts that need it (Persian, Hindi …), one variation selector after an emoji, a keycap or an ideograph,
# and the tags of the flags of England, Scotland and Wales.

_ESCAPE_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erasing
    # OSC, DCS, SOS, PM and APC have a text (window title, link, clipboard), which ends with the line at the
    # latest.
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\r\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]"  # all others
)
_LINE_END = re.compile("[\r\x0b\x0c\x85\u2028\u2029]\n?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_MARKS = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{4})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
"""Accents. More than four on one letter would cover the lines above and below."""
_INTRODUCERS = "\x1b\x9b\x9d\x90\x98\x9e\x9f"

_EMOJI = "©®‼⁉™ℹ\u2190-\u2bff〰〽㊗㊙\U0001f000-\U0001faff"
_IDEOGRAPH = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_JOINED_SCRIPT = "\u0620-\u0dff\u0f00-\u109f\u1780-\u17b3\u17b6-\u17dd\u1820-\u18aa"
_FLAG_TAGS = "\U000e0067\U000e0062(?:{})\U000e007f".format(
    "|".join("".join(chr(0xE0000 + ord(letter)) for letter in country) for country in ("eng", "sct", "wls"))
)
_BELONGS = (
    f"(?<=[{_EMOJI}])[\ufe0e\ufe0f]"
    "|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    f"|(?<=[{_IDEOGRAPH}])[\ufe00-\ufe02\U000e0100-\U000e01ef]"
    f"|(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f))\u200d(?=[{_EMOJI}])"
    f"|(?<=[{_JOINED_SCRIPT}])[\u200c\u200d](?=[{_JOINED_SCRIPT}])"
    f"|(?<=\U0001f3f4){_FLAG_TAGS}"
)
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except tab and line end
    # Unicode's Default_Ignorable_Code_Point: zero-width characters, bidi controls, fillers, variation
    # selectors, tag characters, and what is reserved for more of them.
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u2028\u2029\ufff9-\ufffb"  # separators and annotations
    "\ud800-\udfff\ufdd0-\ufdef"  # surrogates and non-characters
    + "".join(f"{chr(plane + 0xFFFE)}-{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What is hidden, and which of it belongs to its neighbours. Compiled when it is first needed, which for
    most commands is never."""
    return re.compile(f"[{_HIDDEN}]+"), re.compile(_BELONGS)


def _visible(text: str) -> str:
    hidden, belongs = _patterns()

    def kept(run: re.Match[str]) -> str:
        at, parts = run.start(), []
        while at < run.end():
            if found := belongs.match(text, at):
                parts.append(found[0])
            at = found.end() if found else at + 1
        return "".join(parts)

    return _MARKS.sub(r"\1", hidden.sub(kept, text))


def clean(text: str) -> str:
    """The text without terminal escapes and what cannot be seen. Every kind of line end becomes `\\n`; tabs
    and spaces stay."""
    if text.isascii() and (text.isprintable() or not _CONTROL.search(text)):
        return text
    if any(introducer in text for introducer in _INTRODUCERS):
        text = _ESCAPE_SEQUENCE.sub("", text)
    return _visible(_LINE_END.sub("\n", text))


def printable(text: str) -> str:
    """`clean`, without empty lines at the beginning and the end."""
    return clean(text).strip("\n")


def one_line(text: str) -> str:
    """`clean`, on one line, with single spaces."""
    return " ".join(clean(text).split())


def in_row(text: str) -> str:
    """`clean`, on one line, in which spaces stay as they are: for tables, which are aligned with
    them."""
    return " ".join(clean(text).expandtabs(1).splitlines())


def shown(value: object) -> object:
    """A value as a template shows it (Jinja's `finalize`): text goes through `clean`."""
    return clean(value) if type(value) is str else value


MAX_FILE_NAME_BYTES = 200
"""File systems take 255."""


def file_name(name: str, end: str) -> str:
    """A file's name that every system takes. `end` is kept whole: it distinguishes the file."""
    kept = re.sub(r"[^\w.-]+", "_", one_line(name)).lstrip(".-")
    return within_bytes(kept, MAX_FILE_NAME_BYTES - len(end.encode())) + end


def within_bytes(text: str, limit: int) -> str:
    """The beginning of `text` that takes at most `limit` bytes in UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")


def truncated(text: str, limit: int, end: str = "…") -> str:
    """At most `limit` characters; a text that is longer ends in `end`."""
    return text if len(text) <= limit else text[: limit - len(end)] + end


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, in a suitable unit. A time in the future (from another clock) is just now."""
    if then is None:
        return ""
    seconds = max((now - then).total_seconds(), 0)
    return "just now" if seconds < 5 else f"{roughly(seconds)} ago"


def roughly(seconds: float) -> str:
    """A time span in one unit: `12 s`, `4 min`, `3 h`, `5 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def duration(span: timedelta) -> str:
    """A time span in its two largest units (`2 d 3 h`, `12 min 4 s`)."""
    left = max(int(span.total_seconds()), 0)
    parts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        amount, left = divmod(left, seconds)
        if amount or parts:
            parts.append((amount, unit))
    return " ".join(f"{amount} {unit}" for amount, unit in parts[:2] if amount) or "0 s"


def counts(of: dict[str, int]) -> str:
    """`3 InProgress, 1 Failed`."""
    return ", ".join(f"{count} {word}" for word, count in of.items())


def instances(kind: str, count: int) -> str:
    """`2 × ml.p3.2xlarge`; empty if the type is not known."""
    return f"{count} × {kind}" if kind else ""
