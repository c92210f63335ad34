from __future__ import annotations

from tests.docs.picture import PACKAGE, SVG, draw, package


def test_the_picture_of_an_alert_matches_the_console():
    assert SVG.read_text() == draw(), "draw it again: python -m tests.docs.picture"


def test_the_package_page_shows_the_same_alert_as_text():
    assert PACKAGE.read_text() == package(), "draw it again: python -m tests.docs.picture"
