"""Writes the text of a first `watcher.toml`: a person's answers, and other common settings as comments.

A setting that is off starts with `#` and no space: removing the `#` switches it on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

from watcher.config.load import TEXT_VARIABLE, load
from watcher.errors import ConfigError

TOKEN_VARIABLE = "SLACK_BOT_TOKEN"  # noqa: S105 - the name of the variable
STOP_GRACE_S = 120
STOP_MIN_RUNTIME_S = 600


@dataclass(frozen=True, slots=True)
class Answers:
    region: str = ""
    """Empty: the region of the environment or the AWS profile."""
    jobs: tuple[str, ...] = ("*",)
    channel: str = ""
    """A Slack channel; empty: alerts go to the console."""
    stop: bool = False


def starter(answers: Answers) -> str:
    """The text of the file. It holds no secret: the Slack token is read from the environment."""
    slack, stop = bool(answers.channel), answers.stop
    return _TEMPLATE.substitute(
        region=_setting("region", _quoted(answers.region or "us-east-1"), on=bool(answers.region)),
        jobs=f"jobs = [{', '.join(map(_quoted, answers.jobs))}]",
        bot_token=_setting("bot_token", _quoted(f"${{{TOKEN_VARIABLE}}}"), on=slack),
        channel=_setting("channel", _quoted(answers.channel or "#training-alerts"), on=slack),
        route=_on(stop, "[[route]]"),
        route_job=_setting("job", '"*"', on=stop),
        route_rule=_setting("rule", '"*"', on=stop),
        route_stop=_setting("stop", "true", on=stop),
        grace=_setting("grace", str(STOP_GRACE_S), on=stop),
        min_runtime=_setting("min_runtime", str(STOP_MIN_RUNTIME_S), on=stop),
    )


def problem(text: str, env: Mapping[str, str]) -> str:
    """Why loading this text would fail, provided that the Slack token is exported; empty if it would not."""
    try:
        load(None, {**env, TOKEN_VARIABLE: "xoxb-", TEXT_VARIABLE: text})
    except ConfigError as error:
        return str(error).removeprefix(f"{TEXT_VARIABLE}: ")
    return ""


def _setting(key: str, value: str, *, on: bool) -> str:
    return _on(on, f"{key} = {value}")


def _on(on: bool, line: str) -> str:
    return line if on else f"#{line}"


def _quoted(text: str) -> str:
    """A TOML string. JSON escapes the same characters in the same way, except for DEL and lone surrogates,
    which are replaced."""
    valid = text.encode("utf-8", "replace").decode()
    return json.dumps(valid, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEMPLATE = Template("""\
# Settings of Watcher; docs/settings.md lists all of them. `watcher check` tries what is set here.
# $${NAME} in a string is replaced by the environment variable NAME: keep secrets there, not here.

# The AWS region. Default: AWS_REGION, else AWS_DEFAULT_REGION, else the region of the AWS profile.
$region

[watch]
# Globs on the name of the training job. A job is watched when one of them matches.
$jobs
# Seconds between two looks at SageMaker.
#poll_interval = 30
# Also alert when a job has completed.
#report_completed = true

[rules]
# Which Debugger rules Watcher evaluates itself: "mirror" those of each job, "attach" also those
# below on jobs that have no rule, "off" none.
#local = "attach"
#[[rules.attach]]
#job = "*"
#rule = "LossNotDecreasing"
#parameters = { collection_names = "metrics", num_steps = "10" }

# Where Watcher keeps its state: a file, or a DynamoDB table (dynamodb://TABLE).
[store]
#url = "sqlite:///watcher.db"

# Alerts that match no route below go to this channel. Without a channel they go to the console.
[slack]
$bot_token
$channel

# Where each alert goes, and which jobs are stopped: the first route that matches wins.
# Without "to", its alerts go to the channel above.
$route
$route_job
$route_rule
#to = ["console"]
# Stop the job when a rule finds an issue. deploy/policy.json allows it for jobs with the tag
# watcher:stop = allowed.
$route_stop

[stop]
# Seconds between the alert and the stop, in which `watcher stop JOB --cancel` prevents it.
$grace
# Never stop a job that has trained for fewer seconds than this.
$min_runtime
# Stop no more jobs than this in an hour, and only alert beyond it.
#max_per_hour = 10
# Only say what would be stopped.
#dry_run = true

# US dollars an hour by instance type. With them, alerts say what a job costs.
[prices]
#"ml.m5.xlarge" = 0.23

[http]
# The address of the status page, /healthz, /readyz and /metrics. "" switches them off.
# For one that other machines can reach, see docs/operations.md.
#listen = "127.0.0.1:8080"
""")
