"""Evaluates one profiler rule on what the profiler saves, while the training runs; part of the rules' image.

ProfilerReport also writes what AWS's does: below `rule-output/<configuration>/profiler-output`, the page
`profiler-report.html` and, for each rule, `profiler-reports/<rule>.json`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from rules import Status, profiler
from rules.profiler import Batch, ProfilerReport, ProfilerRule, Verdict
from watcher.debug_output.storage import S3Prefix
from watcher.logs import rule_log
from watcher.profiler_output.reader import ProfilerOutput, Reader, UnreadableFile

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

POLL_INTERVAL_S = 0.5
"""Between two reads of the profiler's files."""

Say = Callable[[rule_log.Record], None]


def evaluate(
    configuration: str,
    parameters: Mapping[str, str],
    output: ProfilerOutput,
    ended: Callable[[], bool],
    say: Say,
) -> tuple[ProfilerRule, Verdict]:
    """Evaluate the rule until it fires or the training ends. Raises `RuleError` and `WatcherError`."""
    rule = profiler.load(parameters.get("rule_to_invoke", configuration), parameters)
    say(rule_log.loading(output.uri))
    reader = Reader(output)
    while True:
        last_look = ended()  # checked before reading, so that everything saved before the end is read
        for batch in _batches(reader, say, ended=last_look):
            if verdict := rule.observe(batch):
                return _said(rule, configuration, verdict, say)
        if last_look:
            return _said(rule, configuration, rule.verdict(ended=True), say)
        time.sleep(POLL_INTERVAL_S)


def _batches(reader: Reader, say: Say, *, ended: bool) -> Iterator[Batch]:
    for one in reader.read(ended=ended):
        if isinstance(one, UnreadableFile):
            say(rule_log.skipped(one.reason))
        else:
            yield one


def _said(rule: ProfilerRule, configuration: str, verdict: Verdict, say: Say) -> tuple[ProfilerRule, Verdict]:
    for line in rule_log.profile_judged(rule, configuration, verdict):
        say(line)
    return rule, verdict


def details(configuration: str, verdict: Verdict) -> str:
    """The StatusDetails of a rule that fired; empty for any other."""
    if verdict.status is not Status.ISSUES_FOUND:
        return ""
    return rule_log.profile_condition_met(configuration)


def write_report(s3: S3Client, rule: ProfilerReport, source: str, place: str) -> None:
    """`source`: the profiler output. `place`: where the report goes. Both are `s3://BUCKET/PATH`."""
    from watcher.aws.session import Aws
    from watcher.cli.profile_page import page
    from watcher.errors import UsageError
    from watcher.evaluation.profile import of_s3

    bucket, _, prefix = place.removeprefix("s3://").partition("/")

    def put(name: str, content: str) -> None:
        s3.put_object(Bucket=bucket, Key=f"{prefix}/profiler-output/{name}", Body=content.encode())

    for name, report in rule.reports().items():
        put(f"profiler-reports/{name}.json", json.dumps(report, indent=2))
    try:
        put("profiler-report.html", page(of_s3(Aws(), source).profile()))
    except UsageError:  # the training was too short to be profiled
        return


def output_of(s3: S3Client, uri: str) -> ProfilerOutput:
    return ProfilerOutput(S3Prefix(s3, uri))
