"""IAM policies in the sandbox decide as in IAM's User Guide."""

from __future__ import annotations

from typing import Any

import pytest

from watcher.sandbox.aws.policies import Decision, Policy, decide

BUCKET = "arn:aws:s3:::models"
ALLOWED, DENIED, NOT_ALLOWED = Decision.ALLOWED, Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY


def allow(action: Any, resource: Any = "*", **elements: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **elements}


def deny(action: Any, resource: Any = "*", **elements: Any) -> dict[str, Any]:
    return {**allow(action, resource, **elements), "Effect": "Deny"}


def policy(*statements: dict[str, Any], name: str = "policy") -> Policy:
    return Policy.parsed(name, {"Statement": list(statements)})


@pytest.mark.parametrize(
    ("statements", "action", "resource", "decision"),
    [
        ([], "s3:GetObject", "*", NOT_ALLOWED),
        ([allow("s3:Get*")], "s3:GetObject", f"{BUCKET}/a", ALLOWED),
        ([allow("S3:getobject")], "s3:GetObject", f"{BUCKET}/a", ALLOWED),
        ([allow("s3:Get?bject")], "s3:GetObject", f"{BUCKET}/a", ALLOWED),
        ([allow("s3:Get")], "s3:GetObject", f"{BUCKET}/a", NOT_ALLOWED),
        ([allow(["sqs:*", "s3:*"], [BUCKET, f"{BUCKET}/*"])], "s3:GetObject", f"{BUCKET}/a/b", ALLOWED),
        ([allow("s3:*", f"{BUCKET}/*")], "s3:GetObject", f"{BUCKET.upper()}/a", NOT_ALLOWED),
        ([allow("s3:*", f"{BUCKET}/*")], "s3:GetObject", "*", NOT_ALLOWED),
        ([allow("s3:*"), deny("s3:Delete*")], "s3:DeleteObject", f"{BUCKET}/a", DENIED),
        ([allow("s3:*"), deny("s3:*", f"{BUCKET}/private/*")], "s3:GetObject", f"{BUCKET}/a", ALLOWED),
        ([allow("s3:*"), deny("s3:*", f"{BUCKET}/private/*")], "s3:GetObject", f"{BUCKET}/private/a", DENIED),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "s3:GetObject", "*", ALLOWED),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "iam:GetRole", "*", NOT_ALLOWED),
        ([{"Effect": "Allow", "Action": "*", "NotResource": BUCKET}], "s3:ListBucket", BUCKET, NOT_ALLOWED),
        ([{"Effect": "Allow", "Action": "*", "NotResource": BUCKET}], "s3:ListBucket", f"{BUCKET}2", ALLOWED),
    ],
)
def test_a_deny_wins_then_an_allow_and_nothing_else_is_allowed(statements, action, resource, decision):
    assert decide([policy(*statements)], action, resource, {}).decision is decision


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:ResourceTag/team": "ml"}}, {"aws:resourcetag/team": ["ml"]}, True),
        ({"StringEquals": {"aws:ResourceTag/team": ["ml", "ops"]}}, {"aws:resourcetag/team": ["ops"]}, True),
        ({"StringEquals": {"aws:ResourceTag/team": "ml"}}, {"aws:resourcetag/team": ["ML"]}, False),
        ({"StringEqualsIgnoreCase": {"team": "ml"}}, {"team": ["ML"]}, True),
        ({"StringLike": {"team": "m?-*"}}, {"team": ["ml-churn"]}, True),
        ({"StringNotEquals": {"team": ["ml", "ops"]}}, {"team": ["web"]}, True),
        ({"StringNotEquals": {"team": ["ml", "ops"]}}, {"team": ["ops"]}, False),
        ({"StringEquals": {"team": "ml"}}, {}, False),
        ({"StringNotEquals": {"team": "ml"}}, {}, True),
        ({"StringEqualsIfExists": {"team": "ml"}}, {}, True),
        ({"StringEqualsIfExists": {"team": "ml"}}, {"team": ["web"]}, False),
        ({"Null": {"team": "true"}}, {}, True),
        ({"Null": {"team": "false"}}, {}, False),
        ({"Bool": {"aws:SecureTransport": True}}, {"aws:securetransport": ["true"]}, True),
        ({"NumericLessThanEquals": {"sagemaker:Count": "2"}}, {"sagemaker:count": ["2"]}, True),
        ({"NumericGreaterThan": {"sagemaker:Count": "2"}}, {"sagemaker:count": ["many"]}, False),
        ({"DateLessThan": {"t": "2026-11-27T00:00:00Z"}}, {"t": ["2026-11-26T00:00:00Z"]}, True),
        ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["10.1.2.3"]}, True),
        ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, {"aws:sourceip": ["192.0.2.1"]}, True),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::m*"}}, {"aws:sourcearn": [BUCKET]}, True),
        ({"ForAllValues:StringEquals": {"tags": ["a", "b"]}}, {"tags": ["a", "b"]}, True),
        ({"ForAllValues:StringEquals": {"tags": ["a"]}}, {"tags": ["a", "c"]}, False),
        ({"ForAnyValue:StringEquals": {"tags": ["a"]}}, {"tags": ["a", "c"]}, True),
        ({"StringEquals": {"a": "1", "b": "2"}}, {"a": ["1"], "b": ["3"]}, False),
        ({"SoundsLike": {"team": "ml"}}, {"team": ["ml"]}, False),
    ],
)
def test_a_statement_counts_only_if_its_conditions_hold(condition, context, holds):
    verdict = decide([policy(allow("*", Condition=condition))], "s3:GetObject", "*", context)

    assert verdict.decision is (ALLOWED if holds else NOT_ALLOWED)


