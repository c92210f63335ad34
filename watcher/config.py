"""Text becomes a frozen `Config`, or an error that names the key, the value and the mend.

Each setting explains itself in the docstring below it; the README's table is checked against these.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Watch(_Section):
    jobs: tuple[str, ...] = ("*",)
    """Globs on the training job's name; a job is watched when one of them matches."""
    tags: dict[str, str] = Field(default_factory=dict)
    """And when it carries all of these tags."""
    poll_interval: float = Field(30, ge=1)
    """Seconds between two reconciliations."""
    follow: float = Field(1800, ge=0)
    """Seconds after its end in which a job is followed until each of its rules is final."""
    report_completed: bool = False
    """Also tell when a job has completed."""
    queue_url: str = ""
    """The SQS queue that EventBridge feeds. Read, and not used yet."""

    def names(self, job: str) -> bool:
        return any(fnmatchcase(job, pattern) for pattern in self.jobs)


class AttachedRule(_Section):
    job: str = "*"
    rule: str
    parameters: dict[str, str] = Field(default_factory=dict)


class Rules(_Section):
    local: Literal["off", "mirror", "attach"] = "mirror"
    """Which rules Watcher evaluates itself. Read, and not used yet."""
    attach: tuple[AttachedRule, ...] = ()
    """Rules for jobs that have none. Read, and not used yet."""


class StoreSettings(_Section):
    url: str = "sqlite:///watcher.db"
    """Where the state lives: `sqlite:///FILE` (four slashes for an absolute path)."""


class Slack(_Section):
    bot_token: SecretStr = SecretStr("")
    """The bot's token, `xoxb-…`."""
    app_token: SecretStr = SecretStr("")
    """For Socket Mode. Read, and not used yet."""
    channel: str = ""
    """Where findings go that no route takes."""
    api_url: str = "https://slack.com/api/"
    """Slack's Web API."""


class Webhook(_Section):
    secret: SecretStr = SecretStr("")
    """Signs each request with HMAC-SHA256; needed as soon as a route names a webhook."""


class Route(_Section):
    job: str = "*"
    """Glob on the job's name."""
    rule: str = "*"
    """Glob on the rule's name; findings about the job itself have the empty name."""
    to: tuple[str, ...] = ()
    """Destinations: `slack:#channel`, `webhook:https://…`, `sns:arn:…`, `console`. None: the default."""
    stop: bool = False
    """Stop the job when the rule finds an issue."""

    def matches(self, job: str, rule: str | None) -> bool:
        return fnmatchcase(job, self.job) and fnmatchcase(rule or "", self.rule)

    def __str__(self) -> str:
        return f"job {self.job}, rule {self.rule}"


class Stop(_Section):
    dry_run: bool = False
    """Say what would be stopped, stop nothing."""
    grace: float = Field(0, ge=0)
    """Seconds between the alert and the stop, in which `watcher stop JOB --cancel` prevents it."""
    min_runtime: float = Field(0, ge=0)
    """Seconds; never stop a job younger than this."""
    max_per_hour: int = Field(10, ge=0)
    """A brake: beyond it, alert only."""


class Http(_Section):
    listen: str = "127.0.0.1:8080"
    """Address of the status page; empty switches it off. Read, and not used yet."""


class Config(_Section):
    region: str = ""
    """The AWS region; empty: the usual AWS chain."""
    watch: Watch = Watch()
    rules: Rules = Rules()
    store: StoreSettings = StoreSettings()
    slack: Slack = Slack()
    webhook: Webhook = Webhook()
    route: tuple[Route, ...] = ()
    """First match wins; what none matches goes to `slack.channel`, else to the console."""
    stop: Stop = Stop()
    http: Http = Http()
