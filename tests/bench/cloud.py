"""The part of AWS that Watcher needs with a queue, faster than moto: SQS, DynamoDB, and the jobs of `stub`.

    python -m tests.bench.cloud JOBS [DELAY]

prints its address and ends when its standard input closes. Each response is delayed by DELAY seconds, like
on a network. All state is in memory and changed by one thread, so every write is atomic.

    POST /events {"first", "count", "rate", "fires"}
                  sends events of `count` jobs to the queue as EventBridge does, `rate` per second (0: all
                  at once); with `fires` their rules find an issue
    GET /put      the time at which each of these events was sent, by job
    GET /calls    the number of calls by operation, and DynamoDB's request units
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import Counter, defaultdict, deque
from typing import Any

from tests.bench.stub import NOTHING_SAVED, PAGE, is_in_progress_wanted, record
from watcher.jobs.events import PROCESSING_JOB

Item = dict[str, dict[str, str]]
"""Attributes in the format of DynamoDB's API."""

PAGE_BYTES = 1_000_000
"""The amount that DynamoDB reads for one page of a query."""
FIRED = "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 40 resulted in the "


class Refused(Exception):
    def __init__(self, code: str, **members: Any) -> None:
        self.body = {"__type": code, "message": code, **members}


class Jobs:
    """SageMaker, and the logs of rules' processing jobs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.fired: set[int] = set()

    def record(self, number: int) -> dict[str, Any]:
        job = record(number)
        if number in self.fired:
            job["DebugRuleEvaluationStatuses"][0] |= {
                "RuleEvaluationStatus": "IssuesFound",
                "StatusDetails": f"{FIRED}condition being met\n",
            }
        return job

    def search(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not is_in_progress_wanted(parameters):
            return {"Results": []}
        start = int(parameters.get("NextToken", 0))
        end = min(start + PAGE, self.count)
        more = {"NextToken": str(end)} if end < self.count else {}
        return {"Results": [{"TrainingJob": self.record(number)} for number in range(start, end)], **more}

    def describe_training_job(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self.record(int(parameters["TrainingJobName"].rpartition("-")[2]))

    def describe_log_streams(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {"logStreams": [{"logStreamName": f"{parameters['logStreamNamePrefix']}algo-1-1795168900000"}]}

    def filter_log_events(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"events": [], "searchedLogStreams": []}

    def get_log_events(self, request: dict[str, Any]) -> dict[str, Any]:
        count = 0 if "nextToken" in request else 20
        events = [{"timestamp": 1795168900000 + n, "message": f"line {n}"} for n in range(count)]
        return {"events": events, "nextForwardToken": "f/0", "nextBackwardToken": "b/0"}


class SqsQueue:
    """One queue with long polling, batches and visibility timeouts."""

    VISIBLE_AGAIN = 60.0

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque()
        self._in_flight: dict[str, tuple[tuple[str, str], asyncio.TimerHandle]] = {}
        self._receives = Counter[str]()
        self._receipts = 0
        self._arrived = asyncio.Condition()

    async def put(self, body: str) -> None:
        async with self._arrived:
            self._waiting.append((str(time.time_ns()), body))
            self._arrived.notify()

    async def receive_message(self, parameters: dict[str, Any]) -> dict[str, Any]:
        async with self._arrived:
            try:
                async with asyncio.timeout(parameters.get("WaitTimeSeconds", 0)):
                    await self._arrived.wait_for(lambda: self._waiting)
            except TimeoutError:
                return {}
            most = parameters.get("MaxNumberOfMessages", 1)
            return {"Messages": [self._receive() for _ in range(min(most, len(self._waiting)))]}

    def _receive(self) -> dict[str, Any]:
        message = self._waiting.popleft()
        sent, body = message
        self._receipts += 1
        self._receives[sent] += 1
        receipt = f"receipt-{self._receipts}"
        self._hide(receipt, message, self.VISIBLE_AGAIN)
        attributes = {
            "SentTimestamp": str(int(sent) // 1_000_000),
            "ApproximateReceiveCount": str(self._receives[sent]),
        }
        return {"MessageId": sent, "ReceiptHandle": receipt, "Body": body, "Attributes": attributes}

    def _hide(self, receipt: str, message: tuple[str, str], seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._show, receipt)
        self._in_flight[receipt] = message, timer

    def _show(self, receipt: str) -> None:
        self._waiting.append(self._in_flight.pop(receipt)[0])

    async def delete_message_batch(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for entry in parameters["Entries"]:
            if held := self._in_flight.pop(entry["ReceiptHandle"], None):
                held[1].cancel()
        return {"Successful": [{"Id": entry["Id"]} for entry in parameters["Entries"]], "Failed": []}

    async def change_message_visibility_batch(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for entry in parameters["Entries"]:
            if held := self._in_flight.pop(entry["ReceiptHandle"], None):
                held[1].cancel()
                self._hide(entry["ReceiptHandle"], held[0], entry["VisibilityTimeout"])
        return {"Successful": [{"Id": entry["Id"]} for entry in parameters["Entries"]], "Failed": []}

    async def send_message_batch(self, parameters: dict[str, Any]) -> dict[str, Any]:
        for entry in parameters["Entries"]:
            await self.put(entry["MessageBody"])
        return {"Successful": [{"Id": entry["Id"], "MessageId": "1"} for entry in parameters["Entries"]]}


class Table:
    """One DynamoDB table with the conditions that `watcher.store.dynamodb` uses. It counts the billed request
    units: per started 1 KB written (twice in a transaction) and per started 4 KB read."""

    def __init__(self, units: Counter[str]) -> None:
        self._partitions: defaultdict[str, dict[str, Item]] = defaultdict(dict)
        self._units = units

    def get_item(self, parameters: dict[str, Any]) -> dict[str, Any]:
        item = self._item(parameters["Key"])
        self._read(_size(item))
        return {"Item": item} if item else {}

    def batch_get_item(self, parameters: dict[str, Any]) -> dict[str, Any]:
        ((table, request),) = parameters["RequestItems"].items()
        found = [self.get_item({"Key": key}).get("Item") for key in request["Keys"]]
        return {"Responses": {table: [item for item in found if item]}, "UnprocessedKeys": {}}

    def query(self, parameters: dict[str, Any]) -> dict[str, Any]:
        values = {name: value["S"] for name, value in parameters["ExpressionAttributeValues"].items()}
        partition = self._partitions[values[":pk"]]
        after = max(
            values.get(":after", ""), parameters.get("ExclusiveStartKey", {}).get("sk", {}).get("S", "")
        )
        prefix, until = values.get(":prefix", ""), values.get(":until", "\U0010ffff")
        page: list[Item] = []
        read = 0
        answer: dict[str, Any] = {"Items": page}
        for sort_key in sorted(key for key in partition if after < key <= until and key.startswith(prefix)):
            if read > PAGE_BYTES or len(page) == parameters.get("Limit"):
                last = page[-1]
                answer["LastEvaluatedKey"] = {"pk": last["pk"], "sk": last["sk"]}
                break
            page.append(partition[sort_key])
            read += _size(partition[sort_key])
        self._read(read)
        return answer

    def scan(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """All on one page. A filter is one that `watcher.store.dynamodb` uses: the beginning of the keys."""
        values = {name: value["S"] for name, value in parameters.get("ExpressionAttributeValues", {}).items()}
        every = [item for partition in self._partitions.values() for item in partition.values()]
        self._read(sum(map(_size, every)))
        found = [
            item
            for item in every
            if item["pk"]["S"].startswith(values.get(":pk", ""))
            and item["sk"]["S"].startswith(values.get(":sk", ""))
        ]
        return {"Items": found[: parameters.get("Limit")]}

    def put_item(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._write_alone({"Put": parameters})

    def delete_item(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._write_alone({"Delete": parameters})

    def _write_alone(self, write: dict[str, Any]) -> dict[str, Any]:
        self._written(write, 1)
        if not self._holds(write):
            raise Refused("ConditionalCheckFailedException", **self._shown(write))
        self._apply(write)
        return {}

    def transact_write_items(self, parameters: dict[str, Any]) -> dict[str, Any]:
        writes = parameters["TransactItems"]
        for write in writes:
            self._written(write, 2)
        reasons = [
            {"Code": "None"}
            if self._holds(write)
            else {"Code": "ConditionalCheckFailed", **self._shown(write)}
            for write in writes
        ]
        if any(reason["Code"] != "None" for reason in reasons):
            raise Refused("TransactionCanceledException", CancellationReasons=reasons)
        for write in writes:
            self._apply(write)
        return {}

    def _item(self, key: Item) -> Item | None:
        return self._partitions[key["pk"]["S"]].get(key["sk"]["S"])

    def _shown(self, write: dict[str, Any]) -> dict[str, Any]:
        """The stored item, if a write whose condition does not hold asks for it."""
        (members,) = write.values()
        item = self._item(members.get("Item") or members["Key"])
        return {"Item": item} if item and "ReturnValuesOnConditionCheckFailure" in members else {}

    def _holds(self, write: dict[str, Any]) -> bool:
        """Whether one of the terms holds, such as `attribute_not_exists(pk)` or `#name = :value`."""
        (members,) = write.values()
        condition = members.get("ConditionExpression")
        if not condition:
            return True
        item = self._item(members.get("Item") or members["Key"])
        return any(self._term(term, item, members) for term in condition.split(" OR "))

    def _term(self, term: str, item: Item | None, members: dict[str, Any]) -> bool:
        if term == "attribute_not_exists(pk)":
            return item is None
        name, comparison, value = term.split()
        if item is None:
            return False
        found, wanted = (
            int(attribute["N"]) if "N" in attribute else attribute["S"]
            for attribute in (item[name.removeprefix("#")], members["ExpressionAttributeValues"][value])
        )
        return bool({"=": found == wanted, "<": found < wanted, "<=": found <= wanted}[comparison])

    def _apply(self, write: dict[str, Any]) -> None:
        ((action, members),) = write.items()
        key = members.get("Item") or members["Key"]
        partition = self._partitions[key["pk"]["S"]]
        if action == "Put":
            partition[key["sk"]["S"]] = members["Item"]
        else:
            partition.pop(key["sk"]["S"], None)

    def _written(self, write: dict[str, Any], times: int) -> None:
        (members,) = write.values()
        size = _size(members.get("Item") or self._item(members["Key"]))
        self._units["write units"] += times * max(math.ceil(size / 1024), 1)

    def _read(self, size: int) -> None:
        self._units["read units"] += max(math.ceil(size / 4096), 1)


def _size(item: Item | None) -> int:
    """Size in bytes as DynamoDB counts it; binary values are given in base64."""
    return sum(
        len(name) + (len(value["B"]) * 3 // 4 if "B" in value else len(value.get("S", "") or value["N"]))
        for name, value in (item or {}).items()
    )


class Cloud:
    def __init__(self, jobs: int, delay: float) -> None:
        self.calls = Counter[str]()
        self.put: dict[str, float] = {}
        self._jobs, self._queue, self._table = Jobs(jobs), SqsQueue(), Table(self.calls)
        self._delay = delay
        self._sending: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in map(_parted, lines)}
                body = await reader.readexactly(int(headers.get("content-length") or 0))
                target = headers.get("x-amz-target", "")
                status, answer = await self._answer(request.split()[1], target, body)
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                    % (status, b"application/x-amz-json-1.0", len(answer), answer)
                )
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()  # the client has disconnected, or the stand-in is ending

    async def _answer(self, path: str, target: str, body: bytes) -> tuple[int, bytes]:
        if not target and "list-type=2" not in path:
            return 200, json.dumps(self._control(path, body)).encode()
        if self._delay:
            await asyncio.sleep(self._delay)
        if not target:
            self.calls["ListObjectsV2"] += 1
            return 200, NOTHING_SAVED
        service, _, operation = target.partition(".")
        self.calls[operation] += 1
        try:
            found = getattr(self._of(service), _snake(operation))(json.loads(body))
            return 200, json.dumps(await found if asyncio.iscoroutine(found) else found).encode()
        except Refused as refused:
            return 400, json.dumps(refused.body).encode()

    def _of(self, service: str) -> Jobs | SqsQueue | Table:
        if service.startswith("DynamoDB"):
            return self._table
        return self._queue if service == "AmazonSQS" else self._jobs

    def _control(self, path: str, body: bytes) -> Any:
        if path == "/events":
            sending = asyncio.get_running_loop().create_task(self._send(**json.loads(body)))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return self.put if path == "/put" else self.calls

    async def _send(self, first: int, count: int, rate: float, fires: bool = True) -> None:
        begin = time.monotonic()
        for index in range(count):
            if rate:
                await asyncio.sleep(max(begin + index / rate - time.monotonic(), 0))
            job = self._jobs.record(first + index)
            if fires:
                self._jobs.fired.add(first + index)
            detail = {"TrainingJobArn": job["TrainingJobArn"], "ProcessingJobStatus": "Completed"}
            self.put[job["TrainingJobName"]] = time.time()
            await self._queue.put(
                json.dumps({"source": "aws.sagemaker", "detail-type": PROCESSING_JOB, "detail": detail})
            )


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _snake(operation: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("_")


async def main(jobs: int, delay: float) -> None:
    server = await asyncio.start_server(Cloud(jobs, delay).serve, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
