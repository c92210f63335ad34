from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alerts import EVIDENCE, FINDING, NOW, SNAPSHOT, STOPPING, alert, delivery
from tests.doubles.block_kit import mrkdwn_problems, problems
from watcher.alerts.message import compose
from watcher.delivery.channels.block_kit import blocks, notification
from watcher.model import AlertEvidence, FindingKind, HookConfiguration, Reading

HOSTILE = "<!channel> <@U123> <https://evil.example|here> *bold* ```` ``` ` & \0 🎉 שלום \u202e \ud800 "


def texts(thing: Any) -> list[str]:
    """Every text that a reader of these blocks sees, in order."""
    if isinstance(thing, list):
        return [text for item in thing for text in texts(item)]
    if isinstance(thing, dict):
        own = [thing["text"]] if isinstance(thing.get("text"), str) else []
        return own + [text for key, item in thing.items() if key != "style" for text in texts(item)]
    return []


def preformatted(message_blocks: list[dict[str, Any]]) -> list[str]:
    return [
        element["elements"][0]["text"]
        for block in message_blocks
        if block["type"] == "rich_text"
        for element in block["elements"]
        if element["type"] == "rich_text_preformatted"
    ]


def test_an_alert_says_what_happened_what_it_costs_and_what_to_press_before_the_evidence() -> None:
    message = alert()
    shown = texts(blocks(message))
    assert shown[0] == f"🔴 {message.title}"
    order = [
        STOPPING,
        EVIDENCE.explanation,
        "up to $10.98 (23 h 52 min until MaxRuntimeInSeconds)",
        message.advice,
        "Training job",
        "End of the rule's log",
        "\n".join(EVIDENCE.log_lines),
    ]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    assert problems(blocks(message)) == []


def test_a_label_and_its_value_are_on_one_line() -> None:
    [fields] = [block for block in blocks(alert()) if texts(block)[0] == "Job: "]
    assert "".join(texts(fields)).splitlines()[:2] == [
        f"Job: {FINDING.job}",
        "Job's status: InProgress (Training)",
    ]


def test_the_small_print_is_one_block_at_the_end() -> None:
    message = replace(alert(), evidence=replace(EVIDENCE, missing=("the plot",)))
    *_, last = blocks(message)
    assert last["type"] == "context"
    assert [line.partition(": ")[0] for line in texts(last)[0].splitlines()] == [
        "Hyperparameters",
        "Experiment",
        "Tags",
        "Not available",
    ]


def test_external_text_is_shown_literally_and_cannot_mention_anyone() -> None:
    message = alert(reason=HOSTILE, rule=HOSTILE)
    assert problems(blocks(message)) == []
    assert "<!channel> <@U123>" in "".join(texts(blocks(message))), "it is shown, as text"
    assert "&lt;!channel&gt;" in notification(message)
    assert list(mrkdwn_problems(notification(message))) == []


def test_a_long_log_keeps_its_last_lines() -> None:
    lines = tuple(f"{number:03} {'x' * 996}" for number in range(200))
    message = replace(alert(), evidence=replace(EVIDENCE, log_lines=lines))
    excerpt = preformatted(blocks(message))[-1]
    assert excerpt == "\n".join(("…", *lines[-2:]))


def test_a_very_long_log_line_keeps_its_end() -> None:
    message = replace(alert(), evidence=replace(EVIDENCE, log_lines=("x" * 9000 + "the end",)))
    excerpt = preformatted(blocks(message))[-1]
    assert len(excerpt) == 3000
    assert excerpt.endswith("the end")


def test_a_log_line_with_backticks_stays_inside_its_block() -> None:
    message = replace(alert(), evidence=replace(EVIDENCE, log_lines=("```", "rm -rf `pwd`", "```")))
    assert preformatted(blocks(message))[-1] == "```\nrm -rf `pwd`\n```"


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_of_finding_gives_blocks_that_slack_accepts(kind: FindingKind) -> None:
    assert problems(blocks(alert(kind=kind))) == []


def test_a_possible_duplicate_is_marked_as_one() -> None:
    assert any("Possible duplicate" in text for text in texts(blocks(replace(alert(), repeat=True))))
    assert not any("Possible duplicate" in text for text in texts(blocks(alert())))


wild = st.text() | st.text(min_size=0, max_size=200).map(lambda text: (text + HOSTILE) * 50)
readings = st.lists(st.builds(Reading, wild, st.integers(0, 10**9), st.floats()), max_size=50).map(tuple)


@given(
    st.builds(
        AlertEvidence,
        log_stream=wild,
        log_lines=st.lists(wild, max_size=20).map(tuple),
        explanation=wild,
        deciding=readings,
        curve=readings,
        missing=st.lists(wild, max_size=5).map(tuple),
    ),
    st.sampled_from(FindingKind),
    wild,
    st.booleans(),
)
def test_slack_accepts_the_blocks_of_any_message(
    evidence: AlertEvidence, kind: FindingKind, text: str, forgotten: bool
) -> None:
    finding = replace(FINDING, kind=kind, rule=text, status=text, reason=text, job=text)
    job = replace(
        SNAPSHOT,
        secondary_status=text,
        instance_type=text,
        hyperparameters={text: text},
        experiment=text,
        trial=text,
        tags={text: text},
        hook=HookConfiguration(f"s3://{text}"),
    )
    message = compose(delivery(text=text), finding, None if forgotten else job, evidence, NOW)
    assert problems(blocks(message)) == []
    assert list(mrkdwn_problems(notification(message))) == []
    assert notification(message)
