"""Nothing that a reader cannot see passes from a job to a person; what people write does."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tests.alerts import EVIDENCE, FINDING, NOW, PRICES, SNAPSHOT, STOPPED, a_case, a_change, an_alert
from tests.docs.pages import ROOT
from tests.hidden import ESCAPES, EVERYTHING, found_in, hostile, tainted
from watcher.alerts.message import Message, compose, plain_text
from watcher.cli.console import GatedConsole
from watcher.cli.tables import Table, print_facts, print_line
from watcher.delivery.channels import block_kit, webhook
from watcher.delivery.channels.console import ConsoleChannel, render
from watcher.delivery.channels.sns import SnsChannel
from watcher.model import Case, ChangeKind, Closing, Delivery, DeliveryState, FindingKind, Form
from watcher.text import MAX_FILE_NAME_BYTES, clean, file_name, in_row, one_line, printable, shown

# -- the gate --------------------------------------------------------------------------------------


@given(hostile())
@example(EVERYTHING)
def test_nothing_hidden_passes_the_gate(text):
    assert not found_in(clean(text))
    assert not set("\n\t") & set(one_line(text) + in_row(text))
    for gate in (clean, printable, one_line, in_row):
        assert gate(gate(text)) == gate(text)


@pytest.mark.parametrize("sequence", ESCAPES[:-1])
def test_an_escape_sequence_is_removed_as_a_whole(sequence):
    assert clean(f"a{sequence}|b") == "a|b"


def test_an_escape_sequence_that_never_ends_takes_its_line_at_most():
    assert clean("\x1b]0;title\nTraceback\n") == "\nTraceback\n"


@pytest.mark.parametrize(
    "text",
    [
        "👍 ❤️ ❤︎ 1️⃣ 👩🏽‍💻 👨‍👩‍👧‍👦 🏳️‍🌈 👁️‍🗨️ 🇩🇪",
        "".join(("🏴", *(chr(0xE0000 + ord(letter)) for letter in "gbsct"), "\U000e007f")),
        "Größe, naïve, Ωμέγα, Привет, 日本語, 한국어, ไทย, שלום, مرحبا, नमस्ते, தமிழ், မြန်မာ, ភាសាខ្មែរ",
        "می\u200cخواهم क्\u200dष 葛\U000e0100",
        "→ ✓ █▌ ≤ ½ € 𝛁 ¬",
    ],
)
def test_what_people_write_stays_as_it_is(text):
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a\ufe0fb", "ab"),
        ("❤" + "\ufe0f" * 3, "❤\ufe0f"),
        ("😀" + "".join(map(chr, range(0xE0100, 0xE0150))), "😀"),
        ("a\u200db\u200c", "ab"),
        ("🏴" + "".join(chr(0xE0000 + ord(letter)) for letter in "gbxyz") + "\U000e007f", "🏴"),
        ("Z" + "\u0335\u0301\u0322" * 10, "Z\u0335\u0301\u0322\u0335"),
        ("prod\u200b-\u2060job", "prod-job"),
        ("gpj.\u202eabc", "gpj.abc"),
        ("one\u2028two\x85three\x0bfour\r\nfive", "one\ntwo\nthree\nfour\nfive"),
    ],
)
def test_an_invisible_character_is_kept_only_where_it_belongs(text, visible):
    assert clean(text) == visible


def test_a_row_keeps_its_spaces():
    assert in_row("▁  ▃\t5\n6") == "▁  ▃ 5 6"


@given(hostile())
def test_a_file_name_is_one_that_every_system_takes(text):
    name = file_name(text + "ü" * 300, "-1.png")

    assert len(name.encode()) <= MAX_FILE_NAME_BYTES
    assert name.endswith("-1.png")
    assert not set('/\\:*?"<>| \n') & set(name)
    assert not name.startswith((".", "-."))
    assert not found_in(name)


# -- messages --------------------------------------------------------------------------------------


def message_about(taint: str, form: Form = Form.FULL) -> Message:
    case, job, evidence = (tainted(each, taint) for each in (a_case(), SNAPSHOT, EVIDENCE))
    return compose(case, an_alert(), job, evidence, NOW, prices=PRICES).shortened(form)


class Topic:
    """Stands for SNS."""

    def __init__(self) -> None:
        self.published: dict[str, Any] = {}

    def publish(self, **request: Any) -> dict[str, str]:
        self.published = request
        return {"MessageId": "1"}


def published(message: Message) -> dict[str, Any]:
    topic = Topic()
    SnsChannel("arn:aws:sns:eu-west-1:123456789012:alerts.fifo", topic).send(message)  # type: ignore[arg-type]
    return topic.published


def panel(message: Message) -> str:
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(render(message))
    return console.export_text()


def piped(message: Message) -> str:
    out = io.StringIO()
    ConsoleChannel(out).send(message)
    return out.getvalue()


@given(hostile())
@example(EVERYTHING)
def test_nothing_hidden_reaches_any_channel(text):
    message = message_about(text)

    assert not found_in(plain_text(message))
    assert not found_in(block_kit.blocks(message))
    assert not found_in([block_kit.notification(message), block_kit.plain(message)])
    assert not found_in(webhook.document(message))
    assert not found_in(published(message))
    assert not found_in(panel(message))
    assert not found_in(piped(message))


@pytest.mark.parametrize("kind", FindingKind)
def test_nothing_hidden_is_in_a_message_about_any_kind(kind):
    first, second = replace(FINDING, kind=kind), replace(FINDING, kind=kind, id="finding-2", rule="Overfit")
    about = a_case(
        first,
        second,
        acknowledged_by="ann",
        acknowledged_at=NOW,
        snoozed_by="bob",
        snoozed_until=NOW + timedelta(hours=1),
    )
    refused = an_alert("webhook:https://example.com/x", state=DeliveryState.REFUSED, error="no", attempts=3)
    about = replace(about, deliveries=(an_alert(), replace(refused, id="delivery-2")))

    assert_clean(about, an_alert())


@pytest.mark.parametrize("kind", ChangeKind)
@pytest.mark.parametrize("closing", [Closing.RUN_ENDED, Closing.RECOVERED])
def test_nothing_hidden_is_in_an_update_about_any_change(kind, closing):
    over = replace(FINDING, closed_at=NOW, closing=closing, closing_reason="because")
    changes = (
        a_change(ChangeKind.OPENED, 1, finding=over.id),
        a_change(kind, 2, finding=over.id, text="what", actor="ann"),
    )

    assert_clean(
        a_case(over, changes=changes, stop=STOPPED, resolved_at=NOW), an_alert(told=1, wanted=2, trying=2)
    )


def assert_clean(case: Case, to: Delivery) -> None:
    case, job, evidence = (tainted(each, EVERYTHING) for each in (case, SNAPSHOT, EVIDENCE))
    message = compose(case, to, job, evidence, NOW, prices=PRICES)
    assert not found_in([plain_text(message), piped(message), panel(message)])
    assert not found_in([block_kit.notification(message), block_kit.plain(message)])
    assert not found_in([block_kit.blocks(message), webhook.document(message), published(message)])


# -- tables ----------------------------------------------------------------------------------------


@given(hostile(), st.booleans())
@example(EVERYTHING, True)
def test_nothing_hidden_reaches_a_table(text, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, no_color=True, legacy_windows=False)
    Table(
        ("job", f"why{text}"), [(f"a{text}", text), ("b", "")], title=f"t{text}", prose=(f"why{text}",)
    ).print(console)
    print_facts([(f"label{text}", f"value{text}")], console)

    # Bold and dim are rich's own.
    assert not found_in(Text.from_ansi(out.getvalue()).plain) or not terminal
    assert terminal or not found_in(out.getvalue())
    assert "\x1b[2J" not in out.getvalue()


@given(hostile())
@example(EVERYTHING)
def test_the_console_of_the_commands_prints_nothing_hidden_whatever_it_is_given(text):
    out = io.StringIO()
    console = GatedConsole(file=out, width=80)
    console.print(Text(text))
    print_line(console, text)

    assert not found_in(out.getvalue())


def test_a_page_shows_nothing_hidden():
    assert shown("a\u202eb") == "ab"
    assert shown(None) is None


def test_commands_print_through_the_gate_alone():
    """`say`, `out` and `err` of `watcher.cli.terminal`; `write` is for data that is escaped."""
    modules = [file for file in (ROOT / "watcher/cli").glob("*.py") if file.name != "terminal.py"]

    for file in modules:
        around = re.findall(
            r"typer\.s?echo\(|(?<![\w.])(?<!def )print\(|rich\.print\(|[^\w]Console\(", file.read_text()
        )
        assert not around, file.name
