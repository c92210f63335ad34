from __future__ import annotations

import pytest
from hypothesis import given

from tests.hidden import found_in, hostile
from watcher.logs.terminal_lines import lines


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("10%|█ |\r20%|██|\r", ["20%|██|"]),
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("1/2 [=> ]\x08\x08\x08\x082/2 [==]", ["2/2 [==]"]),
        ("#015 10%#015 20%", [" 20%"]),
        ("#015100%|██| 5/5", ["100%|██| 5/5"]),
        ("50%   #015 60%", [" 60%"]),
        ("done #015", ["done "]),
        ("#033[1;32mgreen#033[0m", ["green"]),
        ("#011at line 3", ["\tat line 3"]),
        ("Traceback:#012  File x", ["Traceback:", "  File x"]),
        ("fixed in #015, not in issue #011", ["fixed in #015, not in issue #011"]),
        ('color="#012345"; #fff', ['color="#012345"; #fff']),
        ("\x1b[31mred\x1b[0m", ["red"]),
        ("plain", ["plain"]),
    ],
)
def test_a_line_is_what_a_terminal_shows_of_it(message, shown):
    assert lines(message) == shown


@given(hostile())
def test_no_line_has_anything_hidden(text):
    assert not found_in(lines(text))
