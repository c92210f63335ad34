"""Trains XGBoost on the sandbox, with a Debugger rule that will find an issue. See first-run.md."""

import boto3
import numpy as np
import sagemaker
from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, Rule, rule_configs
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

BUCKET = "first-run"

# The label is in the first column. After some rounds there is nothing left to learn, so the loss stays.
features = np.random.default_rng(7).normal(size=(2000, 4))
labels = features.sum(axis=1) > 0
data = "\n".join(f"{label:d},{','.join(map(str, row))}" for label, row in zip(labels, features, strict=True))
s3 = boto3.client("s3")
s3.create_bucket(Bucket=BUCKET)
s3.put_object(Bucket=BUCKET, Key="train/data.csv", Body=data.encode())

session = sagemaker.Session(default_bucket=BUCKET)
metrics = CollectionConfig("metrics", parameters={"save_interval": "2"})
parameters = {"collection_names": "metrics", "diff_percent": "5", "num_steps": "2"}
estimator = Estimator(
    image_uri=sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, "1.3-1"),
    role="arn:aws:iam::123456789012:role/training",
    instance_count=1,
    instance_type="ml.m5.xlarge",
    base_job_name="first-run",
    sagemaker_session=session,
    hyperparameters={"objective": "binary:logistic", "num_round": "10000"},
    debugger_hook_config=DebuggerHookConfig(f"s3://{BUCKET}/debug", collection_configs=[metrics]),
    rules=[Rule.sagemaker(rule_configs.loss_not_decreasing(), rule_parameters=parameters)],
)
estimator.fit({"train": TrainingInput(f"s3://{BUCKET}/train", content_type="text/csv")}, wait=False)
print(f"Training {estimator.latest_training_job.name}")
