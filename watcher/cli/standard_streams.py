"""stdin, stdout and stderr as they come: closed, or in an encoding that lacks what Watcher prints."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

_READABLE = {
    **dict.fromkeys("─━═┄╌", "-"),
    **dict.fromkeys("│┃║▏", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝", "+"),
    **dict(zip("▁▂▃▄▅▆▇█", "_.,-=+*#", strict=True)),
    **dict(zip("░▒▓", ".:+", strict=True)),
    **dict(zip("▲▼►◄→←↑↓", "^v><><^v", strict=True)),
    **dict(zip("‘’“”–—·×µ✓✗", "''\"\"--.xu+x", strict=True)),
    "…": "...",
    "\u2800": " ",
}
"""What tables, curves and sentences are made of. All but … keep their width, so columns stay straight."""


def prepare() -> None:
    """Let the standard streams take whatever is printed. Call this before anything is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed, as by `>&-`
            setattr(sys, name, _nowhere(number))
        elif isinstance(stream, io.TextIOWrapper) and number:
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding=_ASCII if ascii_only else None, errors=_ERRORS)


def _nowhere(number: int) -> io.TextIOWrapper:
    """A stream for a closed one. It takes its number, too: otherwise the next file that is opened would get
    it, such as the store, and whatever a library or child process prints would be written there."""
    opened = os.open(os.devnull, os.O_RDWR)
    return os.fdopen(opened, "w" if number else "r", closefd=False, encoding="utf-8")


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    """For a character that the encoding lacks: what looks most like it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    found = "".join(map(_nearest, lost))
    return found, error.end


def _nearest(character: str) -> str:
    if known := _READABLE.get(character):
        return known
    if 0x2800 <= ord(character) < 0x2900:  # a picture of dots
        return ":"
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """ASCII by another name: typer takes a stream in ASCII for a mistake, and writes UTF-8 to it."""
    if name != _ASCII:
        return None
    ascii_ = codecs.lookup("ascii")
    return codecs.CodecInfo(
        name=_ASCII,
        encode=ascii_.encode,
        decode=ascii_.decode,
        incrementalencoder=ascii_.incrementalencoder,
        incrementaldecoder=ascii_.incrementaldecoder,
        streamreader=ascii_.streamreader,
        streamwriter=ascii_.streamwriter,
    )


_ASCII, _ERRORS = "watcher_ascii", "watcher_readable"
codecs.register(_plain_ascii)
codecs.register_error(_ERRORS, _readable)
