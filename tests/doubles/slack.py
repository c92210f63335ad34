"""The part of Slack's Web API that Watcher uses, on loopback. It checks requests as Slack does.

In a test:

    with SlackDouble() as slack:
        channel = SlackChannel(slack.token, "#alerts", slack.api_url)
        slack.fail("chat.postMessage", "close_after")      # stores the next one and loses its response
        slack.messages

As a separate process, for tests in which Watcher is killed and Slack is not:

    python -m tests.doubles.slack --port 8900              # prints its api_url

with a control API next to `/api/`: `GET /control/messages`, `GET /control/files`, `GET /control/calls`, and
`POST /control/faults` with `{"method", "fault", "times", "retry_after"}`.

A file is uploaded in three steps. The second one (`upload`) has its own URL.

Faults: `ratelimited` (429 with Retry-After), `status_500`, `html` (a proxy's page), `hang` (until the
double ends), `close_before` and `close_after` (the connection is closed before or after the request takes
effect), and any of Slack's own error codes (`invalid_auth`). A fault applies `times` times, or until
cleared (by `{}`) when that is 0.
"""

from __future__ import annotations

import argparse
import json
import re
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qsl

from tests.doubles.block_kit import MAX_MESSAGE_TEXT, is_too_long, length, mrkdwn_problems, problems

TOKEN = "xoxb-double-0123456789"
ALERTS = "C0000000001"


class SlackError(Exception):
    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.answer = {"ok": False, "error": code} | more


@dataclass
class Conversation:
    id: str
    name: str
    member: bool = True
    """Whether the bot is in it."""
    archived: bool = False
    private: bool = False
    """Slack says nothing of a private channel to a bot that is not in it."""

    @property
    def kind(self) -> str:
        return "private_channel" if self.private else "public_channel"

    @property
    def read_scope(self) -> str:
        return "groups:read" if self.private else "channels:read"

    @property
    def visible(self) -> bool:
        return self.member or not self.private


