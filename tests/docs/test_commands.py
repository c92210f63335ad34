"""docs/commands.md describes every command and the shape of its output."""

from __future__ import annotations

import json
import re

import pytest
import typer.main

from tests.contract.samples import NOON, delivery, finding, look
from tests.docs.pages import DOCUMENTS, code_blocks, read
from tests.docs.shapes import shape
from watcher.cli import app
from watcher.model import DeliveryState, FindingKind, RuleSource
from watcher.store import views
from watcher.store.memory import MemoryStore

PAGE = read("docs/commands.md")
COMMANDS = typer.main.get_group(app).commands
EVERYWHERE = {"--config", "--verbose", "--json", "--help"}


def options(command: str) -> set[str]:
    """The long options of a command, from the command line parser."""
    return {
        name for parameter in COMMANDS[command].params for name in parameter.opts if name.startswith("--")
    }


def described(command: str) -> str:
    """The command's row in the table of commands."""
    [row] = re.findall(rf"^\| `watcher {command}\b.*\|$", PAGE, re.MULTILINE)
    return row


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_row_that_names_its_own_options_and_no_others(command):
    named = set(re.findall(r"`(--[a-z-]+)", described(command)))

    assert named == options(command) - EVERYWHERE


def test_every_command_that_the_page_names_exists():
    named = set(re.findall(r"(?:`|^    )watcher ([a-z]+)", PAGE, re.MULTILINE))

    assert named == set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_command_that_any_document_names_exists(document):
    named = set(re.findall(r"(?:`|^    )watcher ([a-z]+)", document.read_text(), re.MULTILINE))

    assert named <= set(COMMANDS)


def test_common_options_exist_for_the_commands_that_the_page_lists():
    with_json = {command for command in COMMANDS if "--json" in options(command)}
    with_config = {command for command in COMMANDS if {"--config", "--verbose"} <= options(command)}

    assert with_json == {"check", "status", "jobs", "show", "findings", "logs", "tensors", "evaluate", "stop"}
    assert with_config == set(COMMANDS) - {"init", "demo", "sandbox"}
    assert "`show`, `findings`, `logs`, `tensors`, `evaluate` and `stop` print JSON with `--json`" in PAGE


def test_the_finding_on_the_page_has_the_shape_of_a_real_one():
    issue = finding("churn", step=24)
    store = MemoryStore()
    delivered = delivery(issue, "slack:#ml", state=DeliveryState.DELIVERED, attempts=1, delivered_at=NOON)
    store.commit([look("churn", [issue], [delivered])])

    [shown] = (json.loads(text) for text in code_blocks(PAGE, "json") if '"deliveries"' in text)

    assert shape(shown) == shape(json.loads(views.to_json(views.findings(store)[0])))


@pytest.mark.parametrize("word", [*FindingKind, *DeliveryState])
def test_every_kind_of_finding_and_state_of_a_delivery_has_a_row(word):
    assert re.search(rf"^\| `{word}` \| \w", PAGE, re.MULTILINE)


@pytest.mark.parametrize("word", RuleSource)
def test_every_source_of_a_finding_is_named(word):
    assert f"`{word}`" in PAGE
