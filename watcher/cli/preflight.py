"""`watcher check`: tries everything that the daemon needs, by calls that change nothing at AWS or Slack.

Only `--send` posts something: a test message to each destination.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

from botocore.exceptions import ClientError

from watcher.aws import iam
from watcher.aws.accounts import Accounts
from watcher.aws.links import PROCESSING_LOGS
from watcher.aws.metrics import Metrics, Query
from watcher.aws.permissions import STATEMENTS, STOP_TAG, Need
from watcher.aws.queue import Queue
from watcher.aws.sagemaker import RECENT_JOBS, TrainingJobs
from watcher.aws.session import Aws, translate
from watcher.cli.check_result import Check, State
from watcher.cli.destinations import check_destinations
from watcher.config.destination import DestinationKind
from watcher.config.settings import Config
from watcher.delivery.channels import open_channel
from watcher.errors import (
    AccessDenied,
    AwsError,
    NotFound,
    Retry,
    Unavailable,
    UsageError,
    WatcherError,
    install_extra,
)
from watcher.logs.evaluation_log import missing_group
from watcher.model import JobSnapshot
from watcher.store import open_store

UNKNOWN_JOB = "watcher-check-there-is-no-such-job"
UNKNOWN_STREAM = "watcher-check/there-is-no-such-stream"
INVALID_STREAM_NAME = "watcher-check:no-stream-can-be-called-so"
ANY_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""Start of the metrics that are read. The permission does not depend on it."""
_CREDENTIALS = "credentials"


def preflight(
    config: Config,
    source: str,
    *,
    test_clock: Callable[[], datetime] | None = None,
    stdout_is_data: bool = False,
) -> Iterator[Check]:
    """Run every check that this configuration needs, one after the other; never raises.

    `source` is where the configuration came from. If the credentials of an account do not work, nothing else
    is tried in it. With `test_clock`, each destination gets a test message, but the console only if stdout is
    not data.
    """
    unusable: dict[DestinationKind, str] = {}
    yield _configuration(config, source)
    yield _try("store", lambda: _store(config))
    if config.slack.bot_token:
        slack = _try("Slack", lambda: _slack(config))
        yield slack
        if slack.state is State.FAILED:
            unusable[DestinationKind.SLACK] = slack.name
    accounts = Accounts(config.region, config.account)
    for check in _place(config, accounts.home):
        yield check
        if check.name == _CREDENTIALS and check.state is State.FAILED:
            unusable[DestinationKind.SNS] = check.name
    yield from check_destinations(
        config,
        lambda to: open_channel(to, config, accounts.home.sns),
        unusable,
        test_clock=test_clock,
        stdout_is_data=stdout_is_data,
    )
    if url := config.watch.queue_url:
        yield _try("queue", lambda: _queue(Queue(accounts.home, url)))
    for place in accounts.places[1:]:
        for check in _place(config, place):
            yield replace(check, name=f"{check.name} ({place.name})")


def _place(config: Config, aws: Aws) -> Iterator[Check]:
    """The checks of one account and region."""
    caller = _try(_CREDENTIALS, lambda: iam.caller(aws))
    yield caller
    if caller.state is not State.FAILED:
        yield from _permissions(config, aws, caller.found)


def _permissions(config: Config, aws: Aws, caller: str) -> Iterator[Check]:
    recent: list[JobSnapshot] = []
    yield _try("jobs in progress", lambda: _jobs_in_progress(aws, recent))
    yield _try("job details", lambda: _job_details(aws, recent))
    if config.watch.tags:
        yield _try("job tags", lambda: _job_tags(aws, recent))
    yield _try("rule logs", lambda: _rule_logs(aws))
    if group := config.rules.log_group:
        yield _try("evaluation log", lambda: _evaluation_log(aws, group))
    yield _try("debug output", lambda: _debug_output(aws, recent))
    yield _try("training metrics", lambda: _training_metrics(aws, needed=config.rules.local == "attach"))
    if any(route.stop for route in config.route) and not config.stop.dry_run:
        yield _try("stopping jobs", lambda: _stopping(aws, caller))


def _try(name: str, check: Callable[[], str | Check]) -> Check:
    """Run a check: it returns a sentence if all is well, else its own result; an error is a failure."""
    try:
        found = check()
    except WatcherError as error:
        return Check(name, State.FAILED, str(error), _fix(error))
    return found if isinstance(found, Check) else Check(name, State.OK, found)


