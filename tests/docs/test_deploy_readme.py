"""The commands in deploy/README.md match the templates, and every template is described."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode.cfn_yaml import load as load_template

from watcher.config.load import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy/README.md").read_text()
TEMPLATES = {file.name: load_template(str(file)) for file in (ROOT / "deploy").glob("*.yaml")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(beginning: str) -> list[str]:
    text = "".join(blocks("sh")).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.startswith(beginning)]


@pytest.mark.parametrize("command", commands("aws cloudformation deploy"))
def test_each_deploy_command_gives_the_required_parameters_and_only_existing_ones(command: str):
    [name] = re.findall(r"--template-file deploy/(\S+)", command)
    parameters: dict[str, Any] = TEMPLATES[name]["Parameters"]
    given = set(re.findall(r"\b([A-Z]\w+)=", command.partition("--parameter-overrides")[2]))
    needed = {key for key, parameter in parameters.items() if "Default" not in parameter}

    assert needed <= given <= parameters.keys()


def test_the_page_deploys_each_template():
    assert {"ecs.yaml", "member-account.yaml"} == TEMPLATES.keys()
    assert len(commands("aws cloudformation deploy")) == len(TEMPLATES)


def test_every_parameter_and_output_in_the_text_exists():
    known = {
        key
        for template in TEMPLATES.values()
        for section in ("Parameters", "Outputs", "Resources")
        for key in template[section]
    }
    operations = {"DescribeTrainingJob", "ListTrainingJobs", "Search"}
    elsewhere = {"StoreTooNew", "DeletionPolicy", "OutputKey"} | operations
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z]\w+)?)(?:=\S*|: \w+)?`", PAGE))

    statements = {statement["Sid"] for statement in policy()}
    assert named - elsewhere - statements <= known


def policy() -> list[Any]:
    return list(json.loads((ROOT / "deploy/policy.json").read_text())["Statement"])


def test_every_statement_of_the_policy_is_explained():
    table = PAGE.partition("## What each statement")[2]

    assert set(re.findall(r"`([A-Z]\w+)`", " ".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))) == {
        statement["Sid"] for statement in policy()
    }


def test_the_settings_on_the_page_load_with_the_variables_of_the_task(tmp_path: Path):
    [settings] = re.findall(r"<<'TOML'\n(.*?)^TOML$", PAGE, re.MULTILINE | re.DOTALL)
    [accounts] = blocks("toml")
    file = tmp_path / "watcher.toml"
    file.write_text(settings + accounts)
    variables = {"QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/1/q", "STORE_URL": "dynamodb://watcher"}

    config = load(file, {**variables, "SLACK_BOT_TOKEN": "xoxb-1"})

    assert config.watch.queue_url == variables["QUEUE_URL"]
    assert config.account[0].regions == ("us-east-1", "eu-west-1")


def test_the_page_names_every_file_in_its_folder():
    files = {file.name for file in (ROOT / "deploy").rglob("*") if file.is_file()} - {"README.md"}

    assert all(name in PAGE for name in files)


def test_the_make_targets_on_the_page_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", "".join(blocks("sh")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
