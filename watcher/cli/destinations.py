"""The part of `watcher check` about the places that alerts go to: every one that the configuration names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from watcher.cli.check_result import Check, State
from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Config, Route
from watcher.delivery.channels.base import TEST_TITLE, Channel
from watcher.errors import Retry, WatcherError
from watcher.text import roughly

_NAMES = {
    DestinationKind.SLACK: "channel",
    DestinationKind.WEBHOOK: "webhook",
    DestinationKind.SNS: "topic",
}
_OTHERS = "findings that match no route"


def destinations(config: Config) -> dict[str, list[str]]:
    """Every destination that the configuration names, once, with what goes there, in words."""
    fallback = f"slack:{config.slack.channel}" if config.slack.channel else "console"
    found: dict[str, list[str]] = defaultdict(list)
    for route in config.route:
        for to in dict.fromkeys(route.to or (fallback,)):
            found[to].append(_matched(route))
    if config.slack.channel or not any(_takes_all(route) for route in config.route):
        found[fallback].append(_OTHERS if config.route else _matched(Route()))
    return dict(found)


def _matched(route: Route) -> str:
    return "all jobs" if _takes_all(route) else str(route)


def _takes_all(route: Route) -> bool:
    return (route.job, route.rule) == ("*", "*")


def name(destination: Destination) -> str:
    """How `check` names it: `channel #alerts`, `webhook https://…`, `topic arn:…`, `console`."""
    if destination.kind is DestinationKind.CONSOLE:
        return str(destination)
    return f"{_NAMES[destination.kind]} {str(destination).partition(':')[2]}"


def check_destinations(
    config: Config,
    open_channel: Callable[[str], Channel],
    unusable: Mapping[DestinationKind, str],
    *,
    test_clock: Callable[[], datetime] | None,
    stdout_is_data: bool,
) -> Iterator[Check]:
    """Try each destination without posting anything and, with `test_clock`, post a test message to it.

    `unusable` names, for a kind of destination, the failed check without which its destinations cannot be
    tried.
    """
    for to, what in destinations(config).items():
        place = Destination.parse(to)
        label = name(place)
        if place.kind in unusable:
            yield Check(label, State.WARNING, f"not tried: the check of {unusable[place.kind]} failed")
            continue
        yield _probed(label, to, open_channel)
        if test_clock is None:
            continue
        if place.kind is DestinationKind.CONSOLE and stdout_is_data:
            yield Check(f"test message to {label}", State.WARNING, "not sent: with --json, stdout is data")
        else:
            text = f"{TEST_TITLE}: alerts for {'; '.join(what)} arrive here. This is not an alert."
            yield _tested(f"test message to {label}", to, open_channel, text, test_clock())


def _probed(label: str, to: str, open_channel: Callable[[str], Channel]) -> Check:
    try:
        found, fix = open_channel(to).probe()
    except Retry as error:
        if error.after is None:
            return _refused(label, to, error)
        # Too many questions were asked. That says nothing about messages.
        return Check(label, State.WARNING, str(error), f"check again in {roughly(error.after)}")
    except WatcherError as error:
        return _refused(label, to, error)
    return Check(label, State.WARNING if fix else State.OK, found, fix)


def _tested(label: str, to: str, open_channel: Callable[[str], Channel], text: str, at: datetime) -> Check:
    try:
        done = open_channel(to).send_test(text, at)
    except WatcherError as error:
        return _refused(label, to, error)
    return Check(label, State.OK, f"{done}: {text}")


def _refused(label: str, to: str, error: WatcherError) -> Check:
    setting = " and slack.api_url" if to.startswith(DestinationKind.SLACK) else ""
    fix = f"check the network{setting}, then try again" if isinstance(error, Retry) else ""
    return Check(label, State.FAILED, str(error), fix)
