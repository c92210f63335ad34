"""What an account has before anything is created in it: the role and the bucket that SageMaker's SDKs take by
default, and those of AWS's managed policies that people attach to such a role."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, IAMBackend, iam_backends
from moto.s3.models import s3_backends
from moto.sts.models import STSBackend

from watcher.sandbox.environment import DEFAULT_BUCKET, ROLE_NAME

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
POLICIES = ("AmazonSageMakerFullAccess", "AdministratorAccess")
"""What a SageMaker role usually has, and what is true here: the sandbox refuses nothing to its own key."""
MANAGED = (
    *("AdministratorAccess", "AmazonS3", "AmazonEC2ContainerRegistry", "AmazonSageMaker", "AmazonSNS"),
    *("AmazonSQS", "CloudWatch", "IAM", "PowerUserAccess", "ReadOnlyAccess", "ViewOnlyAccess"),
)
"""How the names of the managed policies begin. All of AWS's would add 0.1 seconds to each reset."""

_get_caller_identity = STSBackend.get_caller_identity


def install() -> None:
    IAMBackend._init_aws_policies = managed_policies
    STSBackend.get_caller_identity = get_caller_identity


def prepare(region: str) -> None:
    """Create the role and the bucket. To be called at the start and after each reset."""
    iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
    if ROLE_NAME not in {role.name for role in iam.get_roles()}:
        iam.create_role(
            role_name=ROLE_NAME,
            assume_role_policy_document=json.dumps(TRUST),
            path="/",
            permissions_boundary=None,
            description="The role of the sandbox's training jobs",
            tags=[],
            max_session_duration="3600",
        )
        for policy in POLICIES:
            iam.attach_role_policy(f"arn:aws:iam::aws:policy/{policy}", ROLE_NAME)
    s3 = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    if DEFAULT_BUCKET not in s3.buckets:
        s3.create_bucket(DEFAULT_BUCKET, region)


def managed_policies(self: IAMBackend) -> list[AWSManagedPolicy]:
    return [
        AWSManagedPolicy.from_data(name, self.account_id, self.region_name, policy)
        for name, policy in _managed().items()
    ]


@cache
def _managed() -> dict[str, Any]:
    policies = json.loads(aws_managed_policies_data)
    return {name: policy for name, policy in policies.items() if name.startswith(MANAGED)}


def get_caller_identity(self: STSBackend, access_key_id: str, region: str) -> tuple[str, str, str]:
    """A key that the sandbox has not issued belongs to a session of the role, as in a SageMaker notebook."""
    identity: tuple[str, str, str] = _get_caller_identity(self, access_key_id, region)
    if not identity[1].endswith(":user/moto") or self.account_id != DEFAULT_ACCOUNT_ID:
        return identity
    session = f"assumed-role/{ROLE_NAME}/sandbox"
    return "AROASANDBOXEXAMPLE:sandbox", f"arn:aws:sts::{self.account_id}:{session}", self.account_id
