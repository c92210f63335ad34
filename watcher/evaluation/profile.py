"""Profiles a job: sums up its system metrics, and evaluates the profiler rules on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rules import profiler
from rules.profiler import Batch, ProfilerRule, Source, Verdict
from rules.profiler.profiler_report import PARTS, divided
from watcher.aws import instance_types
from watcher.aws.metrics import Metrics
from watcher.aws.session import Aws
from watcher.debug_output.storage import S3Prefix
from watcher.errors import UsageError
from watcher.evaluation.instance_metrics import InstanceMetrics
from watcher.model import JobSnapshot
from watcher.profiler_output import place
from watcher.profiler_output.reader import ProfilerOutput, Reader, UnreadableFile
from watcher.profiler_output.usage import Usage, document


@dataclass(frozen=True, slots=True)
class Judged:
    rule: ProfilerRule
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    """The job's name, or the place as it was given."""
    source: Source
    uri: str
    """Where the metrics lie: a place on S3, a folder, or CloudWatch's namespace."""
    usage: Usage
    judged: tuple[Judged, ...]
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Why files were left out."""


@dataclass(frozen=True, slots=True)
class Found:
    """What can be profiled: where it lies, and how it is read."""

    name: str
    source: Source
    uri: str
    begin: float
    end: float
    """Of the metrics, in seconds since the epoch."""
    ended: bool
    read: Callable[[], Iterator[Batch | UnreadableFile]]
    parameters: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What the job's own rules set, by the name of the rule."""
    notes: tuple[str, ...] = ()

    def profile(self, node: str = "", progress: Callable[[float], object] = bool) -> Profile:
        """Read everything. `node`: only this node's metrics, in the rules as well. `progress` is called with
        the time (seconds since the epoch) up to which the metrics were read. Raises `UsageError` if there is
        no such node."""
        usage = Usage(self.begin, self.end)
        rules = [part(self.parameters.get(part.name, {}), self.source) for part in PARTS]
        unreadable = []
        nodes: set[str] = set()
        for one in self.read():
            if isinstance(one, UnreadableFile):
                unreadable.append(one.reason)
                continue
            nodes.update(key.node for key in one.series)
            batch = _of_node(one, node) if node else one
            usage.add(batch)
            for rule in rules:
                rule.observe(batch)
            progress(one.until)
        if node and node not in nodes:
            raise UsageError(f"{self.name} has no node {node}: it has {', '.join(sorted(nodes)) or 'none'}")
        judged = tuple(Judged(rule, rule.verdict(ended=self.ended)) for rule in rules)
        return Profile(self.name, self.source, self.uri, usage, judged, self.notes, tuple(unreadable))


def _of_node(batch: Batch, node: str) -> Batch:
    series = {key: series for key, series in batch.series.items() if key.node == node}
    return Batch(batch.until, series, [span for span in batch.spans if span.node == node])


def of_folder(folder: Path) -> Found:
    return _of_output(str(folder), place.in_folder(folder), ended=True)


def of_s3(aws: Aws, uri: str) -> Found:
    return _of_output(uri, place.on_s3(aws.s3, uri), ended=True)


def of_job(aws: Aws, job: JobSnapshot, clock: Callable[[], datetime]) -> Found:
    """The job's profiler output or, where it has none, CloudWatch's instance metrics. Raises `UsageError` if
    there are none of these either."""
    parameters = _parameters(job)
    if job.profiler_output:
        output = ProfilerOutput(S3Prefix(aws.s3, job.profiler_output, since=job.created_at))
        if output.exists():
            return _of_output(job.name, output, ended=job.ended, parameters=parameters)
    instances = InstanceMetrics(job, "", clock())
    queries = instances.queries(bool)
    instances.take(Metrics(aws).read(queries))
    [batch] = instances.read()
    if not batch.series:
        saved = f"saved nothing in {job.profiler_output}" if job.profiler_output else "has no profiler output"
        raise UsageError(f"{job.name} {saved}, and CloudWatch has no metrics of its instances yet")
    why = "the profiler saved nothing" if job.profiler_output else "the job has no profiler output"
    return Found(
        job.name,
        Source.INSTANCE_METRICS,
        instances.place,
        float(batch.times[0]),
        batch.until,
        instances.ended,
        lambda: iter([batch]),
        parameters,
        (f"{why}: these are CloudWatch's instance metrics, one value a minute", *_left_out(job)),
    )


def _left_out(job: JobSnapshot) -> Iterator[str]:
    for kind, _ in job.instances:
        for what, count in (("cores", instance_types.cores(kind)), ("GPUs", instance_types.gpus(kind))):
            if count is None:
                yield f"how many {what} {kind} has is not known, so the metrics of its {what} are left out"


def _of_output(
    name: str,
    output: ProfilerOutput,
    *,
    ended: bool,
    parameters: Mapping[str, Mapping[str, str]] | None = None,
) -> Found:
    begin, end = output.span() or (0.0, 1.0)
    return Found(
        name,
        Source.PROFILER,
        output.uri,
        begin,
        end,
        ended,
        # What a person asks for is read as far as it lies there: nobody waits for what may be late.
        lambda: Reader(output).read(ended=True),
        parameters or {},
    )


def _parameters(job: JobSnapshot) -> dict[str, dict[str, str]]:
    """The parameters that the job's own profiler rules set: each its own, and ProfilerReport those of all."""
    found: dict[str, dict[str, str]] = {}
    for rule in job.rules:
        known = profiler.find_or_none(rule.invokes)
        if known is None:
            continue
        given = {key: text for key, text in rule.parameters.items() if key not in profiler.FOR_THE_SERVICE}
        if known is profiler.ProfilerReport:
            for part, texts in divided(given)[1].items():
                found.setdefault(part, {}).update(texts)
        else:
            found[known.name] = given
    return found


def to_document(profile: Profile) -> dict[str, Any]:
    """What `watcher profile --json` prints."""
    return {
        "name": profile.name,
        "source": profile.source,
        "place": profile.uri,
        "begin": profile.usage.begin,
        "end": profile.usage.end,
        "values": profile.usage.values,
        "nodes": document(profile.usage),
        "rules": [_judged(one) for one in profile.judged],
        "notes": list(profile.notes),
        "unreadable": list(profile.unreadable),
    }


def _judged(judged: Judged) -> dict[str, Any]:
    rule, verdict = judged.rule, judged.verdict
    return {
        "rule": rule.name,
        "verdict": verdict.status,
        "reason": verdict.reason,
        "explanation": verdict.explanation,
        "node": verdict.node,
        "gpu": verdict.gpu,
        "at": verdict.at,
        "values_checked": verdict.values_checked,
        "evidence": [
            {
                "measure": one.measure,
                "value": one.value,
                "threshold": one.threshold,
                "unit": one.unit,
                "node": one.node,
                "gpu": one.gpu,
                "at": one.at,
            }
            for one in verdict.evidence
        ],
        "advice": rule.advice,
        "notes": list(verdict.notes),
        "report": rule.report()["Details"],
    }
