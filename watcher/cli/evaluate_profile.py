"""`evaluate` with a profiler rule: on the profiler's output, or on the metrics of a job's instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog

from rules.profiler import Evidence, Verdict
from watcher.cli.profile import find_profile, profile_progress
from watcher.cli.tables import Table, print_facts
from watcher.cli.terminal import out, print_json
from watcher.config.settings import Config
from watcher.evaluation.backtest import sweep
from watcher.evaluation.profile_backtest import ProfileBacktest, evaluation, row

log = structlog.get_logger(__name__)


def evaluate_profile(
    places: Sequence[str],
    rule: str,
    given: Mapping[str, str],
    swept: Mapping[str, Sequence[str]],
    settings: Config,
    *,
    as_json: bool,
) -> int:
    """Returns the exit code."""
    combinations = [{**given, **combination} for combination in sweep(swept)]
    runs = [ProfileBacktest(find_profile(place, settings), rule, combinations) for place in places]
    if swept:
        rows = [row(run, *tried) for run in runs for tried in zip(run.settings, _verdicts(run), strict=True)]
        if as_json:
            print_json(rows)
        else:
            lines = [
                (
                    one["job"],
                    *(one["parameters"][name] for name in swept),
                    one["verdict"],
                    _time(one["at"]),
                    one["reason"],
                )
                for one in rows
            ]
            Table(("job", *swept, "verdict", "fires at", "reason"), lines).print(out())
        return 0
    [run] = runs
    [verdict] = _verdicts(run)
    if as_json:
        print_json(evaluation(run, verdict))
    else:
        _print(run, verdict)
    return 1 if verdict.status in ("issues_found", "error") else 0


def _verdicts(run: ProfileBacktest) -> list[Verdict]:
    with profile_progress(run.found) as progress:
        return run.run(progress, lambda reason: log.warning("unreadable_profiler_file", error=reason))


def _print(run: ProfileBacktest, verdict: Verdict) -> None:
    found = run.found
    print_facts(
        [
            ("rule", run.rule),
            ("on", found.uri if found.uri == found.name else f"{found.name} ({found.uri})"),
            ("parameters", ", ".join(f"{name}={text}" for name, text in run.settings[0].items())),
            ("verdict", verdict.status),
            ("why", verdict.explanation),
            ("at", _time(verdict.at)),
            ("values checked", f"{verdict.values_checked:,}"),
            *(("note", note) for note in (*found.notes, *verdict.notes)),
        ],
        out(),
    )
    rows = [
        (one.measure, one.node, one.gpu, _number(one.value, one), _number(one.threshold, one), _time(one.at))
        for one in verdict.evidence
    ]
    if rows:
        columns = ("metric", "node", "GPU", "value", "threshold", "at")
        Table(columns, rows, title="Evidence", prose=("metric",)).print(out())


def _number(value: float | None, evidence: Evidence) -> str:
    return "" if value is None else f"{value:.6g} {evidence.unit}".strip()


def _time(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"
