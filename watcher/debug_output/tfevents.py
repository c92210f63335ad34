"""Decodes the event files (`.tfevents`) in which smdebug's hook saves tensors.

A file is a sequence of TFRecords. Each is an `Event` message of protocol buffers with one tensor. This module
reads the few fields that matter itself: that takes about a tenth of the time of smdebug's reader and needs
neither smdebug nor protobuf. Field numbers are those of TensorFlow's event.proto, summary.proto and
tensor.proto; unlike there, `plugin_data` is a repeated field in smdebug's.

    record  = length (u64)  masked crc32c of the length (u32)  event  masked crc32c of the event (u32)

smdebug writes the second checksum of a constant instead of the event, so damage inside an event is found only
if its structure is broken. A file that is cut off between two records looks like a shorter one: some of its
tensors are missing. That cannot happen on S3, where an object exists whole or not at all.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Damaged(ValueError):
    """The bytes are not a complete event file."""


class SavedTensor(NamedTuple):
    name: str
    step: int
    """The global step."""
    mode: str
    """smdebug's `ModeKeys`, by name."""
    mode_step: int
    value: NDArray[Any] | None
    """None for a tensor that was not wanted."""


MODES = {1: "TRAIN", 2: "EVAL", 3: "PREDICT", 4: "GLOBAL"}

DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in {
        1: "<f4",
        2: "<f8",
        3: "<i4",
        4: "u1",
        5: "<i2",
        6: "i1",
        8: "<c8",
        9: "<i8",
        10: "?",
        17: "<u2",
        18: "<c16",
        19: "<f2",
        22: "<u4",
        23: "<u8",
    }.items()
}
"""The values of TensorFlow's `DataType` that smdebug writes. smdebug's own reader takes int8 (6) for uint8
and does not know int16, uint16, uint32, uint64 and complex64."""

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


def decode(data: bytes | memoryview, wanted: Callable[[str], bool] | None = None) -> list[SavedTensor]:
    """The tensors of one event file, or of some of its records, in the order of saving; without values for
    those that are not `wanted` by name.

    Raises `Damaged`. The values are read-only views of `data`.
    """
    if not data:
        raise Damaged("the file is empty")
    try:
        return [tensor for event in _events(data) for tensor in _tensors(event, wanted)]
    except Damaged:
        raise
    except (IndexError, KeyError, OverflowError, ValueError, struct.error) as error:
        raise Damaged(f"an event does not hold what it should: {error}") from error


def _events(data: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(data)
    start = 0
    while start < len(data):
        if start + _HEADER.size > len(data):
            raise Damaged(f"cut off in the header at byte {start}")
        length, length_crc = _HEADER.unpack_from(data, start)
        if length_crc != masked_crc32c(view[start : start + 8]):
            raise Damaged(f"the length at byte {start} does not fit its checksum")
        begin = start + _HEADER.size
        end = begin + length
        if end + _CRC.size > len(data):
            raise Damaged(f"cut off in the record at byte {start}")
        event = view[begin:end]
        (event_crc,) = _CRC.unpack_from(data, end)
        if event_crc != _CONSTANT_CRC and event_crc != masked_crc32c(event):
            raise Damaged(f"the record at byte {start} does not fit its checksum")
        yield event
        start = end + _CRC.size


def _tensors(event: memoryview, wanted: Callable[[str], bool] | None) -> Iterator[SavedTensor]:
    step = 0  # proto3 omits fields that are zero
    summaries: list[memoryview] = []
    for number, value in _fields(event):
        if number == 2:
            step = _signed(value)
        elif number == 5:
            summaries.append(_message(value))
    for summary in summaries:
        for number, value in _fields(summary):
            if number == 1:
                yield _tensor(_message(value), step, wanted)


def _tensor(value: memoryview, step: int, wanted: Callable[[str], bool] | None) -> SavedTensor:
    name, metadata, tensor = "", None, None
    for number, field in _fields(value):
        if number == 1:
            name = _text(field)
        elif number == 9:
            metadata = _message(field)
        elif number == 8:
            tensor = _message(field)
    if tensor is None:
        raise Damaged(f"the value {name!r} holds no tensor")
    mode, mode_step = _mode(b"" if metadata is None else bytes(metadata))
    array = _array(tensor) if wanted is None or wanted(name) else None
    return SavedTensor(name, step, mode, step if mode_step is None else mode_step, array)


@lru_cache(maxsize=256)  # the same for all tensors of a step
def _mode(metadata: bytes) -> tuple[str, int | None]:
    mode, mode_step = "GLOBAL", None
    for number, field in _fields(memoryview(metadata)):
        if number != 1:
            continue
        plugin = dict(_fields(_message(field)))
        key, content = _text(plugin.get(1, b"")), _text(plugin.get(2, b""))
        if key == "mode":
            mode = MODES[int(content)]
        elif key == "mode_step":
            mode_step = int(content)
    return mode, mode_step


def _array(tensor: memoryview) -> NDArray[Any]:
    dtype = 0
    shape: tuple[int, ...] = ()
    content: memoryview | None = None
    strings: list[str] = []
    for number, field in _fields(tensor):
        if number == 1:
            dtype = _signed(field)
        elif number == 2:
            shape = _shape(bytes(_message(field)))
        elif number == 4:
            content = _message(field)
        elif number == 8:
            strings.append(_text(field))
    if dtype == 0:  # smdebug omits the type of text
        if len(strings) != math.prod(shape):
            raise Damaged(f"{len(strings)} strings do not fill the shape {shape}")
        return np.array(strings, dtype=str).reshape(shape)
    if dtype not in DTYPES:
        raise Damaged(f"unknown data type {dtype}")
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    found = 0 if content is None else len(content)
    if found != expected:
        raise Damaged(f"{found} bytes do not fill the shape {shape} of {DTYPES[dtype]}")
    return np.frombuffer(content if content is not None else b"", DTYPES[dtype]).reshape(shape)


@lru_cache(maxsize=4096)  # the same for a tensor at every step
def _shape(shape: bytes) -> tuple[int, ...]:
    return tuple(_size(_message(dim)) for number, dim in _fields(memoryview(shape)) if number == 2)


def _size(dim: memoryview) -> int:
    size = _signed(dict(_fields(dim)).get(1, 0))
    if size < 0:
        raise Damaged(f"a dimension of size {size}")
    return size


Field = int | memoryview


def _fields(message: memoryview) -> Iterator[tuple[int, Field]]:
    """Number and value of each field; a varint is an int, anything else bytes."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind == 1:
            length = 8
        elif kind == 5:
            length = 4
        else:
            raise Damaged(f"unknown wire type {kind}")
        if position + length > end:
            raise Damaged("a field is longer than its message")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    byte = message[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value, shift = byte & 0x7F, 7
    while shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise Damaged("a number of more than 64 bits")


def _signed(value: Field) -> int:
    if not isinstance(value, int):
        raise Damaged("bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def _message(value: Field) -> memoryview:
    if isinstance(value, int):
        raise Damaged("a number where a message belongs")
    return value


def _text(value: Field | bytes) -> str:
    if isinstance(value, int):
        raise Damaged("a number where text belongs")
    return str(value, "utf-8")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def masked_crc32c(data: bytes | memoryview) -> int:
    """TFRecord's checksum: crc32c (Castagnoli), rotated and shifted by a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


_CONSTANT_CRC = masked_crc32c(b"0x12345678")
"""What smdebug writes instead of the checksum of an event."""
