"""What the README names exists, and what exists is named in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from rules import Evidence, Status, Verdict
from tests.contract.samples import NOON, delivery, finding, look
from tests.docs import settings, webhook
from watcher.cli import app
from watcher.config.load import load
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.storage import Folder
from watcher.evaluation import backtest
from watcher.evaluation.saved_data import Saved
from watcher.model import DeliveryState, FindingKind, RuleSource
from watcher.store import views
from watcher.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_group(app).commands
EVERYWHERE = {"--config", "--verbose", "--json", "--help"}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def options(command: str) -> set[str]:
    """The long options of a command, as the command line knows them."""
    return {
        name for parameter in COMMANDS[command].params for name in parameter.opts if name.startswith("--")
    }


def described(command: str) -> str:
    """The command's row in the table of commands."""
    [row] = re.findall(rf"^\| `watcher {command}\b.*\|$", README, re.MULTILINE)
    return row


# -- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_row_that_names_its_own_options_and_no_others(command):
    named = set(re.findall(r"`(--[a-z-]+)", described(command)))

    assert named == options(command) - EVERYWHERE


def test_every_command_that_the_readme_names_exists():
    named = set(re.findall(r"(?:`|^    )watcher ([a-z]+)", README, re.MULTILINE))

    assert named == set(COMMANDS)


def test_the_options_of_all_commands_are_where_the_readme_says():
    with_json = {command for command in COMMANDS if "--json" in options(command)}
    with_config = {command for command in COMMANDS if {"--config", "--verbose"} <= options(command)}

    assert with_json == {"check", "status", "jobs", "show", "findings", "logs", "tensors", "evaluate", "stop"}
    assert with_config == set(COMMANDS) - {"demo", "sandbox"}
    assert "`show`, `findings`, `logs`, `tensors`, `evaluate` and `stop` print JSON with `--json`" in README


def test_every_make_target_that_the_documents_name_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        assert (
            set(re.findall(r"(?:`|^    )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE))
            <= targets
        )


# -- settings -------------------------------------------------------------------------------------


def test_the_table_of_settings_is_the_one_that_follows_from_the_code():
    named = re.findall(r"^\| `[a-z_.]+` \| (?:`.*?`|needed) \| .* \|$", README, re.MULTILINE)

    assert named == list(settings.rows()), "print it anew: python -m tests.docs.settings"


def test_every_toml_example_loads_and_says_what_it_seems_to(tmp_path):
    examples = code_blocks("toml")
    assert examples
    for text in examples:
        file = tmp_path / "watcher.toml"
        file.write_text(text)
        config = load(file, {"SLACK_BOT_TOKEN": "xoxb-1", "WEBHOOK_SECRET": "long enough"})
        assert config.route[0].stop
        assert config.stop.grace == 120


# -- JSON -----------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """Keys in their order, and kinds of values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}, list(value)
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


def test_the_finding_that_the_readme_shows_has_the_shape_of_a_real_one():
    issue = finding("churn", step=24)
    store = MemoryStore()
    told = delivery(issue, "slack:#ml", state=DeliveryState.DELIVERED, attempts=1, delivered_at=NOON)
    store.commit([look("churn", [issue], [told])])

    [shown] = (json.loads(text) for text in code_blocks("json") if '"deliveries"' in text)

    assert shape(shown) == shape(json.loads(views.to_json(views.findings(store)[0])))


def test_the_verdict_that_the_readme_shows_has_the_shape_of_a_real_one(tmp_path):
    [shown] = (json.loads(text) for text in code_blocks("json") if '"verdict"' in text)
    saved = Saved("churn", DebugOutput(Folder(tmp_path)))
    run = backtest.backtest(saved, shown["rule"], [shown["parameters"]], lambda place: saved)
    row = Evidence("validation-logloss", 36, 0.04684, 34, 0.04921, 5.0, missed_by=0.19266, needed=0.04675)
    verdict = Verdict(Status.ISSUES_FOUND, "plateau", "", 36, 18, ("train", "validation"), (row,))

    assert shape(shown) == shape(json.loads(views.to_json(backtest.evaluation(run, verdict))))


def test_the_webhook_that_the_readme_shows_is_a_real_one():
    [shown] = (text for text in code_blocks("json") if '"hyperparameters"' in text)

    assert shown.strip() == webhook.pretty(webhook.example()), "print it anew: python -m tests.docs.webhook"


def test_the_rows_of_a_sweep_have_the_keys_that_the_readme_names(tmp_path):
    saved = Saved("churn", DebugOutput(Folder(tmp_path)))
    keys = ", ".join(f'"{key}"' for key in backtest.row(saved, {}, Verdict(Status.ERROR)))

    assert f"`{{{keys}}}`" in README


@pytest.mark.parametrize("word", Status)
def test_every_verdict_is_named(word):
    assert f"`{word}`" in README


@pytest.mark.parametrize("word", [*FindingKind, *RuleSource, *DeliveryState])
def test_every_word_that_a_finding_can_hold_is_named(word):
    assert f"`{word}`" in README


def test_the_policy_allows_what_the_code_calls_and_nothing_more():
    policy = json.loads((ROOT / "deploy/policy.json").read_text())
    allowed = set[str]()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    called = set[str]()
    only_checked = set[str]()
    operation = re.compile(r'"((?:sagemaker|logs|cloudwatch|s3|sns|sqs|iam|sts):[A-Z]\w+)"')
    for file in (ROOT / "watcher").rglob("*.py"):
        if "sandbox" not in file.parts:
            operations = set(operation.findall(file.read_text()))
            (only_checked if file.name == "preflight.py" else called).update(operations)

    # The store names no actions; that it needs those of the policy, a daemon with nothing else proves.
    allowed = {action for action in allowed if not action.startswith("dynamodb:")}
    assert called <= allowed
    assert allowed - {"sns:Publish"} <= called | only_checked
    for extra in only_checked - allowed:
        assert f"`{extra}`" in README


# -- files ----------------------------------------------------------------------------------------


def test_every_file_that_the_readme_links_or_names_exists():
    linked = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"`(watcher/[\w/]+\.py)`", README)

    assert linked
    assert [name for name in linked if not (ROOT / name).exists()] == []
