"""The first `watcher.toml` loads for any answers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.config.load import load
from watcher.config.settings import Config
from watcher.config.starter import Answers, problem, starter

ANSWERS = Answers("eu-west-1", ("prod-*", "nightly-*"), "#ml", stop=True)
TOKEN = {"SLACK_BOT_TOKEN": "xoxb-1"}


def loaded(text: str, env: dict[str, str] = TOKEN) -> Config:
    return load(None, {**env, "WATCHER_TOML": text})


def test_the_answers_become_the_settings():
    config = loaded(starter(ANSWERS))

    assert config.region == "eu-west-1"
    assert config.watch.jobs == ("prod-*", "nightly-*")
    assert (config.slack.channel, config.slack.bot_token.get_secret_value()) == ("#ml", "xoxb-1")
    assert [route.stop for route in config.route] == [True]
    assert (config.stop.grace, config.stop.min_runtime) == (120, 600)


def test_without_answers_every_setting_has_its_default():
    assert loaded(starter(Answers()), {}) == Config()


def test_the_slack_token_is_only_named():
    assert 'bot_token = "${SLACK_BOT_TOKEN}"' in starter(ANSWERS)


@pytest.mark.parametrize("answers", [Answers(), ANSWERS])
def test_each_commented_setting_can_be_switched_on(answers: Answers):
    text = starter(answers)
    switched_on = re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)

    config = loaded(switched_on)

    assert "\n#" in text
    assert config.rules.local == "attach"
    assert config.rules.attach[0].rule == "LossNotDecreasing"
    assert config.prices == {"ml.m5.xlarge": 0.23}
    assert config.stop.dry_run
    assert config.not_used_yet() == []


def test_each_line_fits_a_terminal():
    assert max(map(len, starter(ANSWERS).splitlines())) <= 100


TEXTS = st.text().filter(lambda text: "${" not in text)


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=3))
def test_any_glob_is_read_back_unchanged(jobs: list[str]):
    assert loaded(starter(replace(ANSWERS, jobs=tuple(jobs)))).watch.jobs == tuple(jobs)


@given(TEXTS, TEXTS)
def test_an_answer_that_settings_cannot_hold_is_reported_and_never_breaks_the_toml(region: str, channel: str):
    why = problem(starter(Answers(region, ("*",), channel)), {})

    assert "is not TOML" not in why


def test_a_character_that_is_not_text_is_replaced():
    assert loaded(starter(replace(ANSWERS, jobs=("a\udcff",)))).watch.jobs == ("a?",)


def test_a_problem_names_the_setting_and_no_temporary_file(tmp_path: Path):
    assert problem(starter(Answers(region="x")), {}).startswith('region = "x": is not an AWS region')
    assert problem(starter(Answers(channel="${CHANNEL}")), {}).startswith(
        "slack.channel: the variable CHANNEL is not set"
    )
    assert problem(starter(Answers(channel="${CHANNEL}")), {"CHANNEL": "#ml"}) == ""
