"""`profile`: shows how a job uses its instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    All,
    ConfigFile,
    Json,
    PlotFile,
    Verbose,
    err,
    load_settings,
    now,
    out,
    print_json,
    require_plot,
)
from watcher.errors import OptionsError, UsageError

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.evaluation.profile import Found


def profile(
    place: Annotated[str, typer.Argument(metavar="JOB|PATH", help="A job, an S3 address, or a folder.")],
    *,
    node: Annotated[str, typer.Option("--node", help="Only this node, such as algo-1.")] = "",
    plot: PlotFile = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that needs no other file.")
    ] = None,
    show_all: All = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Show how a job uses its instances."""
    settings = load_settings(config, verbose=verbose)
    if plot:
        require_plot(plot)
    if html and html.suffix not in (".html", ".htm"):
        raise OptionsError(f"--html {html}: the name must end in .html")
    if html and not html.parent.is_dir():
        raise UsageError(f"--html {html}: no such folder: {html.parent}")
    from watcher.evaluation.profile import to_document

    found = find_profile(place, settings)
    with profile_progress(found) as show:
        profiled = found.profile(node, show)
    if plot:
        from watcher.alerts import usage_plots

        usage_plots.save(profiled, plot)
    if html:
        from watcher.cli.profile_page import page

        html.write_text(page(profiled), encoding="utf-8")
    if as_json:
        print_json(to_document(profiled))
    else:
        from watcher.cli.profile_tables import print_profile

        print_profile(profiled, out(), show_all=show_all)


def find_profile(place: str, settings: Config) -> Found:
    """What lies at a place, or is known of a job. Raises `UsageError` if there is nothing."""
    from watcher.arn import is_arn
    from watcher.evaluation import profile as profiles

    on_s3, named = place.startswith("s3://"), "/" not in place or is_arn(place)
    if Path(place).is_dir() or not (on_s3 or named):
        return profiles.of_folder(Path(place))
    from watcher.aws.accounts import Accounts

    accounts = Accounts(settings.region, settings.account)
    if on_s3:
        return profiles.of_s3(accounts.home, place)
    from watcher.cli.job_names import described_job

    job = described_job(place, settings, accounts)
    return profiles.of_job(job.aws, job.snapshot, now)


@contextmanager
def profile_progress(found: Found) -> Iterator[Callable[[float], object]]:
    """Show on a terminal how much has been read; yields what to call with the time that was reached."""
    from rich.progress import Progress

    console = err()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading metrics", total=max(found.end - found.begin, 1.0))
        yield lambda at: bar.update(task, completed=at - found.begin)
