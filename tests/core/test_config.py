from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from watcher.config.load import load
from watcher.config.settings import Config
from watcher.errors import ConfigError
from watcher.redaction import Redactor

TOKEN = "xoxb-1-never-to-be-seen"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "watcher.toml"


def refusal(file: Path, text: str, **env: str) -> str:
    """The one-line error for a file with this text, without the file's name."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, env)
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    return line.removeprefix(f"{file}: ")


def all_keys() -> Iterator[tuple[str, str]]:
    """Section and name of every setting."""
    for section, field in Config.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from ((section, name) for name in kind.model_fields)


# -- where the settings come from -----------------------------------------------------------------


def test_without_a_file_every_setting_has_its_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert load(None, {}) == Config()


def test_watcher_toml_in_the_working_directory_is_read_when_no_file_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("watcher.toml").write_text('region = "eu-west-1"')

    assert load(None, {}).region == "eu-west-1"


def test_the_variable_supplies_the_settings_when_no_file_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("watcher.toml").write_text('region = "eu-west-1"')
    text = 'region = "ap-south-1"\n[slack]\nbot_token = "${TOKEN}"'

    config = load(None, {"WATCHER_TOML": text, "TOKEN": TOKEN})

    assert config.region == "ap-south-1"
    assert config.slack.bot_token.get_secret_value() == TOKEN


def test_a_given_file_takes_precedence_over_the_variable(toml):
    toml.write_text('region = "eu-west-1"')

    assert load(toml, {"WATCHER_TOML": 'region = "ap-south-1"'}).region == "eu-west-1"


def test_an_empty_variable_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("watcher.toml").write_text('region = "eu-west-1"')

    assert load(None, {"WATCHER_TOML": ""}).region == "eu-west-1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[stop]\ngrace = -1", "WATCHER_TOML: stop.grace = -1: must be at least 0"),
        ("[stop]\ngrace_limit = -1", "WATCHER_TOML: stop.grace_limit = -1: must be at least 0"),
        ("[watch]\nlook_back = -1", "WATCHER_TOML: watch.look_back = -1: must be at least 0"),
        (
            "/etc/watcher.toml",
            "WATCHER_TOML: is not TOML: Invalid statement (at line 1, column 1)",
        ),
    ],
)
def test_an_error_in_the_variables_text_names_the_variable(text, line):
    with pytest.raises(ConfigError) as caught:
        load(None, {"WATCHER_TOML": text})

    assert str(caught.value) == line


def test_a_variable_fills_any_part_of_any_string(toml):
    toml.write_text(
        """
        [slack]
        bot_token = "${TOKEN}"
        channel = "#${TEAM}-alerts"
        [watch]
        jobs = ["${TEAM}-*", "*-${TEAM}"]
        poll_interval = "${POLL}"
        """
    )

    config = load(toml, {"TOKEN": TOKEN, "TEAM": "churn", "POLL": "15"})

    assert config.slack.bot_token.get_secret_value() == TOKEN
    assert config.slack.channel == "#churn-alerts"
    assert config.watch.jobs == ("churn-*", "*-churn")
    assert config.watch.poll_interval == 15


def test_a_variables_value_is_not_expanded_again(toml):
    toml.write_text('[watch]\njobs = ["${A}"]')

    assert load(toml, {"A": "${B}", "B": "no"}).watch.jobs == ("${B}",)


def test_a_byte_order_mark_is_ignored(toml):
    toml.write_bytes(b'\xef\xbb\xbfregion = "eu-west-1"')

    assert load(toml, {}).region == "eu-west-1"


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('regoin = "x"', "regoin: unknown key; did you mean region?"),
        ("[stop]\ndryrun = true", "stop.dryrun: unknown key; did you mean stop.dry_run?"),
        (
            "[[route]]\n[[route]]\nstp = true",
            "route[1].stp: unknown key; did you mean route[1].stop?",
        ),
        (
            "[stop]\nzzz = 1",
            "stop.zzz: unknown key; the keys here are dry_run, grace, grace_limit, min_runtime, max_per_hour",
        ),
        ('[[route]]\nstop = "perhaps"', 'route[0].stop = "perhaps": write true or false'),
        ('[watch]\njobs = "prod-*"', 'watch.jobs = "prod-*": write a list: ["prod-*"]'),
        ("[watch]\npoll_interval = 0", "watch.poll_interval = 0: must be at least 1"),
        ('[prices]\n"ml.m5.xlarge" = 0', "prices.ml.m5.xlarge = 0: must be more than 0"),
        (
            "[prices]\nml.p4d.24xlarge = 37.69",
            'prices.ml = {…}: write the instance type in quotes: "ml.p4d.24xlarge" = 37.69',
        ),
        (
            '[prices]\n"m5.xlarge" = 0.23',
            'prices."m5.xlarge": is not a SageMaker instance type; write one like "ml.m5.xlarge"',
        ),
        ("[watch]\npoll_interval = nan", "watch.poll_interval = nan: write a number"),
        ("[watch]\nfollow = inf", "watch.follow = inf: write a number"),
        ("[watch.tags]\nteam = 1", "watch.tags.team = 1: write a string, in quotes"),
        ("[stop]\nmax_per_hour = 1.5", "stop.max_per_hour = 1.5: write a whole number"),
        ("[stop]\nmax_per_hour = -1", "stop.max_per_hour = -1: must be at least 0"),
        ("watch = 5", "watch: write a table: [watch]"),
        ("[[slack]]\nchannel = '#x'", "slack: write a table: [slack]"),
        ('[route]\njob = "x"', "route = {…}: write [[route]], because there can be several"),
        ('[rules]\nlocal = "on"', "rules.local = \"on\": write one of 'off', 'mirror' or 'attach'"),
        ('[[rules.attach]]\njob = "x"', "rules.attach[0].rule: is missing"),
        ("region = \n", "is not TOML: Invalid value (at line 1, column 10)"),
        ('a = "1"\nb', "is not TOML: Expected '=' after a key in a key/value pair (at end of document)"),
    ],
)
def test_an_invalid_value_is_refused_with_its_key_and_the_fix(toml, text, line):
    assert refusal(toml, text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('region = "us-east-1a"', 'region = "us-east-1a": is not an AWS region; write one like "us-east-1"'),
        ("[watch]\njobs = []", 'watch.jobs = []: matches no job; write ["*"] for all'),
        ('[watch]\njobs = ["a", ""]', 'watch.jobs[1] = "": matches no job; write "*" for all'),
        (
            '[slack]\nchannel = "#x"',
            "slack.channel: 'slack:#x' needs slack.bot_token; set it to \"${SLACK_BOT_TOKEN}\"",
        ),
        (
            '[[route]]\nto = ["console", "slack:#x"]',
            "route[0].to[1]: 'slack:#x' needs slack.bot_token; set it to \"${SLACK_BOT_TOKEN}\"",
        ),
        (
            '[[route]]\nto = ["webhook:https://ops.example/hook"]',
            "route[0].to[0]: 'webhook:https://ops.example/hook' needs webhook.secret; "
            'set it to "${WEBHOOK_SECRET}"',
        ),
        ('[webhook]\nsecret = "short"', "webhook.secret: is too short; use at least 8 characters"),
        (
            '[slack]\nbot_token = "xapp-1"',
            "slack.bot_token: is an app-level token; a bot token starts with xoxb-",
        ),
        (
            '[slack]\nbot_token = "hello"',
            "slack.bot_token: is not a bot token; it starts with xoxb- (see OAuth & Permissions in Slack)",
        ),
        (
            '[slack]\napp_token = "xoxb-1"',
            "slack.app_token: is not an app-level token; it starts with xapp-",
        ),
        (
            '[slack]\napi_url = "slack.com"',
            'slack.api_url = "slack.com": is not a URL; Slack\'s is "https://slack.com/api/"',
        ),
        (
            '[[route]]\njob = "prod-*"\n[[route]]\njob = "prod-*"\nrule = "Overfit"',
            "route[1]: can never match, because route[0] (job prod-*, rule *) comes first",
        ),
    ],
)
def test_contradictory_settings_are_refused_at_load(toml, text, line):
    assert refusal(toml, text) == line
    assert Redactor().text(line) == line, "the command line masks a part of it"


def test_an_unknown_destination_is_refused_with_its_position(toml):
    assert refusal(toml, '[[route]]\nto = ["console", "pager:me"]').startswith("route[0].to[1]: 'pager:me'")


def test_more_tags_than_search_accepts_are_refused(toml):
    tags = "\n".join(f'team{number} = "x"' for number in range(20))

    assert (
        refusal(toml, f"[watch.tags]\n{tags}")
        == "watch.tags: 20 tags: SageMaker accepts at most 19; remove some"
    )


def test_an_unset_variable_is_reported_with_the_key_that_uses_it(toml):
    assert refusal(toml, '[[route]]\nto = ["webhook:https://h.example/${HOOK}"]') == (
        "route[0].to[0]: the variable HOOK is not set; export it, or remove the key"
    )


def test_a_variables_value_is_never_quoted(toml):
    line = refusal(toml, '[watch]\npoll_interval = "${POLL}"', POLL="confidential")

    assert line == 'watch.poll_interval = "${POLL}": write a number'


@pytest.mark.parametrize(
    "text",
    [
        f'[slack]\nbot_tokn = "{TOKEN}"',
        f'[slack]\nbot_token = ["{TOKEN}"]',
        f'[slack]\nbot_token = "{TOKEN}"\nchannel = 1',
        f'slack = "{TOKEN}"',
        f'[slack]\nbot_token = "{TOKEN.removeprefix("xoxb-")}"',
    ],
)
def test_a_secret_is_never_quoted(toml, text):
    assert "never-to-be-seen" not in refusal(toml, text)


def test_a_missing_file_is_reported_with_the_fix(tmp_path):
    with pytest.raises(ConfigError, match=re.escape("nowhere.toml: no such file; choose one")):
        load(tmp_path / "nowhere.toml", {})


def test_a_folder_and_a_file_in_another_encoding_are_refused(toml, tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, {})
    toml.write_bytes('region = "münchen"'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"is not UTF-8 \(byte 11\); save it as UTF-8"):
        load(toml, {})


@given(st.text())
def test_any_text_loads_or_is_refused_in_one_line(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        assert isinstance(load(file, {}), Config)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


VALUES = (
    "1",
    "-1",
    "1.5",
    "nan",
    '""',
    '"x"',
    '"${NOPE}"',
    "true",
    "[]",
    "[1]",
    '["x"]',
    "{}",
    "{a = 1}",
    "1979-05-27",
)


@pytest.mark.parametrize("key", [*Config.model_fields, *(f"{s}.{k}" for s, k in all_keys())])
def test_any_value_is_accepted_or_refused_in_one_line_with_its_key(toml, key):
    section, _, name = key.rpartition(".")
    for value in VALUES:
        head = (
            ""
            if not section
            else f"[[{section}]]\n"
            if section in ("account", "route", "rules.attach")
            else f"[{section}]\n"
        )
        toml.write_text(f"{head}{name} = {value}")
        try:
            load(toml, {})
        except ConfigError as error:
            line = str(error)
            assert "\n" not in line
            assert name in line


@pytest.mark.parametrize(
    "listen", ["8080", "localhost", "127.0.0.1:port", "127.0.0.1:70000", "::1:80", " :1"]
)
def test_an_invalid_listen_address_is_refused_with_one_to_copy(toml, listen):
    toml.write_text(f'[http]\nlisten = "{listen}"')
    with pytest.raises(ConfigError, match=r'http\.listen = ".*": is not HOST:PORT; write one like "127'):
        load(toml, {})


@pytest.mark.parametrize("listen", ["", "127.0.0.2:80", "localhost:8080", "LOCALHOST:8080", "[::1]:0"])
def test_listen_accepts_any_address_of_this_machine_alone_or_is_off(toml, listen):
    toml.write_text(f'[http]\nlisten = "{listen}"')
    http = load(toml, {}).http
    assert http.listen == listen
    assert not http.remote


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "10.1.2.3:80", "watcher.internal:80", "[::2]:0"])
def test_an_address_that_other_machines_can_reach_needs_permission_and_a_token_or_a_proxy(toml, listen):
    reachable = f'[http]\nlisten = "{listen}"\n'
    toml.write_text(reachable)
    with pytest.raises(
        ConfigError,
        match=r'http\.listen = ".*": lets other machines connect; write "127\.0\.0\.1:8080", or set '
        r"http\.allow_remote = true and http\.token",
    ):
        load(toml, {})

    allowed = reachable + "allow_remote = true\n"
    toml.write_text(allowed)
    with pytest.raises(
        ConfigError, match=r'http\.token: is missing, .* set it to "\$\{HTTP_TOKEN\}", or .*proxies'
    ):
        load(toml, {})

    for key in ('token = "0123456789abcdef"', 'proxies = ["10.0.1.0/24"]'):
        toml.write_text(allowed + key)
        assert load(toml, {}).http.remote


@pytest.mark.parametrize("token", ["hunter2", "with space in it 123", "zähltnichtzählt123"])
def test_a_token_that_is_short_or_cannot_be_sent_is_refused_without_being_shown(toml, token):
    toml.write_text(f'[http]\ntoken = "{token}"')
    with pytest.raises(
        ConfigError, match=r"http\.token: is not a bearer token .*`openssl rand -hex 32`"
    ) as refused:
        load(toml, {})
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("proxy.internal", "is not an address or network"),
        ("10.0.1.7/24", "is not an address or network"),
        ("0.0.0.0/0", "is every address"),
        ("::/0", "is every address"),
    ],
)
def test_a_proxy_that_is_no_address_or_every_address_is_refused(toml, proxy, why):
    toml.write_text(f'[http]\nproxies = ["{proxy}"]')
    with pytest.raises(ConfigError, match=rf'http\.proxies\[0\] = ".*": {why}'):
        load(toml, {})


@pytest.mark.parametrize(
    "host", ["", "*", "https://watcher.example.com", "watcher.example.com:443", "a b", "[::1]"]
)
def test_a_host_that_is_no_name_or_address_is_refused_with_one_to_copy(toml, host):
    toml.write_text(f'[http]\nhosts = ["{host}"]')
    with pytest.raises(
        ConfigError, match=r'http\.hosts\[0\] = ".*": is not a host .* "watcher\.example\.com"'
    ):
        load(toml, {})


def test_the_token_of_the_pages_is_a_secret(toml):
    toml.write_text('[http]\ntoken = "0123456789abcdef"')
    assert "0123456789abcdef" in load(toml, {}).secrets()


def test_an_invalid_heartbeat_url_is_refused_without_being_shown(toml):
    toml.write_text('[http]\nheartbeat_url = "hc-ping.example/5f3c-secret"')
    with pytest.raises(ConfigError, match=r"http\.heartbeat_url: is not a URL") as refused:
        load(toml, {})
    assert "5f3c" not in str(refused.value)


def test_a_route_with_more_destinations_than_one_store_write_accepts_is_refused(toml):
    places = ", ".join(f'"sns:arn:aws:sns:us-east-1:111122223333:topic-{number}"' for number in range(21))
    toml.write_text(f"[[route]]\nto = [{places}]")
    with pytest.raises(ConfigError, match=r"route\[0\]\.to = .*at most 20"):
        load(toml, {})


# -- what the settings say ------------------------------------------------------------------------


def test_keys_without_effect_yet_are_named_only_when_they_are_set(toml):
    assert Config().not_used_yet() == []
    toml.write_text('[slack]\napp_token = "xapp-1"\n[rules]\nlocal = "off"')
    assert load(toml, {}).not_used_yet() == ["slack.app_token"]


def test_the_configuration_lists_its_secrets_and_hides_them_in_its_repr(toml):
    toml.write_text('[slack]\nbot_token = "${T}"\n[webhook]\nsecret = "${S}"\n[http]\nheartbeat_url = "${H}"')

    config = load(toml, {"T": TOKEN, "S": "long enough", "H": "https://hc.example/1"})

    assert config.secrets() == [TOKEN, "long enough", "https://hc.example/1"]
    assert TOKEN not in repr(config)
    assert Config().secrets() == []


# -- variables in errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "line"),
    [
        ('region = "${X}"', "hunter2-secret", 'region = "${X}"'),
        ('region = "${X}"', "ab", 'region = "${X}"'),
        ('[[route]]\nto = ["${X}"]', "pager:hunter2-secret", "route[0].to[0]: '${X}'"),
        ('[[route]]\nto = ["slack:${X}"]', "Hunter2-Secret", "route[0].to[0]: 'slack:${X}'"),
        ('[slack]\napi_url = "${X}"', "hunter2-secret", 'slack.api_url = "${X}"'),
        ('[http]\nlisten = "${X}"', "hunter2-secret", 'http.listen = "${X}"'),
        ('[[account]]\nrole_arn = "${X}"', "hunter2-secret", 'account[0].role_arn = "${X}"'),
    ],
)
def test_an_error_shows_the_variable_and_not_its_value(toml, text, value, line):
    said = refusal(toml, text, X=value)

    assert said.startswith(line)
    assert "hunter2" not in said.lower()


def test_the_line_end_of_a_variable_is_no_part_of_a_secret(toml):
    toml.write_text('[slack]\nbot_token = "${TOKEN}"')

    assert load(toml, {"TOKEN": f"{TOKEN}\r\n"}).slack.bot_token.get_secret_value() == TOKEN


def test_a_tag_that_is_called_like_a_secret_cannot_be_asked_for(toml):
    assert refusal(toml, '[watch.tags]\napi-key = "a"').startswith(
        'watch.tags."api-key": is called like a secret'
    )
