# %% [markdown]
# # Train with a Debugger hook and rule through SDK v3's resources

# %%
import os
import time

import numpy as np
from sagemaker.core import image_uris
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.resources import ProcessingJob, TrainingJob
from sagemaker.core.shapes import (
    AlgorithmSpecification,
    Channel,
    CollectionConfiguration,
    DataSource,
    DebugHookConfig,
    DebugRuleConfiguration,
    OutputDataConfig,
    ResourceConfig,
    S3DataSource,
    StoppingCondition,
)

# %%
session = Session()
bucket, role, region = session.default_bucket(), os.environ["SAGEMAKER_ROLE"], session.boto_region_name
random = np.random.default_rng(7)
features = random.normal(size=(400, 4))
labels = (features[:, 0] + random.normal(0, 2, 400) > 0).astype(int)
np.savetxt("data.csv", np.column_stack([labels, features]), delimiter=",")


def channel(name):
    uri = session.upload_data("data.csv", bucket=bucket, key_prefix=f"notebook-v3-rule/{name}")
    source = S3DataSource(s3_data_type="S3Prefix", s3_uri=uri, s3_data_distribution_type="FullyReplicated")
    return Channel(channel_name=name, data_source=DataSource(s3_data_source=source), content_type="text/csv")


def train(name, **hyperparameters):
    return TrainingJob.create(
        training_job_name=name,
        role_arn=role,
        algorithm_specification=AlgorithmSpecification(
            training_image=image_uris.retrieve("xgboost", region, version="1.7-1"),
            training_input_mode="File",
        ),
        hyper_parameters={"objective": "binary:logistic", **hyperparameters},
        input_data_config=[channel("train"), channel("validation")],
        output_data_config=OutputDataConfig(s3_output_path=f"s3://{bucket}/notebook-v3-rule"),
        resource_config=ResourceConfig(instance_type="ml.m5.xlarge", instance_count=1, volume_size_in_gb=10),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=3600),
        debug_hook_config=DebugHookConfig(
            s3_output_path=f"s3://{bucket}/notebook-v3-rule",
            collection_configurations=[
                CollectionConfiguration(
                    collection_name="metrics", collection_parameters={"save_interval": "1"}
                )
            ],
        ),
        debug_rule_configurations=[
            DebugRuleConfiguration(
                rule_configuration_name="LossNotDecreasing",
                rule_evaluator_image=image_uris.retrieve("debugger", region),
                rule_parameters={
                    "rule_to_invoke": "LossNotDecreasing",
                    "collection_names": "metrics",
                    "num_steps": "2",
                    "diff_percent": "50",
                },
            )
        ],
    )


# %%
stamp = int(time.time())
job = train(f"notebook-v3-rule-{stamp}", num_round="30")
job.wait(poll=5, logs=True)
assert job.training_job_status == "Completed"

# %%
while (status := job.debug_rule_evaluation_statuses[0]).rule_evaluation_status == "InProgress":
    time.sleep(5)
    job.refresh()
print(status.rule_evaluation_status, status.status_details)
assert status.rule_evaluation_status == "IssuesFound"
rule_job = ProcessingJob.get(status.rule_evaluation_job_arn.rpartition("/")[2])
assert rule_job.processing_job_status == "Completed"

# %%
endless = train(f"notebook-v3-stop-{stamp}", num_round="100000")
while endless.secondary_status != "Training":
    time.sleep(1)
    endless.refresh()
endless.stop()
endless.wait(poll=5)
assert endless.training_job_status == "Stopped"

# %%
found = TrainingJob.get_all(name_contains="notebook-v3", sort_by="CreationTime", sort_order="Descending")
names = {each.training_job_name: each.training_job_status for each in found}
print(names)
assert names[endless.training_job_name] == "Stopped"
assert names[job.training_job_name] == "Completed"
