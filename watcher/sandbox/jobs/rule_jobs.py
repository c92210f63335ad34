"""The processing job of each rule: its names, and the record that `DescribeProcessingJob` shows.

Everything is computed from the training job, so nothing is stored twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from watcher.arn import job_name
from watcher.sandbox.sagemaker.training_job import (
    FINAL_RULE_STATUSES,
    RULE_CONFIGURATIONS,
    Record,
    TrainingJob,
)

_PROCESSING_STATUSES = {
    "InProgress": "InProgress",
    "NoIssuesFound": "Completed",
    "IssuesFound": "Completed",
    "Error": "Failed",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
}


@dataclass(frozen=True)
class RuleJob:
    training_job: TrainingJob
    statuses: str
    """`DebugRuleEvaluationStatuses` or `ProfilerRuleEvaluationStatuses`."""
    status: Record
    """This rule's entry in that list."""

    @property
    def rule(self) -> str:
        return str(self.status["RuleConfigurationName"])

    @property
    def configuration(self) -> Record:
        configured = self.training_job.record.get(RULE_CONFIGURATIONS[self.statuses], ())
        return next((entry for entry in configured if entry["RuleConfigurationName"] == self.rule), {})

    @property
    def arn(self) -> str:
        """Empty until the service has started the processing job."""
        return str(self.status.get("RuleEvaluationJobArn", ""))

    @property
    def name(self) -> str:
        return job_name(self.arn)

    @property
    def output(self) -> str:
        """Where the rule writes its own files: `s3://BUCKET/PATH/JOB/rule-output/RULE`."""
        configured = self.configuration.get("S3OutputPath", "").rstrip("/")
        of_job = self.training_job.record["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        return f"{configured or f'{of_job}/{self.training_job.name}/rule-output'}/{self.rule}"

    @property
    def log_stream(self) -> str:
        """Like the processing job's name, but with the job and the rule in their own case, as at AWS."""
        suffix = self.arn[-8:]
        started = int(self.training_job.record["CreationTime"] * 1000)
        return f"{self.training_job.name[:26]}-{self.rule[:26]}-{suffix}/algo-1-{started}"

    def processing_job(self) -> Record:
        configuration = self.configuration
        started = self.training_job.record["CreationTime"]
        record: Record = {
            "ProcessingJobName": self.name,
            "ProcessingJobArn": self.arn,
            "ProcessingJobStatus": _PROCESSING_STATUSES.get(
                self.status["RuleEvaluationStatus"], "InProgress"
            ),
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": 1,
                    "InstanceType": configuration.get("InstanceType", "ml.t3.medium"),
                    "VolumeSizeInGB": configuration.get("VolumeSizeInGB") or 10,
                }
            },
            "AppSpecification": {
                "ImageUri": configuration.get("RuleEvaluatorImage", "sagemaker-debugger-rules")
            },
            "Environment": configuration.get("RuleParameters", {}),
            "RoleArn": self.training_job.record["RoleArn"],
            "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
            "TrainingJobArn": self.training_job.arn,
            "ExitMessage": "",
            "CreationTime": started,
            "ProcessingStartTime": started,
            "LastModifiedTime": self.status["LastModifiedTime"],
        }
        if self.status["RuleEvaluationStatus"] in FINAL_RULE_STATUSES:
            record["ProcessingEndTime"] = self.status["LastModifiedTime"]
        if self.status["RuleEvaluationStatus"] == "Error":
            record["FailureReason"] = self.status.get("StatusDetails", "")
        return record


def rule_jobs(job: TrainingJob) -> Iterator[RuleJob]:
    for statuses in RULE_CONFIGURATIONS:
        for status in job.record.get(statuses, ()):
            yield RuleJob(job, statuses, status)


def evaluation_job_arn(job: TrainingJob, rule: str) -> str:
    """The ARN. The name is `<job[:26]>-<rule[:26]>-<8 hex>` in lower case, so at most 63 characters long."""
    suffix = hashlib.sha256(f"{job.arn}\n{rule}\n{job.record['CreationTime']}".encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9-]", "-", f"{job.name[:26]}-{rule[:26]}-{suffix}".lower())
    return f"{job.arn.partition(':training-job/')[0]}:processing-job/{name}"


def training_log_stream(job: TrainingJob) -> str:
    return f"{job.name}/algo-1-{int(job.record['CreationTime'] * 1000)}"