def _fix(error: WatcherError) -> str:
    """What to do about an error; empty if its own sentence says it."""
    match error:
        case AccessDenied():
            return f"allow {error.operation}"
        case Unavailable():
            return "check the network and AWS_ENDPOINT_URL, then try again"
        case Retry():
            return "check the network and slack.api_url, then try again"
        case _:
            return ""


# -- outside AWS ----------------------------------------------------------------------------------


def _configuration(config: Config, source: str) -> Check:
    if unused := config.not_used_yet():
        keys = ", ".join(unused)
        return Check(
            "configuration", State.WARNING, f"{source}: {keys}: not used by this version", "remove it"
        )
    return Check("configuration", State.OK, source)


def _store(config: Config) -> str:
    with closing(open_store(config.store.url, region=config.region)) as store:
        return store.check()


def _slack(config: Config) -> str | Check:
    from watcher.delivery.channels.slack import SCOPES, auth_test

    identity = auth_test(config.slack.bot_token.get_secret_value(), config.slack.api_url)
    found = f"{identity.bot} in {identity.team}"
    missing = [scope for scope in SCOPES if identity.scopes is not None and scope not in identity.scopes]
    if not missing and find_spec("matplotlib") is None:
        without = f"{found}: alerts have no plot, because matplotlib is missing"
        return Check("Slack", State.WARNING, without, install_extra("plot"))
    if not missing:
        return found
    follows = "; ".join(dict.fromkeys(SCOPES[scope] for scope in missing))
    state = State.FAILED if "chat:write" in missing else State.WARNING
    fix = f"add {', '.join(missing)} under OAuth & Permissions, and install the app again"
    return Check("Slack", state, f"{found}: {follows}", fix)


# -- AWS ------------------------------------------------------------------------------------------


def _jobs_in_progress(aws: Aws, recent: list[JobSnapshot]) -> str | Check:
    """Fills `recent` with the newest jobs of any status, for the checks that need a real job."""
    try:
        newest = TrainingJobs(aws).recent()
    except AccessDenied as denied:
        with translate("sagemaker:ListTrainingJobs"):
            aws.sagemaker.list_training_jobs(MaxResults=1)
        return Check(
            "jobs in progress",
            State.WARNING,
            f"{denied}; Watcher uses ListTrainingJobs instead, with many more calls",
            f"allow {denied.operation}",
        )
    recent += newest
    found = f"Search answers in {aws.region}"
    try:
        with translate("sagemaker:ListTrainingJobs"):
            aws.sagemaker.list_training_jobs(MaxResults=1)
    except AccessDenied as denied:
        without = f"{found}; {denied}; without it Watcher has no fallback if Search is refused"
        return Check("jobs in progress", State.WARNING, without, f"allow {denied.operation}")
    return found


def _job_details(aws: Aws, recent: Sequence[JobSnapshot]) -> str:
    # A policy may be limited to some names, so this asks for a real job if there is one. AWS answers "no such
    # job" only if the call is allowed.
    name = recent[0].name if recent else UNKNOWN_JOB
    with suppress(NotFound):
        TrainingJobs(aws).describe(name)
    return "DescribeTrainingJob answers"


def _job_tags(aws: Aws, recent: Sequence[JobSnapshot]) -> str | Check:
    if not recent:
        return Check(
            "job tags", State.WARNING, "not tried: there is no training job yet", "check again later"
        )
    TrainingJobs(aws).tags(recent[0].arn)
    return "ListTags answers"


def _rule_logs(aws: Aws) -> str:
    with suppress(NotFound), translate("logs:DescribeLogStreams"):
        aws.logs.describe_log_streams(logGroupName=PROCESSING_LOGS, limit=1)
    with suppress(NotFound), translate("logs:FilterLogEvents"):
        aws.logs.filter_log_events(logGroupName=PROCESSING_LOGS, logStreamNames=[UNKNOWN_STREAM], limit=1)
    _log_can_be_read(aws, PROCESSING_LOGS)
    return "DescribeLogStreams, FilterLogEvents and GetLogEvents answer"


def _log_can_be_read(aws: Aws, group: str) -> None:
    with suppress(NotFound), translate("logs:GetLogEvents"):
        aws.logs.get_log_events(logGroupName=group, logStreamName=UNKNOWN_STREAM, limit=1)


