from __future__ import annotations

from tests.docs.picture import FILE, draw


def test_the_picture_of_an_alert_shows_what_the_console_shows_today():
    assert FILE.read_text() == draw(), "draw it anew: python -m tests.docs.picture"
