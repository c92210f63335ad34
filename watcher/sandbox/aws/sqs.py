"""Replaces parts of moto's SQS that are not thread-safe or too slow.

moto iterates over the messages in flight while another thread changes them, and then answers with an internal
error. For each message that is sent or received, it also goes through the whole queue several times, with a
slow clock.
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
    copy = list(self.pending_messages)  # atomic in CPython, so no other thread can change it meanwhile
    return {message.group_id for message in copy if message.group_id is not None}


def is_message_valid_based_on_retention_period(self: SQSBackend, queue_name: str, message: Message) -> bool:
    kept = self.get_queue(queue_name).message_retention_period
    return bool(message.sent_timestamp / 1000 + kept > time.time())


def unix_time_millis() -> float:
    return time.time() * 1000
