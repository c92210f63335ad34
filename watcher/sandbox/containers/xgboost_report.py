"""Writes the page of the rule CreateXgboostReport, `rule-output/<configuration>/xgboost_report.html`.

It has the metrics and the importance of the features, as far as the job saved them; AWS's has more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from watcher.debug_output.event_files import UnreadableStep
from watcher.debug_output.reader import DebugOutput
from watcher.debug_output.series import Collector, Series, curve
from watcher.text import printable

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

NAME = "xgboost_report.html"
IMPORTANCE = "feature_importance/"
"""The beginning of the tensors of the collection: `feature_importance/gain/f0`."""
WIDTH, HEIGHT = 720, 180


def write(s3: S3Client, job: str, output: DebugOutput, place: str) -> None:
    """`place`: where the report goes, `s3://BUCKET/PATH`. Raises `WatcherError`."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    s3.put_object(
        Bucket=bucket,
        Key=f"{prefix}/{NAME}",
        Body=page(job, output).encode(),
        ContentType="text/html; charset=utf-8",
    )


def page(job: str, output: DebugOutput) -> str:
    saved = output.collections()
    metrics = saved.by_name.get("metrics") if saved else None
    named = frozenset(metrics.tensor_names if metrics else ())
    collector = Collector(lambda name: name in named or name.startswith(IMPORTANCE))
    for step in output.steps(wanted=lambda name: name in named or name.startswith(IMPORTANCE)):
        if not isinstance(step, UnreadableStep):
            collector.add(step)
    series = [one for one in collector.series() if any(True for _ in curve(one))]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clean"] = printable
    template = resources.files("watcher.sandbox").joinpath("xgboost_report.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        job=job,
        uri=output.uri,
        metrics=[_metric(one) for one in series if one.tensor in named],
        importances=list(_importances(one for one in series if one.tensor not in named)),
        width=WIDTH,
        height=HEIGHT,
    )


def _metric(series: Series) -> Mapping[str, Any]:
    points = list(curve(series))
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across = max(1, points[-1][0] - points[0][0])
    return {
        "name": series.tensor,
        "first": values[0],
        "last": values[-1],
        "low": low,
        "high": high,
        "line": " ".join(
            f"{(step - points[0][0]) / across * WIDTH:.1f},"
            f"{(high - value) / ((high - low) or 1.0) * HEIGHT:.1f}"
            for step, value in points
        ),
    }


def _importances(series: Iterator[Series]) -> Iterator[Mapping[str, Any]]:
    """By kind (gain, weight …): the features and their newest values, the most important first."""
    kinds: dict[str, list[tuple[str, float]]] = {}
    for one in series:
        kind, _, feature = one.tensor.removeprefix(IMPORTANCE).partition("/")
        kinds.setdefault(kind, []).append((feature, list(curve(one))[-1][1]))
    for kind, features in kinds.items():
        yield {"kind": kind, "features": sorted(features, key=lambda pair: (-pair[1], pair[0]))}
