"""docs/commands.md describes every command and the shape of its output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from tests.contract.samples import NOON, case, change, delivery, finding, incident, look, opens
from tests.docs.pages import DOCUMENTS, code_blocks, read
from tests.docs.shapes import shape
from watcher.aws import objects
from watcher.cli import app
from watcher.cli.show_document import JobDocument
from watcher.jobs.lineage import InputView, LineageView, MakerView, PlaceView, UserView
from watcher.model import (
    ChangeKind,
    DeliveryState,
    Door,
    FindingKind,
    IncidentState,
    Judge,
    RuleSource,
    Says,
    Severity,
)
from watcher.store import incident_views, views
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

    assert with_json == set(COMMANDS) - {"init", "run", "demo", "sandbox"}
    assert with_config == set(COMMANDS) - {"init", "demo", "sandbox"}
    assert "All commands but these and `run` print JSON with `--json`" in PAGE


def documents(key: str) -> Iterator[Any]:
    """The JSON on the page that has this key."""
    found = (json.loads(text) for text in code_blocks(PAGE, "json"))
    return (document for document in found if key in document)


def test_the_finding_and_the_incident_on_the_page_have_the_shape_of_real_ones():
    found = finding("churn", step=24, says=tuple(Says(judge, "IssuesFound", NOON) for judge in Judge))
    delivered = delivery(
        "churn", "slack:#ml", state=DeliveryState.DELIVERED, attempts=1, delivered_at=NOON, error="x"
    )
    taken = incident("churn", acknowledged_by="anna")
    store = MemoryStore()
    store.commit([look("churn", opens(case("churn", delivered, incident=taken, findings=(found,))))])
    [real] = incident_views.cases(store)

    [shown] = documents("episode")
    [shown_incident] = documents("jobs")

    assert shape(shown) == shape(json.loads(views.to_json(views.findings(store)[0])))
    shown_incident["deliveries"][0]["delivered_at"] = "once"
    assert shape(shown_incident) == shape(json.loads(views.to_json(incident_views.incident(real))))


def test_the_change_on_the_page_has_the_shape_of_a_real_one():
    [shown] = documents("door")

    real = incident_views.change(change("churn", actor="anna"))
    assert shape(shown) == shape(json.loads(views.to_json(real)))


@pytest.mark.parametrize("word", [*FindingKind, *DeliveryState, *IncidentState, *Severity])
def test_every_kind_of_finding_and_every_state_has_a_row(word):
    assert re.search(rf"^\| `{word}` \| \w", PAGE, re.MULTILINE)


@pytest.mark.parametrize("kind", ChangeKind)
def test_every_kind_of_change_has_a_row_under_history(kind):
    history = PAGE.partition("### History")[2]

    assert re.search(rf"^\| [^|]*`{kind}`[^|]* \| \w", history, re.MULTILINE)


@pytest.mark.parametrize("door", Door)
def test_every_door_is_named_under_history(door):
    assert f"`{door}`" in PAGE.partition("### History")[2]


@pytest.mark.parametrize("word", ChangeKind)
def test_every_kind_of_change_has_a_row(word):
    assert re.search(rf"^\| (`\w+`, )*`{word}`(, `\w+`)* \| \w", PAGE, re.MULTILINE)


@pytest.mark.parametrize("word", Door)
def test_every_door_is_named(word):
    assert f"`{word}`" in PAGE


@pytest.mark.parametrize("word", RuleSource)
def test_every_source_of_a_finding_is_named(word):
    assert f"`{word}`" in PAGE


def test_the_page_has_each_key_of_a_shown_job():
    section = PAGE.partition("\n### A job\n")[2].partition("\n### ")[0]
    keys = [key for row in re.findall(r"^\| (`.*?) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)]

    assert sorted(keys) == sorted(JobDocument.__annotations__.keys() - views.JobView.__annotations__.keys())


def test_the_page_has_each_key_of_a_lineage():
    section = PAGE.partition("\n### A lineage\n")[2].partition("\n### ")[0]
    [shown] = (json.loads(text) for text in code_blocks(section, "json"))
    inputs, maker, user = shown["inputs"][0], shown["trained_from"][0], shown["used_by"][0]

    assert list(shown) == [*LineageView.__annotations__, "hyperparameters", "hidden_hyperparameters"]
    assert sorted(inputs) == sorted(InputView.__annotations__)
    assert sorted(shown["model"]) == sorted(PlaceView.__annotations__)
    assert (list(maker), list(user)) == (list(MakerView.__annotations__), list(UserView.__annotations__))


def test_the_page_gives_the_limits_of_a_lineage():
    assert f"{objects.MAX_PAGES} pages of {objects.PAGE_SIZE:,} objects" in PAGE
