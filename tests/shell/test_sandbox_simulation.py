"""IAM's policy simulator on the sandbox, asked with boto3, and the role that every sandbox has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from watcher.sandbox.environment import ROLE
from watcher.sandbox.process import Sandbox

BUCKET = "arn:aws:s3:::models"


@pytest.fixture
def iam(sandbox: Sandbox) -> Any:
    return sandbox.client("iam")


def document(effect: str, action: str, resource: str = "*", **elements: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": resource, **elements}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def role(iam: Any) -> str:
    """A role that may read the bucket (attached), write its logs (inline), and not touch what is private."""
    trust = document("Allow", "sts:AssumeRole")
    arn = iam.create_role(RoleName="notebook", Path="/ml/", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    reading = iam.create_policy(
        PolicyName="reading", PolicyDocument=document("Allow", "s3:Get*", f"{BUCKET}/*")
    )
    iam.attach_role_policy(RoleName="notebook", PolicyArn=reading["Policy"]["Arn"])
    iam.put_role_policy(
        RoleName="notebook", PolicyName="logs", PolicyDocument=document("Allow", "logs:PutLogEvents")
    )
    private = document("Deny", "s3:*", f"{BUCKET}/private/*")
    iam.put_role_policy(RoleName="notebook", PolicyName="private", PolicyDocument=private)
    return str(arn)


def decisions(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    results: Iterable[dict[str, Any]] = answer["EvaluationResults"]
    return {(each["EvalActionName"], each["EvalResourceName"]): each["EvalDecision"] for each in results}


def test_attached_and_inline_policies_decide_for_each_action_and_resource(iam: Any, role: str) -> None:
    public, private = f"{BUCKET}/a.csv", f"{BUCKET}/private/a.csv"
    answer = iam.simulate_principal_policy(
        PolicySourceArn=role, ActionNames=["s3:GetObject", "s3:PutObject"], ResourceArns=[public, private]
    )
    assert decisions(answer) == {
        ("s3:GetObject", public): "allowed",
        ("s3:GetObject", private): "explicitDeny",
        ("s3:PutObject", public): "implicitDeny",
        ("s3:PutObject", private): "explicitDeny",
    }
    allowed, denied, *_ = answer["EvaluationResults"]
    assert [each["SourcePolicyId"] for each in allowed["MatchedStatements"]] == ["reading"]
    assert [each["SourcePolicyId"] for each in denied["MatchedStatements"]] == ["role_notebook_private"]
    [specific] = denied["ResourceSpecificResults"]
    assert (specific["EvalResourceName"], specific["EvalResourceDecision"]) == (private, "explicitDeny")


def test_without_resources_every_resource_is_meant(iam: Any, role: str) -> None:
    answer = iam.simulate_principal_policy(
        PolicySourceArn=role, ActionNames=["logs:PutLogEvents", "s3:GetObject"]
    )
    assert decisions(answer) == {("logs:PutLogEvents", "*"): "allowed", ("s3:GetObject", "*"): "implicitDeny"}


def test_the_results_come_in_pages(iam: Any, role: str) -> None:
    actions = [f"s3:Get{number}" for number in range(7)]
    first = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=actions, MaxItems=3)
    assert first["IsTruncated"] is True
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=role, ActionNames=actions, PaginationConfig={"PageSize": 3}
    )
    assert [each["EvalActionName"] for page in pages for each in page["EvaluationResults"]] == actions


def test_the_groups_of_a_user_count(iam: Any) -> None:
    user = iam.create_user(UserName="anna")["User"]["Arn"]
    iam.create_group(GroupName="ml")
    iam.put_group_policy(
        GroupName="ml", PolicyName="all", PolicyDocument=document("Allow", "sagemaker:Create*")
    )
    iam.add_user_to_group(GroupName="ml", UserName="anna")
    answer = iam.simulate_principal_policy(
        PolicySourceArn=user, ActionNames=["sagemaker:CreateTrainingJob", "sagemaker:StopTrainingJob"]
    )
    assert list(decisions(answer).values()) == ["allowed", "implicitDeny"]


def test_given_policies_are_simulated_with_their_context(iam: Any) -> None:
    tag = "aws:ResourceTag/watcher:stop"
    condition = {"Condition": {"StringEquals": {tag: "allowed"}}}
    policies = [document("Allow", "sagemaker:StopTrainingJob", **condition)]
    request = {"PolicyInputList": policies, "ActionNames": ["sagemaker:StopTrainingJob"]}
    [without] = iam.simulate_custom_policy(**request)["EvaluationResults"]
    assert (without["EvalDecision"], without["MissingContextValues"]) == ("implicitDeny", [tag])
    assert iam.get_context_keys_for_custom_policy(PolicyInputList=policies)["ContextKeyNames"] == [tag]
    entry = {"ContextKeyName": tag, "ContextKeyValues": ["allowed"], "ContextKeyType": "string"}
    [tagged] = iam.simulate_custom_policy(**request, ContextEntries=[entry])["EvaluationResults"]
    assert (tagged["EvalDecision"], tagged["MissingContextValues"]) == ("allowed", [])


def test_a_permissions_boundary_limits_a_role(iam: Any, role: str) -> None:
    boundary = iam.create_policy(PolicyName="boundary", PolicyDocument=document("Allow", "s3:*"))["Policy"]
    iam.put_role_permissions_boundary(RoleName="notebook", PermissionsBoundary=boundary["Arn"])
    [result] = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=["logs:PutLogEvents"])[
        "EvaluationResults"
    ]
    assert result["EvalDecision"] == "implicitDeny"
    assert result["PermissionsBoundaryDecisionDetail"] == {"AllowedByPermissionsBoundary": False}


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (
            {"PolicySourceArn": "arn:aws:iam::123456789012:role/nobody"},
            "NoSuchEntity",
            "role with name nobody",
        ),
        (
            {"PolicySourceArn": "arn:aws:sts::123456789012:assumed-role/training/x"},
            "InvalidInput",
            "Entity Arn",
        ),
        ({"PolicySourceArn": "arn:aws:iam::123456789012:root"}, "InvalidInput", "Invalid Entity Arn"),
        ({"ActionNames": ["s3:*"]}, "InvalidInput", r"Invalid Entity Action: s3:\*"),
        ({"ActionNames": ["GetObject"]}, "InvalidInput", "Invalid Entity Action: GetObject"),
        ({"ResourceArns": ["models"]}, "InvalidInput", "Invalid Entity Arn: models"),
        ({"PolicyInputList": ["{}"]}, "InvalidInput", "it has no Statement"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    iam: Any, request_: dict[str, Any], code: str, message: str
) -> None:
    with pytest.raises(ClientError, match=message) as refused:
        iam.simulate_principal_policy(
            **{"PolicySourceArn": ROLE, "ActionNames": ["s3:GetObject"], **request_}
        )
    assert refused.value.response["Error"]["Code"] == code


def test_the_sandbox_has_a_role_that_sagemaker_may_assume_and_that_may_do_everything(
    sandbox: Sandbox, iam: Any
) -> None:
    caller = sandbox.client("sts").get_caller_identity()["Arn"]
    assert caller == "arn:aws:sts::123456789012:assumed-role/training/sandbox"
    found = iam.get_role(RoleName=caller.split("/")[1])["Role"]
    assert found["Arn"] == ROLE == sandbox.env["SAGEMAKER_ROLE"]
    trusted = found["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]
    assert trusted == {"Service": "sagemaker.amazonaws.com"}
    attached = iam.list_attached_role_policies(RoleName="training")["AttachedPolicies"]
    assert "AmazonSageMakerFullAccess" in {each["PolicyName"] for each in attached}
    answer = iam.simulate_principal_policy(
        PolicySourceArn=ROLE, ActionNames=["sagemaker:CreateTrainingJob", "dynamodb:GetItem"]
    )
    assert set(decisions(answer).values()) == {"allowed"}
