"""Enforcing IAM policies in the sandbox, and a user with policies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from watcher.sandbox.process import Sandbox


@contextmanager
def enforced_permissions(sandbox: Sandbox) -> Iterator[None]:
    """Until the block ends, the sandbox checks each request against the policies of its signer."""
    _enforce_after(sandbox, "0")
    try:
        yield
    finally:
        _enforce_after(sandbox, "inf")


def _enforce_after(sandbox: Sandbox, requests: str) -> None:
    url = f"{sandbox.endpoint}/moto-api/reset-auth"
    httpx.post(url, content=requests, trust_env=False).raise_for_status()


class User:
    """A user with the permissions given to `may`, while permissions are enforced."""

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
        """Replace the access key. The old one is no longer valid."""
        if self._key:
            self._iam.delete_access_key(UserName=self._name, AccessKeyId=self._key["AccessKeyId"])
        self._key = self._iam.create_access_key(UserName=self._name)["AccessKey"]

    def may(self, statements: Sequence[Mapping[str, Any]]) -> None:
        """Allow these statements and nothing else."""
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        self._iam.put_user_policy(UserName=self._name, PolicyName="watcher", PolicyDocument=document)
