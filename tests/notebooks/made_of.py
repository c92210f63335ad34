# %% [markdown]
# # Trace what a run was made of

# %%
import tarfile

import boto3
import sagemaker
import xgboost
from sagemaker.lineage.visualizer import LineageTableVisualizer
from sagemaker.s3 import S3Downloader, S3Uploader

# %%
session = sagemaker.Session()
client, s3 = boto3.client("sagemaker"), boto3.client("s3")
[found] = client.search(
    Resource="TrainingJob",
    SearchExpression={
        "Filters": [
            {"Name": "TrainingJobName", "Operator": "Contains", "Value": "notebook-churn-2"},
            {"Name": "TrainingJobStatus", "Operator": "Equals", "Value": "Completed"},
            {"Name": "Tags.team", "Operator": "Equals", "Value": "churn"},
        ]
    },
    SortBy="CreationTime",
    SortOrder="Descending",
    MaxResults=1,
)["Results"]
job_name = found["TrainingJob"]["TrainingJobName"]
run = session.describe_training_job(job_name)

# %% Image, hyperparameters, role, how long and for how much
print(run["AlgorithmSpecification"]["TrainingImage"], run["HyperParameters"], run["RoleArn"])
print(run["ResourceConfig"], run["TrainingTimeInSeconds"], run["BillableTimeInSeconds"])
assert run["HyperParameters"]["max_depth"] == "12"
assert run["RoleArn"].endswith(":role/training")

# %% Inputs
for channel in run["InputDataConfig"]:
    uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
    files = S3Downloader.list(uri)
    print(channel["ChannelName"], uri, files)
    assert files

# %% Outputs
bucket, _, key = run["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
head = s3.head_object(Bucket=bucket, Key=key)
print(head["ContentLength"], head["LastModified"], head["ETag"])
listing = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{job_name}/debug-output/")
keys = [item["Key"] for page in listing for item in page["Contents"]]
assert any(key.endswith(".tfevents") for key in keys)
assert any("/collections/" in key for key in keys)
assert any("/index/" in key for key in keys)

# %% The model itself
session.download_data(".", bucket=bucket, key_prefix=key)
with tarfile.open("model.tar.gz") as archive:
    archive.extractall(filter="data")
booster = xgboost.Booster()
booster.load_model("xgboost-model")
assert booster.num_boosted_rounds() == 60
link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=60)
assert key in link

# %% Tags
client.add_tags(ResourceArn=run["TrainingJobArn"], Tags=[{"Key": "reviewed", "Value": "yes"}])
tags = {tag["Key"]: tag["Value"] for tag in client.list_tags(ResourceArn=run["TrainingJobArn"])["Tags"]}
assert tags == {"team": "churn", "reviewed": "yes"}
client.delete_tags(ResourceArn=run["TrainingJobArn"], TagKeys=["reviewed"])

# %% Rules
jobs = client.list_processing_jobs(NameContains=job_name[:20].lower(), SortBy="CreationTime")
print([(job["ProcessingJobName"], job["ProcessingJobStatus"]) for job in jobs["ProcessingJobSummaries"]])
assert jobs["ProcessingJobSummaries"]

# %% Lineage
lineage = LineageTableVisualizer(session).show(training_job_name=job_name)
print(lineage)
assert set(lineage["Type"]) >= {"DataSet", "Image", "Model"}

# %% Notes go next to the model
note = S3Uploader.upload_string_as_file_body("a good one", f"s3://{bucket}/{job_name}/note.txt")
assert S3Downloader.read_file(note) == "a good one"
