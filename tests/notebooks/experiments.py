# %% [markdown]
# # Run eight experiments, and compare them, best first

# %%
import itertools
import os
import time

import boto3
import matplotlib.pyplot as plt
import numpy as np
import sagemaker
from sagemaker.analytics import ExperimentAnalytics
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput

# %%
session, client = sagemaker.Session(), boto3.client("sagemaker")
random = np.random.default_rng(7)
features = random.normal(size=(400, 4))
labels = (features[:, 0] + random.normal(0, 1, 400) > 0).astype(int)
table = np.column_stack([labels, features])
np.savetxt("train.csv", table[:300], delimiter=",")
np.savetxt("validation.csv", table[300:], delimiter=",")
inputs = {
    name: TrainingInput(
        session.upload_data(f"{name}.csv", key_prefix=f"notebook-experiment/{name}"), content_type="text/csv"
    )
    for name in ("train", "validation")
}

# %%
experiment = f"notebook-experiment-{int(time.time())}"
client.create_experiment(ExperimentName=experiment, Description="depth and eta")
image = sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, "1.7-1")
estimators = []
for number, (depth, eta) in enumerate(itertools.product((2, 4, 6, 8), (0.1, 0.8))):
    trial = f"{experiment}-{number}"
    client.create_trial(TrialName=trial, ExperimentName=experiment)
    estimator = Estimator(
        image,
        os.environ["SAGEMAKER_ROLE"],
        instance_count=1,
        instance_type="ml.m5.large",
        hyperparameters={
            "objective": "binary:logistic",
            "num_round": 4,
            "max_depth": depth,
            "eta": eta,
            "eval_metric": "logloss",
        },
        disable_profiler=True,
        debugger_hook_config=False,
    )
    estimator.fit(
        inputs,
        job_name=f"{trial}-job",
        wait=False,
        experiment_config={"TrialName": trial, "TrialComponentDisplayName": "Training"},
    )
    estimators.append(estimator)
for estimator in estimators:
    estimator.latest_training_job.wait(logs=False)

# %%
analytics = ExperimentAnalytics(
    experiment_name=experiment,
    search_expression={"Filters": [{"Name": "DisplayName", "Operator": "Equals", "Value": "Training"}]},
    metric_names=["validation:logloss"],
    parameter_names=["max_depth", "eta"],
    sort_by="metrics.validation:logloss.last",
    sort_order="Ascending",
)
table = analytics.dataframe()
print(table[["TrialComponentName", "max_depth", "eta", "validation:logloss - Last"]])
assert len(table) == 8
assert list(table["validation:logloss - Last"]) == sorted(table["validation:logloss - Last"])
assert sorted(table["max_depth"].astype(int).unique()) == [2, 4, 6, 8]

# %%
figure, axes = plt.subplots()
for eta, group in table.groupby("eta"):
    axes.scatter(group["max_depth"], group["validation:logloss - Last"], label=f"eta {eta}")
axes.legend()
figure.savefig("experiments.png")

# %% The same by Search, of the training jobs
best = client.search(
    Resource="TrainingJob",
    SearchExpression={"Filters": [{"Name": "TrainingJobName", "Operator": "Contains", "Value": experiment}]},
    SortBy="Metrics.validation:logloss",
    SortOrder="Ascending",
    MaxResults=8,
)["Results"]
assert len(best) == 8
print(best[0]["TrainingJob"]["TrainingJobName"], table.iloc[0]["TrialComponentName"])
assert table.iloc[0]["TrialComponentName"] == f"{best[0]['TrainingJob']['TrainingJobName']}-aws-training-job"

# %% What the best one was made of
component = client.describe_trial_component(TrialComponentName=table.iloc[0]["TrialComponentName"])
print(component["Parameters"], component["InputArtifacts"], component["OutputArtifacts"])
assert component["Parameters"]["SageMaker.InstanceType"] == {"StringValue": "ml.m5.large"}
assert set(component["InputArtifacts"]) >= {"train", "validation"}
assert component["OutputArtifacts"]["SageMaker.ModelArtifact"]["Value"].endswith("/output/model.tar.gz")

# %% Clean up
for summary in client.list_trials(ExperimentName=experiment, MaxResults=100)["TrialSummaries"]:
    trial = summary["TrialName"]
    for part in client.list_trial_components(TrialName=trial)["TrialComponentSummaries"]:
        client.disassociate_trial_component(TrialComponentName=part["TrialComponentName"], TrialName=trial)
        client.delete_trial_component(TrialComponentName=part["TrialComponentName"])
    client.delete_trial(TrialName=trial)
client.delete_experiment(ExperimentName=experiment)
names = [each["ExperimentName"] for each in client.list_experiments()["ExperimentSummaries"]]
assert experiment not in names
