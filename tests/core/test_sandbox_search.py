"""`Search` over training jobs, as its API reference describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from watcher.sandbox.sagemaker import shapes, training_job
from watcher.sandbox.sagemaker.api_errors import ApiError
from watcher.sandbox.sagemaker.search import search
from watcher.sandbox.sagemaker.training_job import TrainingJob

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


def a_job(name: str, *, created: float = NOON, **members: Any) -> TrainingJob:
    return training_job.placed(
        name,
        {"CreationTime": created, "LastModifiedTime": created, **members},
        account="123456789012",
        region="us-east-1",
        now=created,
        old=None,
    )


def found(jobs: list[TrainingJob], *filters: dict[str, str], **request: Any) -> list[str]:
    expression = {"Filters": list(filters)} if filters else {}
    page, _ = search({"Resource": "TrainingJob", "SearchExpression": expression, **request}, jobs)
    return sorted(job.name for job in page)


def where(name: str, operator: str, value: str | None = None) -> dict[str, str]:
    return {"Name": name, "Operator": operator} | ({"Value": value} if value is not None else {})


JOBS = [
    a_job("early", created=NOON - 3600, HyperParameters={"max_depth": "4", "eta": "0.3"}),
    a_job(
        "noon",
        HyperParameters={"max_depth": "16"},
        Tags=[{"Key": "team", "Value": "growth"}, {"Key": "a.b", "Value": "dotted"}],
    ),
    a_job(
        "late",
        created=NOON + 3600,
        TrainingJobStatus="Failed",
        EnableManagedSpotTraining=True,
        Tags=[{"Key": "team", "Value": "search"}],
    ),
]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        (where("TrainingJobStatus", "Equals", "InProgress"), ["early", "noon"]),
        (where("TrainingJobStatus", "NotEquals", "InProgress"), ["late"]),
        (where("TrainingJobName", "Contains", "a"), ["early", "late"]),
        (where("TrainingJobName", "In", "noon, late"), ["late", "noon"]),
        (where("Tags.team", "Equals", "growth"), ["noon"]),
        (where("Tags.a.b", "Equals", "dotted"), ["noon"]),
        (where("Tags.team", "Exists"), ["late", "noon"]),
        (where("Tags.team", "NotExists"), ["early"]),
        (where("Tags", "Equals", "team"), ["late", "noon"]),
        (where("HyperParameters.max_depth", "GreaterThan", "9"), ["noon"]),
        (where("HyperParameters.max_depth", "LessThanOrEqualTo", "4"), ["early"]),
        (where("EnableManagedSpotTraining", "Equals", "true"), ["late"]),
        (where("CreationTime", "GreaterThanOrEqualTo", "2026-11-20T12:00:00Z"), ["late", "noon"]),
        (where("CreationTime", "LessThan", "2026-11-20T12:00:00"), ["early"]),
        (where("LastModifiedTime", "GreaterThan", "2026-11-20T12:00:00"), ["late"]),
        (where("LastModifiedTime", "GreaterThanOrEqualTo", "2026-11-20T12:00:00"), ["late", "noon"]),
        (where("LastModifiedTime", "LessThanOrEqualTo", "2026-11-20T13:00:00+01:00"), ["early", "noon"]),
        (where("LastModifiedTime", "Equals", "2026-11-20T12:00:00.000Z"), ["noon"]),
        (where("LastModifiedTime", "NotEquals", "2026-11-20T12:00:00"), ["early", "late"]),
        (where("StoppingCondition.MaxRuntimeInSeconds", "GreaterThan", "86400.5"), []),
        ({"Name": "TrainingJobName", "Value": "noon"}, ["noon"]),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else None,
)
def test_a_filter_keeps_the_jobs_for_which_it_holds(condition: dict[str, str], names: list[str]) -> None:
    assert found(JOBS, condition) == names


def test_all_filters_must_hold_unless_the_operator_is_or() -> None:
    conditions = [where("TrainingJobName", "Equals", "noon"), where("TrainingJobStatus", "Equals", "Failed")]
    assert found(JOBS, *conditions) == []
    either = {"Filters": conditions, "Operator": "Or"}
    page, _ = search({"Resource": "TrainingJob", "SearchExpression": either}, JOBS)
    assert sorted(job.name for job in page) == ["late", "noon"]


def test_subexpressions_are_expressions_of_their_own() -> None:
    expression = {
        "Filters": [where("TrainingJobName", "Contains", "n")],
        "SubExpressions": [
            {
                "Filters": [where("Tags.team", "Equals", "growth"), where("Tags.team", "Equals", "search")],
                "Operator": "Or",
            }
        ],
    }
    page, _ = search({"Resource": "TrainingJob", "SearchExpression": expression}, JOBS)
    assert [job.name for job in page] == ["noon"]


def test_nested_filters_must_all_hold_for_the_same_item() -> None:
    def channel(name: str, uri: str) -> dict[str, Any]:
        return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}

    together = a_job("together", InputDataConfig=[channel("train", "s3://mine/"), channel("test", "s3://x/")])
    apart = a_job("apart", InputDataConfig=[channel("train", "s3://x/"), channel("test", "s3://mine/")])
    nested = {
        "NestedPropertyName": "InputDataConfig",
        "Filters": [
            where("InputDataConfig.ChannelName", "Equals", "train"),
            where("InputDataConfig.DataSource.S3DataSource.S3Uri", "Contains", "mine"),
        ],
    }
    page, _ = search(
        {"Resource": "TrainingJob", "SearchExpression": {"NestedFilters": [nested]}}, [together, apart]
    )
    assert [job.name for job in page] == ["together"]


def test_the_latest_change_comes_first_unless_another_order_is_requested() -> None:
    page, _ = search({"Resource": "TrainingJob"}, JOBS)
    assert [job.name for job in page] == ["late", "noon", "early"]
    page, _ = search({"Resource": "TrainingJob", "SortBy": "TrainingJobName", "SortOrder": "Ascending"}, JOBS)
    assert [job.name for job in page] == ["early", "late", "noon"]


def test_a_page_has_ten_jobs_unless_another_size_is_requested() -> None:
    jobs = [a_job(f"job-{number:02}") for number in range(25)]
    page, token = search({"Resource": "TrainingJob"}, jobs)
    assert len(page) == 10
    assert token is not None


def every_page(jobs: list[TrainingJob], **request: Any) -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        following = {"NextToken": token} if token else {}
        page, token = search({"Resource": "TrainingJob", "MaxResults": 2, **request, **following}, jobs)
        names += [job.name for job in page]
        if token is None:
            return names


@pytest.mark.parametrize("order", ["Ascending", "Descending"])
def test_each_job_is_on_one_page_even_when_the_sorted_property_is_equal_or_missing(order: str) -> None:
    jobs = [a_job(f"job-{number}") for number in range(4)]
    jobs += [a_job(f"failed-{number}", FailureReason="same") for number in range(3)]
    names = every_page(jobs, SortBy="FailureReason", SortOrder=order)
    assert sorted(names) == sorted(job.name for job in jobs)


def test_a_job_that_changes_between_two_pages_is_found_again_and_hides_no_other() -> None:
    jobs = [a_job(f"job-{number}", created=NOON + number) for number in range(4)]
    request = {"Resource": "TrainingJob", "MaxResults": 2, "SortOrder": "Ascending"}
    _, token = search(request, jobs)
    page, token = search(
        {**request, "NextToken": token}, [a_job("job-0", LastModifiedTime=NOON + 60), *jobs[1:]]
    )
    assert ([job.name for job in page], token is None) == (["job-2", "job-3"], False)
    page, token = search(
        {**request, "NextToken": token}, [a_job("job-0", LastModifiedTime=NOON + 60), *jobs[1:]]
    )
    assert ([job.name for job in page], token) == (["job-0"], None)


def test_a_job_that_leaves_the_result_between_two_pages_hides_no_other() -> None:
    jobs = [a_job(f"job-{number}", created=NOON + number) for number in range(4)]
    request = {"Resource": "TrainingJob", "MaxResults": 2, "SortBy": "CreationTime", "SortOrder": "Ascending"}
    _, token = search(request, jobs)
    page, _ = search({**request, "NextToken": token}, jobs[1:])
    assert [job.name for job in page] == ["job-2", "job-3"]


def test_search_returns_tags_and_debugger_rules_but_no_profiler_rules() -> None:
    job = a_job(
        "ruled",
        Tags=[{"Key": "team", "Value": "growth"}],
        DebugRuleEvaluationStatuses=[{"RuleConfigurationName": "Loss", "RuleEvaluationStatus": "Error"}],
        ProfilerRuleConfigurations=[{"RuleConfigurationName": "Report", "RuleEvaluatorImage": "image"}],
        ProfilerRuleEvaluationStatuses=[{"RuleConfigurationName": "Report", "RuleEvaluationStatus": "Error"}],
    )
    record = job.searchable
    assert record["Tags"] == [{"Key": "team", "Value": "growth"}]
    assert record["DebugRuleEvaluationStatuses"][0]["RuleEvaluationStatus"] == "Error"
    assert not [member for member in record if member.startswith("ProfilerRule")]


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        (where("NoSuchProperty", "Equals", "x"), "Unknown property name: NoSuchProperty"),
        (
            where("ResourceConfig.NoSuchMember", "Exists"),
            "Unknown property name: ResourceConfig.NoSuchMember",
        ),
        (where("TrainingJobName", "Equals"), "needs a Value"),
        (where("CreationTime", "GreaterThan", "yesterday"), "'yesterday' of CreationTime is not a time"),
        (where("LastModifiedTime", "GreaterThan", str(NOON)), "is not a time in the format YYYY-mm-dd'T'HH"),
        (where("LastModifiedTime", "Equals", "2026-11-31T12:00:00"), "is not a time"),
        (where("LastModifiedTime", "Equals", "2026-11-20"), "is not a time"),
        (where("LastModifiedTime", "Contains", "2026"), "Contains is not supported for the timestamp"),
        (where("CreationTime", "In", "2026-11-20T12:00:00"), "In is not supported for the timestamp"),
        (where("TrainingJobStatus", "GreaterThan", "Failed"), "GreaterThan is not supported for the text"),
        (where("StoppingCondition.MaxRuntimeInSeconds", "Equals", "long"), "is not a number"),
        (where("EnableManagedSpotTraining", "Equals", "yes"), "is neither true nor false"),
        (where("ResourceConfig", "Equals", "x"), "Equals is not supported for the structured property"),
    ],
)
def test_an_invalid_filter_is_refused(condition: dict[str, str], complaint: str) -> None:
    with pytest.raises(ApiError, match=complaint) as refused:
        found(JOBS, condition)
    assert refused.value.code == "ValidationException"


def test_an_expression_can_contain_one_contains() -> None:
    twice = [where("TrainingJobName", "Contains", "n"), where("TrainingJobArn", "Contains", "n")]
    with pytest.raises(ApiError, match=r"'CONTAINS' operator usage limit of 1 exceeded\."):
        found(JOBS, *twice)


def test_a_made_up_token_is_refused() -> None:
    with pytest.raises(ApiError, match="NextToken"):
        found(JOBS, NextToken="12")


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({"Resource": "TrainingJob", "MaxResults": 101}, "less than or equal to 100"),
        ({"Resource": "TrainingJob", "MaxResults": 0}, "greater than or equal to 1"),
        ({"Resource": "Nonsense"}, "enum value set"),
        (
            {
                "Resource": "TrainingJob",
                "SearchExpression": {"Filters": [where("LastModifiedTime", "Since", "2026-11-20T12:00:00")]},
            },
            "'Since' at 'searchExpression.filters.1.member.operator' failed to satisfy constraint: "
            r"Member must satisfy enum value set: \[Equals, NotEquals, GreaterThan,",
        ),
        ({}, "'resource' failed to satisfy constraint: Member must not be null"),
        (
            {
                "Resource": "TrainingJob",
                "SearchExpression": {"Filters": [where("TrainingJobName", "Equals", "x")] * 21},
            },
            "length less than or equal to 20",
        ),
    ],
)
def test_a_request_that_breaks_the_model_is_refused_as_sagemaker_refuses_it(
    request_: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ApiError, match=complaint) as refused:
        shapes.validate("Search", request_)
    assert str(refused.value).startswith("1 validation error detected: Value")


@dataclass(frozen=True)
class AComponent:
    searchable: dict[str, Any]


COMPONENTS = [
    AComponent(
        {
            "TrialComponentName": name,
            "LastModifiedTime": NOON,
            "Tags": [],
            "Status": {"PrimaryStatus": "Completed"},
            "Parameters": {
                "depth": {"NumberValue": depth},
                "SageMaker.InstanceType": {"StringValue": "ml.m5.xlarge"},
                "kind": {"StringValue": kind},
            },
            "OutputArtifacts": {"SageMaker.ModelArtifact": {"Value": f"s3://{name}"}},
            "Metrics": [{"MetricName": "a.b:auc", "Max": best, "Last": 0.5}] if best else [],
            "Parents": [
                {"TrialName": f"trial-{name}", "ExperimentName": "churn"},
                {"TrialName": "shared", "ExperimentName": "other"},
            ],
        }
    )
    for name, depth, kind, best in (("a", 2.0, "x", 0.7), ("b", 16.0, "y", 0.9), ("c", 4.0, "x", None))
]


def components(expression: dict[str, Any], **request: Any) -> list[str]:
    page, _ = search(
        {"Resource": "ExperimentTrialComponent", "SearchExpression": expression, **request}, COMPONENTS
    )
    return [each.searchable["TrialComponentName"] for each in page]


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        (where("Parents.TrialName", "Equals", "trial-b"), ["b"]),
        (where("Parents.ExperimentName", "Equals", "churn"), ["c", "b", "a"]),
        (where("Parameters.depth", "GreaterThan", "3"), ["c", "b"]),
        (where("Parameters.depth", "Equals", "16"), ["b"]),
        (where("Parameters.depth.NumberValue", "LessThan", "3"), ["a"]),
        (where("Parameters.kind", "Equals", "x"), ["c", "a"]),
        (where("Parameters.kind", "Contains", "y"), ["b"]),
        (where("Parameters.SageMaker.InstanceType", "In", "ml.m5.xlarge, other"), ["c", "b", "a"]),
        (where("Parameters.missing", "NotExists"), ["c", "b", "a"]),
        (where("Metrics.a.b:auc.Max", "GreaterThanOrEqualTo", "0.7"), ["b", "a"]),
        (where("metrics.a.b:auc.max", "LessThan", "0.8"), ["a"]),
        (where("Metrics.a.b:auc.Last", "NotExists"), ["c"]),
        (where("Metrics.MetricName", "Equals", "a.b:auc"), ["b", "a"]),
        (where("OutputArtifacts.SageMaker.ModelArtifact", "Equals", "s3://c"), ["c"]),
        (where("OutputArtifacts.SageMaker.ModelArtifact.Value", "Equals", "s3://c"), ["c"]),
        (where("Status.PrimaryStatus", "Equals", "Completed"), ["c", "b", "a"]),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else None,
)
def test_a_filter_keeps_the_components_for_which_it_holds(
    condition: dict[str, str], names: list[str]
) -> None:
    assert components({"Filters": [condition]}) == names


def test_components_are_ordered_by_a_metric_and_those_without_it_come_last() -> None:
    assert components({}, SortBy="Metrics.a.b:auc.Max") == ["b", "a", "c"]
    assert components({}, SortBy="Parameters.depth", SortOrder="Ascending") == ["a", "c", "b"]


def test_nested_filters_look_for_one_parent_that_fits() -> None:
    def nested(trial: str, experiment: str) -> dict[str, Any]:
        conditions = [
            where("Parents.TrialName", "Equals", trial),
            where("Parents.ExperimentName", "Equals", experiment),
        ]
        return {"NestedFilters": [{"NestedPropertyName": "Parents", "Filters": conditions}]}

    assert components(nested("trial-a", "churn")) == ["a"]
    assert components(nested("trial-a", "other")) == []


def test_a_metric_of_a_component_needs_a_statistic() -> None:
    with pytest.raises(ApiError, match=re.escape("Unknown property name: Metrics.auc")):
        components({"Filters": [where("Metrics.auc", "GreaterThan", "1")]})


def test_jobs_are_found_and_ordered_by_their_final_metrics() -> None:
    def final(value: float) -> list[dict[str, Any]]:
        return [{"MetricName": "validation:auc", "Value": value, "Timestamp": NOON}]

    jobs = [
        a_job("a", FinalMetricDataList=final(0.7)),
        a_job("b", FinalMetricDataList=final(0.9)),
        a_job("c"),
    ]
    assert found(jobs, where("Metrics.validation:auc", "GreaterThan", "0.8")) == ["b"]
    page, _ = search({"Resource": "TrainingJob", "SortBy": "Metrics.validation:auc"}, jobs)
    assert [job.name for job in page] == ["b", "a", "c"]
