"""Starts a sandbox in its own process. moto's state is global, so each sandbox needs a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from watcher.sandbox import environment
from watcher.sandbox.control import Control
from watcher.sandbox.settings import Settings

if TYPE_CHECKING:
    import boto3

_END_TIMEOUT_S = 10.0


class Sandbox:
    """Runs in `with Sandbox.start(pace=0.1) as sandbox:`, and ends with everything that it started."""

    def __init__(self, process: subprocess.Popen[str], endpoint: str, directory: Path, region: str) -> None:
        self._process = process
        self.endpoint = endpoint
        self.region = region
        self.env: Mapping[str, str] = environment.variables(endpoint, region, directory)
        """The environment variables that make AWS tools use this sandbox."""
        self.control = Control(endpoint)

    @classmethod
    def start(cls, **settings: Any) -> Self:
        """`settings` are the fields of `Settings`. Returns when the sandbox answers.

        Raises `RuntimeError` if it ends instead, with the reason on stderr.
        """
        chosen = Settings(**settings)
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "watcher.sandbox", chosen.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that Ctrl-C reaches only this process, which ends the sandbox
        )
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError(f"The sandbox ended with exit code {process.wait()} before it was ready.")
        ready = json.loads(line)
        return cls(process, ready["endpoint"], Path(ready["directory"]), chosen.region)

    @cached_property
    def session(self) -> boto3.Session:
        """Cached, because each new session reads botocore's models from disk again. Its clients are safe to
        use from several threads, but the session itself is not."""
        import boto3

        return boto3.Session(
            aws_access_key_id=environment.ACCESS_KEY,
            aws_secret_access_key=environment.SECRET_KEY,
            region_name=self.region,
        )

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client of this sandbox; `options` go to boto3."""
        return self.session.client(service, endpoint_url=self.endpoint, **options)  # type: ignore[call-overload]

    def close(self) -> None:
        self.control.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
