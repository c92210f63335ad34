"""Parsing Amazon Resource Names."""

from __future__ import annotations

import pytest

from watcher.arn import ROLE_ARN, TOPIC_ARN, TRAINING_JOB_ARN, Arn, is_arn, job_name

JOB = "arn:aws:sagemaker:us-east-1:111122223333:training-job/churn"
ROLE = "arn:aws:iam::111122223333:role/service-role/watcher"
TOPIC = "arn:aws-cn:sns:cn-north-1:111122223333:alerts.fifo"


def test_an_arn_has_five_parts_after_its_prefix():
    assert Arn.parse(JOB) == ("aws", "sagemaker", "us-east-1", "111122223333", "training-job/churn")


def test_a_role_has_no_region():
    assert Arn.parse(ROLE) == ("aws", "iam", "", "111122223333", "role/service-role/watcher")


def test_a_resource_keeps_its_colons():
    stream = "arn:aws:logs:us-east-1:111122223333:log-group:rules:log-stream:churn/algo-1"
    assert Arn.parse(stream).resource == "log-group:rules:log-stream:churn/algo-1"


@pytest.mark.parametrize("text", ["", "churn", "arn:aws:sagemaker", "arn:aws:iam::111122223333"])
def test_a_text_with_fewer_parts_is_not_an_arn(text):
    with pytest.raises(ValueError, match="is not an ARN"):
        Arn.parse(text)


def test_a_job_is_named_by_its_arn_or_its_plain_name():
    assert job_name(JOB) == job_name("churn") == "churn"
    assert is_arn(JOB)
    assert not is_arn("churn")


@pytest.mark.parametrize(("pattern", "own"), [(TRAINING_JOB_ARN, JOB), (ROLE_ARN, ROLE), (TOPIC_ARN, TOPIC)])
def test_each_pattern_matches_only_arns_of_its_own_kind(pattern, own):
    assert [text for text in (JOB, ROLE, TOPIC, "churn") if pattern.fullmatch(text)] == [own]
