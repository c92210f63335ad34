# %% [markdown]
# # Read CloudWatch metrics

# %%
from datetime import UTC, datetime, timedelta

import boto3
import pandas as pd

cloudwatch, client = boto3.client("cloudwatch"), boto3.client("sagemaker")
namespace = "/aws/sagemaker/TrainingJobs"

# %%
pages = client.get_paginator("list_training_jobs").paginate(
    NameContains="notebook-churn-2", StatusEquals="Completed", SortBy="CreationTime", SortOrder="Descending"
)
job_name = next(job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"])
dimensions = [{"Name": "TrainingJobName", "Value": job_name}]
names = sorted(
    metric["MetricName"]
    for page in cloudwatch.get_paginator("list_metrics").paginate(Namespace=namespace, Dimensions=dimensions)
    for metric in page["Metrics"]
)
print(names)
assert names == ["train:logloss", "validation:logloss"]

# %%
description = client.describe_training_job(TrainingJobName=job_name)
start = description["TrainingStartTime"] - timedelta(minutes=1)
end = description["TrainingEndTime"] + timedelta(minutes=1)
points = cloudwatch.get_metric_statistics(
    Namespace=namespace,
    MetricName="validation:logloss",
    Dimensions=dimensions,
    StartTime=start,
    EndTime=end,
    Period=60,
    Statistics=["Average", "Minimum", "Maximum", "SampleCount"],
)["Datapoints"]
frame = pd.DataFrame(sorted(points, key=lambda point: point["Timestamp"])).set_index("Timestamp")
print(frame)
assert frame["SampleCount"].sum() == 60
assert all(timestamp.second == 0 for timestamp in frame.index)

# %%
answer = cloudwatch.get_metric_data(
    MetricDataQueries=[
        {
            "Id": f"m{number}",
            "Label": name,
            "MetricStat": {
                "Metric": {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions},
                "Period": 60,
                "Stat": "Minimum",
            },
        }
        for number, name in enumerate(names)
    ],
    StartTime=datetime.now(UTC) - timedelta(hours=3),
    EndTime=datetime.now(UTC) + timedelta(minutes=1),
    ScanBy="TimestampAscending",
)
for result in answer["MetricDataResults"]:
    print(result["Label"], result["Values"])
    assert result["Values"]

# %%
final = {metric["MetricName"]: metric["Value"] for metric in description["FinalMetricDataList"]}
assert set(final) == set(names)
