"""Finds settings that are valid on their own but contradict each other, or have no effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network

from watcher.arn import ROLE_ARN
from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Account, Config, Http, Watch
from watcher.errors import ConfigError
from watcher.redaction import masked_by_name

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_ADDRESS = re.compile(r"(?:[^:\[\]\s]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
_HOST = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")

MAX_TAGS = 19
"""`Search` accepts 20 filters, and one of them is the status of the job."""

MIN_WEBHOOK_SECRET_CHARS = 8
MIN_TOKEN_CHARS = 16
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/-]{{{MIN_TOKEN_CHARS},}}=*")
"""The form of a bearer token (RFC 6750)."""


def contradictions(config: Config) -> Iterator[tuple[str, str]]:
    """The key and the problem of each such setting, in the order in which a person should fix them."""
    if config.region and not _REGION.fullmatch(config.region):
        yield f'region = "{config.region}"', 'is not an AWS region; write one like "us-east-1"'
    yield from _account_problems(config.account)
    yield from _watch_problems(config.watch)
    yield from _slack_problems(config)
    if 0 < len(config.webhook.secret) < MIN_WEBHOOK_SECRET_CHARS:
        yield "webhook.secret", f"is too short; use at least {MIN_WEBHOOK_SECRET_CHARS} characters"
    yield from _http_problems(config.http)
    for type_ in config.prices:
        if not type_.startswith("ml."):
            yield f'prices."{type_}"', 'is not a SageMaker instance type; write one like "ml.m5.xlarge"'
    for index, route in enumerate(config.route):
        for place, to in enumerate(route.to):
            yield from ((f"route[{index}].to[{place}]", why) for why in _destination_problems(to, config))
        for earlier, other in enumerate(config.route[:index]):
            if other.job in ("*", route.job) and other.rule in ("*", route.rule):
                yield f"route[{index}]", f"can never match, because route[{earlier}] ({other}) comes first"


def _http_problems(http: Http) -> Iterator[tuple[str, str]]:
    address = _ADDRESS.fullmatch(http.listen)
    if http.listen and not (address and int(address[1]) < 2**16):
        yield f'http.listen = "{http.listen}"', 'is not HOST:PORT; write one like "127.0.0.1:8080"'
    elif http.remote and not http.allow_remote:
        yield (
            f'http.listen = "{http.listen}"',
            'lets other machines connect; write "127.0.0.1:8080", or set http.allow_remote = true '
            "and http.token",
        )
    elif http.remote and not (http.token or http.proxies):
        yield (
            "http.token",
            'is missing, and http.listen lets other machines connect; set it to "${HTTP_TOKEN}", '
            "or name the proxy that authenticates people in http.proxies",
        )
    token = http.token.get_secret_value()
    if token and not _TOKEN.fullmatch(token):
        yield (
            "http.token",
            f"is not a bearer token of at least {MIN_TOKEN_CHARS} letters and digits, without spaces; "
            "make one with `openssl rand -hex 32`",
        )
    for place, proxy in enumerate(http.proxies):
        if problem := _proxy_problem(proxy):
            yield f'http.proxies[{place}] = "{proxy}"', problem
    for place, host in enumerate(http.hosts):
        if not _HOST.fullmatch(host):
            yield (
                f'http.hosts[{place}] = "{host}"',
                'is not a host name or address; write one like "watcher.example.com", without a port',
            )
    heartbeat = http.heartbeat_url.get_secret_value()
    if heartbeat and not heartbeat.startswith(("https://", "http://")):
        yield "http.heartbeat_url", "is not a URL; write one that starts with https://"


def _proxy_problem(proxy: str) -> str:
    try:
        network = ip_network(proxy)
    except ValueError:
        return 'is not an address or network; write one like "10.0.1.7" or "10.0.1.0/24"'
    return "" if network.prefixlen else "is every address; name those of the proxy"


def _account_problems(accounts: Sequence[Account]) -> Iterator[tuple[str, str]]:
    for index, account in enumerate(accounts):
        key = f"account[{index}]"
        if account.role_arn and not ROLE_ARN.fullmatch(account.role_arn):
            yield (
                f'{key}.role_arn = "{account.role_arn}"',
                "is not the ARN of a role; write one like arn:aws:iam::111122223333:role/watcher",
            )
        elif account.role_arn and account.role_arn in {other.role_arn for other in accounts[:index]}:
            yield key, "has the role of an earlier account; list all regions in one [[account]]"
        if "external_id" in account.model_fields_set and not account.role_arn:
            yield f"{key}.external_id", "needs a role_arn, which is missing"
        elif not (account.role_arn or account.regions):
            yield key, "has no effect; set role_arn or regions"
        for place, region in enumerate(account.regions):
            if not _REGION.fullmatch(region):
                yield (
                    f'{key}.regions[{place}] = "{region}"',
                    'is not an AWS region; write one like "us-east-1"',
                )


def _watch_problems(watch: Watch) -> Iterator[tuple[str, str]]:
    if not watch.jobs:
        yield "watch.jobs = []", 'matches no job; write ["*"] for all'
    for index, pattern in enumerate(watch.jobs):
        if not pattern:
            yield f'watch.jobs[{index}] = ""', 'matches no job; write "*" for all'
    for key, value in watch.tags.items():
        if masked_by_name({key: value}) != {key: value}:
            yield (
                f'watch.tags."{key}"',
                "is called like a secret, and its values are masked; choose another tag",
            )
    if len(watch.tags) > MAX_TAGS:
        yield (
            f"watch.tags: {len(watch.tags)} tags",
            f"SageMaker accepts at most {MAX_TAGS}; remove some",
        )


def _slack_problems(config: Config) -> Iterator[tuple[str, str]]:
    slack = config.slack
    token, app_token = slack.bot_token.get_secret_value(), slack.app_token.get_secret_value()
    if token.startswith("xapp-"):
        yield "slack.bot_token", "is an app-level token; a bot token starts with xoxb-"
    elif token and not token.startswith("xox"):
        yield "slack.bot_token", "is not a bot token; it starts with xoxb- (see OAuth & Permissions in Slack)"
    if app_token and not app_token.startswith("xapp-"):
        yield "slack.app_token", "is not an app-level token; it starts with xapp-"
    if slack.channel:
        yield from (("slack.channel", why) for why in _destination_problems(f"slack:{slack.channel}", config))
    if not slack.api_url.startswith(("https://", "http://")):
        yield f'slack.api_url = "{slack.api_url}"', 'is not a URL; Slack\'s is "https://slack.com/api/"'


def _destination_problems(to: str, config: Config) -> Iterator[str]:
    try:
        destination = Destination.parse(to)
    except ConfigError as error:
        yield str(error)
        return
    if problem := missing_secret(destination, config):
        yield problem


def missing_secret(destination: Destination, config: Config) -> str:
    """Names the setting that this destination needs and that is not set; empty if there is none."""
    if destination.kind is DestinationKind.SLACK and not config.slack.bot_token:
        return f"'{destination}' needs slack.bot_token; set it to \"${{SLACK_BOT_TOKEN}}\""
    if destination.kind is DestinationKind.WEBHOOK and not config.webhook.secret:
        return f"'{destination}' needs webhook.secret; set it to \"${{WEBHOOK_SECRET}}\""
    return ""
