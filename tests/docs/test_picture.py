from __future__ import annotations

from tests.docs.picture import PACKAGE, SVG, draw, package


def test_the_picture_of_an_alert_shows_what_the_console_shows_today():
    assert SVG.read_text() == draw(), "draw it again: python -m tests.docs.picture"


def test_the_page_of_the_distribution_shows_the_same_alert_as_text():
    assert PACKAGE.read_text() == package(), "draw it again: python -m tests.docs.picture"
