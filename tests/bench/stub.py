"""A SageMaker that answers immediately, because every page is rendered before the first request.

    python -m tests.bench.stub JOBS

prints its address, answers `Search` (100 whole records per page) and `DescribeTrainingJob`, shows the number
of calls at `GET /calls`, and ends when its standard input closes. All jobs are in progress: the search for
jobs that changed and are not in progress any more finds none.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = 100
NOTHING_SAVED = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
ECR = "683313688378.dkr.ecr.us-east-1.amazonaws.com"
STARTED_AT = time.time() - 600
"""Start of the first job, recent enough that a rule without a log is not reported as stuck."""


def record(number: int) -> dict[str, Any]:
    """A training job as `Search` returns it: an XGBoost job with one rule and a dozen hyperparameters."""
    name = f"bench-xgb-2026-11-20-12-00-{number:05d}"
    account = "arn:aws:sagemaker:us-east-1:111122223333"
    rule_job = f"{name[:26]}-lossnotdecreasing-{number:08x}"
    started_at = STARTED_AT + number / 100
    return {
        "TrainingJobName": name,
        "TrainingJobArn": f"{account}:training-job/{name}",
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Training",
        "HyperParameters": {f"parameter_{index}": str(index) for index in range(12)},
        "AlgorithmSpecification": {
            "TrainingImage": f"{ECR}/sagemaker-xgboost:1.7-1",
            "TrainingInputMode": "File",
            "EnableSageMakerMetricsTimeSeries": True,
        },
        "RoleArn": "arn:aws:iam::111122223333:role/training",
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://bench/{name}/{channel}/",
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
                "ContentType": "text/csv",
                "CompressionType": "None",
                "RecordWrapperType": "None",
            }
            for channel in ("train", "validation")
        ],
        "OutputDataConfig": {"KmsKeyId": "", "S3OutputPath": "s3://bench/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "CreationTime": started_at,
        "TrainingStartTime": started_at,
        "LastModifiedTime": started_at,
        "SecondaryStatusTransitions": [
            {
                "Status": status,
                "StartTime": started_at,
                "StatusMessage": "Training image download completed. Training in progress.",
            }
            for status in ("Starting", "Downloading", "Training")
        ],
        "DebugHookConfig": {
            "S3OutputPath": "s3://bench/debug",
            "CollectionConfigurations": [
                {"CollectionName": "metrics", "CollectionParameters": {"save_interval": "2"}}
            ],
        },
        "DebugRuleConfigurations": [
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluatorImage": f"{ECR}/sagemaker-debugger-rules:latest",
                "RuleParameters": {"rule_to_invoke": "LossNotDecreasing", "num_steps": "10"},
            }
        ],
        "DebugRuleEvaluationStatuses": [
            {
                "RuleConfigurationName": "LossNotDecreasing",
                "RuleEvaluationJobArn": f"{account}:processing-job/{rule_job}",
                "RuleEvaluationStatus": "InProgress",
                "LastModifiedTime": started_at,
            }
        ],
        "Tags": [{"Key": "team", "Value": "growth"}],
    }


def is_in_progress_wanted(search: dict[str, Any]) -> bool:
    """Whether a `Search` asks for the jobs in progress, or for those that are not."""
    conditions = {each["Name"]: each for each in search["SearchExpression"]["Filters"]}
    status = conditions["TrainingJobStatus"]
    assert status["Value"] == "InProgress"
    if status["Operator"] == "Equals":
        return True
    assert status["Operator"] == "NotEquals"
    assert conditions["LastModifiedTime"]["Operator"] == "GreaterThanOrEqualTo", "it would read all jobs ever"
    return False


def pages(jobs: int) -> list[bytes]:
    rendered = []
    for start in range(0, jobs, PAGE):
        end = min(start + PAGE, jobs)
        answer: dict[str, Any] = {
            "Results": [{"TrainingJob": record(number)} for number in range(start, end)]
        }
        if end < jobs:
            answer["NextToken"] = str(end // PAGE)
        rendered.append(json.dumps(answer).encode())
    return rendered


def main(jobs: int) -> None:
    rendered, calls = pages(jobs), Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            parameters = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            calls[operation] += 1
            if operation == "Search" and not is_in_progress_wanted(parameters):
                self.answer(b'{"Results": []}')
            elif operation == "Search":
                self.answer(rendered[int(parameters.get("NextToken", 0))])
            elif operation == "DescribeTrainingJob":
                number = int(parameters["TrainingJobName"].rpartition("-")[2])
                self.answer(json.dumps(record(number)).encode())
            else:  # the rules have no logs yet
                self.answer(b'{"logStreams": [], "events": []}')

        def do_GET(self) -> None:
            if "list-type=2" in self.path:
                calls["ListObjectsV2"] += 1
                self.answer(NOTHING_SAVED)
            else:
                self.answer(json.dumps(calls).encode())

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
