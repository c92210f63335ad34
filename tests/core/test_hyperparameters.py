from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.alerts.hyperparameters import shown_hyperparameters
from watcher.redaction import without_secrets


def test_the_most_often_tuned_hyperparameters_come_first() -> None:
    chosen = {"verbosity": "1", "subsample": "0.8", "max_depth": "16", "num_round": "100", "eta": "0.1"}
    assert list(shown_hyperparameters(chosen)) == ["eta", "num_round", "max_depth", "subsample", "verbosity"]


@pytest.mark.parametrize(
    "name",
    [
        "learning_rate",
        "learning-rate",
        "learningRate",
        "base_lr",
        "lr",
        "optimizer.lr",
        "warmup_learning_rate",
    ],
)
def test_a_learning_rate_is_recognised_in_any_spelling(name: str) -> None:
    assert next(iter(shown_hyperparameters({"a": "1", name: "0.1", "b": "2"}))) == name


def test_a_known_word_inside_another_word_does_not_count() -> None:
    assert list(shown_hyperparameters({"unlrelated": "1", "beta": "2", "alpha": "3"})) == [
        "alpha",
        "beta",
        "unlrelated",
    ]


def test_hyperparameters_added_by_the_sdk_and_tuning_jobs_are_left_out() -> None:
    added = {
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": '"s3://bucket/source.tar.gz"',
        "_tuning_objective_metric": "validation:error",
        "model_dir": '"s3://bucket/model"',
    }
    assert shown_hyperparameters({**added, "eta": "0.1"}) == {"eta": "0.1"}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('"adam"', "adam"),
        ('"say \\"hi\\""', 'say "hi"'),
        ("0.001", "0.001"),
        ("true", "true"),
        ("[1, 2]", "[1, 2]"),
        ('"half', '"half'),
        ('"a" "b"', '"a" "b"'),
    ],
)
def test_a_string_sent_as_json_by_an_estimator_loses_its_quotes(sent: str, shown: str) -> None:
    assert shown_hyperparameters({"optimizer": sent}) == {"optimizer": shown}


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "HF_TOKEN",
        "hubTokens",
        "wandb_api_key",
        "apikey",
        "AWS_SECRET_ACCESS_KEY",
        "db-password",
        "passwd",
        "pwd",
        "credentials",
        "Authorization",
        "ssh_private",
    ],
)
def test_a_hyperparameter_that_may_be_a_secret_is_not_shown(name: str) -> None:
    assert shown_hyperparameters({name: "hunter2", "eta": "0.1"}) == {"eta": "0.1"}


@pytest.mark.parametrize(
    "value",
    [
        '{"host": "db", "password": "hunter2"}',
        '"--epochs 3 --api-key hunter2"',
        "postgres://ml:hunter2@db.example/churn",
    ],
)
def test_a_secret_within_a_value_is_not_shown(value: str) -> None:
    assert without_secrets({"config": value, "eta": "0.1"}) == {"eta": "0.1"}


@given(st.dictionaries(st.text(), st.text()))
def test_every_shown_hyperparameter_is_one_of_the_jobs(given_: dict[str, str]) -> None:
    shown = shown_hyperparameters(given_)
    assert shown.keys() <= given_.keys()
    assert all(value in (given_[name], *_loaded(given_[name])) for name, value in shown.items())
    assert shown_hyperparameters(dict(reversed(given_.items()))) == shown


def _loaded(value: str) -> list[str]:
    try:
        return [json.loads(value)]
    except ValueError:
        return []
