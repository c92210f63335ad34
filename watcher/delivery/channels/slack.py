"""Posts alerts in Slack through its Web API, with the SDK's `WebClient`.

An update edits the alert itself (`chat.update`), so the alert always shows the incident as it is, and
repeating an update changes nothing. An alert that was deleted is posted again. If the workspace forbids
editing, each change worth telling is a reply in the alert's thread. The plot of an alert is a file there.

The bot needs the scopes `chat:write` and, for plots, `files:write`. With `channels:read` and
`channels:history` (`groups:read` and `groups:history` for private channels) it can look up whether an alert
arrived, if Watcher was interrupted while sending it. `channels:read` and `groups:read` also let `probe` see
whether the bot is in the channel.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

import structlog
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web import SlackResponse, WebClient

from watcher.alerts.message import Message
from watcher.delivery.channels import http_status
from watcher.delivery.channels.base import File, Probe
from watcher.delivery.channels.block_kit import blocks, notification, plain
from watcher.errors import CannotTell, DeliveryError, FormRefused, MessageGone, Retry, Undeliverable
from watcher.model import Form

log = structlog.get_logger(__name__)

TIMEOUT_S = 10
PAGE_SIZE = 200
"""Messages or channels in one answer; Slack recommends at most 200."""
MAX_LOOK_UP_PAGES = 10
LIST_PAGE_SIZE = 999
"""Channels in one answer, at most. Slack recommends 200, but a large workspace has thousands."""
MAX_LIST_PAGES = 15
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""How far Slack's clock may differ from Watcher's."""

SCOPES = {
    "chat:write": "alerts cannot be posted",
    "files:write": "alerts have no plot",
    "channels:read": "an alert may be sent twice if Watcher restarts while sending it",
    "channels:history": "an alert may be sent twice if Watcher restarts while sending it",
}
"""By scope, what does not work without it."""

EVENT_TYPE = "watcher_incident"
"""Of the metadata by which `find` recognises a message."""

_MAY_PASS = frozenset(
    {
        "fatal_error",
        "internal_error",
        "org_login_required",
        "request_timeout",
        "service_unavailable",
        "team_added_to_org",
    }
)
"""Slack's error codes after which another attempt may succeed."""
_MAY_HAVE_ARRIVED = frozenset({"fatal_error", "internal_error", "request_timeout"})
"""Those of them after which Slack may have posted the message nevertheless."""
_NOT_SENT = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
"""The reasons of a failed connection after which Slack cannot have received the request."""
_CANNOT_EDIT = frozenset({"cant_update_message", "edit_window_closed"})
_GONE = frozenset({"message_not_found", "thread_not_found"})
_FORM = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long"})
"""Slack refuses the message for its form: a shorter or plainer one may be taken."""
_CANNOT_LOOK_UP = frozenset({"missing_scope", "channel_not_found", "not_in_channel", "no_permission"})

