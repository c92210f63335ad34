"""Decodes a system file: JSON lines, as columns of numbers."""

from __future__ import annotations

import itertools
import operator
from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rules.profiler.data import Series, SeriesKey


class Damaged(Exception):
    """The file cannot be read; the message says why."""


class _Line(msgspec.Struct, gc=False):
    """A line, as the profiler writes it. The name is missing where the type says enough."""

    Type: str
    Value: float
    NodeId: str
    Timestamp: float
    Name: str | None = None
    Dimension: str | None = None


class _Numbers(msgspec.Struct, gc=False):
    """What differs from one reading of a metric to the next."""

    Value: float
    Timestamp: float


_decoder = msgspec.json.Decoder(_Line)
_numbers = msgspec.json.Decoder(_Numbers)
_key = operator.attrgetter("NodeId", "Type", "Name", "Dimension")
_time = operator.attrgetter("Timestamp")
_value = operator.attrgetter("Value")


def decode(data: bytes) -> dict[SeriesKey, Series]:
    """The series of a file, each in the order of time. As in smdebug, a broken last line is skipped, because
    the file may have been cut off; any other broken line raises `Damaged`."""
    series = regular(data)
    return by_lines(data) if series is None else series


def regular(data: bytes) -> dict[SeriesKey, Series] | None:
    """The same for a file whose lines repeat: every reading has the same metrics in the same order, as the
    profiler writes them. None for any other file. Most of a line is then compared with the first reading's,
    in columns of eight bytes, and only the numbers are decoded, in half the time."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    if not len(ends) or ends[-1] != len(data) - 1:
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    first = data[: data.find(b'"Value"')]
    again = data.find(b"\n" + first, 1)
    width = int(np.searchsorted(ends, again)) + 1 if first and again > 0 else len(ends)
    if len(ends) % width:
        return None
    reading = data[: ends[width - 1] + 1].splitlines()
    try:
        lines = [_decoder.decode(line) for line in reading]
        numbers = _numbers.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    keys = [_series_key(*_key(line)) for line in lines]
    if len(numbers) != len(ends) or len({*keys}) != width or not _repeats(data, starts, reading):
        return None
    times = np.fromiter(map(_time, numbers), np.float64, len(numbers)).reshape(-1, width).T.copy()
    values = np.fromiter(map(_value, numbers), np.float64, len(numbers)).reshape(-1, width).T.copy()
    _require_finite(times, values)
    if np.any(times[:, 1:] < times[:, :-1]):
        return None
    return {key: Series(times[index], values[index]) for index, key in enumerate(keys)}


def _repeats(data: bytes, starts: NDArray[np.int64], reading: Sequence[bytes]) -> bool:
    """Whether each line begins like that of the first reading, up to its value, and is of the same node."""
    heads = [line[: line.find(b'"Value"') + 7] for line in reading]
    nodes = {line[line.find(b'"NodeId"') :].split(b",")[0].rstrip(b"}") for line in reading}
    if len(nodes) != 1 or data.count(nodes.pop()) != len(starts):
        return False
    columns = -(-max(map(len, heads)) // 8)  # of eight bytes
    width = 8 * columns
    if len(data) < width or any(not data.startswith(head, start) for head, start in _last(heads, starts)):
        return False
    # Items of bytes, not of numbers, because numpy copies numbers that are not aligned in memory. The last
    # ones would end after the data; their lines were compared above.
    windows: NDArray[np.void] = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    found = windows[np.minimum(starts, len(windows) - 1)].view("<u8").reshape(-1, len(heads), columns)
    found[-1] = expected = np.frombuffer(_padded(heads, width), "<u8").reshape(-1, columns)
    found ^= expected
    found &= np.frombuffer(_padded([b"\xff" * len(head) for head in heads], width), "<u8").reshape(
        -1, columns
    )
    return not found.any()


def _last(heads: Sequence[bytes], starts: NDArray[np.int64]) -> Iterator[tuple[bytes, int]]:
    """The lines of the last reading."""
    return zip(heads, starts[-len(heads) :].tolist(), strict=True)


def _padded(parts: Sequence[bytes], width: int) -> bytes:
    return b"".join(part.ljust(width, b"\0") for part in parts)


def by_lines(data: bytes) -> dict[SeriesKey, Series]:
    """`decode` for any file."""
    lines = _lines(data)
    if not lines:
        return {}
    count = len(lines)
    times = np.fromiter(map(_time, lines), np.float64, count)
    values = np.fromiter(map(_value, lines), np.float64, count)
    _require_finite(times, values)
    numbers: defaultdict[tuple[str, str, str | None, str | None], int]
    numbers = defaultdict(itertools.count().__next__)
    codes = np.fromiter(map(numbers.__getitem__, map(_key, lines)), np.int64, count)
    order = np.lexsort((times, codes))
    times, values = times[order], values[order]
    ends = np.cumsum(np.bincount(codes)).tolist()
    series: dict[SeriesKey, Series] = {}
    begin = 0
    for (node, kind, name, dimension), end in zip(numbers, ends, strict=True):
        key = _series_key(node, kind, name, dimension)
        series[key] = Series(times[begin:end], values[begin:end])
        begin = end
    return series


def _series_key(node: str, kind: str, name: str | None, dimension: str | None) -> SeriesKey:
    """A metric without a device is named by either of the two fields."""
    return SeriesKey(node, kind, name or dimension or "", dimension or "" if name else "")


def _require_finite(times: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    if not (np.isfinite(times).all() and np.isfinite(values).all()):
        raise Damaged("it has a number that is not finite")


def _lines(data: bytes) -> list[_Line]:
    try:
        return _decoder.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _one_by_one(data)


def _one_by_one(data: bytes) -> list[_Line]:
    texts = data.splitlines()
    while texts and not texts[-1].strip():
        texts.pop()
    lines = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            lines.append(_decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number < len(texts):
                raise Damaged(f"line {number} of {len(texts)} is broken: {error}") from error
    return lines
