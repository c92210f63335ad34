"""`evaluate`: evaluates a rule on what jobs saved, with one or many parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    PlotFile,
    Verbose,
    load_settings,
    now,
    out,
    print_json,
    reading_progress,
    require_plot,
)
from watcher.errors import OptionsError
from watcher.policy.profiler_rules import is_profiler_rule

if TYPE_CHECKING:
    from rules import Verdict
    from watcher.debug_output.event_files import SavedStep
    from watcher.evaluation.backtest import Backtest


def evaluate(
    places: Annotated[list[str], typer.Argument(metavar="JOB|PATH", help="Jobs, S3 addresses, or folders.")],
    *,
    rule: Annotated[
        str,
        typer.Option(
            "--rule", help="Name of a built-in or profiler rule, or FILE.py:CLASS for a custom rule."
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="K=V", help="Override a parameter of the job's rule."),
    ] = None,
    sweeps: Annotated[
        list[str] | None, typer.Option("--sweep", metavar="K=V,V", help="Try each of these values.")
    ] = None,
    plot: PlotFile = None,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Evaluate a rule now, on what jobs saved."""
    given = _pairs("--param", param or ())
    swept = {key: values.split(",") for key, values in _pairs("--sweep", sweeps or ()).items()}
    if both := given.keys() & swept.keys():
        raise OptionsError(f"{min(both)} is in both --param and --sweep")
    if len(places) > 1 and not swept:
        raise OptionsError("several jobs need a --sweep, such as --sweep num_steps=5,10; or name one job")
    if plot and (swept or ":" in rule):
        raise OptionsError(
            "--plot draws a single evaluation of a built-in rule: not with --sweep or a custom rule"
        )
    settings = load_settings(config, verbose=verbose)
    if is_profiler_rule(rule):
        from watcher.cli.evaluate_profile import evaluate_profile

        if plot:
            raise OptionsError(f"--plot draws rules on tensors; to see what {rule} judges: watcher profile")
        return evaluate_profile(places, rule, given, swept, settings, as_json=as_json)
    if plot:
        require_plot(plot)
    from functools import partial

    from watcher.aws.accounts import Accounts
    from watcher.cli import tensor_tables
    from watcher.cli.job_names import whole_name
    from watcher.evaluation import backtest
    from watcher.evaluation.saved_data import find

    accounts = Accounts(settings.region, settings.account)
    places = [whole_name(place, settings, accounts) for place in places]
    find_saved = partial(find, accounts=accounts, clock=now)
    combinations = [{**given, **combination} for combination in backtest.sweep(swept)]
    runs = [backtest.backtest(find_saved(place), rule, combinations, find_saved) for place in places]
    if swept:
        rows = [row for run in runs for row in _swept(run)]
        if as_json:
            print_json(rows)
        else:
            tensor_tables.print_sweep(rows, list(swept), out())
        return 0
    [run] = runs
    verdict = _evaluated(run, plot)
    if as_json:
        print_json(backtest.evaluation(run, verdict))
    else:
        tensor_tables.print_evaluation(run, verdict, out())
    return 1 if verdict.status in ("issues_found", "error") else 0


def _swept(run: Backtest) -> list[dict[str, Any]]:
    from watcher.evaluation.backtest import row

    with reading_progress(run.saved.name) as show_step:
        verdicts = run.run(show_step)
    return [row(run.saved, *tried) for tried in zip(run.settings, verdicts, strict=True)]


def _evaluated(run: Backtest, plot: Path | None) -> Verdict:
    from watcher.debug_output import series

    collector = series.Collector()
    with reading_progress(run.saved.name) as show_step:

        def observe(step: SavedStep) -> None:
            show_step(step)
            if plot:
                collector.add(step)

        [verdict] = run.run(observe, whole=plot is not None)
    if plot:
        from watcher.alerts import plots

        read = [one for one in collector.series() if one.tensor in verdict.tensors]
        plots.save(plots.of_verdict(read, verdict, run.rule, run.saved.name), plot)
    return verdict


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise OptionsError(f"{option} {text}: write {option} num_steps=10")
        if key in pairs:
            raise OptionsError(f"{option} {key} is given twice")
        pairs[key] = value
    return pairs
