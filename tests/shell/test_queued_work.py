"""Work that replicas share through SQS: handled once, returned by dead replicas, separated from noise."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.pipelines import a_pipeline
from watcher.aws.accounts import Accounts
from watcher.aws.queue import Queue
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws
from watcher.config.settings import Account
from watcher.daemon.job_worker import JobWorker
from watcher.daemon.queue_consumer import QueueConsumer
from watcher.errors import AccessDenied, NotFound, Unavailable
from watcher.jobs import queued_work
from watcher.jobs.queued_work import (
    ABSENT_PAUSE_S,
    FIRST_RETRY_DELAY_S,
    HELD_ELSEWHERE_PAUSE_S,
    MAX_MESSAGES_PER_JOB,
    MAX_RETRY_DELAY_S,
    VISIBILITY_TIMEOUT_S,
    Ignored,
    QueuedWork,
    retry_delay_s,
)
from watcher.jobs.work import Pace, Urgency
from watcher.sandbox.process import Sandbox
from watcher.store.memory import MemoryStore

MAX_RECEIVES = 3
"""After so many receives, a message goes to the dead-letter queue."""
LEASE_S = 60.0
EXTEND, DELETE = "sqs:ChangeMessageVisibilityBatch", "sqs:DeleteMessageBatch"


def job(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"


def event(name: str) -> str:
    detail = {"TrainingJobArn": job(name)}
    return json.dumps({"detail-type": "SageMaker Training Job State Change", "detail": detail})


@pytest.fixture
def sqs(aws_environment: Sandbox) -> Any:
    return aws_environment.client("sqs")


@pytest.fixture
def queue(sqs: Any) -> Queue:
    dead = sqs.create_queue(QueueName="watcher-dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
    url = sqs.create_queue(
        QueueName="watcher", Attributes={"VisibilityTimeout": "60", "RedrivePolicy": redrive}
    )["QueueUrl"]
    return Queue(Aws("us-east-1"), url)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(queue: Queue, clock: Clock) -> QueuedWork:
    return QueuedWork(queue, lambda: datetime.now(UTC), clock.monotonic, is_stored=stored)


def stored(arn: str) -> bool:
    return True


def receive(work: QueuedWork) -> None:
    work.receive(wait=0)


def depth(queue: Queue) -> tuple[int, int]:
    found = queue.depth()
    return found.waiting, found.in_flight


def test_a_message_is_deleted_only_after_its_job_is_handled(queue: Queue, work: QueuedWork):
    queue.send([event("churn")])
    receive(work)
    assert work.take() == job("churn")
    work.settle()
    assert depth(queue) == (0, 1)

    work.done(job("churn"))
    work.settle()

    assert depth(queue) == (0, 0)


def test_several_messages_about_one_job_are_handled_together(queue: Queue, work: QueuedWork):
    queue.send([event("churn"), event("fraud"), event("churn"), event("churn")])
    receive(work)

    taken = [work.take(), work.take()]

    assert sorted(map(str, taken)) == [job("churn"), job("fraud")]
    assert work.waiting() == 0
    for arn in taken:
        work.done(str(arn))
    work.settle()
    assert depth(queue) == (0, 0)


def test_an_event_that_arrives_while_its_job_is_handled_is_handled_separately(queue: Queue, work: QueuedWork):
    queue.send([event("churn")])
    receive(work)
    work.take()
    queue.send([event("churn")])
    receive(work)

    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 1)
    assert work.take() == job("churn")
    work.done(job("churn"))
    work.settle()

    assert depth(queue) == (0, 0)


def test_a_queued_job_reaches_another_replica(queue: Queue, work: QueuedWork, clock: Clock):
    other = QueuedWork(queue, lambda: datetime.now(UTC), clock.monotonic, is_stored=stored)
    for number in range(25):
        work.put(job(f"job-{number}"), Urgency.DUE)
    work.settle()
    for _ in range(3):
        receive(other)

    assert {other.take() for _ in range(25)} == {job(f"job-{number}") for number in range(25)}


def test_a_job_that_already_waits_to_be_sent_is_sent_once(queue: Queue, work: QueuedWork):
    for _ in range(5):
        work.put(job("churn"), Urgency.DUE)
    work.settle()

    assert depth(queue) == (1, 0)


@pytest.mark.parametrize("body", ["no JSON", '{"detail-type": "SageMaker Model State Change"}', "[]", "{}"])
def test_a_message_that_is_not_a_hint_is_deleted_and_blocks_nothing(
    queue: Queue, work: QueuedWork, body: str
):
    queue.send([body, event("churn")])
    receive(work)

    assert work.take() == job("churn")
    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 0)


def test_work_longer_than_the_visibility_timeout_is_not_given_to_another_replica(
    queue: Queue, work: QueuedWork, clock: Clock, aws_environment: Sandbox
):
    queue.send([event("churn")])
    receive(work)
    work.take()
    for _ in range(5):
        work.keep(wait=0)
        clock.turn(VISIBILITY_TIMEOUT_S / 2 + 1)

    assert aws_environment.control.calls()[EXTEND] == 5


def test_a_message_held_for_long_enough_is_not_extended(
    queue: Queue, work: QueuedWork, aws_environment: Sandbox
):
    queue.send([event("churn")])
    receive(work)
    for _ in range(3):
        work.keep(wait=0)

    assert aws_environment.control.calls()[EXTEND] == 1


def test_a_message_that_sqs_refused_to_extend_is_extended_in_the_next_round(
    queue: Queue, work: QueuedWork, aws_environment: Sandbox
):
    queue.send([event("churn")])
    receive(work)
    aws_environment.control.inject_fault(EXTEND, code="AccessDenied", status=403)
    with pytest.raises(AccessDenied):
        work.keep(wait=0)
    aws_environment.control.clear_faults()

    work.keep(wait=0)

    assert aws_environment.control.calls()[EXTEND] == 2


def test_messages_are_extended_although_sqs_refuses_to_delete_others(
    queue: Queue, work: QueuedWork, aws_environment: Sandbox
):
    queue.send([event("churn"), event("fraud")])
    receive(work)
    work.done(str(work.take()))
    aws_environment.control.inject_fault(DELETE, code="AccessDenied", status=403)
    with pytest.raises(AccessDenied):
        work.keep(wait=0)

    assert aws_environment.control.calls()[EXTEND] == 1


def hold_elsewhere(work: QueuedWork, name: str) -> None:
    """Take this job, and find that another process holds it."""
    assert work.take() == job(name)
    work.held_elsewhere(job(name))


def test_a_job_that_another_process_holds_for_long_does_not_wear_out_its_message(
    queue: Queue, clock: Clock, aws_environment: Sandbox
):
    aws_environment.control.put_training_jobs([{"TrainingJobName": "churn"}])
    store = MemoryStore(clock.monotonic)
    assert store.hold([job("churn")], "a process that has died", LEASE_S)
    work = QueuedWork(queue, clock, clock.monotonic, retry_delay=lambda receives: 0)
    queue.send([event("churn")])
    accounts = Accounts("us-east-1")
    pipeline = a_pipeline(store, accounts=accounts, lease=LEASE_S)
    worker = JobWorker(work, pipeline, accounts, RefusedCalls(accounts), pace=None)
    looks = count()

    def time_passes() -> None:
        clock.turn(HELD_ELSEWHERE_PAUSE_S)
        work.keep(wait=0)
        receive(work)
        if next(looks) > MAX_RECEIVES + LEASE_S / HELD_ELSEWHERE_PAUSE_S or depth(queue) == (0, 0):
            work.close()

    worker.run(time_passes)

    assert [record.snapshot.name for record in store.jobs()] == ["churn"]
    assert depth(queue) == (0, 0)
    assert queue.depth().dead == 0


def test_a_job_that_another_process_holds_is_looked_at_again_after_a_pause(
    queue: Queue, work: QueuedWork, clock: Clock
):
    queue.send([event("churn")])
    receive(work)
    hold_elsewhere(work, "churn")
    work.keep(wait=0)
    assert work.waiting() == 0

    clock.turn(HELD_ELSEWHERE_PAUSE_S)
    work.keep(wait=0)

    assert work.take() == job("churn")
    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 0)


def test_a_new_event_about_a_job_that_another_process_holds_ends_the_pause(queue: Queue, work: QueuedWork):
    queue.send([event("churn")])
    receive(work)
    hold_elsewhere(work, "churn")
    queue.send([event("churn")])
    receive(work)

    assert work.take() == job("churn")
    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 0)


def test_the_message_of_a_job_that_another_process_holds_is_held_and_goes_back_at_the_end(
    queue: Queue, work: QueuedWork, clock: Clock, aws_environment: Sandbox
):
    queue.send([event("churn")])
    receive(work)
    hold_elsewhere(work, "churn")
    work.keep(wait=0)
    assert aws_environment.control.calls()[EXTEND] == 1

    work.close()
    work.give_back()

    assert depth(queue) == (1, 0)


def test_jobs_that_other_processes_hold_do_not_keep_a_process_from_receiving(
    queue: Queue, work: QueuedWork, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queued_work, "MAX_WAITING_JOBS", 2)
    for name in ("churn", "fraud"):
        queue.send([event(name)])
        receive(work)
        hold_elsewhere(work, name)
    queue.send([event("price")])

    receive(work)

    assert work.take(0) == job("price")


def test_a_replica_returns_unstarted_messages_when_it_ends(queue: Queue, work: QueuedWork, clock: Clock):
    queue.send([event("churn"), event("fraud")])
    receive(work)
    begun = str(work.take())
    work.close()
    work.give_back()

    other = QueuedWork(queue, lambda: datetime.now(UTC), clock.monotonic, is_stored=stored)
    receive(other)

    assert {begun, other.take()} == {job("churn"), job("fraud")}
    assert work.take() is None


def test_a_replica_that_ends_returns_its_messages_although_sqs_refuses_to_delete_others(
    queue: Queue, work: QueuedWork, aws_environment: Sandbox
):
    accounts = Accounts("us-east-1")
    consumer = QueueConsumer(
        work, accounts, RefusedCalls(accounts), Pace(1, lambda: 0, lambda seconds: None), threading.Event()
    )
    queue.send([event("churn"), event("fraud")])
    receive(work)
    work.done(str(work.take()))
    work.close()
    aws_environment.control.inject_fault(DELETE, code="AccessDenied", status=403)

    consumer.hand_back()

    assert depth(queue) == (1, 1)


def test_a_job_that_cannot_be_handled_is_retried_and_finally_a_dead_letter(queue: Queue, clock: Clock):
    work = QueuedWork(queue, lambda: datetime.now(UTC), clock.monotonic, retry_delay=lambda receives: 0)
    queue.send([event("churn")])
    for _ in range(MAX_RECEIVES):
        receive(work)
        assert work.take() == job("churn")
        work.failed(job("churn"))

    receive(work)

    assert work.waiting() == 0
    assert queue.depth().dead == 1


def test_the_pause_before_the_next_attempt_grows_to_a_quarter_of_an_hour():
    assert [retry_delay_s(times) / FIRST_RETRY_DELAY_S for times in (1, 2, 3)] == [1, 2, 4]
    assert retry_delay_s(50) == MAX_RETRY_DELAY_S


def test_messages_that_sqs_refused_to_delete_or_send_are_retried(
    queue: Queue, work: QueuedWork, aws_environment: Sandbox
):
    queue.send([event("churn")])
    receive(work)
    work.take()
    work.done(job("churn"))
    work.put(job("fraud"), Urgency.DUE)
    aws_environment.control.inject_fault("sqs:*", code="InternalFailure", status=500)
    with pytest.raises(Unavailable):
        work.settle()
    aws_environment.control.clear_faults()

    work.settle()
    receive(work)

    assert work.take() == job("fraud")
    assert depth(queue) == (0, 1)


def test_a_missing_queue_is_reported_as_missing(aws_environment: Sandbox):
    queue = Queue(Aws("us-east-1"), f"{aws_environment.endpoint}/123456789012/nobody")

    with pytest.raises(NotFound, match="sqs:ReceiveMessage"):
        queue.receive(0)


def test_the_age_of_the_oldest_message_is_known(queue: Queue, sqs: Any, clock: Clock):
    queue.send([event("churn")])
    later = QueuedWork(queue, lambda: datetime(2100, 1, 1, tzinfo=UTC), clock.monotonic)
    receive(later)

    assert later.oldest_s > 1e9


def test_an_odd_message_is_counted_and_the_next_one_is_handled_at_once(queue: Queue, clock: Clock):
    odd = ['{"detail-type": "SageMaker Training Job State Change", "resources": 5}', "[" * 100_000]
    ignored: list[Ignored] = []
    work = QueuedWork(queue, clock, clock.monotonic, is_stored=stored, ignored=ignored.append)
    queue.send([*odd, event("churn")])
    receive(work)
    assert work.take(0) == job("churn")
    work.done(job("churn"))
    work.settle()
    assert ignored == [Ignored.UNREADABLE] * 2
    assert depth(queue) == (0, 0)


def test_a_message_whose_handling_fails_is_left_for_the_dead_letter_queue(queue: Queue, clock: Clock):
    def fails(arn: str) -> bool:
        if arn == job("odd"):
            raise OverflowError("int too large to convert")
        return True

    work = QueuedWork(queue, clock, clock.monotonic, is_ours=fails, is_stored=stored)
    queue.send([event("odd"), event("churn")])
    with capture_logs() as logs:
        receive(work)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["message_failed"]
    assert work.take(0) == job("churn")
    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 1), "the odd one becomes visible again after its visibility timeout"


def test_events_from_places_that_no_setting_names_are_deleted_and_leave_nothing(queue: Queue, clock: Clock):
    accounts = Accounts("us-east-1", (Account(role_arn="arn:aws:iam::444455556666:role/watcher"),))
    accounts.learn(job("seen"))
    ignored: list[Ignored] = []
    work = QueuedWork(queue, clock, clock.monotonic, is_ours=accounts.covers, ignored=ignored.append)
    elsewhere = [f"arn:aws:sagemaker:xx-east-{n}:123456789012:training-job/churn" for n in range(40)]
    elsewhere.append("arn:aws:sagemaker:us-east-1:999999999999:training-job/churn")
    elsewhere.append("arn:aws:sagemaker:eu-west-1:444455556666:training-job/churn")
    ours = ["arn:aws:sagemaker:us-east-1:444455556666:training-job/churn", job("churn")]
    queue.send([json.dumps({"look_again": arn}) for arn in [*elsewhere, *ours]])
    for _ in range(5):
        receive(work)
    assert {work.take(0), work.take(0)} == set(ours)
    assert work.take(0) is None
    assert ignored == [Ignored.ELSEWHERE] * len(elsewhere)
    assert accounts._places == {}, "no session was made for them"


def test_a_hint_about_a_job_that_did_not_exist_waits_for_a_while(queue: Queue, clock: Clock):
    work = QueuedWork(queue, clock, clock.monotonic)
    queue.send([event("no-such-job")])
    receive(work)
    assert work.take(0) == job("no-such-job")
    work.absent(job("no-such-job"))
    queue.send([event("no-such-job")])
    receive(work)
    assert work.take(0) is None
    clock.turn(ABSENT_PAUSE_S)
    work.keep(wait=0)
    assert work.take(0) == job("no-such-job")
    work.done(job("no-such-job"))
    work.settle()
    assert depth(queue) == (0, 0)


def test_of_many_messages_about_a_job_that_waits_few_are_held(queue: Queue, clock: Clock):
    work = QueuedWork(queue, clock, clock.monotonic)
    queue.send([event("churn")] * 30)
    for _ in range(3):
        receive(work)
    work.settle()
    assert depth(queue) == (0, MAX_MESSAGES_PER_JOB)
    assert work.take(0) == job("churn")
    work.done(job("churn"))
    work.settle()
    assert depth(queue) == (0, 0)
