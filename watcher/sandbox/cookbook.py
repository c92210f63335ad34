"""The demo's training, as in a notebook: SageMaker's built-in XGBoost with the Debugger rule
`LossNotDecreasing`, through the unmodified SageMaker Python SDK.

The model is far too deep for its data and trains for ten thousand rounds. After a few dozen it learns nothing
more, and would cost money for hours.
"""

from __future__ import annotations

import io
import logging

BUCKET = "cookbook"
PARAMETERS = {"collection_names": "metrics", "diff_percent": "5", "num_steps": "2"}


def start_training() -> str:
    """Upload the data and start the job in the account of the environment; returns the job's name."""
    for chatty in ("sagemaker", "sagemaker.config", "sagemaker.image_uris", "botocore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    import boto3
    import sagemaker
    from sagemaker.debugger import CollectionConfig, DebuggerHookConfig, Rule, rule_configs
    from sagemaker.estimator import Estimator
    from sagemaker.inputs import TrainingInput

    session = sagemaker.Session(default_bucket=BUCKET)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for channel, csv in two_class_data().items():
        s3.put_object(Bucket=BUCKET, Key=f"{channel}/data.csv", Body=csv)

    estimator = Estimator(
        image_uri=sagemaker.image_uris.retrieve("xgboost", session.boto_region_name, "1.3-1"),
        role="arn:aws:iam::123456789012:role/training",
        instance_count=1,
        instance_type="ml.m5.xlarge",
        output_path=f"s3://{BUCKET}/output",
        base_job_name="churn-xgboost",
        sagemaker_session=session,
        hyperparameters={
            "objective": "binary:logistic",
            "max_depth": "16",
            "eta": "0.1",
            "num_round": "10000",
        },
        debugger_hook_config=DebuggerHookConfig(
            s3_output_path=f"s3://{BUCKET}/debug",
            collection_configs=[CollectionConfig("metrics", parameters={"save_interval": "2"})],
        ),
        rules=[Rule.sagemaker(rule_configs.loss_not_decreasing(), rule_parameters=PARAMETERS)],
    )
    channels = {
        channel: TrainingInput(f"s3://{BUCKET}/{channel}", content_type="text/csv")
        for channel in ("train", "validation")
    }
    estimator.fit(channels, wait=False)
    return str(estimator.latest_training_job.name)


def two_class_data() -> dict[str, bytes]:
    """Two overlapping clusters of points: by channel, a CSV file with the label in the first column."""
    import numpy as np
    from numpy.typing import NDArray
    from sklearn.datasets import make_blobs

    features, labels = make_blobs(
        n_samples=4000, centers=2, n_features=4, cluster_std=2.0, center_box=(-4, 4), random_state=7
    )
    rows = np.column_stack([labels, features])

    def csv(part: NDArray[np.float64]) -> bytes:
        text = io.StringIO()
        np.savetxt(text, part, delimiter=",", fmt="%.6g")
        return text.getvalue().encode()

    return {"train": csv(rows[:3000]), "validation": csv(rows[3000:])}
