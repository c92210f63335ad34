# %% [markdown]
# # Train with SDK v3's ModelTrainer

# %%
import os

import boto3
import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import TrainingJob
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, InputData, OutputDataConfig, StoppingCondition

# %%
session = Session()
bucket, role = session.default_bucket(), os.environ["SAGEMAKER_ROLE"]
random = np.random.default_rng(7)
features = random.normal(size=(300, 4))
labels = (features[:, 0] > 0).astype(int)
np.savetxt("train.csv", np.column_stack([labels, features]), delimiter=",")
train = session.upload_data("train.csv", bucket=bucket, key_prefix="notebook-v3/train")

# %%
trainer = ModelTrainer(
    training_image=image_uris.retrieve("xgboost", session.boto_region_name, version="1.7-1"),
    role=role,
    sagemaker_session=session,
    base_job_name="notebook-v3",
    hyperparameters={"objective": "binary:logistic", "num_round": "5", "eval_metric": "auc"},
    compute=Compute(instance_type="ml.m5.xlarge", instance_count=1, volume_size_in_gb=10),
    output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/notebook-v3"),
    stopping_condition=StoppingCondition(max_runtime_in_seconds=3600),
)
trainer.train(
    input_data_config=[InputData(channel_name="train", data_source=train, content_type="text/csv")],
    wait=True,
    logs=True,
)

# %%
pages = (
    boto3.client("sagemaker")
    .get_paginator("list_training_jobs")
    .paginate(NameContains="notebook-v3-2", SortBy="CreationTime", SortOrder="Descending")
)
name = next(job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"])
job = TrainingJob.get(name)
print(job.training_job_status, job.model_artifacts.s3_model_artifacts, job.final_metric_data_list)
assert job.training_job_status == "Completed"
assert [metric.metric_name for metric in job.final_metric_data_list] == ["train:auc"]
