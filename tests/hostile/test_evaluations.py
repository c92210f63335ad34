"""What one job has saved, or where it says that it saves, ends no evaluation but its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.doubles.clock import Clock
from tests.doubles.debug_output import SavedJob
from tests.pipelines import a_pipeline
from tests.trials import upload
from watcher.aws.accounts import Accounts
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.sagemaker import TrainingJobs
from watcher.aws.session import Aws
from watcher.config.settings import Config
from watcher.daemon.evaluation_worker import EvaluationWorker
from watcher.evaluation.failing import MAX_FAILURES
from watcher.jobs.failures import Failures
from watcher.model import Outcome
from watcher.sandbox.process import Sandbox
from watcher.store.memory import MemoryStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

COLLECTIONS = "collections/000000000/worker_0_collections.json"
META = '"meta": {"mode": "GLOBAL", "mode_step": 0}'
DEEP = "[" * 100_000


def put(sandbox: Sandbox, name: str, output: str = "s3://team/debug", **members: Any) -> None:
    """A job in progress with LossNotDecreasing, which fires after two steps without progress."""
    rule = {
        "RuleConfigurationName": "LossNotDecreasing",
        "RuleEvaluatorImage": "debugger-rules",
        "RuleParameters": {
            "rule_to_invoke": "LossNotDecreasing",
            "num_steps": "2",
            "diff_percent": "5",
        },
    }
    hook = {"S3OutputPath": output}
    sandbox.control.put_training_job(name, DebugHookConfig=hook, DebugRuleConfigurations=[rule], **members)


class Watching:
    """The part of a daemon that evaluates, with a clock that the test turns."""

    def __init__(self, sandbox: Sandbox, config: Config | None = None) -> None:
        self.clock, self.store, self.config = Clock(), MemoryStore(), config or Config()
        accounts = Accounts("us-east-1")
        self.pipeline = a_pipeline(self.store, accounts=accounts, clock=self.clock, config=self.config)
        self.worker = EvaluationWorker(
            accounts=accounts,
            store=self.store,
            pipeline=self.pipeline,
            rules=self.config.rules,
            evaluation_log=None,
            refused=RefusedCalls(accounts),
            clock=self.clock,
            stopping=lambda: False,
            since=lambda job: None,
            watch=self.config.watch,
            failures=Failures(),
        )
        self._sandbox = sandbox

    def find(self) -> None:
        for page in TrainingJobs(Aws("us-east-1")).in_progress({}):
            self.pipeline.found(page, {})

    def evaluate(self, seconds: float = 0) -> None:
        """Everything that is due after so many seconds."""
        self.clock.turn(seconds)
        while self.worker.evaluate_due():
            pass

    def outcome(self, name: str) -> Outcome | None:
        [record] = self.store.jobs(name)
        own = [one for each in record.evaluations for one in each.outcomes]
        return own[0] if own else None


@pytest.fixture
def saved(aws_environment: Sandbox, tmp_path: Path) -> Callable[..., None]:
    """Saves debug output of a flat loss for a job, with some files replaced."""
    with closing(aws_environment.client("s3")) as s3:
        s3.create_bucket(Bucket="team")

    def save(name: str, **files: bytes) -> None:
        job = SavedJob(tmp_path / name)
        job.collections()
        for step in range(6):
            job.step(step, {"loss": np.array(0.9)})
        for kind, content in files.items():
            path = job.folder / COLLECTIONS if kind == "collections" else job.event_file(0)
            path.write_bytes(content)
        with closing(aws_environment.client("s3")) as client:
            upload(job.folder, client, "team", name)

    return save


HOSTILE: dict[str, bytes] = {
    "an empty object": b"{}",
    "nested 100,000 deep": b"[" * 100_000,
    "objects nested 100,000 deep": b'{"collections":' * 100_000,
    "no JSON": b"\xff\xfe\x00",
    "an infinite number of workers": b'{"_meta": {"num_workers": Infinity}, "collections": {}}',
    "numbers instead of names": json.dumps(
        {
            "_meta": {"num_workers": 1},
            "collections": {"losses": {"include_regex": [1, "a"], "tensor_names": [[]]}},
        }
    ).encode(),
}


@pytest.mark.parametrize("content", HOSTILE)
def test_a_malformed_collections_file_ends_with_a_finding_of_its_own_job(
    content: str, aws_environment: Sandbox, saved: Callable[..., None]
):
    for name in ("hostile", "innocent"):
        put(aws_environment, name)
    saved("hostile", collections=HOSTILE[content])
    saved("innocent")
    watching = Watching(aws_environment)
    watching.find()

    with capture_logs() as logs:
        watching.evaluate()
        innocent = watching.outcome("innocent")
        assert innocent
        assert innocent.status == "IssuesFound"
        for _ in range(MAX_FAILURES):
            watching.evaluate(120)

    found = watching.outcome("hostile")
    assert found
    assert found.status in ("Error", "IssuesFound"), "read without its collections, or given up"
    assert sum(line["log_level"] == "error" for line in logs) <= 1


def test_a_place_that_is_not_on_s3_ends_with_a_finding_at_once(
    aws_environment: Sandbox, saved: Callable[..., None]
):
    put(aws_environment, "hostile", "https://example.com/debug")
    put(aws_environment, "innocent")
    saved("innocent")
    watching = Watching(aws_environment)
    watching.find()
    watching.evaluate()

    found, innocent = watching.outcome("hostile"), watching.outcome("innocent")
    assert found and innocent
    assert found.status == "Error"
    assert "is not a place on S3" in found.details
    assert innocent.status == "IssuesFound"
    kinds = {finding.job: finding.kind for finding in watching.store.findings()}
    assert kinds == {"hostile": "rule_error", "innocent": "rule_issue"}


def test_an_index_file_with_odd_numbers_is_one_unreadable_step(
    aws_environment: Sandbox, saved: Callable[..., None]
):
    from watcher.debug_output import event_files
    from watcher.debug_output.storage import S3Prefix

    saved("hostile")
    with closing(aws_environment.client("s3")) as s3:
        storage = S3Prefix(s3, "s3://team/debug/hostile/debug-output")
        [file] = event_files.of_step(storage, 0)
        key = f"debug/hostile/debug-output/{file.index_key}"
        odd = [
            '{"meta": {"mode": "GLOBAL", "mode_step": Infinity}}',
            f'{{{META}, "tensor_payload": [{{"tensorname": 5, "start_idx": 0, "length": 1}}]}}',
            f'{{{META}, "shape_payload": [{{"tensorname": "a", "shape": [Infinity]}}]}}',
            DEEP,
        ]
        for content in odd:
            s3.put_object(Bucket="team", Key=key, Body=content.encode())
            found = event_files.read(storage, file._replace(size=None))
            assert isinstance(found, event_files.UnreadableStep)


def test_many_jobs_with_a_missing_bucket_delay_no_other_job(
    aws_environment: Sandbox, saved: Callable[..., None]
):
    for number in range(60):
        put(aws_environment, f"hostile-{number:02}", "s3://no-such-bucket/debug")
    put(aws_environment, "innocent")
    saved("innocent")
    watching = Watching(aws_environment)
    watching.find()
    aws_environment.control.forget_calls()

    with capture_logs() as logs:
        watching.evaluate()

    innocent = watching.outcome("innocent")
    assert innocent
    assert innocent.status == "IssuesFound", "without any pause in between"
    refusals = [line for line in logs if line["log_level"] == "error"]
    assert [line["bucket"] for line in refusals] == ["s3://no-such-bucket"]

    aws_environment.control.forget_calls()
    for _ in range(20):
        watching.evaluate(5)
    calls = aws_environment.control.calls()
    refused = sum(number for name, number in calls.items() if name.startswith("s3:"))
    assert 0 < refused < 20, "one of the jobs asks for the bucket, less and less often"
    assert all(watching.outcome(f"hostile-{number:02}") is None for number in range(60)), "tried on"


def test_another_job_is_only_compared_with_if_it_is_watched(
    aws_environment: Sandbox, saved: Callable[..., None]
):
    config = Config.model_validate({"watch": {"jobs": ["ours-*"], "tags": {"team": "ours"}}})
    for name, team in (("ours-a", "ours"), ("ours-b", "theirs"), ("theirs", "ours")):
        put(aws_environment, name, Tags=[{"Key": "team", "Value": team}])
    evaluator = Watching(aws_environment, config).worker.evaluator
    ours = TrainingJobs(Aws("us-east-1")).describe("ours-a")
    assert evaluator._other_trial("ours-a", ours) is not None
    assert evaluator._other_trial("ours-b", ours) is None
    assert evaluator._other_trial("theirs", ours) is None
