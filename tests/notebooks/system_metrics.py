# %% [markdown]
# # How a training used its machine, as SageMaker's profiler saved it

# %%
import boto3
import matplotlib.pyplot as plt
import numpy as np
from smdebug.profiler.system_metrics_reader import S3SystemMetricsReader

# %% The newest job that was profiled
client = boto3.client("sagemaker")
pages = client.get_paginator("list_training_jobs").paginate(
    NameContains="notebook-churn-2", StatusEquals="Completed", SortBy="CreationTime", SortOrder="Descending"
)
job_name = next(job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"])
job = client.describe_training_job(TrainingJobName=job_name)
path = f"{job['ProfilerConfig']['S3OutputPath'].rstrip('/')}/{job_name}/profiler-output"
print(path)

# %%
reader = S3SystemMetricsReader(path)
reader.refresh_event_file_list()
last = reader.get_timestamp_of_latest_available_file()
events = reader.get_events(0, last)
print(len(events), "events until", last)
print(sorted({(event.type, event.name, event.dimension) for event in events}))
assert {event.node_id for event in events} == {"algo-1"}

# %% A histogram of each core
cores = sorted({event.name for event in events if event.dimension == "CPUUtilization"})
figure, axes = plt.subplots(1, len(cores), squeeze=False)
for core, axis in zip(cores, axes[0], strict=True):
    used = [event.value for event in events if (event.name, event.dimension) == (core, "CPUUtilization")]
    axis.hist(used, bins=np.arange(0, 102, 2))
    axis.set_title(core)
figure.savefig("cores.png")
assert cores[0] == "cpu0"

# %% The same, as CloudWatch has it
found = boto3.client("cloudwatch").list_metrics(
    Namespace="/aws/sagemaker/TrainingJobs", Dimensions=[{"Name": "Host", "Value": f"{job_name}/algo-1"}]
)["Metrics"]
print([metric["MetricName"] for metric in found])
assert {"CPUUtilization", "MemoryUtilization", "DiskUtilization"} <= {each["MetricName"] for each in found}

# %% What ProfilerReport has written
bucket, _, prefix = job["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://").partition("/")
report = next(rule for rule in job["ProfilerRuleConfigurations"] if "ProfilerReport" in str(rule))
below = f"{prefix}/{job_name}/rule-output/{report['RuleConfigurationName']}/".lstrip("/").replace("//", "/")
listed = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=below).get("Contents", [])
names = [item["Key"].removeprefix(below) for item in listed]
print(names)
assert "profiler-output/profiler-report.html" in names
assert "profiler-output/profiler-reports/OverallSystemUsage.json" in names
