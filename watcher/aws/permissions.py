"""The permissions that Watcher needs, for the settings it has. Pure.

This is the one list of them: a test compares it with `deploy/policy.json`, and `deploy/ecs.yaml` has the same
statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from watcher.arn import Arn
from watcher.aws.links import PROCESSING_LOGS, TRAINING_LOGS
from watcher.config.destination import Destination, DestinationKind
from watcher.config.settings import Config

STATEMENTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "FindJobs": ("sagemaker:Search", "sagemaker:ListTrainingJobs"),
        "ReadJobs": ("sagemaker:DescribeTrainingJob", "sagemaker:ListTags"),
        "ReadLogs": ("logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"),
        "ReadMetrics": ("cloudwatch:GetMetricData",),
        "ListDebugOutput": ("s3:ListBucket",),
        "ReadDebugOutput": ("s3:GetObject",),
        "UseQueue": (
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
            "sqs:SendMessage",
            "sqs:GetQueueAttributes",
        ),
        "CountDeadLetters": ("sqs:GetQueueUrl", "sqs:GetQueueAttributes"),
        "KeepState": (
            "dynamodb:GetItem",
            "dynamodb:BatchGetItem",
            "dynamodb:Query",
            "dynamodb:Scan",
            "dynamodb:PutItem",
            "dynamodb:DeleteItem",
        ),
        "WriteEvaluationLog": (
            "logs:DescribeLogStreams",
            "logs:CreateLogStream",
            "logs:PutLogEvents",
            "logs:GetLogEvents",
        ),
        "AssumeMemberRoles": ("sts:AssumeRole",),
        "StopTaggedJobs": ("sagemaker:StopTrainingJob",),
        "PublishAlerts": ("sns:Publish",),
    }
)
"""The actions of each statement of the policy."""

STOP_TAG: Final = MappingProxyType({"aws:ResourceTag/watcher:stop": "allowed"})
"""The policy allows a stop only on jobs with this tag."""
ANY_JOB: Final = "watcher-check-there-is-no-such-job"


@dataclass(frozen=True, slots=True)
class Need:
    statement: str
    """Its `Sid` in the policy; empty for an action that a person asks about."""
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str] = field(default_factory=dict)
    """Values of condition keys."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the settings do not say."""

    partition: str
    account: str
    region: str
    job_arn: str = ""
    """A job that Watcher watches; empty if there is none."""
    debug_output: str = ""
    """Where a job saves its tensors: `s3://…`; empty if none does."""
    dead_letters: str = ""
    """The ARN of the queue's dead-letter queue; empty if it is not known."""


def needs(config: Config, around: Surroundings) -> Iterator[Need]:
    """What Watcher needs with these settings in its own account, each on the resources that it uses."""

    def arn(service: str, resource: str, region: str = around.region) -> str:
        return f"arn:{around.partition}:{service}:{region}:{around.account}:{resource}"

    def need(statement: str, *resources: str, **context: str) -> Need:
        return Need(statement, STATEMENTS[statement], resources, context)

    job = around.job_arn or arn("sagemaker", f"training-job/{ANY_JOB}")
    yield need("FindJobs", "*")
    yield need("ReadJobs", job)
    yield need(
        "ReadLogs",
        *(arn("logs", f"log-group:{group}:log-stream:*") for group in (TRAINING_LOGS, PROCESSING_LOGS)),
    )
    yield need("ReadMetrics", "*")
    if around.debug_output:
        bucket = around.debug_output.removeprefix("s3://").partition("/")[0]
        yield need("ListDebugOutput", f"arn:{around.partition}:s3:::{bucket}")
        place = around.debug_output.removeprefix("s3://").rstrip("/")
        yield need("ReadDebugOutput", f"arn:{around.partition}:s3:::{place}/index/0")
    if url := config.watch.queue_url:
        account, _, name = url.rpartition("/")
        owner = account.rpartition("/")[2] or around.account
        yield need("UseQueue", f"arn:{around.partition}:sqs:{around.region}:{owner}:{name}")
    if around.dead_letters:
        yield need("CountDeadLetters", around.dead_letters)
    if config.store.url.startswith("dynamodb://"):
        yield need("KeepState", arn("dynamodb", f"table/{config.store.url.removeprefix('dynamodb://')}"))
    if group := config.rules.log_group:
        yield need("WriteEvaluationLog", arn("logs", f"log-group:{group}:log-stream:watcher"))
    if roles := tuple(dict.fromkeys(each.role_arn for each in config.account if each.role_arn)):
        yield need("AssumeMemberRoles", *roles)
    if any(route.stop for route in config.route) and not config.stop.dry_run:
        yield Need("StopTaggedJobs", STATEMENTS["StopTaggedJobs"], (job,), STOP_TAG)
    if topics := tuple(dict.fromkeys(_topics(config))):
        yield need("PublishAlerts", *topics)


def _topics(config: Config) -> Iterator[str]:
    for route in config.route:
        for to in route.to:
            destination = Destination.parse(to)
            if destination.kind is DestinationKind.SNS:
                yield destination.address


def surroundings(caller: str, region: str) -> Surroundings:
    """Those of the caller whose ARN this is."""
    arn = Arn.parse(caller)
    return Surroundings(arn.partition, arn.account, region)
