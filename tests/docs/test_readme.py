"""The README is short, and what it shows works."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import ROOT, code_blocks, read
from watcher.config.load import load

README = read("README.md")


def test_the_readme_can_be_read_in_five_minutes():
    assert len((ROOT / "README.md").read_bytes()) <= 7000


def test_the_readmes_settings_load_with_the_described_meaning(tmp_path: Path):
    [text] = code_blocks(README, "toml")
    file = tmp_path / "watcher.toml"
    file.write_text(text)

    config = load(file, {"SLACK_BOT_TOKEN": "xoxb-1"})

    assert config.watch.jobs == ("prod-*", "nightly-*")
    assert config.route[0].stop
    assert (config.stop.grace, config.stop.min_runtime) == (120, 600)


def test_the_readme_links_to_every_other_document():
    documents = ("docs/README.md", "deploy/README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

    assert [name for name in documents if f"({name})" not in README] == []
