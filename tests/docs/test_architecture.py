"""ARCHITECTURE.md, `.importlinter` and the folders of `watcher/` show the same layers."""

from __future__ import annotations

import configparser
import re

from tests.docs.pages import ROOT, code_blocks, read

WATCHER = ROOT / "watcher"


def linted() -> list[set[str]]:
    """The layers as import-linter checks them, from the top down."""
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    layers = linter["importlinter:contract:layers"]["layers"]
    return [set(line.split(" | ")) for line in layers.split("\n") if line]


def drawn() -> tuple[list[set[str]], set[str]]:
    """The layers of the picture, from the top down, and the packages outside the layers."""
    [picture] = [block for block in code_blocks(read("ARCHITECTURE.md"), "") if "__main__" in block]
    rows = re.findall(r"^ ?(\d+| —)  (\w+) +\S", picture, re.MULTILINE)
    assert len(rows) == len(picture.splitlines())
    layers: dict[str, set[str]] = {}
    for number, name in rows:
        layers.setdefault(number, set()).add(name)
    apart = layers.pop(" —")
    assert [int(number) for number in layers] == list(range(1, len(layers) + 1))
    return list(layers.values()), apart


def test_the_picture_shows_the_layers_that_import_linter_checks():
    layers, apart = drawn()

    assert layers == linted()
    assert apart == {"sandbox"}


def test_the_picture_shows_every_folder_and_module_of_watcher():
    layers, apart = drawn()
    modules = {path.stem for path in WATCHER.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in WATCHER.glob("*/__init__.py")}

    assert set().union(*layers, apart) == modules | folders
