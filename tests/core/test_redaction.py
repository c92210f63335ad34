"""What looks like a secret is found in text and in named values, in time that grows with the text alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rules
from watcher import redaction
from watcher.aws.sagemaker import parse_job
from watcher.redaction import MASK, masked_by_name, masked_hyperparameters, redacted

SIZE = 16 * 1024

HOSTILE = {
    "a scheme without end": "a.",
    "a scheme of words": "a-",
    "slashes": "/",
    "schemes": "a://",
    "users": "://a",
    "backslashes after a name": "\\",
    "names": "token",
    "assigned names": "token=",
    "quoted names": "token='",
    "headers": "authorization:",
    "spaces": " ",
    "gaps": "token_",
    "options": "--",
    "tags": "<token>",
    "tokens of Slack": "xoxb-",
    "keys": "AKIA",
    "bearers": "Bearer ",
    "signatures": "X-Amz-Signature=",
    "quotes": "'",
    "digits": "1",
}
BEFORE = ("", "token='", "authorization:", "token=\\'")
"""A backslash is repeated as often as the unit is."""


def hostile(before: str, unit: str, size: int) -> str:
    return before.replace("\\", "\\" * size) + unit * (size // len(unit)) + "!"


def seconds(search: Callable[[str], object], text: str) -> float:
    """Of processor time, because others use the machine, too."""
    begun = time.process_time()
    search(text)
    return time.process_time() - begun


PIECES = st.lists(
    st.sampled_from(["AKIA", "ASIA", "A" * 15, "A" * 16, "xoxb", "xapp", "token", "secret", "Bearer", "0"])
    | st.sampled_from([".", "+", "_", "-", "=", ":", "/", " ", "'"])
).map("".join)


@given(PIECES | st.text("AKISxo0._+"))
def test_what_is_passed_on_unsearched_holds_nothing_that_a_search_would_mask(text: str):
    if redaction._UNSUSPICIOUS.fullmatch(text):
        assert not any(pattern.search(text) for pattern in redaction._PATTERNS)
        assert redacted(text) == text


@pytest.mark.parametrize(
    "search",
    [
        redacted,
        lambda text: masked_hyperparameters({"config": text}),
        lambda text: masked_by_name({text: "1"}),
    ],
    ids=["text", "hyperparameter", "name"],
)
def test_the_time_grows_with_the_text_and_not_with_its_square(search: Callable[[str], object]) -> None:
    for name, unit in HOSTILE.items():
        for before in BEFORE:
            short, long = (hostile(before, unit, size) for size in (SIZE // 4, SIZE))
            ratios = (seconds(search, long) / max(seconds(search, short), 0.002) for _ in range(3))
            assert any(ratio < 8 for ratio in ratios), f"{name} after {before[:20]!r}"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("WANDB_API_KEY=0123456789abcdef python train.py", f"WANDB_API_KEY={MASK} python train.py"),
        ("train.py --api-key hunter2 --epochs 3", f"train.py --api-key {MASK} --epochs 3"),
        ("connect(password=hunter2, port=1)", f"connect(password={MASK}, port=1)"),
        ("postgres://ml:hunter2@db/churn", f"postgres://{MASK}db/churn"),
        ("'password': 'hunter2'", f"'password': '{MASK}'"),
    ],
)
def test_a_secret_in_a_command_or_a_traceback_is_masked(text: str, left: str) -> None:
    assert redacted(text) == left


@pytest.mark.parametrize("text", ["max_tokens=512", "token: 5", "keys = ['a']", "next_token=None", "a key=b"])
def test_words_that_only_resemble_a_secret_stay_in_a_text(text: str) -> None:
    assert redacted(text) == text.replace("next_token=None", f"next_token={MASK}")


def test_masking_what_is_masked_changes_nothing() -> None:
    text = "https://u:p@h/x token='abcdefgh' password=hunter2 Authorization: Basic abc"

    assert redacted(redacted(text)) == redacted(text)


def test_hyperparameters_keep_what_checks_of_a_configuration_read() -> None:
    read = {
        "max_tokens": "512",
        "num_keys": '"12"',
        "eval_metric": "token_accuracy",
        "_tuning_objective_metric": '"auth_auc"',
        "sagemaker_program": '"keypoints.py"',
        "eta": "0.1",
    }
    secret = {
        "hf_token": '"hf_abcdef"',
        "db-password": "12345678",
        "private": "abc",
        "config": '{"host": "db", "password": "hunter2"}',
        "dsn": "postgres://ml:hunter2@db.example/churn",
    }

    assert masked_hyperparameters({**read, **secret}) == {**read, **dict.fromkeys(secret, MASK)}


def test_rule_parameters_keep_their_text_unless_they_are_called_a_secret() -> None:
    given = {"tensor_regex": r"token='(.*)'|https://a@b", "wandb_api_key": "0123", "password": ""}

    assert masked_by_name(given) == {**given, "wandb_api_key": MASK}


def test_no_parameter_of_a_built_in_rule_is_called_a_secret() -> None:
    modules = {sys.modules[rule.__module__] for rule in rules.RULES.values()}
    names = {field.name for module in modules for field in fields(module.Parameters)}

    assert masked_by_name(dict.fromkeys(names, "value")) == dict.fromkeys(names, "value")


# -- before it is stored ---------------------------------------------------------------------------


def test_no_secret_of_a_job_is_part_of_its_snapshot() -> None:
    record = {
        "TrainingJobArn": "arn:aws:sagemaker:us-east-1:111122223333:training-job/churn",
        "TrainingJobName": "churn",
        "TrainingJobStatus": "Failed",
        "CreationTime": datetime(2026, 11, 20, tzinfo=UTC),
        "FailureReason": "AlgorithmError: cannot connect to postgres://ml:hunter2@db/churn",
        "HyperParameters": {"eta": "0.1", "hf_token": "hf_hunter2", "config": '{"password": "hunter2"}'},
        "Tags": [{"Key": "team", "Value": "ml"}, {"Key": "db-password", "Value": "hunter2"}],
        "DebugRuleConfigurations": [
            {"RuleConfigurationName": "Own", "RuleParameters": {"api_key": "hunter2", "regex": "token='a'"}}
        ],
        "DebugRuleEvaluationStatuses": [
            {"RuleConfigurationName": "Own", "StatusDetails": "InternalServerError: password=hunter2"}
        ],
    }

    job = parse_job(record)

    assert "hunter2" not in repr(job)
    assert job.hyperparameters["eta"] == "0.1"
    assert job.tags == {"team": "ml", "db-password": MASK}
    assert job.rules[0].parameters == {"api_key": MASK, "regex": "token='a'"}
