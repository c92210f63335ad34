# %% [markdown]
# # Check permissions

# %%
import json
import os
from pathlib import Path

import boto3
import sagemaker

iam, sts = boto3.client("iam"), boto3.client("sts")
account = sts.get_caller_identity()["Account"]
print(sts.get_caller_identity()["Arn"])

# %% In a SageMaker notebook, the SDK reads its role from a file
metadata = Path("resource-metadata.json")
metadata.write_text(json.dumps({"ExecutionRoleArn": os.environ["SAGEMAKER_ROLE"]}))
sagemaker.session.NOTEBOOK_METADATA_FILE = str(metadata)  # at /opt/ml/metadata there
assert sagemaker.get_execution_role() == os.environ["SAGEMAKER_ROLE"]

# %% The role that trains
role = iam.get_role(RoleName=os.environ["SAGEMAKER_ROLE"].split("/")[-1])["Role"]
print(json.dumps(role["AssumeRolePolicyDocument"], indent=2))
assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"] == "sagemaker.amazonaws.com"
attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
assert "AmazonSageMakerFullAccess" in [policy["PolicyName"] for policy in attached]
for policy in attached:
    version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"][
        "Document"
    ]
    print(policy["PolicyName"], [statement["Effect"] for statement in document["Statement"]])

# %% A role of one's own
trust = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
reader = iam.create_role(RoleName="notebook-reader", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
iam.attach_role_policy(
    RoleName="notebook-reader", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerReadOnly"
)
iam.put_role_policy(
    RoleName="notebook-reader",
    PolicyName="models",
    PolicyDocument=json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::models/*"},
                {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::models/private/*"},
            ],
        }
    ),
)

# %%
paginator = iam.get_paginator("simulate_principal_policy")


def may(action, resource="*"):
    pages = paginator.paginate(PolicySourceArn=reader["Arn"], ActionNames=[action], ResourceArns=[resource])
    [result] = [result for page in pages for result in page["EvaluationResults"]]
    print(f"{action:35} {resource:35} {result['EvalDecision']}")
    return result["EvalDecision"]


assert may("sagemaker:DescribeTrainingJob") == "allowed"
assert may("sagemaker:StopTrainingJob") == "implicitDeny"
assert may("s3:GetObject", "arn:aws:s3:::models/churn.tar.gz") == "allowed"
assert may("s3:GetObject", "arn:aws:s3:::models/private/churn.tar.gz") == "explicitDeny"

# %% As the role
credentials = sts.assume_role(RoleArn=reader["Arn"], RoleSessionName="notebook")["Credentials"]
session = boto3.Session(
    aws_access_key_id=credentials["AccessKeyId"],
    aws_secret_access_key=credentials["SecretAccessKey"],
    aws_session_token=credentials["SessionToken"],
)
identity = session.client("sts").get_caller_identity()
assert identity["Arn"] == f"arn:aws:sts::{account}:assumed-role/notebook-reader/notebook"
assert session.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]

# %% Clean up
iam.detach_role_policy(
    RoleName="notebook-reader", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerReadOnly"
)
for name in iam.list_role_policies(RoleName="notebook-reader")["PolicyNames"]:
    iam.delete_role_policy(RoleName="notebook-reader", PolicyName=name)
iam.delete_role(RoleName="notebook-reader")
try:
    iam.get_role(RoleName="notebook-reader")
except iam.exceptions.NoSuchEntityException as gone:
    print(gone)
else:
    raise AssertionError("the role is still there")
