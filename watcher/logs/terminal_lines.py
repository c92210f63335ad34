r"""Makes lines for people of what a program wrote for a terminal. Pure.

A progress bar goes back to the start of its line each time it moves. In the log of a job, such a bar is one
line of many thousand characters, of which a terminal shows only the end.

Some job logs have control characters as octal numbers, as rsyslog writes them: `#033[31m` is a colour, `#015`
a carriage return, `#011` a tab, `#012` a line end, `#010` a backspace.
"""

from __future__ import annotations

import re

from watcher.text import clean

_OCTAL = re.compile(
    # After a single space, a person has written a number: `see issue #015`. A colour stays, too: `"#012345"`.
    r"(?:(?<! )|(?<=  ))#(0(?:07|1[0-5]))(?!\d{3}[\"';,)])|#(015)$|#(033)(?=[\[\]])"
)
_BACKSPACES = re.compile("\x08{2,}")


def lines(message: str, keep: re.Pattern[str] | None = None) -> list[str]:
    """The lines of a message as a terminal shows them, without what it cannot show. Of a line that was
    written over, only the last text stays, or the last one in which `keep` is found."""
    if "#0" in message:
        message = _OCTAL.sub(lambda found: chr(int(found[found.lastindex or 1], 8)), message)
    if "\x08" in message:
        message = _BACKSPACES.sub("\r", message)
    return [
        shown
        for line in message.split("\n")
        for shown in clean(_last_written(line, keep) if "\r" in line else line).split("\n")
    ]


def _last_written(line: str, keep: re.Pattern[str] | None) -> str:
    newest_first = line.split("\r")[::-1]
    if keep and (kept := next(filter(keep.search, newest_first), "")):
        return kept
    return next((text for text in newest_first if clean(text).strip()), "")
