from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog

from tests.alerts import (
    ASKED,
    EVIDENCE,
    FINDING,
    NOW,
    ROUTE,
    STOPPED,
    a_case,
    a_change,
    alert,
    an_alert,
    told,
    update,
)
from tests.doubles.slack import ALERTS, Conversation, SlackDouble
from watcher.alerts.message import Message
from watcher.delivery.channels.base import File, Probe
from watcher.delivery.channels.slack import Identity, SlackChannel, auth_test
from watcher.errors import CannotTell, DeliveryError, FormRefused, MessageGone, Retry, Undeliverable
from watcher.model import ChangeKind, Form


@pytest.fixture
def slack() -> Iterator[SlackDouble]:
    with SlackDouble() as double:
        double.workspace.now = NOW.timestamp()
        yield double


STOPPING = f"Watcher is stopping this job ({ROUTE})."


def channel(slack: SlackDouble, name: str = "#alerts", *, timeout: int = 60) -> SlackChannel:
    return SlackChannel(slack.token, name, slack.api_url, timeout)


def other(number: int) -> Message:
    """A message different from `alert()`."""
    return replace(alert(), delivery_id=f"other-{number}")


def refusal(slack: SlackDouble, fault: str, name: str = "#alerts", *, timeout_s: int = 60) -> DeliveryError:
    """The error that `send` raises when Slack answers with this fault."""
    slack.fail("chat.postMessage", fault, retry_after=7)
    with pytest.raises(DeliveryError) as raised:
        channel(slack, name, timeout=timeout_s).send(alert())
    return raised.value


# -- sending ------------------------------------------------------------------------------------------


def test_an_alert_arrives_with_blocks_a_plain_text_line_and_its_ids() -> None:
    with SlackDouble() as slack:
        channel(slack).send(alert())
        [message] = slack.messages
    assert message["text"] == alert().text
    assert STOPPING in json.dumps(message["blocks"])
    assert message["metadata"] == {
        "event_type": "watcher_incident",
        "event_payload": {
            "incident_id": "incident-1",
            "delivery_id": "delivery-1",
            "key": "delivery-1-1",
        },
    }
    assert (message["unfurl_links"], message["unfurl_media"]) == (False, False)


def test_the_receipt_identifies_the_message(slack: SlackDouble) -> None:
    receipt = channel(slack).send(alert())
    assert json.loads(receipt) == {"channel": ALERTS, "ts": slack.messages[0]["ts"]}


def test_slack_accepts_a_hostile_message(slack: SlackDouble) -> None:
    hostile = "<!channel> ``` `x` *b* & \0 🎉 שלום \u202e"
    evidence = replace(EVIDENCE, log_lines=tuple(hostile * 30 for _ in range(200)))
    finding = replace(FINDING, reason=hostile * 200, rule=hostile)
    message = told(a_case(finding, stop=replace(ASKED, actor=hostile)), evidence=evidence)
    for form in Form:
        channel(slack).send(message.shortened(form))
    assert all("<!channel>" not in posted["text"] for posted in slack.messages)


def test_a_plain_message_is_text_alone(slack: SlackDouble) -> None:
    channel(slack).send(alert().shortened(Form.PLAIN))
    [message] = slack.messages
    assert message["blocks"] == []
    assert message["text"].startswith(f"{alert().title}\n\nOpen since")
    assert "watcher logs" in message["text"]


def test_a_message_that_slack_finds_malformed_may_be_sent_in_another_form(slack: SlackDouble) -> None:
    malformed = replace(alert(), links=(("Training job", "ftp://elsewhere"),))
    with pytest.raises(FormRefused, match=r"invalid_blocks, /blocks/5: invalid url"):
        channel(slack).send(malformed)
    channel(slack).send(malformed.shortened(Form.PLAIN))


@pytest.mark.parametrize("fault", ["invalid_blocks", "msg_blocks_too_long", "msg_too_long"])
def test_a_message_that_is_too_long_or_of_blocks_that_are_not_known_may_be_sent_in_another_form(
    slack: SlackDouble, fault: str
) -> None:
    assert isinstance(refusal(slack, fault), FormRefused)


