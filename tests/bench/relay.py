"""What `tests.bench.events` compares Watcher with: a bare client that keeps nothing and has one thread.

    python -m tests.bench.relay QUEUE_URL SLACK_API_URL TOKEN

It receives events, describes each job, posts a message if a rule has found an issue, and deletes the event:
over one connection to each service, without signatures, evidence, state or retries.
"""

from __future__ import annotations

import json
import re
import sys
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

JOB = re.compile(r"bench-xgb-2026-11-20-12-00-(\d{3}(\d\d))")


def main(queue_url: str, slack_url: str, token: str) -> None:
    aws = HTTPConnection(urlsplit(queue_url).netloc)
    slack = HTTPConnection(urlsplit(slack_url).netloc)
    authorized = {"Authorization": f"Bearer {token}", "Content-Type": "application/json; charset=utf-8"}

    def asked(target: str, parameters: dict[str, Any]) -> Any:
        aws.request("POST", "/", json.dumps(parameters), {"X-Amz-Target": target})
        return json.load(aws.getresponse())

    print('{"event": "ready"}', file=sys.stderr, flush=True)
    while True:
        received = asked(
            "AmazonSQS.ReceiveMessage",
            {"QueueUrl": queue_url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20},
        )
        for message in received.get("Messages", ()):
            found = JOB.search(message["Body"])
            assert found, "each event names a job"
            job = asked("SageMaker.DescribeTrainingJob", {"TrainingJobName": found[0]})
            [rule] = job["DebugRuleEvaluationStatuses"]
            if rule["RuleEvaluationStatus"] == "IssuesFound":
                text = f"{rule['RuleConfigurationName']} found an issue in {found[0]}"
                blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]
                posted = {"channel": f"C{int(found[2]):010d}", "text": text, "blocks": blocks}
                slack.request(
                    "POST", urlsplit(slack_url).path + "chat.postMessage", json.dumps(posted), authorized
                )
                assert json.load(slack.getresponse())["ok"]
            receipt = {"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}
            asked("AmazonSQS.DeleteMessageBatch", {"QueueUrl": queue_url, "Entries": [receipt]})


if __name__ == "__main__":
    main(*sys.argv[1:])
