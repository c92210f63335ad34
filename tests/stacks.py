"""The templates of deploy/, created in the sandbox with CloudFormation.

moto ignores Fargate settings and time to live, and creates neither queue policies nor alarms. These are
checked only by cfn-lint and by tests that read the templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watcher.sandbox.process import Sandbox

DEPLOY = Path(__file__).parents[1] / "deploy"
POLICY = json.loads((DEPLOY / "policy.json").read_text())


@dataclass(frozen=True)
class Stack:
    sandbox: Sandbox
    outputs: Mapping[str, str]
    ids: Mapping[str, str]
    """Physical id of each resource, by its name in the template."""

    def statements(self, role: str) -> list[Any]:
        """The statements of all policies of a role."""
        iam = self.sandbox.client("iam")
        name = self.ids[role]
        policies = [
            iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        return [statement for policy in policies for statement in policy["Statement"]]


def create(sandbox: Sandbox, template: str, **parameters: str) -> Stack:
    cloudformation = sandbox.client("cloudformation")
    name = Path(template).stem
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(DEPLOY / template).read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    resources = cloudformation.list_stack_resources(StackName=name)["StackResourceSummaries"]
    return Stack(
        sandbox,
        {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]},
        {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources},
    )


def create_service(sandbox: Sandbox, **parameters: str) -> Stack:
    """ecs.yaml, in a network of its own."""
    ec2 = sandbox.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    needed = {"Image": "watcher:0.1.0", "VpcId": vpc, "SubnetIds": subnet}
    return create(sandbox, "ecs.yaml", **needed, **parameters)
