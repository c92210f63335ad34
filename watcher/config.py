"""Text becomes a frozen `Config`, or an error that names the key, the value and the mend.

Each setting explains itself in the docstring below it; the README's table is checked against these.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from watcher.destination import Destination, DestinationKind
from watcher.errors import ConfigError

DEFAULT_FILE = Path("watcher.toml")
"""Read from the working directory when no file is named; without it, every setting has its default."""

TEXT_VARIABLE = "WATCHER_TOML"
"""The environment variable that holds the settings themselves, for where a file is awkward to bring along: a
task on ECS gets it from a parameter or a secret."""

Key = tuple[int | str, ...]


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
    mute_after: float = Field(default=1800, ge=0)
    """Seconds of training in which a rule's processing job may write nothing to its log before that is told;
    0: the logs of rules in progress are not read, and nothing of them is told."""
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
        return self.role_arn.split(":")[4] if self.role_arn else ""


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


def load(path: Path | None, env: Mapping[str, str]) -> Config:
    """Read the settings. `env` fills in what the file writes as `${NAME}`.

    Raises `ConfigError`: one line with the file or variable, the key, the value as it is written there (so
    that what `${NAME}` stands for is not shown; never that of a secret or of an unknown key) and the mend.
    """
    found = source(path, env)
    if found is None:
        return Config()
    try:
        text = _read(found) if isinstance(found, Path) else env[found]
        return _checked(_parse(text), env)
    except ConfigError as error:
        raise ConfigError(f"{found}: {error}") from None


def source(path: Path | None, env: Mapping[str, str]) -> Path | str | None:
    """Where `load` takes the settings from: the file that was named, else the variable (its name) that holds
    them, else the file in the working directory, else nowhere."""
    if path is not None:
        return path
    if env.get(TEXT_VARIABLE):
        return TEXT_VARIABLE
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _checked(document: dict[str, Any], env: Mapping[str, str]) -> Config:
    try:
        config = Config.model_validate(_fill_in(document, env, ()))
    except ValidationError as error:
        raise ConfigError(_explain(error, document)) from None
    for key, problem in _contradictions(config):
        raise ConfigError(f"{key}: {problem}")
    return config


def _read(path: Path) -> str:
    try:
        # Editors on Windows put a byte order mark first, which TOML does not know.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("there is no such file; name another with --config") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}") from None


_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def _fill_in(value: Any, env: Mapping[str, str], key: Key) -> Any:
    """The same value with each `${NAME}` in its strings replaced."""

    def variable(match: re.Match[str]) -> str:
        name = match[1]
        if name not in env:
            raise ConfigError(f"{_dotted(key)}: the variable {name} is not set; export it, or remove the key")
        return env[name]

    if isinstance(value, str):
        return _VARIABLE.sub(variable, value)
    if isinstance(value, list):
        return [_fill_in(item, env, (*key, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _fill_in(item, env, (*key, name)) for name, item in value.items()}
    return value


def _dotted(key: Key) -> str:
    """`("route", 1, "stop")` as people write it: `route[1].stop`, counted from 0."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")


# -- what is wrong with one value -----------------------------------------------------------------


def _explain(error: ValidationError, document: dict[str, Any]) -> str:
    """The first problem in a sentence; one is enough to go and edit the file."""
    detail = error.errors(include_url=False, include_input=False)[0]
    key = detail["loc"]
    if detail["type"] == "extra_forbidden":
        return f"{_dotted(key)}: there is no such key; {_did_you_mean(key)}"
    if detail["type"] == "missing":
        return f"{_dotted(key)}: is missing"
    value: Any = document
    for part in key:
        value = value[part]
    shown = f" = {_as_toml(value)}" if _may_be_shown(key) else ""
    return f"{_dotted(key)}{shown}: {_mend(detail, key, value)}"


def _mend(detail: ErrorDetails, key: Key, value: Any) -> str:
    match detail["type"].split("_")[0]:
        case "tuple" if isinstance(value, dict):
            return f"there can be several: write [[{_dotted(key)}]]"
        case "tuple":
            return f"write a list: [{_as_toml(value)}]"
        case "greater" if "gt" in detail["ctx"]:
            return f"must be more than {detail['ctx']['gt']:g}"
        case "greater":
            return f"must be at least {detail['ctx']['ge']:g}"
        case "float" if isinstance(value, dict) and key[0] == "prices":
            return 'write the instance type in quotes: "ml.p4d.24xlarge" = 37.69'
        case "literal":
            return f"write one of {detail['ctx']['expected']}"
        case "model" | "dict":
            return f"write a table: [{_dotted(key)}]"
        case kind:
            return _KINDS.get(kind, detail["msg"])


_KINDS = {
    "bool": "write true or false",
    "string": "write a string, in quotes",
    "int": "write a whole number",
    "float": "write a number",
    "finite": "write a number",
}
"""By the first word of pydantic's error type (`bool_parsing`, `bool_type`)."""


