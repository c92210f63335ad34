"""A request for a training job such as the SageMaker SDK sends, with as few members as possible."""

from __future__ import annotations

from typing import Any

RULES_IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"


def training_request(name: str, **members: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::123456789012:role/training",
        "AlgorithmSpecification": {
            "TrainingImage": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.3-1",
            "TrainingInputMode": "File",
        },
        "OutputDataConfig": {"S3OutputPath": "s3://churn/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **members,
    }


def with_rule(name: str = "LossNotDecreasing", **parameters: str) -> dict[str, Any]:
    """The members that a Debugger rule adds to a request."""
    return {
        "DebugHookConfig": {"S3OutputPath": "s3://churn/debug"},
        "DebugRuleConfigurations": [
            {
                "RuleConfigurationName": name,
                "RuleEvaluatorImage": RULES_IMAGE,
                "RuleParameters": {"rule_to_invoke": name, **parameters},
            }
        ],
    }
