# %% [markdown]
# # Clean up

# %%
import time

import boto3

client, logs = boto3.client("sagemaker"), boto3.client("logs")
s3 = boto3.resource("s3")

# %% Stop what still trains, wait, and delete all jobs of these notebooks
for page in client.get_paginator("list_training_jobs").paginate(
    NameContains="notebook-", StatusEquals="InProgress"
):
    for job in page["TrainingJobSummaries"]:
        client.stop_training_job(TrainingJobName=job["TrainingJobName"])
        client.get_waiter("training_job_completed_or_stopped").wait(
            TrainingJobName=job["TrainingJobName"], WaiterConfig={"Delay": 1}
        )
jobs = [
    job["TrainingJobName"]
    for page in client.get_paginator("list_training_jobs").paginate(NameContains="notebook-")
    for job in page["TrainingJobSummaries"]
]
assert jobs
for name in jobs:
    client.delete_training_job(TrainingJobName=name)
try:
    client.describe_training_job(TrainingJobName=jobs[0])
except client.exceptions.ClientError as gone:
    assert "Requested resource not found" in str(gone)
else:
    raise AssertionError("the job is still there")

# %% Log streams, then the groups
for group in ("/aws/sagemaker/TrainingJobs", "/aws/sagemaker/ProcessingJobs"):
    for page in logs.get_paginator("describe_log_streams").paginate(logGroupName=group):
        for stream in page["logStreams"]:
            logs.delete_log_stream(logGroupName=group, logStreamName=stream["logStreamName"])
    logs.delete_log_group(logGroupName=group)
assert not logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/")["logGroups"]

# %% A bucket with versions
scratch = s3.create_bucket(Bucket="notebook-scratch")
scratch.Versioning().enable()
for text in (b"one", b"two"):
    scratch.put_object(Key="a.txt", Body=text)
scratch.objects.all().delete()
assert list(scratch.object_versions.all())
scratch.object_versions.delete()
scratch.delete()

# %% What is left in the default bucket
bucket = s3.Bucket("sagemaker-sandbox")
bucket.objects.filter(Prefix="notebook-").delete()
time.sleep(1)
assert not list(bucket.objects.filter(Prefix="notebook-"))
