"""Replaces moto's IAM checks: which actions a request needs, on which resources, and the error of a denial.

For SageMaker, DynamoDB, SNS, CloudWatch and the logs, moto checks the name of the operation on the resource
`*`, and answers with its own error codes. At AWS, a batch needs the action of its parts, and a transaction
needs those of its items; a denial is an `AccessDeniedException`, an unknown key an
`UnrecognizedClientException`.

moto enforces policies only after a request to `/moto-api/reset-auth`. The sandbox's own key then belongs to
the root user, which no policy restricts. Conditions of identity policies are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.credentials import Credentials
from moto.core.exceptions import JsonRESTError
from moto.iam import access_control

from watcher.sandbox.environment import ACCESS_KEY, SECRET_KEY

Permission = tuple[str, str]
"""An action, and the ARN of the resource on which it is needed, or `*`."""


ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

_create_access_key = access_control.create_access_key


def install() -> None:
    access_control.IAMRequest = Request
    access_control.create_access_key = create_access_key
    access_control.AssumedRoleAccessKey = AssumedRoleKey


def create_access_key(account_id: str, partition: str, access_key_id: str, headers: Mapping[str, str]) -> Any:
    """The principal whose key signed the request."""
    if access_key_id == ACCESS_KEY:
        return RootKey(f"arn:{partition}:iam::{account_id}:root")
    return _create_access_key(account_id, partition, access_key_id, headers)


@dataclass(frozen=True, slots=True)
class RootKey:
    arn: str

    def create_credentials(self) -> Credentials:
        return Credentials(ACCESS_KEY, SECRET_KEY)

    def collect_policies(self) -> list[dict[str, str]]:
        return [{"policy_document": json.dumps(ALLOW_ALL)}]


class AssumedRoleKey(access_control.AssumedRoleAccessKey):  # type: ignore[misc]
    def collect_policies(self) -> list[Any]:
        """CloudFormation stores a role's policies as documents, but moto expects them as JSON text."""
        policies = super().collect_policies()
        return [
            json.dumps(each) if isinstance(each, dict) and "Statement" in each else each for each in policies
        ]


class Request(access_control.IAMRequest):  # type: ignore[misc]
    _action: str
    _resource: str

    def check_action_permitted(self, resource: str) -> None:
        is_json = "X-Amz-Target" in self._headers
        request = json.loads(self._body or "{}") if is_json else _form(self._data)
        needed = permissions(self._action, request, f"{self._region}:{self.account_id}")
        for action, each in needed or [(self._action, resource)]:
            self._action, self._resource = action, each
            super().check_action_permitted(each)

    def _raise_invalid_access_key(self, reason: str) -> None:
        if "X-Amz-Target" not in self._headers:
            super()._raise_invalid_access_key(reason)
        raise JsonRESTError(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )

    def _raise_access_denied(self) -> None:
        if "X-Amz-Target" not in self._headers:
            super()._raise_access_denied()
        raise JsonRESTError(
            "AccessDeniedException",
            f"User: {self._access_key.arn} is not authorized to perform: {self._action} on resource: "
            f"{self._resource}",
        )


def permissions(action: str, request: Mapping[str, Any], where: str) -> list[Permission]:
    """The permissions that the request needs; empty for services that moto checks correctly.

    `action` is the service of the signature and the operation (`monitoring:GetMetricData`). `where` is
    `REGION:ACCOUNT`.
    """
    service, _, operation = action.partition(":")
    match service:
        case "sagemaker":
            named = request.get("TrainingJobName")
            arn = f"arn:aws:sagemaker:{where}:training-job/{named}" if named else request.get("ResourceArn")
            return [(action, arn or "*")]
        case "logs":
            group, stream = request.get("logGroupName", ""), request.get("logStreamName", "")
            return [(action, f"arn:aws:logs:{where}:log-group:{group}:log-stream:{stream}")]
        case "monitoring":
            return [(f"cloudwatch:{operation}", "*")]
        case "sqs":
            queue = request.get("QueueName") or request.get("QueueUrl", "").rpartition("/")[2]
            return [(action.removesuffix("Batch"), f"arn:aws:sqs:{where}:{queue}")]
        case "sns":
            return [(action, request.get("TopicArn", "*"))]
        case "dynamodb":
            tables = f"arn:aws:dynamodb:{where}:table/"
            return [(needed, tables + table) for needed, table in _on_tables(operation, request)]
        case _:
            return []


def _form(data: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a request in an older protocol, whose values moto keeps as lists."""
    return {name: value[0] if isinstance(value, list) else value for name, value in data.items()}


def _on_tables(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The actions, each with the table or index on which it is needed."""
    if operation == "TransactWriteItems":
        for item in request["TransactItems"]:
            for kind, members in item.items():
                action = "ConditionCheckItem" if kind == "ConditionCheck" else f"{kind}Item"
                yield f"dynamodb:{action}", members["TableName"]
    elif "RequestItems" in request:
        yield from ((f"dynamodb:{operation}", table) for table in request["RequestItems"])
    else:
        index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
        yield f"dynamodb:{operation}", request.get("TableName", "") + index
