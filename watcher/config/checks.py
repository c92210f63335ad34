"""Settings that are fine by themselves and make no sense together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from watcher.arn import ROLE_ARN
from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Account, Config, Http, Watch
from watcher.errors import ConfigError

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_ADDRESS = re.compile(r"(?:[^:\[\]\s]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")

MOST_TAGS = 19
"""`Search` takes 20 filters, and one of them is the job's status."""

SHORTEST_SECRET = 8


def contradictions(config: Config) -> Iterator[tuple[str, str]]:
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
        if account.role_arn and not ROLE_ARN.fullmatch(account.role_arn):
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
    if problem := missing_secret(destination, config):
        yield problem


def missing_secret(destination: Destination, config: Config) -> str:
    """Names the setting that this destination needs and that is not set; empty if there is none."""
    if destination.kind is DestinationKind.SLACK and not config.slack.bot_token:
        return f"'{destination}' needs slack.bot_token = \"${{SLACK_BOT_TOKEN}}\""
    if destination.kind is DestinationKind.WEBHOOK and not config.webhook.secret:
        return f"'{destination}' needs webhook.secret = \"${{WEBHOOK_SECRET}}\", to sign with"
    return ""