def _as_toml(value: Any) -> str:
    """A value in one line, near enough to how the file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}…"'
    if isinstance(value, dict):
        return "{…}"
    if isinstance(value, list):
        return "[…]"
    return str(value)


def _annotation(key: Key) -> Any:
    """What the field at this key is declared to hold; None where there is no such field."""
    kind: Any = Config
    for part in key:
        if isinstance(part, int):
            kind = get_args(kind)[0]
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:
            return None
    return kind


def _may_be_shown(key: Key) -> bool:
    """Not a secret, and not in the place of a section that holds one."""
    kind = _annotation(key)
    return kind is not SecretStr and not (isinstance(kind, type) and issubclass(kind, BaseModel))


def _did_you_mean(key: Key) -> str:
    known = list(_annotation(key[:-1]).model_fields)
    close = get_close_matches(str(key[-1]), known, n=1)
    if close:
        return f"did you mean {_dotted((*key[:-1], close[0]))}?"
    return f"there are {', '.join(known)}"


# -- what is wrong with the whole -----------------------------------------------------------------

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/.+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_ADDRESS = re.compile(r"(?:[^:\[\]\s]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")

MOST_TAGS = 19
"""`Search` takes 20 filters, and one of them is the job's status."""

SHORTEST_SECRET = 8


def _contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """Key and problem of each setting that is fine by itself and makes no sense as it stands."""
    if config.region and not _REGION.fullmatch(config.region):
        yield f'region = "{config.region}"', 'is not an AWS region; write one like "us-east-1"'
    yield from _unusable_accounts(config.account)
    yield from _watches_nothing(config.watch)
    yield from _slack_problems(config)
    if 0 < len(config.webhook.secret) < SHORTEST_SECRET:
        yield "webhook.secret", f"too short to sign with; take at least {SHORTEST_SECRET} characters"
    yield from _http_problems(config.http)
    for type_ in config.prices:
        if not type_.startswith("ml."):
            yield f'prices."{type_}"', 'is no instance type of SageMaker; write one like "ml.m5.xlarge"'
    for index, route in enumerate(config.route):
        for place, to in enumerate(route.to):
            yield from ((f"route[{index}].to[{place}]", why) for why in _destination_problems(to, config))
        for earlier, other in enumerate(config.route[:index]):
            if other.job in ("*", route.job) and other.rule in ("*", route.rule):
                yield f"route[{index}]", f"can never match: route[{earlier}] ({other}) comes first"


def _http_problems(http: Http) -> Iterator[tuple[str, str]]:
    address = _ADDRESS.fullmatch(http.listen)
    if http.listen and not (address and int(address[1]) < 2**16):
        yield f'http.listen = "{http.listen}"', 'is not HOST:PORT; write one like "127.0.0.1:8080"'
    heartbeat = http.heartbeat_url.get_secret_value()
    if heartbeat and not heartbeat.startswith(("https://", "http://")):
        yield "http.heartbeat_url", "is not an address; it starts with https://"


def _unusable_accounts(accounts: Sequence[Account]) -> Iterator[tuple[str, str]]:
    for index, account in enumerate(accounts):
        key = f"account[{index}]"
        if account.role_arn and not _ROLE.fullmatch(account.role_arn):
            yield (
                f'{key}.role_arn = "{account.role_arn}"',
                "is no role; write one like arn:aws:iam::111122223333:role/watcher",
            )
        elif account.role_arn and account.role_arn in {other.role_arn for other in accounts[:index]}:
            yield key, "is there twice; write all of its regions into one [[account]]"
        if "external_id" in account.model_fields_set and not account.role_arn:
            yield f"{key}.external_id", "goes with a role_arn, which is missing"
        elif not (account.role_arn or account.regions):
            yield key, "names neither a role_arn nor regions, so it adds nothing"
        for place, region in enumerate(account.regions):
            if not _REGION.fullmatch(region):
                yield (
                    f'{key}.regions[{place}] = "{region}"',
                    'is not an AWS region; write one like "us-east-1"',
                )


def _watches_nothing(watch: Watch) -> Iterator[tuple[str, str]]:
    if not watch.jobs:
        yield "watch.jobs = []", 'no job would be watched; write ["*"] for all'
    for index, pattern in enumerate(watch.jobs):
        if not pattern:
            yield f'watch.jobs[{index}] = ""', 'matches no job; write "*" for all'
    if len(watch.tags) > MOST_TAGS:
        yield (
            f"watch.tags: {len(watch.tags)} tags",
            f"SageMaker takes at most {MOST_TAGS}; remove some",
        )


def _slack_problems(config: Config) -> Iterator[tuple[str, str]]:
    slack = config.slack
    token, app_token = slack.bot_token.get_secret_value(), slack.app_token.get_secret_value()
    if token.startswith("xapp-"):
        yield "slack.bot_token", "this is an app-level token; the bot's starts with xoxb-"
    elif token and not token.startswith("xox"):
        yield "slack.bot_token", "is not a bot token, which starts with xoxb- (Slack: OAuth & Permissions)"
    if app_token and not app_token.startswith("xapp-"):
        yield "slack.app_token", "is not an app-level token, which starts with xapp-"
    if slack.channel:
        yield from (("slack.channel", why) for why in _destination_problems(f"slack:{slack.channel}", config))
    if not slack.api_url.startswith(("https://", "http://")):
        yield f'slack.api_url = "{slack.api_url}"', 'is not an address; Slack\'s is "https://slack.com/api/"'


def _destination_problems(to: str, config: Config) -> Iterator[str]:
    try:
        destination = Destination.parse(to)
    except ConfigError as error:
        yield str(error)
        return
    if destination.kind is DestinationKind.SLACK and not config.slack.bot_token:
        yield f"'{destination}' needs slack.bot_token = \"${{SLACK_BOT_TOKEN}}\""
    if destination.kind is DestinationKind.WEBHOOK and not config.webhook.secret:
        yield f"'{destination}' needs webhook.secret = \"${{WEBHOOK_SECRET}}\", to sign with"
