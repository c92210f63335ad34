# %% [markdown]
# # Read with smdebug what a training has saved

# %%
import boto3
from smdebug import modes
from smdebug.trials import create_trial

# %% The newest job with this name that has completed
client = boto3.client("sagemaker")
pages = client.get_paginator("list_training_jobs").paginate(
    NameContains="notebook-churn-2", StatusEquals="Completed", SortBy="CreationTime", SortOrder="Descending"
)
job_name = next(job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"])
hook = client.describe_training_job(TrainingJobName=job_name)["DebugHookConfig"]
path = f"{hook['S3OutputPath'].rstrip('/')}/{job_name}/debug-output"
print(path)

# %%
trial = create_trial(path)
print(trial.tensor_names())
print(trial.tensor_names(collection="metrics"))
assert set(trial.tensor_names(collection="metrics")) == {"train-logloss", "validation-logloss"}

# %%
losses = trial.tensor("validation-logloss")
steps = losses.steps()
assert steps == list(range(60))
print({step: float(losses.value(step)[0]) for step in steps[:5]})
assert trial.tensor("train-logloss").value(59) < trial.tensor("train-logloss").value(0)

# %%
importance = trial.tensor_names(regex="feature_importance/weight/.*")
print({name: trial.tensor(name).value(trial.tensor(name).steps()[-1]) for name in importance})
assert importance

# %%
labels = trial.tensor("labels").value(0)
predictions = trial.tensor("predictions").value(0)
assert len(labels) == len(predictions) == 200
print(losses.steps(mode=modes.TRAIN), trial.steps(mode=modes.GLOBAL)[-1])
assert trial.steps()[-1] == 59
