"""Every setting, with its default. Frozen.

The docstring below a setting is its documentation: the table in docs/settings.md is generated from it.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from watcher.arn import Arn

RECONCILE_INTERVAL_WITH_EVENTS_S = 300.0
"""Between two reconciliations, if events from a queue announce most changes."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


class Watch(_Section):
    jobs: tuple[str, ...] = ("*",)
    """Globs on the name of the training job. Watcher watches the jobs that match at least one."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Watch only jobs that carry all of these tags."""
    poll_interval: float = Field(default=30, ge=1)
    """Seconds between two reconciliations. With `watch.queue_url`, the default is 300, because events
    announce changes at once."""
    look_back: float = Field(default=3600, ge=0)
    """Seconds: how far the first start looks back for jobs that have ended already. Later starts continue
    where the last pass that succeeded ended."""
    follow: float = Field(default=1800, ge=0)
    """How many seconds Watcher follows a job after its end, at most, until every rule has a final status."""
    report_completed: bool = False
    """Also alert when a job has completed."""
    queue_url: str = ""
    """The SQS queue that EventBridge feeds. With it, Watcher sees changes at once, and several processes can
    share the work."""

    @property
    def reconcile_every(self) -> float:
        """Seconds between two reconciliations."""
        given = "poll_interval" in self.model_fields_set or not self.queue_url
        return self.poll_interval if given else RECONCILE_INTERVAL_WITH_EVENTS_S

    def names(self, job: str) -> bool:
        """Whether `jobs` has a glob that matches this name."""
        return any(fnmatchcase(job, pattern) for pattern in self.jobs)


class AttachedRule(_Section):
    job: str = "*"
    """Glob on the name of the job."""
    rule: str
    """A built-in rule, such as `LossNotDecreasing`, or a profiler rule, such as `LowGPUUtilization`."""
    parameters: dict[str, str] = Field(default_factory=dict)
    """The parameters of the rule, all as strings, as in the SageMaker API."""


class Rules(_Section):
    local: Literal["off", "mirror", "attach"] = "mirror"
    """Which rules Watcher evaluates itself. `mirror`: the rules of each job. `attach`: also those of
    `[[rules.attach]]`, on jobs without rules. `off`: none."""
    attach: tuple[AttachedRule, ...] = ()
    """Rules for jobs that have no rule of their own. They read the tensors that the job saves or, if it saves
    none, its metrics in CloudWatch. Profiler rules are for jobs that have no profiler rule of their own, and
    read the profiler's output or, if there is none, the metrics of the job's instances."""
    stuck_after: float = Field(default=1800, ge=0)
    """Seconds of training without a log line after which a rule's processing job counts as stuck;
    0: Watcher does not read the logs of rules in progress."""
    log_group: str = ""
    """CloudWatch log group for the logs of Watcher's own evaluations. Empty: Watcher writes none."""


class StoreSettings(_Section):
    url: str = "sqlite:///watcher.db"
    """Where Watcher keeps its state: `sqlite:///FILE` (four slashes for an absolute path) or
    `dynamodb://TABLE`."""


class Slack(_Section):
    bot_token: SecretStr = SecretStr("")
    """The bot's token, `xoxb-…`."""
    app_token: SecretStr = SecretStr("")
    """The app-level token, `xapp-…`, for Socket Mode. Accepted, but not used yet."""
    channel: str = ""
    """The channel for findings that match no route, and for alerts that all their destinations refuse."""
    api_url: str = "https://slack.com/api/"
    """The address of Slack's Web API."""


class Webhook(_Section):
    secret: SecretStr = SecretStr("")
    """The key that signs each request with HMAC-SHA256. Needed when a route names a webhook."""


class Route(_Section):
    job: str = "*"
    """Glob on the name of the job."""
    rule: str = "*"
    """Glob on the name of the rule. For findings about the job itself the name is empty."""
    to: tuple[str, ...] = Field(default=(), max_length=20)
    """Up to 20 destinations: `slack:#channel` (or the channel's ID), `webhook:https://…`, `sns:arn:…`,
    `console`. Empty: where findings without a route go."""
    stop: bool = False
    """Stop the job when the rule finds an issue. Profiler rules never stop a job."""

    def matches(self, job: str, rule: str | None) -> bool:
        return fnmatchcase(job, self.job) and fnmatchcase(rule or "", self.rule)

    def __str__(self) -> str:
        return f"job {self.job}, rule {self.rule}"


