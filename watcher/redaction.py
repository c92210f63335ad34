"""Finds what looks like a secret in text and in named values, and masks it.

Text from outside is searched here, so each pattern takes time in proportion to the text: whatever may repeat
is bounded, or ends where the next match could begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import date
from typing import Any

MASK = "***"


class Redactor:
    """Masks the known secrets wherever they occur, and anything that looks like a secret.

    This is the last line of defence. Nothing should log a secret, but a library's debug line, or an exception
    that quotes a request, might.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # Longest first, so that no part of a secret that contains another is left. Very short secrets would
        # mask parts of ordinary words; `config` refuses them.
        known = sorted({form for secret in secrets if len(secret) >= 8 for form in _forms(secret)}, key=len)
        self._known = re.compile("|".join(re.escape(form) for form in reversed(known))) if known else None

    def text(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        if _UNSUSPICIOUS.fullmatch(text):  # most values of a job: numbers and short words
            return text
        for pattern in _PATTERNS:
            text = pattern.sub(lambda match: (match.groupdict().get("keep") or "") + MASK, text)
        return text

    def value(self, value: Any) -> Any:
        """The value as plain data, masked. An object of any other type becomes its `repr`."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._masked(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        return self.text(repr(value))

    def _masked(self, key: Any, value: Any) -> Any:
        return MASK if value and _SECRET_NAME.fullmatch(str(key)) else self.value(value)

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {key: self._masked(key, value) for key, value in event.items()}


def _forms(secret: str) -> set[str]:
    """A secret as it is, as it looks inside JSON, and as it looks inside a Python literal."""
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}


def redacted(text: str) -> str:
    """The text, with what looks like a secret masked."""
    return _REDACTOR.text(text)


def without_secrets(named: Mapping[str, str]) -> dict[str, str]:
    """What may be shown. Searches name and value (which may be a whole document) for words that hint at a
    secret. It is better to leave out `max_tokens` than to show a token."""
    return {name: value for name, value in named.items() if not _HINT.search(f"{name} {value}")}


def masked_hyperparameters(named: Mapping[str, str]) -> dict[str, str]:
    """What may be stored: masked is what `without_secrets` leaves out, unless it is a number, or a plain word
    whose name hints at nothing, because checks of a configuration read such values."""
    return {name: MASK if _is_suspect(name, value) else redacted(value) for name, value in named.items()}


def _is_suspect(name: str, value: str) -> bool:
    if _HINT.search(name):
        return bool(value) and (bool(_SECRET_NAME.fullmatch(name)) or not _NUMBER.fullmatch(value))
    return bool(_HINT.search(value)) and not _PLAIN.fullmatch(value)


def masked_by_name(named: Mapping[str, str]) -> dict[str, str]:
    """The same for values whose exact text is needed, such as the expressions of rule parameters: masked is
    only what its name calls a secret."""
    return {name: MASK if value and _SECRET_NAME.fullmatch(name) else value for name, value in named.items()}


_HINT = re.compile(
    rf"token|passw|passphrase|pwd|secret|key|credential|auth|private|://[^/\s]*@|{re.escape(MASK)}",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\"?[\d.,+-]+(?:e[+-]?\d+)?\"?", re.IGNORECASE)
_PLAIN = re.compile(r"[\[\]\w.,@/\"'-]*")
"""A name, a file, or a list of names. What assigns a value has another character."""

_NAMES = (
    r"(?:proxy-)?authorization|x-amz-security-token|(?:aws_?)?secret_?access_?key|(?:aws_?)?session_?token"
    r"|(?:bot|app|access|auth|api)?[_-]?token|webhook_?secret|(?:client_?)?secret|passw(?:or)?d|passphrase"
    r"|(?:api|private|secret)[_-]?key|(?:set-)?cookie"
)
_SECRET_NAME = re.compile(rf"(?:[\w.-]{{0,60}}[_.-])?(?:{_NAMES})", re.IGNORECASE)
_BEGINS = r"(?<![^\W_])"
"""Not in the middle of a word. `_` counts as a gap, as in `WANDB_API_KEY`."""
_QUOTE = r"\\{0,8}[\"']"
"""Quotes of a literal that is quoted itself have backslashes."""

_PATTERNS = (
    # Slack: bot, user, app-level, refresh and configuration tokens.
    re.compile(r"\b(?:xox[a-z]|xapp|xoxe\.xox[bp])-[\w%-]+"),
    re.compile(r"(?P<keep>hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/%-]+"),
    # AWS access keys: long-term and temporary.
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    # The parts of a presigned URL that grant access.
    re.compile(r"(?P<keep>X-Amz-(?:Signature|Security-Token|Credential)=)[^&\s\"'<>]+", re.IGNORECASE),
    # A header or field whose name says that it is secret, in a dict, JSON, XML or plain text. The value ends
    # with its quotes or its tag; without either, with the line.
    re.compile(
        rf"(?P<keep>{_BEGINS}(?:{_NAMES})(?:{_QUOTE})?\s*[:=]\s*b?(?P<quote>{_QUOTE}))(?:(?!(?P=quote)).)+",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(rf"(?P<keep><(?P<tag>{_NAMES})>)[^<]+", re.IGNORECASE),
    re.compile(
        r"(?P<keep>\b(?:(?:proxy-)?authorization|x-amz-security-token|(?:set-)?cookie)\s*[:=]\s*+)"
        rf"(?!b?{_QUOTE}|\*)[^\r\n]+",
        re.IGNORECASE,
    ),
    # An assignment as in a shell, or an option of a command.
    re.compile(rf"(?P<keep>{_BEGINS}(?:{_NAMES})=)[^\s\"'&,;*)}}\]]{{4,}}", re.IGNORECASE),
    re.compile(rf"(?P<keep>--(?:[a-z]{{1,20}}-)?(?:{_NAMES})\s)[^\s\"'*-][^\s\"']*", re.IGNORECASE),
    re.compile(r"(?P<keep>\bBearer\s+)[\w.~+/=-]{8,}"),
    # User and password in a URL.
    re.compile(r"(?P<keep>://)[^\s/@\"']+@"),
)

_UNSUSPICIOUS = re.compile(r"[\w.+]{0,19}")
"""None of the patterns finds anything in it: each needs another character, or twenty of these."""

_REDACTOR = Redactor()
