"""Every setting, with its default. Frozen.

The docstring below a setting is its documentation: the table of settings is made from it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from watcher.arn import Arn

RECONCILE_BEHIND_EVENTS = 300.0
"""Seconds between two reconciliations where they are only the net below the events."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class Watch(_Section):
    jobs: tuple[str, ...] = ("*",)
    """Globs on the training job's name; a job is watched when one of them matches."""
    tags: dict[str, str] = Field(default_factory=dict)
    """And when it carries all of these tags."""
    poll_interval: float = Field(default=30, ge=1)
    """Seconds between two reconciliations; with a queue, which tells of changes at once, 300 unless it is
    written here."""
    follow: float = Field(default=1800, ge=0)
    """Seconds after its end in which a job is followed until each of its rules is final."""
    report_completed: bool = False
    """Also tell when a job has completed."""
    queue_url: str = ""
    """The SQS queue that EventBridge feeds: changes are known at once, and as many processes as one likes
    share the work."""

    @property
    def reconcile_every(self) -> float:
        """Seconds between two reconciliations."""
        given = "poll_interval" in self.model_fields_set or not self.queue_url
        return self.poll_interval if given else RECONCILE_BEHIND_EVENTS

    def names(self, job: str) -> bool:
        return any(fnmatchcase(job, pattern) for pattern in self.jobs)


class AttachedRule(_Section):
    job: str = "*"
    """Glob on the job's name."""
    rule: str
    """A built-in rule, such as `LossNotDecreasing`."""
    parameters: dict[str, str] = Field(default_factory=dict)
    """The rule's parameters, all as strings, as SageMaker takes them."""


class Rules(_Section):
    local: Literal["off", "mirror", "attach"] = "mirror"
    """Which rules Watcher evaluates itself: `mirror` each job's own, `attach` also those of
    `[[rules.attach]]` on jobs that have none, or `off`."""
    attach: tuple[AttachedRule, ...] = ()
    """Rules for jobs that have no rule of their own: on the tensors that a job saves or, where it saves none,
    on its metrics in CloudWatch."""
    stuck_after: float = Field(default=1800, ge=0)
    """Seconds of training without a log line after which a rule's processing job counts as stuck;
    0: Watcher does not read the logs of rules in progress."""
    log_group: str = ""
    """CloudWatch log group for the log lines of Watcher's own evaluations; empty: they are not written."""


class StoreSettings(_Section):
    url: str = "sqlite:///watcher.db"
    """Where the state lives: `sqlite:///FILE` (four slashes for an absolute path), or `dynamodb://TABLE`."""


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
    to: tuple[str, ...] = Field(default=(), max_length=20)
    """Up to 20 destinations: `slack:#channel`, `webhook:https://…`, `sns:arn:…`, `console`. None: the
    default."""
    stop: bool = False
    """Stop the job when the rule finds an issue."""

    def matches(self, job: str, rule: str | None) -> bool:
        return fnmatchcase(job, self.job) and fnmatchcase(rule or "", self.rule)

    def __str__(self) -> str:
        return f"job {self.job}, rule {self.rule}"


class Stop(_Section):
    dry_run: bool = False
    """Say what would be stopped, stop nothing."""
    grace: float = Field(default=0, ge=0)
    """Seconds between the alert and the stop, in which `watcher stop JOB --cancel` prevents it."""
    min_runtime: float = Field(default=0, ge=0)
    """Seconds; never stop a job younger than this."""
    max_per_hour: int = Field(default=10, ge=0)
    """A brake: beyond it, alert only."""


class Account(_Section):
    role_arn: str = ""
    """Role that Watcher assumes in the member account; empty: its own account, for more regions."""
    external_id: SecretStr = SecretStr("")
    """As the role's trust policy wants it."""
    regions: tuple[str, ...] = ()
    """Regions to watch there; none: the region above."""

    @property
    def account(self) -> str:
        """The account's number; empty for Watcher's own."""
        return Arn.parse(self.role_arn).account if self.role_arn else ""


Price = Annotated[float, Field(gt=0)]


class Http(_Section):
    listen: str = "127.0.0.1:8080"
    """Where the status page, `/healthz`, `/readyz` and `/metrics` are; empty: there are none."""
    heartbeat_url: SecretStr = SecretStr("")
    """Asked for each minute while all is well (a dead man's switch): whoever keeps it raises the alarm when
    that ends."""


class Config(_Section):
    region: str = ""
    """The AWS region; empty: the usual AWS chain."""
    watch: Watch = Watch()
    rules: Rules = Rules()
    account: tuple[Account, ...] = ()
    """Member accounts and further regions whose jobs are watched, beside those of its own."""
    store: StoreSettings = StoreSettings()
    slack: Slack = Slack()
    webhook: Webhook = Webhook()
    route: tuple[Route, ...] = ()
    """First match wins; what none matches goes to `slack.channel`, else to the console."""
    stop: Stop = Stop()
    prices: dict[str, Price] = Field(default_factory=dict)
    """US dollars an hour, by instance type (`"ml.p4d.24xlarge" = 37.69`); none given: alerts tell hours, not
    money."""
    http: Http = Http()

    def not_used_yet(self) -> list[str]:
        """The keys somebody set that this version reads and does nothing with."""
        return [f"{section}.{key}" for section, key in _NOT_USED_YET if key in _set(getattr(self, section))]

    def secrets(self) -> list[str]:
        """What must never be seen in a log line."""
        external_ids = (account.external_id for account in self.account)
        slack, webhook, http = self.slack, self.webhook, self.http
        secrets = (slack.bot_token, slack.app_token, webhook.secret, http.heartbeat_url, *external_ids)
        return [secret.get_secret_value() for secret in secrets if secret]


_NOT_USED_YET = (("slack", "app_token"),)


def _set(section: BaseModel) -> set[str]:
    return section.model_fields_set
