from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alerts import EVIDENCE, FINDING, NOW, ROUTE, SNAPSHOT, a_case, alert, an_alert, told, update
from tests.core.test_rule_log import BAR, JSON_LINE, OCTAL, PRINTED_TENSOR, TRACEBACK
from tests.doubles.block_kit import is_too_long, length, mrkdwn_problems, problems
from watcher.alerts.message import Message
from watcher.delivery.channels.block_kit import (
    MESSAGE_LIMIT,
    PLAIN_LIMIT,
    blocks,
    notification,
    plain,
    shortened,
)
from watcher.logs.rule_log import excerpt
from watcher.model import (
    AlertEvidence,
    Closing,
    DeliveryState,
    FindingKind,
    Form,
    HookConfiguration,
    Reading,
    RunStop,
    StopPhase,
)

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


def test_an_alert_says_what_happened_how_it_is_what_it_costs_and_where_to_look_before_the_evidence() -> None:
    message = alert()
    shown = texts(blocks(message))
    assert shown[0] == f"🔴 {message.title}"
    order = [
        "Open since 10:00:03 UTC.",
        f"Watcher is stopping this job ({ROUTE}).",
        EVIDENCE.explanation,
        "up to $10.98 (23 h 52 min until MaxRuntimeInSeconds)",
        "Training job",
        FINDING.reason.strip(),
        message.advice,
        "End of the rule's log",
        "\n".join(EVIDENCE.log_lines),
    ]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)
    assert problems(blocks(message)) == []


def test_the_header_shows_at_once_that_an_incident_is_over() -> None:
    recovered = replace(FINDING, closed_at=NOW, closing=Closing.RECOVERED)
    [first, *_] = texts(blocks(told(a_case(recovered, stop=None, resolved_at=NOW))))
    assert first.startswith("✅ Recovered: LossNotDecreasing")
    [first, *_] = texts(blocks(update()))
    assert first.startswith("🛑 Stopped: LossNotDecreasing")


def test_other_findings_and_destinations_that_refuse_the_alert_are_named() -> None:
    overfit = replace(FINDING, id="2", rule="Overfit", opened_at=NOW)
    refused = an_alert("slack:#old", state=DeliveryState.REFUSED, refused_at=NOW, error="is_archived")
    case = replace(a_case(FINDING, overfit), deliveries=(refused,))
    shown = texts(blocks(told(case)))
    assert "Also found:\nLossNotDecreasing found an issue at step 24; open since 10:00:03 UTC." in shown
    [line] = [text for text in shown if text.startswith("Not delivered everywhere:\n")]
    assert "slack:#old has refused this alert since 10:00:05 UTC: is_archived." in line


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


def test_emoji_count_twice_as_slack_counts_them() -> None:
    assert shortened("🎉" * 75, 150) == "🎉" * 75
    assert shortened("🎉" * 76, 150) == "🎉" * 74 + "…"
    message = alert(rule="🎉" * 200)
    [header, *_] = texts(blocks(message))
    assert 140 < length(header) <= 150
    assert problems(blocks(message)) == []


def test_a_message_that_is_too_long_loses_evidence_and_neither_state_nor_cost_nor_links() -> None:
    long = "x" * 3000
    evidence = replace(
        EVIDENCE,
        explanation=long,
        log_lines=tuple(f"{number:03} {'y' * 200}" for number in range(100)),
        deciding=tuple(Reading(f"tensor-{number:060}", number, 1.0) for number in range(100)),
        missing=(long,),
    )
    others = [replace(FINDING, id=f"{number}", rule=f"Rule{number}" + "z" * 200) for number in range(20)]
    stop = RunStop(StopPhase.NOT_STOPPED, ROUTE, NOW, reason=f"Not stopped: {long}")
    message = told(a_case(replace(FINDING, reason=long), *others, stop=stop), evidence=evidence)
    shown = texts(blocks(message))
    assert not is_too_long(blocks(message))
    assert sum(map(length, shown)) > MESSAGE_LIMIT * 0.9
    assert problems(blocks(message)) == []
    assert "Training job" in shown
    assert "$0.06, at $0.46 an hour" in shown
    assert "099 yyy" in shown[-2], "the end of the log"


def test_a_shorter_message_says_what_it_leaves_out() -> None:
    shown = texts(blocks(alert().shortened(Form.WITHOUT_EVIDENCE)))
    assert EVIDENCE.explanation in shown
    assert not any(line in text for text in shown for line in EVIDENCE.log_lines)
    assert any("watcher logs" in text for text in shown)


def test_a_plain_message_has_no_markup_and_fits() -> None:
    message = alert(reason=HOSTILE * 100, rule=HOSTILE).shortened(Form.PLAIN)
    assert list(mrkdwn_problems(plain(message))) == []
    assert (
        length(plain(message).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")) <= PLAIN_LIMIT
    )
    assert plain(alert().shortened(Form.PLAIN)).startswith(alert().title)


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
    st.sampled_from(Form),
)
def test_slack_accepts_any_message(
    evidence: AlertEvidence, kind: FindingKind, text: str, forgotten: bool, form: Form
) -> None:
    message = a_wild_message(evidence, kind, text, forgotten=forgotten).shortened(form)
    assert problems(blocks(message)) == []
    assert not is_too_long(blocks(message))
    for mrkdwn in (notification(message), plain(message)):
        assert list(mrkdwn_problems(mrkdwn)) == []
        assert mrkdwn


def a_wild_message(evidence: AlertEvidence, kind: FindingKind, text: str, *, forgotten: bool) -> Message:
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
    others = [replace(finding, id=f"{number}") for number in range(12)]
    refused = [an_alert(f"slack:#{number}", state=DeliveryState.REFUSED, error=text) for number in range(9)]
    stop = RunStop(StopPhase.NOT_STOPPED, text, NOW, reason=text)
    case = a_case(finding, *others, stop=stop, acknowledged_by=text)
    return told(
        replace(case, deliveries=tuple(refused)), snapshot=None if forgotten else job, evidence=evidence
    )


@pytest.mark.parametrize(
    "noise", [BAR, PRINTED_TENSOR, JSON_LINE, OCTAL], ids=["bar", "tensor", "JSON", "octal"]
)
def test_the_error_is_in_the_alert_whatever_long_line_follows_it_in_the_log(noise: str) -> None:
    lines = excerpt([*(f"epoch {number}: {'.' * 400}" for number in range(20)), *TRACEBACK, noise])
    shown = "\n".join(preformatted(blocks(told(a_case(), evidence=replace(EVIDENCE, log_lines=lines)))))

    assert "KeyError: 'loss'" in shown
    assert "Traceback" in shown
