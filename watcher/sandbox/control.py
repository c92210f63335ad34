"""A client of the control API; `control_api` describes the calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx


class Control:
    """Raises `httpx.HTTPStatusError` if the sandbox refuses a call, with the reason in its notes."""

    def __init__(self, endpoint: str) -> None:
        self._http = httpx.Client(base_url=f"{endpoint}/sandbox", timeout=60, trust_env=False)

    def training_jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self._call("GET", "/training-jobs")
        return jobs

    def put_training_job(self, name: str, *, account: str = "", **members: Any) -> dict[str, Any]:
        """`account`: its account, if it is not the sandbox's own."""
        place = f"?account={account}" if account else ""
        record: dict[str, Any] = self._call("PUT", f"/training-jobs/{name}{place}", members)
        return record

    def put_training_jobs(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Each with its `TrainingJobName`."""
        self._call("PUT", "/training-jobs", {"TrainingJobs": list(jobs)})

    def delete_training_job(self, name: str) -> None:
        self._call("DELETE", f"/training-jobs/{name}")

    def write_logs(self, name: str, lines: Iterable[str], rule: str | None = None) -> str:
        """Returns the name of the log stream."""
        body = {"lines": list(lines)} | ({"rule": rule} if rule else {})
        return str(self._call("POST", f"/training-jobs/{name}/logs", body)["logStreamName"])

    def put_metrics(self, name: str, metrics: Mapping[str, Iterable[tuple[float, float]]]) -> None:
        """`metrics`: pairs of time (seconds since 1970) and value, by the metric's name."""
        self._call(
            "POST", f"/training-jobs/{name}/metrics", {key: list(rows) for key, rows in metrics.items()}
        )

    def set_gpus(self, name: str, gpus: Iterable[tuple[float, float]]) -> None:
        """Let a job, which need not exist yet, have these GPUs from now on: pairs of utilization and memory,
        in percent."""
        self._call("PUT", f"/training-jobs/{name}/gpus", {"gpus": list(gpus)})

    def inject_fault(
        self,
        operation: str,
        code: str = "ThrottlingException",
        message: str = "Rate exceeded",
        *,
        status: int = 400,
        times: int | None = None,
        after: int = 0,
        every: int = 1,
        **members: Any,
    ) -> None:
        """Let calls of an operation (`sagemaker:Search`, `logs:*`, `s3:GET` …) fail.

        After `after` calls that succeed, each `every`-th call fails, `times` in all (None: until the faults
        are cleared). `members` are added to the error, such as `CancellationReasons`.
        """
        fault = {"operation": operation, "code": code, "message": message, "status": status}
        self._call(
            "POST", "/faults", {**fault, "times": times, "after": after, "every": every, "members": members}
        )

    def faults(self) -> list[dict[str, Any]]:
        """The faults that will still make calls fail."""
        faults: list[dict[str, Any]] = self._call("GET", "/faults")
        return faults

    def clear_faults(self) -> None:
        self._call("DELETE", "/faults")

    def calls(self) -> dict[str, int]:
        """How often each operation was called: `{"sagemaker:Search": 3}`."""
        calls: dict[str, int] = self._call("GET", "/calls")
        return calls

    def forget_calls(self) -> None:
        self._call("DELETE", "/calls")

    def reset(self) -> None:
        self._call("POST", "/reset")

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        response = self._http.request(method, path, json=body)
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError as error:
            error.add_note(response.text)
            raise
        return response.json()