# -- temporary errors ---------------------------------------------------------------------------------


def test_a_rate_limited_request_waits_as_long_as_slack_says(slack: SlackDouble) -> None:
    error = refusal(slack, "ratelimited")
    assert isinstance(error, Retry)
    assert (error.after, error.uncertain) == (7.0, False)


@pytest.mark.parametrize("fault", ["status_500", "internal_error", "fatal_error", "request_timeout"])
def test_an_internal_error_of_slack_is_retried_and_the_message_may_have_arrived(
    slack: SlackDouble, fault: str
) -> None:
    error = refusal(slack, fault)
    assert isinstance(error, Retry)
    assert (error.after, error.uncertain) == (None, True)


@pytest.mark.parametrize("fault", ["service_unavailable", "team_added_to_org", "org_login_required"])
def test_an_unavailable_slack_is_retried(slack: SlackDouble, fault: str) -> None:
    error = refusal(slack, fault)
    assert isinstance(error, Retry)
    assert not error.uncertain


@pytest.mark.parametrize(("fault", "arrived"), [("close_before", 0), ("close_after", 1)])
def test_after_a_broken_connection_it_is_uncertain_whether_the_message_arrived(
    slack: SlackDouble, fault: str, arrived: int
) -> None:
    error = refusal(slack, fault)
    assert isinstance(error, Retry)
    assert error.uncertain
    assert len(slack.messages) == arrived


def test_after_a_timeout_it_is_uncertain_whether_the_message_arrived(slack: SlackDouble) -> None:
    error = refusal(slack, "hang", timeout_s=1)
    assert isinstance(error, Retry)
    assert error.uncertain
    assert "no answer in time" in str(error)


def test_after_a_refused_connection_the_message_certainly_did_not_arrive(slack: SlackDouble) -> None:
    slack.down()
    with pytest.raises(Retry, match="cannot be reached") as refused:
        channel(slack).send(alert())
    assert not refused.value.uncertain


def test_a_proxys_error_page_is_retried(slack: SlackDouble) -> None:
    slack.fail("chat.postMessage", "html")
    with pytest.raises(Retry, match="not Slack's"):
        channel(slack).send(alert())


def test_each_attempt_is_one_request(slack: SlackDouble) -> None:
    refusal(slack, "ratelimited")
    refusal(slack, "status_500")
    refusal(slack, "close_before")
    assert slack.calls["chat.postMessage"] == 3


# -- permanent errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "fix"),
    [
        ("account_inactive", "install the app again"),
        ("invalid_auth", "slack.bot_token"),
        ("not_authed", "slack.bot_token"),
        ("token_expired", "slack.bot_token"),
        ("token_revoked", "slack.bot_token"),
        ("missing_scope", "OAuth & Permissions"),
        ("restricted_action", "administrators"),
        ("an_error_of_a_later_api", "API reference"),
    ],
)
def test_a_permanent_error_is_a_refusal_with_the_fix(slack: SlackDouble, fault: str, fix: str) -> None:
    error = refusal(slack, fault)
    assert isinstance(error, Undeliverable)
    assert fault in str(error)
    assert fix in str(error)


@pytest.mark.parametrize(
    ("name", "error", "fix"),
    [
        ("#nowhere", "channel_not_found", "check the name"),
        ("#others", "not_in_channel", "/invite"),
        ("#old", "is_archived", "unarchive it"),
    ],
)
def test_a_channel_that_does_not_accept_posts_is_named_with_the_fix(
    slack: SlackDouble, name: str, error: str, fix: str
) -> None:
    with pytest.raises(Undeliverable, match=f"{name} refused: {error}; .*{fix}"):
        channel(slack, name).send(alert())


def test_a_missing_scope_is_named(slack: SlackDouble) -> None:
    slack.workspace.scopes.remove("chat:write")
    with pytest.raises(Undeliverable, match=r"missing_scope \(chat:write\)"):
        channel(slack).send(alert())


# -- lookups ------------------------------------------------------------------------------------------


