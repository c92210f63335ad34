from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.delivery.channels.signature import sign, verify

NOW = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


def test_the_signature_matches_the_documented_example() -> None:
    # printf '%s' '1795168800.{"a": 1}' | openssl dgst -sha256 -hmac 'shared secret'
    assert sign("shared secret", b'{"a": 1}', NOW) == (
        "t=1795168800,v1=8b19395bd1c7b1cd4a4a9b201319076045afb8467162339644467dd3c7437eab"
    )


@given(st.text(min_size=1), st.binary())
def test_a_signed_request_is_verified(secret: str, body: bytes) -> None:
    assert verify(secret, sign(secret, body, NOW), body, NOW)


@given(st.binary(), st.integers(0), st.integers(1, 255))
def test_a_body_with_any_byte_changed_is_refused(body: bytes, place: int, change: int) -> None:
    changed = bytearray(body + b".")
    header = sign("secret", bytes(changed), NOW)
    changed[place % len(changed)] ^= change
    assert not verify("secret", header, bytes(changed), NOW)


def test_another_secret_is_refused() -> None:
    assert not verify("other", sign("secret", b"body", NOW), b"body", NOW)


@pytest.mark.parametrize("age", [timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)])
def test_an_old_or_early_request_is_refused_so_that_it_cannot_be_replayed(age: timedelta) -> None:
    assert not verify("secret", sign("secret", b"body", NOW), b"body", NOW + age)


@pytest.mark.parametrize("header", ["", "t=1,v1=", "v1=abc", "t=x,v1=" + "0" * 64, "t=1,v1=" + "é" * 64])
def test_a_header_in_another_format_is_refused(header: str) -> None:
    assert not verify("secret", header, b"body", NOW)
