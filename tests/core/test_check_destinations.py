"""Which destinations `watcher check` tries, and what it says goes there."""

from __future__ import annotations

from pydantic import SecretStr

from watcher.cli.destinations import destinations, name
from watcher.config.destination import Destination
from watcher.config.settings import Config, Route, Slack


def config(*routes: Route, channel: str = "") -> Config:
    return Config(slack=Slack(bot_token=SecretStr("xoxb-1"), channel=channel), route=routes)


def test_without_routes_all_jobs_go_to_the_channel_or_else_to_the_console():
    assert destinations(config(channel="#ml")) == {"slack:#ml": ["all jobs"]}
    assert destinations(config()) == {"console": ["all jobs"]}


def test_a_destination_of_several_routes_is_listed_once_with_all_that_goes_there():
    found = destinations(
        config(
            Route(job="prod-*", to=("slack:#prod", "console")),
            Route(job="dev-*", rule="Overfit", to=("slack:#prod",)),
            channel="#prod",
        )
    )

    assert found == {
        "slack:#prod": ["job prod-*, rule *", "job dev-*, rule Overfit", "findings that match no route"],
        "console": ["job prod-*, rule *"],
    }


def test_a_route_without_destinations_goes_where_findings_without_a_route_go():
    assert destinations(config(Route(job="prod-*", stop=True))) == {
        "console": ["job prod-*, rule *", "findings that match no route"]
    }


def test_the_console_is_left_out_when_nothing_can_go_there():
    assert destinations(config(Route(to=("slack:#ml",)))) == {"slack:#ml": ["all jobs"]}


def test_a_destination_is_named_without_its_secrets():
    to = ("slack:#ml", "webhook:https://me:pw@ops.example/hook?key=1", "console")

    assert [name(Destination.parse(each)) for each in to] == [
        "channel #ml",
        "webhook https://ops.example/hook",
        "console",
    ]
