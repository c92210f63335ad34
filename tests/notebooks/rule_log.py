# %% [markdown]
# # Read the log of a rule

# %%
import json
import shutil
import subprocess

import boto3
from sagemaker.processing import ProcessingJob
from sagemaker.session import Session

# %%
session = Session()
client, logs = boto3.client("sagemaker"), boto3.client("logs")
pages = client.get_paginator("list_training_jobs").paginate(
    NameContains="notebook-churn-2", SortBy="CreationTime", SortOrder="Descending"
)
[job_name, *_] = [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]
[rule] = client.describe_training_job(TrainingJobName=job_name)["DebugRuleEvaluationStatuses"]
rule_job = ProcessingJob.from_processing_arn(session, rule["RuleEvaluationJobArn"])
description = rule_job.describe()
print(description["ProcessingJobName"], description["ProcessingJobStatus"], description["Environment"])
assert description["ProcessingJobStatus"] == "Completed"

# %% The stream has the job's name in its own case, the processing job has it in lower case.
group = "/aws/sagemaker/ProcessingJobs"
suffix = description["ProcessingJobName"].rpartition("-")[2]
streams = [
    stream["logStreamName"]
    for page in logs.get_paginator("describe_log_streams").paginate(
        logGroupName=group, orderBy="LastEventTime", descending=True
    )
    for stream in page["logStreams"]
]
[stream] = [name for name in streams if suffix in name]
events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
for event in events:
    print(event["timestamp"], event["message"])
assert any("resulted in the condition being met" in event["message"] for event in events)

# %%
found = logs.filter_log_events(
    logGroupName=group, logStreamNames=[stream], filterPattern='"Loss is not decreasing"'
)
assert found["events"]

# %% The training's own log, as the SDK finds it
prefixed = logs.describe_log_streams(
    logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job_name}/"
)
[training] = prefixed["logStreams"]
assert training["logStreamName"].startswith(f"{job_name}/algo-1-")
of_training = logs.get_paginator("filter_log_events").paginate(
    logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{job_name}/", filterPattern="logloss"
)
assert len([event for page in of_training for event in page["events"]]) == 60

# %% awslogs
lines = subprocess.run(
    ["awslogs", "get", group, stream, "--start", "2h ago", "--no-group", "--no-stream"],
    capture_output=True,
    text=True,
    check=True,
).stdout
print(lines)
assert "resulted in the condition being met" in lines
groups = subprocess.run(["awslogs", "groups"], capture_output=True, text=True, check=True).stdout
assert group in groups.split()

# %% The AWS CLI
if aws := shutil.which("aws"):
    answer = json.loads(
        subprocess.run(
            [aws, "sagemaker", "describe-training-job", "--training-job-name", job_name, "--output", "json"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert answer["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "IssuesFound"
    tail = subprocess.run(
        [aws, "logs", "filter-log-events", "--log-group-name", group, "--log-stream-names", stream],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "resulted in the condition being met" in tail
