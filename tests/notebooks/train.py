# %% [markdown]
# # Train XGBoost with a Debugger rule, and poll it

# %%
import os
import time

import boto3
import numpy as np
import pandas as pd
import sagemaker
from sagemaker import image_uris
from sagemaker.debugger import (
    CollectionConfig,
    DebuggerHookConfig,
    ProfilerConfig,
    ProfilerRule,
    Rule,
    rule_configs,
)
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

# %%
session = sagemaker.Session()
region = session.boto_region_name
bucket = session.default_bucket()
role = os.environ["SAGEMAKER_ROLE"]
prefix = "notebook-churn"
print(bucket, role)

# %%
random = np.random.default_rng(7)
features = random.normal(size=(600, 4))
labels = (features[:, 0] + random.normal(0, 1, 600) > 0).astype(int)
frame = pd.DataFrame(np.column_stack([labels, features]))
frame[:400].to_csv("train.csv", header=False, index=False)
frame[400:].to_csv("validation.csv", header=False, index=False)
train = session.upload_data("train.csv", bucket=bucket, key_prefix=f"{prefix}/train")
validation = session.upload_data("validation.csv", bucket=bucket, key_prefix=f"{prefix}/validation")
assert train == f"s3://{bucket}/{prefix}/train/train.csv"

# %%
container = image_uris.retrieve("xgboost", region, version="1.3-1")
estimator = Estimator(
    container,
    role,
    instance_count=1,
    instance_type="ml.m5.xlarge",
    base_job_name=prefix,
    sagemaker_session=session,
    hyperparameters={"objective": "binary:logistic", "max_depth": 12, "eta": 0.5, "num_round": 60},
    debugger_hook_config=DebuggerHookConfig(
        hook_parameters={"save_interval": "2"},
        collection_configs=[
            CollectionConfig("metrics", parameters={"save_interval": "1"}),
            CollectionConfig("feature_importance"),
            CollectionConfig("predictions"),
            CollectionConfig("labels"),
        ],
    ),
    rules=[
        Rule.sagemaker(
            rule_configs.loss_not_decreasing(),
            rule_parameters={"collection_names": "metrics", "num_steps": "2", "diff_percent": "5"},
        ),
        ProfilerRule.sagemaker(rule_configs.ProfilerReport()),
    ],
    profiler_config=ProfilerConfig(system_monitor_interval_millis=500),
    tags=[{"Key": "team", "Value": "churn"}],
)
estimator.fit(
    {
        "train": TrainingInput(train, content_type="text/csv"),
        "validation": TrainingInput(validation, content_type="csv"),
    },
    wait=False,
)

# %%
job_name = estimator.latest_training_job.name
client = boto3.client("sagemaker")
description = client.describe_training_job(TrainingJobName=job_name)
while description["TrainingJobStatus"] not in ("Completed", "Failed", "Stopped"):
    statuses = [rule["RuleEvaluationStatus"] for rule in estimator.latest_training_job.rule_job_summary()]
    print(description["TrainingJobStatus"], description["SecondaryStatus"], *statuses)
    time.sleep(10)
    description = client.describe_training_job(TrainingJobName=job_name)
assert description["TrainingJobStatus"] == "Completed", description.get("FailureReason")

# %%
client.get_waiter("training_job_completed_or_stopped").wait(
    TrainingJobName=job_name, WaiterConfig={"Delay": 1}
)
while any(
    rule["RuleEvaluationStatus"] == "InProgress" for rule in estimator.latest_training_job.rule_job_summary()
):
    time.sleep(5)
loss, report = estimator.latest_training_job.rule_job_summary()
print(loss)
assert loss["RuleConfigurationName"] == "LossNotDecreasing"
assert loss["RuleEvaluationStatus"] == "IssuesFound"
assert "resulted in the condition being met" in loss["StatusDetails"]
assert report["RuleEvaluationStatus"] == "NoIssuesFound"

# %%
for status in estimator.latest_training_job.describe()["SecondaryStatusTransitions"]:
    print(status["Status"], status["StartTime"], status["StatusMessage"])
print(estimator.model_data, estimator.latest_job_debugger_artifacts_path())
assert estimator.model_data == f"s3://{bucket}/{job_name}/output/model.tar.gz"
assert estimator.latest_job_debugger_artifacts_path() == f"s3://{bucket}/{job_name}/debug-output"
session.logs_for_job(job_name, wait=True)
estimator.logs()

# %% The same image without eval_metric: before XGBoost 1.3, the error is evaluated.
old = Estimator(
    image_uris.retrieve("xgboost", region, version="0.90-2"),
    role,
    instance_count=1,
    instance_type="ml.m5.xlarge",
    output_path=f"s3://{bucket}/{prefix}/output",
    base_job_name=f"{prefix}-old",
    disable_profiler=True,
    debugger_hook_config=False,
)
old.set_hyperparameters(objective="binary:logistic", num_round=5)
old.fit({"train": TrainingInput(train, content_type="csv")}, logs="All")
metrics = old.latest_training_job.describe()["FinalMetricDataList"]
assert [metric["MetricName"] for metric in metrics] == ["train:error"], metrics

# %% Another kernel goes on with a job that was started in the first.
attached = Estimator.attach(job_name, sagemaker_session=session)
assert attached.hyperparameters()["num_round"] == "60"
