# %% [markdown]
# # Draw one metric of several runs

# %%
from datetime import UTC, datetime, timedelta

import boto3
import matplotlib.pyplot as plt
import sagemaker
from sagemaker.analytics import TrainingJobAnalytics

# %%
client = boto3.client("sagemaker")
jobs = client.list_training_jobs(
    NameContains="notebook-churn",
    CreationTimeAfter=datetime.now(UTC) - timedelta(hours=2),
    SortBy="CreationTime",
    MaxResults=50,
)["TrainingJobSummaries"]
names = [job["TrainingJobName"] for job in jobs if job["TrainingJobStatus"] == "Completed"]
print(names)

# %%
figure, axes = plt.subplots()
for name in names:
    analytics = TrainingJobAnalytics(name, metric_names=["train:logloss", "train:error"], period=60)
    frame = analytics.dataframe()
    print(frame)
    axes.plot(frame["timestamp"], frame["value"], marker="o", label=name)
    assert not frame.empty
    assert set(frame["metric_name"]) <= {"train:logloss", "train:error"}
axes.set(xlabel="seconds", ylabel="train")
axes.legend()
figure.savefig("curves.png")

# %% All metrics that the job defines
everything = TrainingJobAnalytics(names[0], sagemaker_session=sagemaker.Session())
print(everything.dataframe())
everything.export_csv("metrics.csv")