def test_a_message_whose_response_was_lost_is_found(slack: SlackDouble) -> None:
    refusal(slack, "close_after")
    channel(slack).send(other(1))
    restarted = channel(slack)
    assert restarted.find(alert()) == json.dumps({"channel": ALERTS, "ts": slack.messages[0]["ts"]})


def test_a_message_that_never_arrived_is_not_found(slack: SlackDouble) -> None:
    refusal(slack, "close_before")
    channel(slack).send(other(1))
    assert channel(slack).find(alert()) is None


def test_the_same_finding_for_another_destination_is_another_message(slack: SlackDouble) -> None:
    channel(slack, "#prod").send(alert())
    channel(slack).send(other(1))
    assert channel(slack).find(alert()) is None


def test_a_message_is_found_several_pages_back_in_a_busy_channel(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 3
    sender = channel(slack)
    receipt = sender.send(alert())
    for number in range(10):
        sender.send(other(number))
    assert channel(slack, ALERTS).find(alert()) == receipt
    assert slack.calls["conversations.history"] == 4


def test_history_from_before_the_finding_is_not_read(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 3
    slack.workspace.now = (NOW - timedelta(days=1)).timestamp()
    for number in range(10):
        channel(slack).send(other(number))
    assert channel(slack).find(alert()) is None
    assert slack.calls["conversations.history"] == 1


def test_a_lookup_is_limited_and_then_reports_that_it_does_not_know(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 1
    sender = channel(slack)
    sender.send(alert())
    for number in range(12):
        sender.send(other(number))
    with pytest.raises(CannotTell):
        sender.find(alert())
    assert slack.calls["conversations.history"] == 10


def test_a_channels_id_is_looked_up_once(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 1
    looking = channel(slack, "#prod")
    looking.find(alert())
    looking.find(alert())
    assert slack.calls["users.conversations"] == 2, "two pages, once"


@pytest.mark.parametrize("scope", ["channels:read", "channels:history", "groups:read"])
def test_a_bot_without_permission_to_read_cannot_look_up_and_logs_the_scope(
    slack: SlackDouble, scope: str
) -> None:
    slack.workspace.scopes.remove(scope)
    looking = channel(slack)
    with structlog.testing.capture_logs() as logs, pytest.raises(CannotTell):
        looking.find(alert())
    assert [(entry["event"], entry["needed"]) for entry in logs] == [("slack_cannot_look_up", scope)]


def test_a_bot_outside_the_channel_cannot_look_up(slack: SlackDouble) -> None:
    with pytest.raises(CannotTell):
        channel(slack, "#others").find(alert())


def test_a_lookup_that_fails_temporarily_is_retried_later(slack: SlackDouble) -> None:
    slack.fail("conversations.history", "ratelimited", retry_after=3)
    with pytest.raises(Retry) as refused:
        channel(slack).find(alert())
    assert refused.value.after == 3.0


def test_a_lookup_with_a_revoked_token_is_a_refusal(slack: SlackDouble) -> None:
    slack.fail("conversations.history", "token_revoked")
    with pytest.raises(Undeliverable, match="token_revoked"):
        channel(slack).find(alert())


# -- updating -----------------------------------------------------------------------------------------


def test_an_update_changes_the_alert_and_leaves_its_evidence_and_ids(slack: SlackDouble) -> None:
    talking = channel(slack)
    receipt = talking.send(alert())
    [before] = slack.messages
    assert talking.update(update(), receipt) == receipt
    [after] = slack.messages
    assert after["metadata"] == before["metadata"]
    assert STOPPED.reason in json.dumps(after["blocks"])
    assert STOPPING not in json.dumps(after["blocks"])
    assert after["blocks"][-1] == before["blocks"][-1]


def test_repeating_an_update_changes_nothing(slack: SlackDouble) -> None:
    talking = channel(slack)
    receipt = talking.send(alert())
    slack.fail("chat.update", "close_after")
    with pytest.raises(Retry):
        talking.update(update(), receipt)
    once = slack.messages
    assert talking.find(update()) == receipt
    talking.update(update(), receipt)
    assert slack.messages == once


def test_an_update_in_a_plain_form_takes_the_blocks_away(slack: SlackDouble) -> None:
    talking = channel(slack)
    receipt = talking.send(alert())
    talking.update(update().shortened(Form.PLAIN), receipt)
    assert slack.messages[0]["blocks"] == []


def test_what_changed_is_a_reply_in_the_thread_when_messages_cannot_be_edited(slack: SlackDouble) -> None:
    slack.workspace.editable = False
    talking = channel(slack)
    receipt = talking.send(alert())
    talking.update(update(), receipt)
    talking.update(update(), receipt)
    first, reply = slack.messages
    assert reply["thread_ts"] == first["ts"]
    assert reply["text"] == update().text
    assert STOPPED.reason in reply["text"]


def test_a_reply_to_a_deleted_alert_says_that_it_is_gone(slack: SlackDouble) -> None:
    talking = channel(slack)
    receipt = talking.send(alert())
    slack.workspace.messages.clear()
    slack.fail("chat.update", "edit_window_closed")
    with pytest.raises(MessageGone):
        talking.update(update(), receipt)


def test_a_reply_whose_response_was_lost_is_not_repeated(slack: SlackDouble) -> None:
    slack.workspace.editable = False
    talking = channel(slack)
    receipt = talking.send(alert())
    slack.fail("chat.postMessage", "close_after")
    with pytest.raises(Retry):
        talking.update(update(), receipt)
    talking.update(update(), receipt)
    assert len(slack.messages) == 2


def test_a_reply_is_found_at_the_end_of_a_long_thread(slack: SlackDouble) -> None:
    slack.workspace.editable = False
    slack.workspace.page_limit = 2
    talking = channel(slack)
    receipt = talking.send(alert())
    for number in range(5):
        talking.update(replace(update(), key=f"reply-{number}"), receipt)
    talking.update(replace(update(), key="reply-4"), receipt)
    assert len(slack.messages) == 6


def test_a_change_that_is_not_worth_a_message_is_no_reply(slack: SlackDouble) -> None:
    slack.workspace.editable = False
    talking = channel(slack)
    receipt = talking.send(alert())
    acknowledged = a_change(ChangeKind.ACKNOWLEDGED, 2, actor="ana")
    talking.update(told(a_case(changes=(acknowledged,)), an_alert(told=1, trying=2)), receipt)
    assert len(slack.messages) == 1


def test_an_update_of_a_deleted_alert_says_that_it_is_gone(slack: SlackDouble) -> None:
    talking = channel(slack)
    receipt = talking.send(alert())
    slack.workspace.messages.clear()
    with pytest.raises(MessageGone):
        talking.update(update(), receipt)


def test_an_update_without_a_receipt_says_that_the_alert_is_not_known(slack: SlackDouble) -> None:
    with pytest.raises(MessageGone):
        channel(slack).update(update(), "")


# -- files --------------------------------------------------------------------------------------------


PLOT = File("LossNotDecreasing-1.png", "LossNotDecreasing on churn", "the loss fell 2 %", b"\x89PNG picture")


def test_a_file_goes_into_the_thread_of_its_alert_and_is_found_there(slack: SlackDouble) -> None:
    receipt = channel(slack).send(alert())
    elsewhere = channel(slack).send(other(1))
    assert not channel(slack).has(PLOT, receipt)

    channel(slack).attach(PLOT, receipt)

    [file] = slack.files
    assert file["thread_ts"] == json.loads(receipt)["ts"]
    assert (file["name"], file["title"], file["alt_txt"]) == (PLOT.name, PLOT.title, PLOT.alt_text)
    assert file["content"] == PLOT.content
    assert channel(slack).has(PLOT, receipt)
    assert not channel(slack).has(PLOT._replace(name="another.png"), receipt)
    assert not channel(slack).has(PLOT, elsewhere)


def test_a_file_counts_as_missing_when_the_thread_cannot_be_read(slack: SlackDouble) -> None:
    receipt = channel(slack).send(alert())
    channel(slack).attach(PLOT, receipt)
    slack.workspace.scopes.discard("channels:history")

    assert not channel(slack).has(PLOT, receipt)


@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "files.completeUploadExternal"])
def test_slack_says_when_to_retry_a_file(slack: SlackDouble, method: str) -> None:
    receipt = channel(slack).send(alert())
    slack.fail(method, "ratelimited", retry_after=7)

    with pytest.raises(Retry) as raised:
        channel(slack).attach(PLOT, receipt)

    assert raised.value.after == 7
    assert slack.calls[method] == 1


def test_a_failed_upload_leaves_nothing_in_the_thread(slack: SlackDouble) -> None:
    receipt = channel(slack).send(alert())
    slack.fail("upload", "status_500")

    with pytest.raises(Retry, match="could not be uploaded") as raised:
        channel(slack).attach(PLOT, receipt)

    assert slack.token not in str(raised.value)
    assert not raised.value.uncertain
    assert slack.files == []


# -- probing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["#alerts", ALERTS, "#secret", "C0000000005"])
def test_a_channel_with_the_bot_in_it_is_fine_and_nothing_is_posted(slack: SlackDouble, name: str) -> None:
    assert channel(slack, name).probe() == Probe("the bot is in this channel")
    assert slack.messages == []
    assert slack.calls["chat.postMessage"] == 0


@pytest.mark.parametrize(
    ("name", "code", "fix"),
    [
        ("#nowhere", "channel_not_found", "check the name, and invite the bot"),
        ("C0000000009", "channel_not_found", "check the name, and invite the bot"),
        ("#closed", "channel_not_found", "or it is private and the bot is not in it"),
        ("C0000000006", "channel_not_found", "or it is private and the bot is not in it"),
        ("#others", "not_in_channel", "invite it with /invite @watcher"),
        ("C0000000003", "not_in_channel", "invite it with /invite @watcher"),
        ("#old", "is_archived", "unarchive it, or route to another one"),
        ("C0000000004", "is_archived", "unarchive it, or route to another one"),
    ],
)
def test_a_channel_that_would_refuse_alerts_fails_as_posting_does(
    slack: SlackDouble, name: str, code: str, fix: str
) -> None:
    with pytest.raises(Undeliverable, match=code) as probed:
        channel(slack, name).probe()
    with pytest.raises(Undeliverable) as posted:
        channel(slack, name).send(alert())
    assert str(probed.value) == str(posted.value)
    assert fix in str(probed.value)


@pytest.mark.parametrize("name", ["#archived-with-bot", "#archived-without"])
def test_an_archived_channel_is_found_whether_or_not_the_bot_is_in_it(slack: SlackDouble, name: str) -> None:
    slack.workspace.conversations += [
        Conversation("C0000000007", "archived-with-bot", archived=True),
        Conversation("C0000000008", "archived-without", archived=True, member=False),
    ]
    with pytest.raises(Undeliverable, match="is_archived"):
        channel(slack, name).probe()


@pytest.mark.parametrize("name", ["#alerts", ALERTS])
def test_without_the_scope_to_read_channels_it_says_which_to_add(slack: SlackDouble, name: str) -> None:
    slack.workspace.scopes -= {"channels:read", "groups:read"}
    found, fix = channel(slack, name).probe()
    assert found.startswith("the bot cannot see whether it is in this channel, without channels:read")
    assert "channels:read" in fix
    assert "OAuth & Permissions" in fix


def test_without_the_scope_for_private_channels_public_ones_are_still_told_apart(slack: SlackDouble) -> None:
    slack.workspace.scopes.remove("groups:read")
    assert channel(slack, "#alerts").probe().fix == ""
    for name in ("#secret", "#nowhere"):
        found, fix = channel(slack, name).probe()
        assert found.startswith(f"there is no public channel {name}")
        assert fix.startswith("check the name, or add groups:read")
    with pytest.raises(Undeliverable, match="not_in_channel"):
        channel(slack, "#others").probe()
    assert "without groups:read" in channel(slack, "C0000000005").probe().found


@pytest.mark.parametrize("name", ["#others", "C0000000003"])
def test_a_bot_that_may_post_anywhere_need_not_be_in_a_public_channel(slack: SlackDouble, name: str) -> None:
    slack.workspace.scopes.add("chat:write.public")
    found, fix = channel(slack, name).probe()
    assert found.startswith("the bot may post without being in this channel")
    assert fix == "invite it with /invite @watcher"
    channel(slack, name).send(alert())


def test_a_channel_is_found_on_a_later_page_even_after_an_empty_one(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 1
    assert channel(slack, "#secret").probe().fix == ""
    with pytest.raises(Undeliverable, match="not_in_channel"):
        channel(slack, "#others").probe()


def test_in_a_workspace_with_too_many_channels_it_asks_for_the_id(slack: SlackDouble) -> None:
    slack.workspace.page_limit = 1
    slack.workspace.conversations += [
        Conversation(f"C1{number:09d}", f"team-{number}", member=False) for number in range(30)
    ]
    found, fix = channel(slack, "#nowhere").probe()
    assert "too many channels" in found
    assert "channel's ID" in fix
    assert channel(slack, ALERTS).probe().fix == ""


def test_a_revoked_token_fails_with_what_to_do(slack: SlackDouble) -> None:
    slack.workspace.revoked = True
    for name in ("#alerts", ALERTS):
        with pytest.raises(Undeliverable, match=r"token_revoked; .*install the app again"):
            channel(slack, name).probe()


def test_a_rate_limited_probe_says_when_to_try_again(slack: SlackDouble) -> None:
    slack.fail("users.conversations", "ratelimited", retry_after=30)
    with pytest.raises(Retry) as limited:
        channel(slack).probe()
    assert limited.value.after == 30


def test_a_test_message_is_plain_text_that_pings_nobody(slack: SlackDouble) -> None:
    assert channel(slack).send_test("alerts for <!channel> & co arrive here", NOW) == "posted"
    [message] = slack.messages
    assert message["text"] == "alerts for &lt;!channel&gt; &amp; co arrive here"
    assert "blocks" not in message
    assert "metadata" not in message


# -- the token ----------------------------------------------------------------------------------------


def test_auth_test_says_to_whom_the_token_belongs(slack: SlackDouble) -> None:
    identity = auth_test(slack.token, slack.api_url)

    assert identity == Identity("Research", "watcher", frozenset(slack.workspace.scopes))


def test_auth_test_refuses_a_token_that_is_not_valid(slack: SlackDouble) -> None:
    with pytest.raises(Undeliverable, match=r"invalid_auth; .*slack\.bot_token"):
        auth_test("xoxb-wrong", slack.api_url)


@pytest.mark.parametrize(
    "fault", ["invalid_auth", "ratelimited", "status_500", "close_before", "missing_scope", "html"]
)
def test_the_token_is_in_no_error_and_no_log(
    slack: SlackDouble, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        error = refusal(slack, fault)
    chain: list[Any] = [error]
    while chain[-1].__cause__:
        chain.append(chain[-1].__cause__)
    seen = " ".join(f"{link!s} {link!r}" for link in chain) + caplog.text + str(logs)
    assert slack.token not in seen


# -- the double as a process --------------------------------------------------------------------------


def test_the_double_runs_as_a_process_with_a_control_api() -> None:
    command = [sys.executable, "-m", "tests.doubles.slack"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            api_url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/", api_url)
            control = api_url.replace("/api/", "/control/")
            fault = json.dumps({"method": "chat.postMessage", "fault": "close_after"}).encode()
            urllib.request.urlopen(f"{control}faults", data=fault).close()
            talking = SlackChannel("xoxb-double-0123456789", "#alerts", api_url)
            with pytest.raises(Retry):
                talking.send(alert())
            with urllib.request.urlopen(f"{control}messages") as answer:
                [message] = json.load(answer)
            assert talking.find(told(a_case(opened_at=NOW - timedelta(days=1))))
            assert message["metadata"]["event_payload"]["delivery_id"] == "delivery-1"
        finally:
            process.terminate()
