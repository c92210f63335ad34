from __future__ import annotations

import pytest

from watcher.config.destination import Destination, DestinationKind, public_url
from watcher.errors import ConfigError

TOPIC = "arn:aws:sns:eu-west-1:123456789012:training-alerts"


@pytest.mark.parametrize(
    ("text", "kind", "address"),
    [
        ("console", DestinationKind.CONSOLE, ""),
        ("slack:#training-alerts", DestinationKind.SLACK, "#training-alerts"),
        ("slack:#équipe_ml", DestinationKind.SLACK, "#équipe_ml"),
        ("slack:C0123456789", DestinationKind.SLACK, "C0123456789"),
        ("webhook:https://h.example/a?b=c", DestinationKind.WEBHOOK, "https://h.example/a?b=c"),
        ("webhook:http://127.0.0.1:8000/", DestinationKind.WEBHOOK, "http://127.0.0.1:8000/"),
        (f"sns:{TOPIC}", DestinationKind.SNS, TOPIC),
        (f"sns:{TOPIC}.fifo", DestinationKind.SNS, f"{TOPIC}.fifo"),
    ],
)
def test_each_kind_of_destination_is_parsed(text: str, kind: DestinationKind, address: str) -> None:
    assert Destination.parse(text) == Destination(kind, address)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("slack:training alerts", "slack:#training-alerts"),
        ("slack:#Prod", "slack:#prod"),
        ("slack:", "slack:#training-alerts"),
        ("webhook:ftp://h.example/", "webhook:https://"),
        ("webhook:https://", "webhook:https://"),
        ("webhook:https://h.example:99999/", "webhook:https://"),
        ("sns:training-alerts", "sns:arn:aws:sns:REGION:ACCOUNT:TOPIC"),
        ("sns:arn:aws:sqs:eu-west-1:123456789012:queue", "sns:arn:aws:sns:REGION:ACCOUNT:TOPIC"),
        ("console:1", "console"),
        ("mail:me@example.com", "slack:#channel"),
        ("slack", "slack:#channel"),
        ("", "slack:#channel"),
    ],
)
def test_an_invalid_destination_is_refused_with_how_to_write_it(text: str, fix: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Destination.parse(text)
    assert fix in str(refused.value)


def test_a_topic_is_used_in_its_own_region() -> None:
    assert Destination.parse(f"sns:{TOPIC}").region == "eu-west-1"
    assert Destination.parse("console").region == ""


@pytest.mark.parametrize(
    "text",
    [
        "webhook:https://user:s3cret@h.example/hook?token=s3cret#s3cret",
        "webhook:ftp://user:s3cret@h.example/hook?token=s3cret",
        "webhook:https://user:s3/cret@h.example/?token=s3cret",
        "hook:https://user:s3cret@h.example/",
    ],
)
def test_the_secret_part_of_a_url_is_never_shown(text: str) -> None:
    try:
        shown = str(Destination.parse(text))
    except ConfigError as error:
        shown = str(error)
    assert "s3" not in shown
    assert "cret" not in shown


def test_the_public_part_of_a_url_is_shown() -> None:
    assert public_url("https://u:p@h.example:8443/@team/hook?x=1") == "https://h.example:8443/@team/hook"
    assert str(Destination.parse("slack:#prod")) == "slack:#prod"
    assert str(Destination.parse("console")) == "console"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "https://hooks.slack.com/services/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",
            "https://hooks.slack.com/services/***",
        ),
        (
            "https://discord.com/api/webhooks/112233445566/aB1cD2eF3gH4iJ5kL6mN7oP8qR9s",
            "https://discord.com/api/webhooks/112233445566/***",
        ),
        (
            "https://h.example/training-alerts-2026-production",
            "https://h.example/training-alerts-2026-production",
        ),
    ],
)
def test_a_part_of_a_path_that_looks_like_a_token_is_not_shown(url: str, shown: str) -> None:
    assert public_url(url) == shown
    assert str(Destination.parse(f"webhook:{url}")) == f"webhook:{shown}"