class Stop(_Section):
    dry_run: bool = False
    """Report which jobs would be stopped, but stop none."""
    grace: float = Field(default=0, ge=0)
    """Seconds between the alert and the stop. Until then, `watcher stop JOB --cancel` prevents the stop."""
    grace_limit: float = Field(default=600, ge=0)
    """Seconds. The grace begins once every destination that takes the alert has it, or after this many
    seconds at the latest."""
    min_runtime: float = Field(default=0, ge=0)
    """Never stop a job that has trained for fewer seconds than this."""
    max_per_hour: int = Field(default=10, ge=0)
    """How many jobs Watcher stops within an hour, at most. Beyond that it only alerts."""


class Account(_Section):
    role_arn: str = ""
    """The role that Watcher assumes in the member account. Empty: Watcher's own account, to add regions."""
    external_id: SecretStr = SecretStr("")
    """The external ID that the role's trust policy requires."""
    regions: tuple[str, ...] = ()
    """The regions to watch in this account. Empty: only `region`."""

    @property
    def account(self) -> str:
        """The account ID; empty for Watcher's own account."""
        return Arn.parse(self.role_arn).account if self.role_arn else ""


Price = Annotated[float, Field(gt=0)]


class Http(_Section):
    listen: str = "127.0.0.1:8080"
    """The address of the status page, `/healthz`, `/readyz` and `/metrics`. Empty: Watcher serves none. An
    address that other machines can reach needs `http.allow_remote`."""
    allow_remote: bool = False
    """Allow other machines to connect. Needs `http.token` or `http.proxies`."""
    token: SecretStr = SecretStr("")
    """The bearer token that a request must carry, also one from this machine. Without it, `/healthz` and
    `/readyz` answer with their status alone."""
    proxies: tuple[str, ...] = ()
    """Addresses or networks (`10.0.1.0/24`) of reverse proxies that authenticate people. Requests that come
    from them need no token, because all pages only read."""
    hosts: tuple[str, ...] = ()
    """Further names in the header `Host` that Watcher answers to, such as that of a proxy. It answers to
    `localhost`, to the host of `http.listen`, and to the address that the request came to."""
    heartbeat_url: SecretStr = SecretStr("")
    """Requested every minute while Watcher is healthy, for a service that raises an alarm when the requests
    stop (a dead man's switch)."""

    @property
    def listen_host(self) -> str:
        """The host of `listen`, without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]").lower()

    @property
    def remote(self) -> bool:
        """Whether other machines can connect. A name other than `localhost` may have any address."""
        host = self.listen_host
        try:
            return bool(host) and host != "localhost" and not ip_address(host).is_loopback
        except ValueError:
            return True


class Config(_Section):
    region: str = ""
    """The AWS region. Empty: as for AWS's tools, `AWS_REGION`, else `AWS_DEFAULT_REGION`, else the region of
    the AWS profile."""
    watch: Watch = Watch()
    rules: Rules = Rules()
    account: tuple[Account, ...] = ()
    """Member accounts and further regions to watch, in addition to Watcher's own account and region."""
    store: StoreSettings = StoreSettings()
    slack: Slack = Slack()
    webhook: Webhook = Webhook()
    route: tuple[Route, ...] = ()
    """Where findings go. The first match wins; a finding without a match goes to `slack.channel` if set, else
    to the console."""
    stop: Stop = Stop()
    prices: dict[str, Price] = Field(default_factory=dict)
    """US dollars an hour for each instance type (`"ml.p4d.24xlarge" = 37.69`). Without a price, alerts show
    instance-hours."""
    http: Http = Http()

    def not_used_yet(self) -> list[str]:
        """The keys that are set but have no effect in this version."""
        return [
            f"{section}.{key}"
            for section, key in _NOT_USED_YET
            if key in getattr(self, section).model_fields_set
        ]

    def secrets(self) -> list[str]:
        """Values that must never appear in a log line."""
        external_ids = (account.external_id for account in self.account)
        slack, webhook, http = self.slack, self.webhook, self.http
        secrets = (
            slack.bot_token,
            slack.app_token,
            webhook.secret,
            http.token,
            http.heartbeat_url,
            *external_ids,
        )
        return [secret.get_secret_value() for secret in secrets if secret]


_NOT_USED_YET = (("slack", "app_token"),)
