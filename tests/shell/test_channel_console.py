from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from tests.alerts import ASKED, EVIDENCE, FINDING, NOW, ROUTE, STOPPED, a_case, alert, an_alert, told, update
from watcher.alerts.message import plain_text
from watcher.alerts.text_plot import text_plot
from watcher.delivery.channels.console import ConsoleChannel, render
from watcher.errors import CannotTell, Undeliverable
from watcher.model import FindingKind, Severity


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def rendered(message: object, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(message)
    return console.export_text()


def test_a_pipe_gets_plain_text() -> None:
    out = io.StringIO()
    ConsoleChannel(out).send(alert())
    plot = text_plot(alert().evidence, colour=False)
    assert "fired at step" in plot
    assert out.getvalue() == plain_text(alert(), plot) + "\n\n"


def test_a_terminal_gets_a_panel_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    ConsoleChannel(out).send(alert())
    assert "╭" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_the_panel_shows_the_whole_message() -> None:
    message = replace(alert(), repeat=True, evidence=replace(EVIDENCE, missing=("the plot",)))
    shown = rendered(render(message))
    said = (
        message.title,
        "Open since 10:00:03 UTC.",
        f"Watcher is stopping this job ({ROUTE}).",
        "Possible duplicate",
        "24",
        EVIDENCE.explanation,
        "0.1168",
        *EVIDENCE.log_lines,
    )
    for text in (*said, "the plot", "up to $10.98", "The loss stopped falling", "Rule's log"):
        assert text in shown


def test_an_update_is_short_because_the_alert_is_above_it() -> None:
    shown = rendered(render(update()))
    assert "Stopped: LossNotDecreasing" in shown
    assert STOPPED.reason in shown
    assert "Resolved at 10:00:05 UTC" in shown
    assert "Account" not in shown
    assert len(shown.splitlines()) == 6


def test_an_update_about_another_finding_shows_all_about_it() -> None:
    overfit = replace(FINDING, id="2", rule="Overfit", reason="it learns by heart", opened_at=NOW)
    message = told(a_case(FINDING, overfit), an_alert(told=1, trying=2))
    out = io.StringIO()
    ConsoleChannel(out).send(message)
    for shown in (rendered(render(message)), out.getvalue()):
        assert "Update: Overfit found an issue in" in shown
        assert "it learns by heart" in shown
        assert "0.1168" in shown


def test_an_update_about_a_finding_of_less_weight_is_short() -> None:
    stuck = replace(FINDING, id="2", rule="Overfit", kind=FindingKind.RULE_STUCK, severity=Severity.WARNING)
    shown = rendered(render(told(a_case(FINDING, stuck), an_alert(told=1, trying=2))))
    assert "Overfit is stuck" in shown
    assert "0.1168" not in shown


def test_other_findings_are_below_the_facts() -> None:
    overfit = replace(FINDING, id="2", rule="Overfit", opened_at=FINDING.opened_at + timedelta(seconds=1))
    shown = rendered(render(told(a_case(FINDING, overfit))))
    assert "Overfit found an issue in" in shown
    assert "LossNotDecreasing found an issue at step 24; open since 10:00:03 UTC." in shown


@pytest.mark.parametrize("width", [20, 40, 200])
def test_the_panel_fits_any_terminal(width: int) -> None:
    assert all(len(line) <= width for line in rendered(render(alert()), width).splitlines())


def test_external_text_is_not_markup_and_cannot_move_the_cursor() -> None:
    hostile = "[bold red]x[/bold red] [/] [link=https://evil.example]y[/link] \x1b[2Jz\x07"
    evidence = replace(EVIDENCE, log_lines=(hostile,), explanation=hostile, missing=(hostile,))
    case = a_case(replace(FINDING, rule=hostile), stop=replace(ASKED, actor=hostile))
    message = told(case, evidence=evidence)
    out = Terminal()
    ConsoleChannel(out).send(message)
    assert "\x1b[2J" not in out.getvalue()
    assert "\x07" not in out.getvalue()
    assert "[bold red]x[/bold red] [/] [link=https://evil.example]y[/link] z" in rendered(
        render(message), 200
    )


def test_a_pipe_without_unicode_still_gets_the_message() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleChannel(out).send(alert())
    assert b"LossNotDecreasing found an issue" in raw.getvalue()
    assert b"2 ? ml.m5.xlarge" in raw.getvalue()


def test_the_message_is_flushed_when_send_returns() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as read, os.fdopen(writer, "w") as write:
        ConsoleChannel(write).send(alert())
        assert read.readline().startswith("LossNotDecreasing found an issue")


def test_a_closed_pipe_is_a_dead_letter() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as raw:
        out = io.TextIOWrapper(raw, write_through=True)
        with pytest.raises(Undeliverable, match="standard output"):
            ConsoleChannel(out).send(alert())
        out.detach()


def test_a_console_cannot_look_up_messages() -> None:
    with pytest.raises(CannotTell):
        ConsoleChannel(io.StringIO()).find(alert())


def test_a_probe_prints_nothing_and_finds_a_closed_output() -> None:
    out = io.StringIO()
    assert ConsoleChannel(out).probe().fix == ""
    assert out.getvalue() == ""
    out.close()
    with pytest.raises(Undeliverable, match="standard output is closed"):
        ConsoleChannel(out).probe()


def test_a_process_without_standard_output_has_no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(Undeliverable, match="standard output is closed"):
        ConsoleChannel().probe()


def test_a_test_message_is_one_line() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    assert ConsoleChannel(out).send_test("alerts for “churn” arrive here", NOW) == "printed"
    assert raw.getvalue() == b"alerts for ?churn? arrive here\n"


def test_a_test_message_to_a_closed_pipe_is_refused() -> None:
    out = io.StringIO()
    out.close()
    with pytest.raises(Undeliverable, match="standard output"):
        ConsoleChannel(out).send_test("alerts arrive here", NOW)