_TOKEN = "put the app's bot token (xoxb-…, under OAuth & Permissions) into slack.bot_token"  # noqa: S105
_ADD_SCOPE = "add {} under OAuth & Permissions, and install the app again"
_FIXES = {
    "account_inactive": f"the bot was removed: install the app again and {_TOKEN}",
    "channel_not_found": "the channel does not exist, or it is private and the bot is not in it: "
    "check the name, and invite the bot with /invite @watcher",
    "ekm_access_denied": "the workspace's administrators have suspended posting: ask them",
    "invalid_auth": f"the token is not valid: {_TOKEN}",
    "is_archived": "the channel is archived: unarchive it, or route to another one",
    "missing_scope": "the bot lacks a scope: add it under OAuth & Permissions and install the app again",
    "no_permission": "the workspace does not let this bot post: ask its administrators",
    "not_allowed_token_type": f"this is not a bot token: {_TOKEN}",
    "not_authed": f"no token was sent: {_TOKEN}",
    "not_in_channel": "the bot is not in this channel: invite it with /invite @watcher",
    "restricted_action": "the workspace's settings forbid posting here: ask its administrators",
    "token_expired": f"the token has expired: {_TOKEN}",
    "token_revoked": f"the token was revoked: install the app again and {_TOKEN}",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """The bot to which a token belongs."""

    team: str
    bot: str
    scopes: frozenset[str] | None
    """What it may do; None if Slack does not say."""


def auth_test(token: str, api_url: str, timeout_s: int = TIMEOUT_S) -> Identity:
    """Raises `Retry` or `Undeliverable`, like a channel."""
    answer = _call("Slack", _client(token, api_url, timeout_s).auth_test)
    return Identity(team=answer["team"], bot=answer["user"], scopes=_scopes(answer))


def _scopes(answer: SlackResponse) -> frozenset[str] | None:
    """The scopes of the token; None if Slack does not say."""
    scopes = {name.lower(): value for name, value in answer.headers.items()}.get("x-oauth-scopes")
    return frozenset(scope.strip() for scope in scopes.split(",")) if scopes else None


class SlackChannel:
    """A channel by its name (`#training-alerts`) or id."""

    def __init__(self, token: str, channel: str, api_url: str, timeout_s: int = TIMEOUT_S) -> None:
        self._channel = channel
        self._client = _client(token, api_url, timeout_s)
        self._id = "" if channel.startswith("#") else channel
        self._name = f"Slack's {channel}"

    def send(self, message: Message) -> str:
        answer = _call(
            self._name,
            self._client.chat_postMessage,
            channel=self._channel,
            **_content(message),
            metadata=_metadata(message),
            unfurl_links=False,
            unfurl_media=False,
        )
        self._id = answer["channel"]
        return _receipt(answer["channel"], answer["ts"])

    def find(self, message: Message) -> str | None:
        """Search the channel's history back to when the incident was opened, at most 2,000 messages."""
        try:
            return self._find(message)
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_LOOK_UP:
                raise
            log.warning(
                "slack_cannot_look_up",
                channel=self._channel,
                error=refusal.code,
                needed=refusal.needed or "channels:read, channels:history",
                consequence="an alert may be sent twice if Watcher restarts while sending it",
            )
            raise CannotTell(str(refusal)) from refusal

    def _find(self, message: Message) -> str | None:
        self._id = self._id or self._resolve()
        for posted in self._pages(
            self._client.conversations_history,
            "messages",
            channel=self._id,
            oldest=f"{(message.incident.opened_at - MAX_CLOCK_SKEW).timestamp():.6f}",
            include_all_metadata=True,
        ):
            if _payload(posted).get("delivery_id") == message.delivery_id:
                return _receipt(self._id, posted["ts"])
        return None

    def _resolve(self) -> str:
        """The id of the channel with this name. Only channels with the bot in them are searched, since it can
        read no other."""
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
        for _ in range(MAX_LOOK_UP_PAGES):
            answer = _call(self._name, method, limit=PAGE_SIZE, cursor=cursor, **arguments)
            yield from answer[key]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                return
        looked_at = f"{PAGE_SIZE * MAX_LOOK_UP_PAGES} {key}"
        log.warning("slack_look_up_incomplete", channel=self._channel, looked_at=looked_at)
        raise CannotTell(f"{self._name}: looked at {looked_at} only")

    def update(self, message: Message, receipt: str) -> str:
        try:
            self._edit_or_reply(message, receipt)
        except _SlackRefusal as refusal:
            if refusal.code in _GONE:
                raise MessageGone(str(refusal)) from refusal
            raise
        return receipt

    def _edit_or_reply(self, message: Message, receipt: str) -> None:
        try:
            self._edit(message, receipt)
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_EDIT:
                raise
            self._reply(message, receipt)

    def _edit(self, message: Message, receipt: str) -> None:
        if not receipt:
            raise MessageGone(f"{self._name}: it is not known which message is the alert")
        posted = json.loads(receipt)
        # The argument `metadata` is left out, so Slack keeps the alert's, by which `find` finds it.
        _call(
            self._name,
            self._client.chat_update,
            channel=posted["channel"],
            ts=posted["ts"],
            **_content(message),
        )

    def _reply(self, message: Message, receipt: str) -> None:
        """Say in the alert's thread what changed, unless a reply there says so already. If the bot may not
        read the thread, a duplicate is better than a missing reply."""
        if not message.changes:
            return
        alert = json.loads(receipt)
        with suppress(CannotTell):
            if any(_payload(reply).get("key") == message.key for reply in self._thread(alert)):
                return
        _call(
            self._name,
            self._client.chat_postMessage,
            channel=alert["channel"],
            thread_ts=alert["ts"],
            text=notification(message),
            metadata=_metadata(message),
        )

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
        """Search the alert's thread; False if the bot may not read it."""
        try:
            return any(
                shown["name"] == file.name
                for reply in self._thread(json.loads(receipt))
                for shown in reply.get("files", ())
            )
        except CannotTell:
            return False

    def _thread(self, alert: dict[str, str]) -> Iterator[dict[str, Any]]:
        """The alert's thread, oldest first. Raises `CannotTell` if the bot may not read it."""
        try:
            yield from self._pages(
                self._client.conversations_replies,
                "messages",
                channel=alert["channel"],
                ts=alert["ts"],
                include_all_metadata=True,
            )
        except _SlackRefusal as refusal:
            if refusal.code not in _CANNOT_LOOK_UP:
                raise
            raise CannotTell(str(refusal)) from refusal

    def probe(self) -> Probe:
        """Ask whether the channel exists, is not archived, and has the bot in it."""
        if self._channel.startswith("#"):
            try:
                return self._probe_name()
            except _ListTooLong:
                return Probe(
                    "this workspace has too many channels to look for one by its name",
                    "write the channel's ID (C…) instead of its name",
                )
        try:
            answer = _call(self._name, self._client.conversations_info, channel=self._channel)
        except _SlackRefusal as refusal:
            if refusal.code != "missing_scope":
                raise
            return _cannot_tell(refusal.needed or "channels:read")
        channel = answer["channel"]
        inside = channel.get("is_member") or channel.get("is_im") or channel.get("is_mpim")
        return self._judged(channel, inside=bool(inside), scopes=_scopes(answer))

    def _probe_name(self) -> Probe:
        """Slack has no question for a name, so this lists the channels with the bot in them, then all public
        ones."""
        without = []
        for kind, scope in (("public_channel", "channels:read"), ("private_channel", "groups:read")):
            try:
                if found := self._listed(self._client.users_conversations, kind):
                    return self._judged(found[0], inside=True, scopes=found[1])
            except _SlackRefusal as refusal:
                if refusal.code != "missing_scope":
                    raise
                without.append(scope)
        if "channels:read" in without:
            return _cannot_tell(", ".join(without))
        if found := self._listed(self._client.conversations_list, "public_channel"):
            return self._judged(found[0], inside=False, scopes=found[1])
        if without:
            return Probe(
                f"there is no public channel {self._channel}, and the bot cannot see private ones without "
                "groups:read",
                f"check the name, or {_ADD_SCOPE.format('groups:read')}",
            )
        raise _SlackRefusal(self._name, "channel_not_found")

    def _judged(self, channel: dict[str, Any], *, inside: bool, scopes: frozenset[str] | None) -> Probe:
        if channel.get("is_archived"):
            raise _SlackRefusal(self._name, "is_archived")
        if inside:
            return Probe("the bot is in this channel")
        if not channel.get("is_private") and "chat:write.public" in (scopes or ()):
            return Probe(
                "the bot may post without being in this channel, but alerts have no plot, and may be sent "
                "twice if Watcher restarts while sending them",
                "invite it with /invite @watcher",
            )
        raise _SlackRefusal(self._name, "not_in_channel")

    def _listed(
        self, method: Callable[..., SlackResponse], kind: str
    ) -> tuple[dict[str, Any], frozenset[str] | None] | None:
        """The channel of this name in a list, and the token's scopes; None if the list does not have it.

        Raises `_ListTooLong` after the first pages: Slack allows about 20 of these requests a minute.
        """
        cursor = ""
        for _ in range(MAX_LIST_PAGES):
            answer = _call(
                self._name,
                method,
                types=kind,
                exclude_archived=False,
                limit=LIST_PAGE_SIZE,
                cursor=cursor,
            )
            for channel in answer["channels"]:
                if f"#{channel['name']}" == self._channel:
                    return channel, _scopes(answer)
            cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                return None
        raise _ListTooLong

    def send_test(self, text: str, at: datetime) -> str:  # noqa: ARG002
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        _call(
            self._name,
            self._client.chat_postMessage,
            channel=self._channel,
            text=escaped,
            unfurl_links=False,
            unfurl_media=False,
        )
        return "posted"


def _content(message: Message) -> dict[str, Any]:
    """Text and blocks. Empty blocks remove those that an alert had before it was edited."""
    if message.form is Form.PLAIN:
        return {"text": plain(message), "blocks": []}
    return {"text": notification(message), "blocks": blocks(message)}


def _metadata(message: Message) -> dict[str, Any]:
    return {
        "event_type": EVENT_TYPE,
        "event_payload": {
            "incident_id": message.incident.id,
            "delivery_id": message.delivery_id,
            "key": message.key,
        },
    }


def _payload(posted: dict[str, Any]) -> dict[str, Any]:
    return (posted.get("metadata") or {}).get("event_payload") or {}


def _cannot_tell(scopes: str) -> Probe:
    return Probe(
        f"the bot cannot see whether it is in this channel, without {scopes}",
        f"{_ADD_SCOPE.format(scopes)}, or try it: `watcher check --send` posts a test message",
    )


class _ListTooLong(Exception):
    """A list of channels was not read to its end."""


class _SlackRefusal(Undeliverable):
    """Slack answered with an error that will not pass."""

    def __init__(self, name: str, code: str, needed: str = "", details: str = "") -> None:
        fix = _FIXES.get(code, "see the method's errors in Slack's API reference")
        scope = f" ({needed})" if needed else ""
        super().__init__(f"{name} refused: {code}{scope}{details}; {fix}")
        self.code = code
        self.needed = needed


def _client(token: str, api_url: str, timeout_s: int) -> WebClient:
    # The SDK's own retries are off, because only the outbox retries.
    return WebClient(token, base_url=api_url.rstrip("/") + "/", timeout=timeout_s, retry_handlers=[])


def _receipt(channel: str, ts: str) -> str:
    return json.dumps({"channel": channel, "ts": ts})


def _call(name: str, method: Callable[..., SlackResponse], **arguments: Any) -> SlackResponse:
    """Makes one request, and translates the errors of the SDK and of urllib."""
    try:
        return method(**arguments)
    except SlackApiError as error:
        raise _translated(name, error.response) from error
    except HTTPError as error:  # only from the upload of a file: an error of the API is a SlackApiError
        error.close()
        # Retried with any status, because the next attempt uploads to a new address.
        raise Retry(f"{name}: the file could not be uploaded: {error}") from error
    except SlackRequestError as error:  # also from the upload: a 2xx other than 200
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
    limited = code in ("ratelimited", "rate_limited")
    status = http_status.TOO_MANY_REQUESTS if limited else answer.status_code
    said = f"{name}: Slack answered with HTTP {status}"
    if retry := http_status.retry(said, status, answer.headers.get("Retry-After"), datetime.now(UTC)):
        return retry
    if code in _MAY_PASS:
        return Retry(f"{name}: Slack answered {code}", uncertain=code in _MAY_HAVE_ARRIVED)
    if not re.fullmatch("[a-z0-9_]*", code):  # the SDK's own words about a body that is not JSON
        return Retry(f"{name}: the answer is not Slack's; it may come from a proxy", uncertain=True)
    details = "".join(f", {text}" for text in (data.get("response_metadata") or {}).get("messages", ()))
    if code in _FORM:
        return FormRefused(f"{name} refused the message for its form: {code}{details}")
    return _SlackRefusal(name, code or f"HTTP {answer.status_code}", data.get("needed", ""), details)
