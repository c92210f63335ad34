"""Asks IAM what a role may do, by its policy simulator.

The simulator judges the policies of the role, its permissions boundary and the policies of the organization;
it does not know the policies of buckets, queues, topics and keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from watcher.aws.session import Aws, translate
from watcher.errors import AwsError, UsageError

if TYPE_CHECKING:
    from watcher.aws.permissions import Need

ALLOWED = "allowed"

_ASSUMED_ROLE = re.compile(r"arn:(aws[a-z-]*):sts::(\d+):assumed-role/([^/]+)/.+")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:(role|user|group)/.+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What IAM says of one action on one resource."""

    statement: str
    """Of the policy that Watcher needs; empty for an action that a person asks about."""
    action: str
    resource: str
    decision: str
    """`allowed`, `explicitDeny` or `implicitDeny`."""
    by: tuple[str, ...]
    """The policies with a statement that decided, with its line where IAM gives it. Empty if none matches."""
    missing_context: tuple[str, ...]
    """Condition keys that a policy asks for and the simulation does not know."""

    @property
    def allowed(self) -> bool:
        return self.decision == ALLOWED


def caller(aws: Aws) -> str:
    """The ARN of who asks: of a user, or of the session of a role. Needs no permission."""
    with translate("sts:GetCallerIdentity"):
        return str(aws.sts.get_caller_identity()["Arn"])


def principal(aws: Aws, caller: str) -> str:
    """The ARN of the user or role whose policies apply. IAM does not know sessions."""
    if session := _ASSUMED_ROLE.fullmatch(caller):
        with translate("iam:GetRole"):  # the ARN of the session lacks the path of the role
            return str(aws.client("iam").get_role(RoleName=session[3])["Role"]["Arn"])
    return caller


def simulate(aws: Aws, principal: str, need: Need) -> Iterator[Verdict]:
    """One request for each page of verdicts. Raises `UsageError` for what is no role, user or group, or none
    that IAM knows, and for actions or resources that it does not take; and `AwsError`."""
    if not _PRINCIPAL.fullmatch(principal):
        raise UsageError(
            f"{principal} is no role, user or group, and IAM judges only those: name one with --role ARN"
        )
    with _known(principal), translate("iam:SimulatePrincipalPolicy"):
        pages = (
            aws.client("iam")
            .get_paginator("simulate_principal_policy")
            .paginate(
                PolicySourceArn=principal,
                ActionNames=list(need.actions),
                ResourceArns=list(need.resources),
                ContextEntries=[
                    {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                    for key, value in need.context.items()
                ],
            )
        )
        for page in pages:
            for result in page["EvaluationResults"]:
                yield from _verdicts(need, result)


@contextmanager
def _known(principal: str) -> Iterator[None]:
    try:
        yield
    except AwsError as error:
        answer = error.__cause__
        refusal = answer.response["Error"] if isinstance(answer, ClientError) else {}
        if refusal.get("Code") in _UNKNOWN:
            raise UsageError(f"IAM has no {principal}: check the ARN, or name another with --role") from error
        if refusal.get("Code") in _INVALID:
            raise UsageError(
                f"IAM does not take what it was asked about ({refusal['Message']}): write an action without "
                "wildcards, such as s3:GetObject, and a resource as an ARN or *"
            ) from error
        raise


_UNKNOWN = {"NoSuchEntity", "NoSuchEntityException"}
_INVALID = {"InvalidInput", "InvalidInputException"}


def _verdicts(need: Need, result: Mapping[str, Any]) -> Iterator[Verdict]:
    """For several resources, IAM says for each what it decides."""
    specific: Sequence[Mapping[str, Any]] = result.get("ResourceSpecificResults") or (
        {
            "EvalResourceName": result.get("EvalResourceName", "*"),
            "EvalResourceDecision": result["EvalDecision"],
        },
    )
    for each in specific:
        details = {**result, **each}
        yield Verdict(
            need.statement,
            result["EvalActionName"],
            each["EvalResourceName"],
            each["EvalResourceDecision"],
            tuple(_by(details)),
            tuple(details.get("MissingContextValues", ())),
        )


def _by(details: Mapping[str, Any]) -> Iterator[str]:
    if details.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
        yield "a policy of the organization"
    if details.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary") is False:
        yield "the permissions boundary"
    for statement in details.get("MatchedStatements", ()):
        line = statement.get("StartPosition", {}).get("Line")
        yield statement["SourcePolicyId"] + (f", line {line}" if line else "")
