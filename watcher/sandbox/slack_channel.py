"""One Slack channel on this machine, for the demo: its messages can be posted and edited."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast

CHANNEL_ID = "C0DEMO00001"


@dataclass(slots=True)
class SlackMessage:
    text: str
    posted_at: datetime
    edits: list[tuple[datetime, str]] = field(default_factory=list)
    """When each edit came, and what the message says since then."""


class SlackChannelStandIn:
    """Answers `chat.postMessage` and `chat.update` as Slack does. The bot has no other scope."""

    def __init__(self) -> None:
        self.token = f"xoxb-demo-{secrets.token_hex(12)}"
        self.messages: dict[str, SlackMessage] = {}
        """By `ts`, in the order in which they were posted."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.channel = self  # type: ignore[attr-defined]

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="slack", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            now = datetime.now(UTC)
            match method:
                case "chat.postMessage":
                    ts = f"{now.timestamp():.6f}"
                    self.messages[ts] = SlackMessage(_words(arguments), now)
                case "chat.update" if arguments.get("ts") in self.messages:
                    ts = arguments["ts"]
                    self.messages[ts].edits.append((now, _words(arguments)))
                case "chat.update":
                    return {"ok": False, "error": "message_not_found"}
                case _:
                    return {"ok": False, "error": "missing_scope", "needed": "another one than chat:write"}
            return {"ok": True, "channel": CHANNEL_ID, "ts": ts}


def _words(arguments: dict[str, Any]) -> str:
    """All that a message says: the texts of its blocks, in their order."""
    found: list[str] = []

    def collect(part: Any) -> None:
        if isinstance(part, list):
            for each in part:
                collect(each)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str):
                found.append(part["text"])
            for value in part.values():
                collect(value)

    collect(arguments.get("blocks") or [])
    return "\n".join(found) or str(arguments.get("text", ""))


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        channel = cast("SlackChannelStandIn", self.server.channel)  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {channel.token}":
            answer: dict[str, Any] = {"ok": False, "error": "invalid_auth"}
        else:
            is_json = body and self.headers.get_content_type() == "application/json"
            answer = channel.call(self.path.removeprefix("/api/"), json.loads(body) if is_json else {})
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass
