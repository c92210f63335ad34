"""Slack through its Web API, with the SDK's `WebClient`.

An update changes the alert itself (`chat.update`): whoever reads the alert, now or next week, sees what
became of the job, and doing it twice changes nothing. Where the workspace forbids editing, the update is
a reply in the alert's thread.

The plot of an alert is a file in its thread.

The bot needs the scopes `chat:write` and, for plots, `files:write`; `channels:read`, `channels:history` (and
`groups:read`, `groups:history` for private channels) let it look up, after an interruption, whether an alert
arrived.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

import structlog
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web import SlackResponse, WebClient

from watcher.alerts.message import Message
from watcher.delivery.channels import retry_after
from watcher.delivery.channels.base import File
from watcher.delivery.channels.block_kit import blocks, notification
from watcher.errors import DeliveryError, Retry, Undeliverable

log = structlog.get_logger(__name__)

TIMEOUT = 10
PAGE = 200
PAGES = 10
CLOCK_SKEW = timedelta(minutes=5)
"""How far Slack's clock may be from ours."""

SCOPES = {
    "chat:write": "alerts cannot be posted",
    "files:write": "alerts have no plot",
    "channels:read": "an alert that was interrupted may be told twice",
    "channels:history": "an alert that was interrupted may be told twice",
}
"""What each is for: what follows where it is missing."""

EVENT_TYPE = "watcher_finding"