def test_keys_of_conditions_that_the_request_lacks_are_named():
    tagged = allow("sagemaker:Stop*", Condition={"StringEquals": {"aws:ResourceTag/watcher:stop": "allowed"}})
    other = allow("s3:*", Condition={"StringEquals": {"s3:prefix": "a"}})

    verdict = decide([policy(tagged, other)], "sagemaker:StopTrainingJob", "*", {})

    assert verdict.missing == ("aws:ResourceTag/watcher:stop",)


def test_policy_variables_are_taken_from_the_context():
    own = policy(allow("s3:*", f"{BUCKET}/${{aws:username}}/*"))

    assert decide([own], "s3:GetObject", f"{BUCKET}/anna/a", {"aws:username": ["anna"]}).decision is ALLOWED
    assert decide([own], "s3:GetObject", f"{BUCKET}/anna/a", {}).decision is NOT_ALLOWED


def test_the_policies_that_decided_are_named():
    reading, forbidding = policy(allow("s3:*"), name="reading"), policy(deny("s3:Put*"), name="forbidding")

    assert decide([reading, forbidding], "s3:GetObject", "*", {}).matched == ("reading",)
    assert decide([reading, forbidding], "s3:PutObject", "*", {}).matched == ("forbidding",)


@pytest.mark.parametrize(
    ("boundary", "decision", "within"),
    [(allow("s3:*"), ALLOWED, True), (allow("sqs:*"), NOT_ALLOWED, False), (deny("s3:*"), DENIED, False)],
)
def test_a_permissions_boundary_must_allow_it_too(boundary, decision, within):
    verdict = decide([policy(allow("*"))], "s3:GetObject", "*", {}, boundary=[policy(boundary)])

    assert (verdict.decision, verdict.within_boundary) == (decision, within)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "it has no Statement"),
        ({"Statement": {"Effect": "allow", "Action": "*", "Resource": "*"}}, "Allow or Deny"),
        ({"Statement": {"Effect": "Allow", "Resource": "*"}}, "a statement has no Action"),
        ({"Statement": {"Effect": "Allow", "Action": "*"}}, "a statement has no Resource"),
    ],
)
def test_what_is_no_policy_is_refused(document, why):
    with pytest.raises(ValueError, match=why):
        Policy.parsed("wrong", document)
