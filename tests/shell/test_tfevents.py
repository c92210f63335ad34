"""Our decoder of event files gives the same values as smdebug's own writer and reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from watcher.debug_output.tfevents import Damaged, SavedTensor, decode, masked_crc32c

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

Write = Callable[..., bytes]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Lets smdebug write one event file with these tensors, and returns its bytes."""

    def write(tensors: dict[str, Any], step: int = 7, mode: str = "GLOBAL", **options: Any) -> bytes:
        from smdebug.core.modes import ModeKeys
        from smdebug.core.writer import FileWriter

        writer = FileWriter(trial_dir=str(tmp_path), worker="worker_0", step=step, **options)
        for name, value in tensors.items():
            writer.write_tensor(value, name, mode=ModeKeys[mode], mode_step=step // 2)
        writer.close()
        (file,) = tmp_path.glob("events/*/*.tfevents")
        return file.read_bytes()

    return write


def as_smdebug_reads(data: bytes) -> list[tuple[Any, ...]]:
    from smdebug.core.tfrecord.tensor_reader import TensorReader

    return [
        (name, step, mode.name, mode_step, value.dtype, value.shape, value.tobytes())
        for name, step, value, mode, mode_step in TensorReader(data).read_tensors()
    ]


def as_we_read(data: bytes) -> list[tuple[Any, ...]]:
    return [
        (*tensor[:4], tensor.value.dtype, tensor.value.shape, tensor.value.tobytes())
        for tensor in decode(data)
    ]


DTYPES = [
    "float16", "float32", "float64", "int32", "int64", "uint8", "bool", "complex128",
    "int8", "int16", "uint16", "uint32", "uint64", "complex64",
]  # fmt: skip
NOT_READ_BY_SMDEBUG = {"int8", "int16", "uint16", "uint32", "uint64", "complex64"}
"""smdebug reads int8 as uint8, and raises KeyError for the others."""


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_any_type_and_shape_is_read_as_written_and_as_smdebug_reads_it(
    write: Write, dtype: str, shape: tuple[int, ...]
) -> None:
    value: NDArray[Any] = (np.random.default_rng(3).random(shape) * 100 - 50 * (dtype[0] in "fic")).astype(
        dtype
    )
    data = write({"a-tensor": value})
    (tensor,) = decode(data)
    assert tensor[:4] == ("a-tensor", 7, "GLOBAL", 3)
    assert tensor.value.dtype == value.dtype
    np.testing.assert_array_equal(
        tensor.value, np.atleast_1d(value), strict=True
    )  # smdebug writes no 0-d arrays
    if dtype not in NOT_READ_BY_SMDEBUG:
        assert as_we_read(data) == as_smdebug_reads(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308])
def test_a_number_at_the_edge_keeps_its_bits(write: Write, value: float) -> None:
    data = write({"loss": np.float64(value)})
    assert decode(data)[0].value.tobytes() == np.float64(value).tobytes()


def test_a_tensor_without_dimensions_is_a_scalar(tmp_path: Path) -> None:
    from smdebug.core.tfevent.proto.event_pb2 import Event
    from smdebug.core.tfevent.proto.summary_pb2 import Summary
    from smdebug.core.tfevent.util import make_tensor_proto
    from smdebug.core.tfrecord.record_writer import RecordWriter

    tensor = make_tensor_proto(np.array(0.5), "loss")
    event = Event(step=3, summary=Summary(value=[Summary.Value(tag="loss", tensor=tensor)]))
    writer = RecordWriter(str(tmp_path / "one.tfevents"), write_checksum=False)
    writer.write_record(Event(file_version="brain.Event:2").SerializeToString())
    writer.write_record(event.SerializeToString())
    writer.close()
    (tensor,) = decode((tmp_path / "one.tfevents").read_bytes())
    assert (tensor.step, tensor.mode, tensor.mode_step, tensor.value.shape) == (3, "GLOBAL", 3, ())
    assert tensor.value == 0.5


def test_text_is_read_as_smdebug_reads_it(write: Write) -> None:
    data = write({"trees/Feature": np.array(["f0", "Leaf", "größe"])})
    assert as_we_read(data) == as_smdebug_reads(data)
    assert decode(data)[0].value.tolist() == ["f0", "Leaf", "größe"]


@pytest.mark.parametrize("step", [0, 1, 127, 128, 16_384, 2**31, 2**40])
@pytest.mark.parametrize("mode", ["GLOBAL", "TRAIN", "EVAL", "PREDICT"])
def test_step_and_mode_are_read_as_smdebug_reads_them(write: Write, step: int, mode: str) -> None:
    data = write({"loss": np.float32(0.5)}, step=step, mode=mode)
    (tensor,) = decode(data)
    assert (tensor.step, tensor.mode, tensor.mode_step) == (step, mode, step // 2)
    assert as_we_read(data) == as_smdebug_reads(data)


def test_a_tensor_that_is_not_wanted_is_named_with_its_mode_and_without_its_value(write: Write) -> None:
    data = write({"weights": np.ones(10), "loss": np.float64(0.5), "bias": np.ones(3)}, mode="TRAIN")
    weights, loss, bias = decode(data, lambda name: name == "loss")
    assert loss.value == 0.5
    assert weights == ("weights", 7, "TRAIN", 3, None)
    assert bias == ("bias", 7, "TRAIN", 3, None)


def several(write: Write, **options: Any) -> bytes:
    return write({"loss": np.float64(0.25), "weights": np.arange(6, dtype=np.float32)}, **options)


def bits(tensors: list[SavedTensor]) -> list[tuple[Any, ...]]:
    return [(*tensor[:4], tensor.value.shape, tensor.value.tobytes()) for tensor in tensors]


def test_a_file_truncated_at_any_byte_never_gives_a_wrong_value(
    write: Write,
) -> None:
    data = several(write)
    whole = bits(decode(data))
    readable = {}
    for length in range(len(data)):
        try:
            readable[length] = bits(decode(data[:length]))
        except Damaged:
            continue
    assert list(readable.values()) == [whole[:1]]


def test_with_smdebugs_checksums_damage_to_any_byte_is_detected(write: Write) -> None:
    data = several(write, write_checksum=True)
    assert bits(decode(data)) == bits(decode(several(write)))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        with pytest.raises(Damaged):
            decode(bytes(damaged))


def test_without_checksums_damage_raises_no_other_error(write: Write) -> None:
    data = several(write)
    noticed = 0
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                decode(bytes(damaged))
            except Damaged:
                noticed += 1
    assert noticed > len(data)


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"<!DOCTYPE html><html></html>", b"\xff" * 200])
def test_bytes_that_are_not_an_event_file_are_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        decode(data)


def test_the_checksum_is_crc32c() -> None:
    # RFC 3720, B.4: crc32c of 32 zero bytes is 0x8a9136aa; TFRecord then masks it.
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
