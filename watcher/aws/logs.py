"""The end of a job's log in CloudWatch."""

from __future__ import annotations

from watcher.aws.session import Aws, translate
from watcher.errors import NotFound
from watcher.links import PROCESSING_LOGS, TRAINING_LOGS

_PREFIX = 26
"""So many characters of the training job's and of the rule's name stand in a rule job's stream."""


class JobLogs:
    """Every method raises an `AwsError` that names the API."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def training_stream(self, job: str) -> str:
        """The first stream of a training job; empty where it has none yet."""
        return next(iter(self._streams(TRAINING_LOGS, f"{job}/")), "")

    def rule_stream(self, job: str, rule: str, evaluation_job_arn: str) -> str:
        """The stream of a rule's processing job; empty where it has none yet.

        Its name is `<job[:26]>-<rule[:26]>-<8 hex>/algo-1-<ms>` in the case in which people wrote it,
        while the ARN is lower case: only the 8 hex digits at its end are common to both.
        """
        suffix = evaluation_job_arn.rpartition("-")[2].lower()
        expected = f"{job[:_PREFIX]}-{rule[:_PREFIX]}-{suffix}/"
        for prefix in (expected, f"{job[:_PREFIX]}-"):
            for stream in self._streams(PROCESSING_LOGS, prefix):
                if stream.partition("/")[0].lower().endswith(f"-{suffix}"):
                    return stream
        return ""

    def tail(self, group: str, stream: str, lines: int) -> tuple[str, ...]:
        """The last lines of a stream, oldest first."""
        with translate("logs:GetLogEvents"):
            answer = self._aws.logs.get_log_events(
                logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False
            )
        return tuple(event["message"].rstrip() for event in answer["events"])

    def _streams(self, group: str, prefix: str) -> list[str]:
        try:
            with translate("logs:DescribeLogStreams"):
                answer = self._aws.logs.describe_log_streams(
                    logGroupName=group, logStreamNamePrefix=prefix, limit=50
                )
        except NotFound:  # no job has logged in this account and region yet
            return []
        return [stream["logStreamName"] for stream in answer["logStreams"]]