def _evaluation_log(aws: Aws, group: str) -> str | Check:
    try:
        with translate("logs:DescribeLogStreams"):
            aws.logs.describe_log_streams(logGroupName=group, limit=1)
    except NotFound:
        return Check("evaluation log", State.FAILED, *missing_group(group, aws.region))
    # AWS answers "no such stream" only if writing is allowed.
    with suppress(NotFound), translate("logs:PutLogEvents"):
        aws.logs.put_log_events(
            logGroupName=group,
            logStreamName=UNKNOWN_STREAM,
            logEvents=[{"timestamp": int(time.time() * 1000), "message": "watcher check"}],
        )
    with _invalid("logs:CreateLogStream"):
        aws.logs.create_log_stream(logGroupName=group, logStreamName=INVALID_STREAM_NAME)
    _log_can_be_read(aws, group)
    return f"{group} can be written and read"


@contextmanager
def _invalid(operation: str) -> Iterator[None]:
    """Expects AWS to refuse the request as invalid, which it does only if the operation is allowed."""
    try:
        with translate(operation):
            yield
    except AwsError as error:
        answer = error.__cause__
        if not isinstance(answer, ClientError) or answer.response["Error"]["Code"] not in _INVALID:
            raise


_INVALID = {"InvalidParameter", "InvalidParameterException"}


def _debug_output(aws: Aws, recent: Sequence[JobSnapshot]) -> str | Check:
    place = next((job.debug_output for job in recent if job.debug_output), "")
    if not place:
        return Check(
            "debug output",
            State.WARNING,
            f"not tried: none of the newest {RECENT_JOBS} jobs saves any",
            "allow s3:ListBucket and s3:GetObject where your jobs save it, and check again",
        )
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    with translate("s3:ListBucket"):
        listed = aws.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/", MaxKeys=1)
    for item in listed.get("Contents", []):
        with translate("s3:GetObject"):
            aws.s3.head_object(Bucket=bucket, Key=item["Key"])
    return place


def _queue(queue: Queue) -> str | Check:
    try:
        queue.try_calls()
        depth = queue.depth()
    except NotFound:
        missing = f"watch.queue_url: no such queue: {queue.url}"
        return Check(
            "queue", State.FAILED, missing, "create it as deploy/ecs.yaml does, or correct the address"
        )
    found = f"{depth.waiting} waiting, {depth.in_flight} in flight"
    if depth.dead is None:
        problem = f"{found}; no dead-letter queue is visible"
        fix = "set a redrive policy, and allow sqs:GetQueueUrl and sqs:GetQueueAttributes on its target"
        return Check("queue", State.WARNING, problem, fix)
    if depth.dead:
        problem = f"{found}; {depth.dead} in the dead-letter queue, which Watcher could not handle"
        return Check("queue", State.WARNING, problem, "see the log for the reason, then start a redrive")
    return f"{found}; the dead-letter queue is empty"


def _training_metrics(aws: Aws, *, needed: bool) -> str | Check:
    """`needed`: rules are evaluated on metrics if a job saves no tensors."""
    try:
        Metrics(aws).read([Query(UNKNOWN_JOB, "loss", 3600, ANY_TIME, ANY_TIME + timedelta(hours=1))])
    except AccessDenied as denied:
        if needed:
            raise
        found = f"{denied}; without it, alerts on jobs without tensors have no curve"
        return Check("training metrics", State.WARNING, found, f"allow {denied.operation}")
    return "GetMetricData answers"


def _stopping(aws: Aws, caller: str) -> str | Check:
    """Asks IAM, because trying it would stop a job. A service control policy may still forbid it."""
    need = Need("StopTaggedJobs", STATEMENTS["StopTaggedJobs"], ("*",), STOP_TAG)
    try:
        arn = iam.principal(aws, caller)
        [verdict] = iam.simulate(aws, arn, need)
    except (AwsError, UsageError) as error:
        return Check(
            "stopping jobs",
            State.WARNING,
            f"not tried, because it would stop a job, and IAM does not say ({error})",
            "make sure that sagemaker:StopTrainingJob is allowed",
        )
    if not verdict.allowed:
        found = f"IAM says {verdict.decision} for {arn}"
        return Check("stopping jobs", State.FAILED, found, "allow sagemaker:StopTrainingJob")
    return f"IAM allows sagemaker:StopTrainingJob to {arn}"
