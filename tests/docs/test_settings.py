"""docs/settings.md has a row for every setting, as the code has it, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import settings
from tests.docs.pages import code_blocks, read
from watcher.config.destination import Destination, DestinationKind
from watcher.config.load import TEXT_VARIABLE, load
from watcher.delivery.channels.slack import SCOPES
from watcher.errors import ConfigError

PAGE = read("docs/settings.md")


def test_the_table_of_settings_is_generated_from_the_code():
    named = re.findall(r"^\| `[a-z_.]+` \| (?:`.*?`|needed) \| .* \|$", PAGE, re.MULTILINE)

    assert named == list(settings.rows()), "print it again: python -m tests.docs.settings"


def test_every_example_loads(tmp_path: Path):
    examples = code_blocks(PAGE, "toml")
    assert examples
    for text in examples:
        file = tmp_path / "watcher.toml"
        file.write_text(text)
        config = load(file, {"SLACK_BOT_TOKEN": "xoxb-1", "WEBHOOK_SECRET": "long enough"})
        assert config.route[0].stop


def test_every_slack_scope_that_watcher_uses_is_named():
    assert SCOPES
    assert [scope for scope in SCOPES if f"`{scope}`" not in PAGE] == []


@pytest.mark.parametrize("kind", DestinationKind)
def test_the_table_and_the_error_name_every_kind_of_destination(kind):
    row = next(row for row in settings.rows() if row.startswith("| `route.to`"))
    with pytest.raises(ConfigError) as refused:
        Destination.parse("pager:me")

    assert f"`{kind}" in row
    assert re.search(rf"\b{kind}\b", str(refused.value))


def test_the_page_names_the_variable_that_can_hold_the_settings():
    assert f"`{TEXT_VARIABLE}`" in PAGE
