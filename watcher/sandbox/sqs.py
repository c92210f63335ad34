"""SQS where moto stops short.

Its server goes through the messages in flight while another thread changes what these are, and answers that
with an internal error. And for each message that comes or goes it looks at all of the queue, several
times, with a slow clock.
"""

from __future__ import annotations

import time

import moto.sqs.models
from moto.sqs.models import Message, Queue, SQSBackend


def install() -> None:
    moto.sqs.models.unix_time_millis = unix_time_millis
    Queue.pending_message_groups = property(pending_message_groups)
    SQSBackend.is_message_valid_based_on_retention_period = is_message_valid_based_on_retention_period


def pending_message_groups(self: Queue) -> set[str]:
    at_once = list(self.pending_messages)  # no other thread gets a turn in between
    return {message.group_id for message in at_once if message.group_id is not None}


def is_message_valid_based_on_retention_period(self: SQSBackend, queue_name: str, message: Message) -> bool:
    kept = self.get_queue(queue_name).message_retention_period
    return bool(message.sent_timestamp / 1000 + kept > time.time())


def unix_time_millis() -> float:
    return time.time() * 1000
