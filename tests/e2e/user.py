"""Requests to the sandbox that are judged by policies, and a user who has some."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from watcher.sandbox.process import Sandbox


@contextmanager
def judged(sandbox: Sandbox) -> Iterator[None]:
    """Until the block ends, the sandbox judges every request by the policies of whoever signed it."""
    _judge_after(sandbox, "0")
    try:
        yield
    finally:
        _judge_after(sandbox, "inf")


def _judge_after(sandbox: Sandbox, requests: str) -> None:
    url = f"{sandbox.endpoint}/moto-api/reset-auth"
    httpx.post(url, content=requests, trust_env=False).raise_for_status()


class User:
    """Who may do what `may` says, once requests are judged."""

    def __init__(self, sandbox: Sandbox, name: str = "watcher") -> None:
        self._name = name
        self._iam = sandbox.client("iam")
        self._iam.create_user(UserName=name)
        self._key: dict[str, str] = {}
        self.renew_key()

    @property
    def environment(self) -> Mapping[str, str]:
        key = self._key
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def renew_key(self) -> None:
        """A new access key in the place of the old one, which counts no more."""
        if self._key:
            self._iam.delete_access_key(UserName=self._name, AccessKeyId=self._key["AccessKeyId"])
        self._key = self._iam.create_access_key(UserName=self._name)["AccessKey"]

    def may(self, statements: Sequence[Mapping[str, Any]]) -> None:
        """This, and nothing else."""
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self._iam.put_user_policy(UserName=self._name, PolicyName="watcher", PolicyDocument=document)