_MAY_PASS = frozenset(
    {
        "fatal_error",
        "internal_error",
        "org_login_required",
        "ratelimited",
        "rate_limited",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
_MAY_HAVE_ARRIVED = frozenset({"fatal_error", "internal_error", "request_timeout"})
_NOT_SENT = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
_CANNOT_EDIT = frozenset({"cant_update_message", "edit_window_closed"})
_CANNOT_LOOK_UP = frozenset({"missing_scope", "channel_not_found", "not_in_channel", "no_permission"})

_TOKEN = "put the app's bot token (xoxb-…, under OAuth & Permissions) into slack.bot_token"  # noqa: S105
_MENDS = {
    "account_inactive": f"the bot was removed: install the app again and {_TOKEN}",
    "channel_not_found": "there is no such channel, or it is private and the bot is not in it: "
    "check the name, and invite the bot with /invite @watcher",
    "ekm_access_denied": "the workspace's administrators have suspended posting: ask them",
    "invalid_auth": f"the token is not valid: {_TOKEN}",
    "invalid_blocks": "this message should not have been made so: please report it as a bug of Watcher",
    "is_archived": "the channel is archived: unarchive it, or route to another one",
    "message_not_found": "the alert was deleted in Slack",
    "missing_scope": "the bot lacks a scope: add it under OAuth & Permissions and install the app again",
    "no_permission": "the workspace does not let this bot post: ask its administrators",
    "not_allowed_token_type": f"this is another kind of token: {_TOKEN}",
    "not_authed": f"no token was sent: {_TOKEN}",
    "not_in_channel": "the bot is not in this channel: invite it with /invite @watcher",
    "restricted_action": "the workspace's settings forbid posting here: ask its administrators",
    "token_expired": f"the token has expired: {_TOKEN}",
    "token_revoked": f"the token was revoked: install the app again and {_TOKEN}",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for."""

    team: str
    bot: str
    scopes: frozenset[str] | None
    """What it may do; None where Slack does not tell."""


def auth_test(token: str, api_url: str, timeout: int = TIMEOUT) -> Identity:
    """Raises `Retry` or `Undeliverable`, like a channel."""
    answer = _call("Slack", _client(token, api_url, timeout).auth_test)
    scopes = {name.lower(): value for name, value in answer.headers.items()}.get("x-oauth-scopes")
    given = frozenset(scope.strip() for scope in scopes.split(",")) if scopes else None
    return Identity(team=answer["team"], bot=answer["user"], scopes=given)


class SlackChannel:
    """A channel by its name (`#training-alerts`) or id. Messages need no more than one thread at a time;
    `attach` and `has` may run beside them, in any number."""

    def __init__(self, token: str, channel: str, api_url: str, timeout: int = TIMEOUT) -> None:
        self._channel = channel
        self._client = _client(token, api_url, timeout)
        self._id = "" if channel.startswith("#") else channel
        self._name = f"Slack's {channel}"
        self._can_find = True

    def send(self, message: Message) -> str:
        answer = _call(
            self._name,
            self._client.chat_postMessage,
            channel=self._channel,
            text=notification(message),
            blocks=blocks(message),
            metadata={
                "event_type": EVENT_TYPE,
                "event_payload": {"finding_id": message.finding.id, "delivery_id": message.id},
            },
            unfurl_links=False,
            unfurl_media=False,
        )
        self._id = answer["channel"]
        return _receipt(answer["channel"], answer["ts"])

    @property
    def can_find(self) -> bool:
        """False where the last `find` was not let see the channel's history, or not all of it."""
        return self._can_find

    def find(self, message: Message) -> str | None:
        """Looks through the channel's history back to the finding's beginning, at most 2,000 messages.

        Where the bot may not read it, the answer is None: better told twice than never. An update is
        never looked up, since repeating it changes nothing.
        """
        self._can_find = True
        if message.is_update:
            return None
        try:
            return self._find(message)
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_LOOK_UP:
                raise
            self._can_find = False
            log.warning(
                "slack_cannot_look_up",
                channel=self._channel,
                error=refusal.code,
                needed=refusal.needed or "channels:read, channels:history",
                consequence="an alert that was interrupted may be told twice",
            )
            return None

    def _find(self, message: Message) -> str | None:
        self._id = self._id or self._resolve()
        for posted in self._pages(
            self._client.conversations_history,
            "messages",
            channel=self._id,
            oldest=f"{(message.finding.opened_at - CLOCK_SKEW).timestamp():.6f}",
            include_all_metadata=True,
        ):
            payload = (posted.get("metadata") or {}).get("event_payload") or {}
            if payload.get("delivery_id") == message.id:
                return _receipt(self._id, posted["ts"])
        return None

    def _resolve(self) -> str:
        """The id behind the name, among the channels that the bot is in: it reads no other's history."""
        channels = self._pages(
            self._client.users_conversations,
            "channels",
            types="public_channel,private_channel",
            exclude_archived=True,
        )
        found: str | None = next((c["id"] for c in channels if f"#{c['name']}" == self._channel), None)
        if found is None:
            raise _SlackRefusal(self._name, "not_in_channel")
        return found

    def _pages(self, method: Callable[..., SlackResponse], key: str, **arguments: Any) -> Iterator[Any]:
        cursor = ""
        for _ in range(PAGES):
            answer = _call(self._name, method, limit=PAGE, cursor=cursor, **arguments)
            yield from answer[key]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                return
        self._can_find = False
        log.warning("slack_look_up_cut_short", channel=self._channel, looked_at=f"{PAGE * PAGES} {key}")

    def update(self, message: Message, receipt: str) -> str:
        if not receipt:
            return self.send(message)
        posted = json.loads(receipt)
        alert: dict[str, str] = {"channel": posted["channel"], "ts": posted["ts"]}
        try:
            # Without `metadata` Slack keeps the alert's own, by which it is found.
            _call(
                self._name,
                self._client.chat_update,
                **alert,
                text=notification(message),
                blocks=blocks(message),
            )
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_EDIT:
                raise
            _call(
                self._name,
                self._client.chat_postMessage,
                channel=alert["channel"],
                thread_ts=alert["ts"],
                text=notification(message),
            )
        return receipt

    def attach(self, file: File, receipt: str) -> None:
        alert = json.loads(receipt)
        _call(
            self._name,
            self._client.files_upload_v2,
            channel=alert["channel"],
            thread_ts=alert["ts"],
            filename=file.name,
            title=file.title,
            alt_txt=file.alt_text,
            content=file.content,
        )

    def has(self, file: File, receipt: str) -> bool:
        """Looks through the alert's thread, as far as one page shows it."""
        alert = json.loads(receipt)
        try:
            answer = _call(
                self._name,
                self._client.conversations_replies,
                channel=alert["channel"],
                ts=alert["ts"],
                limit=PAGE,
            )
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_LOOK_UP:
                raise
            return False
        return any(
            shown["name"] == file.name for reply in answer["messages"] for shown in reply.get("files", ())
        )


class _SlackRefusal(Undeliverable):
    """Slack's answer is an error that will not pass."""

    def __init__(self, name: str, code: str, needed: str = "", details: str = "") -> None:
        mend = _MENDS.get(code, "see the method's errors in Slack's API reference")
        scope = f" ({needed})" if needed else ""
        super().__init__(f"{name} refused: {code}{scope}{details}; {mend}")
        self.code = code
        self.needed = needed


def _client(token: str, api_url: str, timeout: int) -> WebClient:
    # Without the SDK's own retries: the outbox alone knows when to try again.
    return WebClient(token, base_url=api_url.rstrip("/") + "/", timeout=timeout, retry_handlers=[])


def _receipt(channel: str, ts: str) -> str:
    return json.dumps({"channel": channel, "ts": ts})


def _call(name: str, method: Callable[..., SlackResponse], **arguments: Any) -> SlackResponse:
    """One request; the SDK's and urllib's errors become ours."""
    try:
        return method(**arguments)
    except SlackApiError as error:
        raise _translated(name, error.response) from error
    except HTTPError as error:  # only from where a file's bytes go: the SDK takes its API's own for answers
        error.close()
        raise Retry(f"{name}: the file could not be uploaded: {error}") from error
    except SlackRequestError as error:  # the same, of a success that is not Slack's 200
        raise Retry(f"{name}: the file could not be uploaded: {error}") from error
    except URLError as error:  # while connecting or sending
        certain = isinstance(error.reason, _NOT_SENT)
        raise Retry(f"{name} cannot be reached: {error.reason}", uncertain=not certain) from error
    except (OSError, HTTPException) as error:  # while waiting for the answer
        what = "no answer in time" if isinstance(error, TimeoutError) else f"the connection broke ({error})"
        raise Retry(f"{name}: {what}", uncertain=True) from error


def _translated(name: str, answer: SlackResponse) -> DeliveryError:
    data = answer.data if isinstance(answer.data, dict) else {}
    code = str(data.get("error", ""))
    if answer.status_code == 429 or code in ("ratelimited", "rate_limited"):
        # Slack always says seconds, so the time it is now does not matter.
        after = retry_after.seconds(answer.headers.get("Retry-After"), datetime.now(UTC))
        return Retry(f"{name}: asked too often", after=after)
    if answer.status_code >= 500:
        return Retry(f"{name}: Slack answered with HTTP {answer.status_code}", uncertain=True)
    if code in _MAY_PASS:
        return Retry(f"{name}: Slack answered {code}", uncertain=code in _MAY_HAVE_ARRIVED)
    if not re.fullmatch("[a-z0-9_]*", code):  # the SDK's remark on a body that is not Slack's
        return Retry(f"{name}: something else answered in Slack's place, a proxy perhaps", uncertain=True)
    details = "".join(f", {text}" for text in (data.get("response_metadata") or {}).get("messages", ()))
    return _SlackRefusal(name, code or f"HTTP {answer.status_code}", data.get("needed", ""), details)
