"""An event only says which training job to look at; nothing else in it is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.jobs.events import PROCESSING_JOB, TRAINING_JOB, Unreadable, hint, look_again

ARN = "arn:aws:sagemaker:us-east-1:111122223333:training-job/churn-xgb-2026-11-18-09-30-02-114"
RULE_JOB = "arn:aws:sagemaker:us-east-1:111122223333:processing-job/churn-lossnotdecreasing-ee3df9a4"


def event(detail_type: str = TRAINING_JOB, **detail: object) -> dict[str, object]:
    return {
        "version": "0",
        "source": "aws.sagemaker",
        "detail-type": detail_type,
        "resources": [ARN],
        "detail": {"TrainingJobArn": ARN, "TrainingJobStatus": "InProgress", **detail},
    }


def test_a_training_jobs_event_names_the_job():
    assert hint(json.dumps(event())) == ARN


def test_an_event_without_an_arn_in_its_detail_names_the_job_in_its_resources():
    assert hint(json.dumps({**event(), "detail": {"TrainingJobName": "churn"}})) == ARN


def test_the_event_of_a_rules_processing_job_names_its_training_job():
    body = {**event(PROCESSING_JOB, ProcessingJobArn=RULE_JOB), "resources": [RULE_JOB]}
    assert hint(json.dumps(body)) == ARN


def test_the_event_of_any_other_processing_job_is_ignored():
    body = {**event(PROCESSING_JOB), "resources": [RULE_JOB], "detail": {"ProcessingJobArn": RULE_JOB}}
    assert hint(json.dumps(body)) is None


def test_an_event_in_an_sns_envelope_is_unwrapped():
    envelope = {"Type": "Notification", "TopicArn": "arn:…", "Message": json.dumps(event())}
    assert hint(json.dumps(envelope)) == ARN


def test_the_message_of_one_replica_is_understood_by_the_others():
    assert hint(look_again(ARN)) == ARN


@pytest.mark.parametrize(
    "body",
    [
        {"detail-type": "SageMaker Endpoint State Change", "detail": {"EndpointName": "x"}, "resources": []},
        {"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"},
        {"Service": "Amazon S3", "Event": "s3:TestEvent"},
        {},
    ],
)
def test_other_messages_are_ignored(body: dict[str, object]):
    assert hint(json.dumps(body)) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[1]",
        '"text"',
        json.dumps({"look_again": "churn"}),
        json.dumps({"look_again": 7}),
        json.dumps({**event(), "detail": {"TrainingJobArn": "arn:aws:s3:::bucket"}}),
        json.dumps({"Type": "Notification", "Message": "{"}),
        json.dumps({"Type": "Notification", "Message": "[" * 100_000}),
        json.dumps({"detail-type": TRAINING_JOB, "resources": 5}),
        json.dumps({"detail-type": TRAINING_JOB, "resources": {"0": ARN}}),
        json.dumps({"detail-type": TRAINING_JOB, "resources": ARN}),
        json.dumps({"detail-type": TRAINING_JOB, "resources": [[ARN]]}),
        json.dumps({"look_again": [ARN] * 1000}),
        "[" * 100_000,
        '{"look_again":' * 100_000,
        '{"look_again": ' + "9" * 10_000 + "}",
        '{"look_again": Infinity}',
        '{"look_again": "\\ud800"}',
        "\ud800",
        "\x00\xff\xfe",
        " " * (1 << 21),
    ],
    ids=range(22),
)
def test_a_malformed_message_is_unreadable_and_the_reason_is_short(body: str):
    with pytest.raises(Unreadable) as error:
        hint(body)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("detail_type", [5, None, [], {}, ["SageMaker Training Job State Change"], 1e308])
def test_a_message_of_another_type_is_ignored(detail_type: object):
    assert hint(json.dumps({"detail-type": detail_type, "resources": [ARN]})) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(
                    ["detail", "detail-type", "Type", "Message", "TrainingJobArn", "resources", "look_again"]
                ),
                c,
            )
        ),
    )
)
def test_any_body_is_a_hint_or_none_or_unreadable(document: object):
    try:
        found = hint(json.dumps(document))
    except Unreadable:
        return
    assert found is None or found.startswith("arn:aws")


@pytest.mark.parametrize(
    ("file", "arn"),
    [
        (file, ARN)
        for file in (
            "rule-processing-completed.json",
            "training-failed.json",
            "training-in-progress.json",
            "training-rule-issues-found.json",
        )
    ],
)
def test_the_documented_shapes_are_understood(file: str, arn: str):
    assert hint((Path(__file__).parent / "events" / file).read_text()) == arn