@dataclass
class Workspace:
    """What Slack knows, and its methods. `scopes`: those of the bot's token."""

    token: str = TOKEN
    scopes: set[str] = field(
        default_factory=lambda: {
            "chat:write", "files:write", "channels:read", "groups:read", "channels:history", "groups:history"
        }
    )  # fmt: skip
    conversations: list[Conversation] = field(
        default_factory=lambda: [
            Conversation(ALERTS, "alerts"),
            Conversation("C0000000002", "prod"),
            Conversation("C0000000003", "others", member=False),
            Conversation("C0000000004", "old", archived=True),
            Conversation("C0000000005", "secret", private=True),
            Conversation("C0000000006", "closed", private=True, member=False),
        ]
    )
    messages: list[dict[str, Any]] = field(default_factory=list)
    """In the order of posting; each with `channel`, `ts`, `text`, `blocks`, `metadata`, `thread_ts`."""
    files: list[dict[str, Any]] = field(default_factory=list)
    """In the order of sharing; each with `name`, `title`, `alt_txt`, `content`, `channel`, `thread_ts`."""
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Uploads that have begun and are not complete, by id."""
    address: str = ""
    """The address that files are uploaded to."""
    now: float = 0.0
    """The next message's `ts` in Unix seconds; 0: the real time."""
    editable: bool = True
    revoked: bool = False
    """The token was valid once."""
    page_limit: int = 1000
    """A page of results never holds more, whatever the request asks for."""

    def call(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        if token != self.token:
            raise SlackError("invalid_auth" if token else "not_authed")
        if self.revoked:
            raise SlackError("token_revoked")
        handler = getattr(self, method.replace(".", "_"), None)
        if handler is None:
            raise SlackError("unknown_method")
        return {"ok": True} | cast("dict[str, Any]", handler(arguments))

    def auth_test(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"team": "Research", "user": "watcher", "team_id": "T1", "user_id": "U1", "bot_id": "B1"}

    def chat_postMessage(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - Slack's name
        self._need("chat:write")
        outside = "chat:write.public" in self.scopes
        conversation = self._conversation(arguments["channel"], outside=outside)
        self._check_content(arguments)
        metadata = arguments.get("metadata")
        if metadata is not None and not _is_metadata(metadata):
            raise SlackError("invalid_metadata_schema")
        ts = self._next_ts()
        kept = ("text", "blocks", "metadata", "thread_ts", "unfurl_links", "unfurl_media")
        message = {"channel": conversation.id, "ts": ts, "type": "message"}
        self.messages.append(message | {key: arguments[key] for key in kept if key in arguments})
        return {"channel": conversation.id, "ts": ts}

    def chat_update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need("chat:write")
        if not re.fullmatch(r"[CGD][A-Z0-9]+", arguments["channel"]):
            raise SlackError("channel_not_found")
        conversation = self._conversation(arguments["channel"])
        self._check_content(arguments)
        for message in self.messages:
            if (message["channel"], message["ts"]) == (conversation.id, arguments["ts"]):
                if not self.editable:
                    raise SlackError("edit_window_closed")
                message |= {key: arguments[key] for key in ("text", "blocks", "metadata") if key in arguments}
                message["edited"] = True
                return {"channel": conversation.id, "ts": arguments["ts"]}
        raise SlackError("message_not_found")

    def conversations_history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need("channels:history")
        if not re.fullmatch(r"[CGD][A-Z0-9]+", arguments["channel"]):
            raise SlackError("channel_not_found")
        conversation = self._conversation(arguments["channel"])
        with_metadata = arguments.get("include_all_metadata") in ("1", "true")
        found = [
            {key: value for key, value in message.items() if with_metadata or key != "metadata"}
            for message in reversed(self.messages)
            if message["channel"] == conversation.id
            and "thread_ts" not in message
            and float(message["ts"]) > float(arguments.get("oldest", 0))
        ]
        return self._page("messages", found, arguments)

    def files_getUploadURLExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._need("files:write")
        if not arguments.get("filename") or int(arguments.get("length") or 0) <= 0:
            raise SlackError("invalid_arguments")
        id_ = f"F{len(self.uploads) + len(self.files):010d}"
        self.uploads[id_] = {
            "id": id_,
            "name": arguments["filename"],
            "length": int(arguments["length"]),
            "alt_txt": arguments.get("alt_txt", ""),
        }
        return {"upload_url": f"{self.address}/upload/{id_}", "file_id": id_}

    def upload(self, id_: str, content: bytes) -> bool:
        """Takes the bytes of a file at the URL that was handed out for it."""
        upload = self.uploads.get(id_)
        if upload is None or len(content) != upload["length"]:
            return False
        upload["content"] = content
        return True

    def files_completeUploadExternal(self, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._need("files:write")
        if not re.fullmatch(r"[CGD][A-Z0-9]+", arguments.get("channel_id", "")):
            raise SlackError("channel_not_found")
        conversation = self._conversation(arguments["channel_id"])
        thread = arguments.get("thread_ts")
        if not any((m["channel"], m["ts"]) == (conversation.id, thread) for m in self.messages):
            raise SlackError("invalid_thread_ts")
        completed = json.loads(arguments["files"])
        for file in completed:
            upload = self.uploads.pop(file["id"], None)
            if upload is None or "content" not in upload:
                raise SlackError("file_not_found")
            shared = {"title": file.get("title", ""), "channel": conversation.id, "thread_ts": thread}
            self.files.append(upload | shared)
        return {"files": [{"id": file["id"], "title": file.get("title", "")} for file in completed]}

    def conversations_replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need("channels:history")
        conversation = self._conversation(arguments["channel"])
        found = [
            message
            for message in self.messages
            if message["channel"] == conversation.id
            and arguments["ts"] in (message["ts"], message.get("thread_ts"))
        ]
        if not found:
            raise SlackError("thread_not_found")
        found += [
            {"ts": "", "text": "", "files": [{"id": file["id"], "name": file["name"]}]}
            for file in self.files
            if (file["channel"], file["thread_ts"]) == (conversation.id, arguments["ts"])
        ]
        return self._page("messages", found, arguments)

    def users_conversations(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._listed(arguments, [c for c in self.conversations if c.member])

    def conversations_list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._listed(arguments, [c for c in self.conversations if c.visible], is_member=True)

    def _listed(
        self, arguments: dict[str, Any], conversations: list[Conversation], *, is_member: bool = False
    ) -> dict[str, Any]:
        """Filters apply after a page is cut, so a page may be short, or empty, and not the last."""
        kinds = arguments.get("types", "public_channel").split(",")
        for kind in kinds:
            if kind not in ("public_channel", "private_channel"):
                raise SlackError("invalid_types")
            self._need("groups:read" if kind == "private_channel" else "channels:read")
        if not 0 < int(arguments.get("limit", 100)) < 1000:
            raise SlackError("invalid_limit")
        page = self._page("channels", conversations, arguments)
        archived_too = arguments.get("exclude_archived") not in ("1", "true")
        page["channels"] = [
            _described(conversation, is_member=is_member)
            for conversation in page["channels"]
            if conversation.kind in kinds and (archived_too or not conversation.archived)
        ]
        return page

    def conversations_info(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not self.scopes & {"channels:read", "groups:read"}:
            self._need("channels:read")
        for conversation in self.conversations:
            if conversation.id == arguments["channel"] and conversation.visible:
                self._need(conversation.read_scope)
                return {"channel": _described(conversation, is_member=True)}
        raise SlackError("channel_not_found")

    def _page(self, key: str, found: list[Any], arguments: dict[str, Any]) -> dict[str, Any]:
        start = int(arguments.get("cursor") or 0)
        end = start + min(int(arguments.get("limit", 100)), self.page_limit)
        cursor = str(end) if end < len(found) else ""
        return {key: found[start:end], "response_metadata": {"next_cursor": cursor}}

    def _need(self, scope: str) -> None:
        if scope not in self.scopes:
            raise SlackError("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    def _conversation(self, channel: str, *, outside: bool = False) -> Conversation:
        """`outside`: the bot need not be in a public channel."""
        for conversation in self.conversations:
            if channel in (conversation.id, f"#{conversation.name}") and conversation.visible:
                if conversation.archived:
                    raise SlackError("is_archived")
                if not (conversation.member or outside):
                    raise SlackError("not_in_channel")
                return conversation
        raise SlackError("channel_not_found")

    def _check_content(self, arguments: dict[str, Any]) -> None:
        text = arguments.get("text", "")
        if not text:
            raise SlackError("no_text")
        if length(text) > MAX_MESSAGE_TEXT:
            raise SlackError("msg_too_long")
        if is_too_long(arguments.get("blocks", [])):
            raise SlackError("msg_blocks_too_long")
        found = problems(arguments.get("blocks", [])) + list(mrkdwn_problems(text))
        if found:
            raise SlackError("invalid_blocks", response_metadata={"messages": found})

    def _next_ts(self) -> str:
        moment = self.now or time.time()
        latest = max((float(message["ts"]) for message in self.messages), default=0.0)
        return f"{max(moment, latest + 0.000002):.6f}"


def _described(conversation: Conversation, *, is_member: bool) -> dict[str, Any]:
    """`users.conversations` does not say whether the bot is in a channel, because it is in all of them."""
    described = {
        "id": conversation.id,
        "name": conversation.name,
        "is_archived": conversation.archived,
        "is_private": conversation.private,
    }
    return described | {"is_member": conversation.member} if is_member else described


def _is_metadata(metadata: Any) -> bool:
    return (
        isinstance(metadata, dict)
        and metadata.keys() == {"event_type", "event_payload"}
        and bool(re.fullmatch(r"[a-z0-9_]+", metadata["event_type"]))
        and all(isinstance(value, str | int | float | bool) for value in metadata["event_payload"].values())
    )


@dataclass
class Fault:
    method: str
    fault: str
    times: int = 1
    retry_after: int = 1


class SlackDouble:
    """Serves a workspace from a thread. `down` and `up` close and open the port; the workspace stays."""

    def __init__(self, workspace: Workspace | None = None, port: int = 0) -> None:
        self.workspace = workspace or Workspace()
        self.calls: Counter[str] = Counter()
        self._port = port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def token(self) -> str:
        return self.workspace.token

    @property
    def messages(self) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(message) for message in self.workspace.messages]

    @property
    def files(self) -> list[dict[str, Any]]:
        with self._lock:
            return [dict(file) for file in self.workspace.files]

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/"

    def fail(self, method: str, fault: str, *, times: int = 1, retry_after: int = 1) -> None:
        with self._lock:
            self._faults.append(Fault(method, fault, times, retry_after))

    def heal(self) -> None:
        with self._lock:
            self._faults.clear()

    def up(self) -> None:
        self._released.clear()
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.slack = self  # type: ignore[attr-defined]
        self._port = self._server.server_address[1]
        self.workspace.address = f"http://127.0.0.1:{self._port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="slack", daemon=True).start()

    def down(self) -> None:
        self._released.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *exc: object) -> None:
        self.down()

    # -- for the handler ------------------------------------------------------------------------------

    def take_fault(self, method: str) -> Fault | None:
        with self._lock:
            self.calls[method] += 1
            for fault in self._faults:
                if fault.method in (method, "*"):
                    if fault.times == 1:
                        self._faults.remove(fault)
                    elif fault.times > 1:
                        fault.times -= 1
                    return fault
        return None

    def call(self, method: str, arguments: dict[str, Any], token: str) -> dict[str, Any]:
        with self._lock:
            try:
                return self.workspace.call(method, arguments, token)
            except SlackError as error:
                return error.answer

    def upload(self, id_: str, content: bytes) -> bool:
        with self._lock:
            return self.workspace.upload(id_, content)

    def wait_until_released(self) -> None:
        self._released.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    @property
    def slack(self) -> SlackDouble:
        return cast("SlackDouble", self.server.slack)  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        match self.path:
            case "/control/messages":
                self._answer(200, self.slack.messages)
            case "/control/files":
                kept = ("name", "title", "thread_ts")
                self._answer(200, [{key: file[key] for key in kept} for file in self.slack.files])
            case "/control/calls":
                self._answer(200, dict(self.slack.calls))
            case _:
                self._answer(404, {"ok": False, "error": "no such page"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control/faults":
            self.slack.heal()
            fault = json.loads(body)
            if fault:
                self.slack.fail(fault.pop("method"), fault.pop("fault"), **fault)
            self._answer(200, {"ok": True})
            return
        uploaded = self.path.removeprefix("/upload/") if self.path.startswith("/upload/") else ""
        method = "upload" if uploaded else self.path.removeprefix("/api/")
        fault = self.slack.take_fault(method)
        if fault and self._is_over(fault):
            return
        if uploaded:
            taken = "Authorization" not in self.headers and self.slack.upload(uploaded, body)
            self._answer(200 if taken else 400, f"OK - {len(body)}" if taken else "bad upload")
            return
        answer = self.slack.call(method, self._arguments(body), self._token())
        if fault and fault.fault == "close_after":
            return
        scopes = {"X-OAuth-Scopes": ",".join(sorted(self.slack.workspace.scopes))}
        self._answer(200, answer, scopes)

    def _is_over(self, fault: Fault) -> bool:
        """Whether the request ends with this fault."""
        match fault.fault:
            case "close_after":
                return False
            case "close_before":
                pass
            case "hang":
                self.slack.wait_until_released()
            case "ratelimited":
                headers = {"Retry-After": str(fault.retry_after)}
                self._answer(429, {"ok": False, "error": "ratelimited"}, headers)
            case "status_500":
                self._answer(500, "<html>Internal Server Error</html>")
            case "html":
                self._answer(200, "<html>Please log in to this network</html>")
            case code:
                self._answer(200, {"ok": False, "error": code})
        return True

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _arguments(self, body: bytes) -> dict[str, Any]:
        kind = self.headers.get_content_type()
        if not body:  # the SDK still sets JSON as the content type
            return {}
        if kind == "application/json":
            return cast("dict[str, Any]", json.loads(body))
        return dict(parse_qsl(body.decode(), strict_parsing=True, keep_blank_values=True))

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else "application/json; charset=utf-8"
        with suppress(ConnectionError):
            self.send_response(status)
            for name, value in {"Content-Type": kind, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Slack's Web API on loopback")
    parser.add_argument("--port", type=int, default=0)
    double = SlackDouble(port=parser.parse_args().port)
    double.up()
    print(double.api_url, flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


if __name__ == "__main__":
    main()
