"""Commands by which a person changes an incident: `ack`, `snooze`, `unsnooze` and `redeliver`.

Each is a change like any other: it is in the incident's history, and its alerts show it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import (
    ConfigFile,
    Json,
    Verbose,
    existing_store,
    load_settings,
    now,
    print_json,
    say,
    user,
)
from watcher.errors import NoSuchJob, NothingToDo, OptionsError, UsageError

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.model import Case, Incident
    from watcher.store.base import Store

What = Annotated[
    str,
    typer.Argument(
        metavar="INCIDENT|JOB",
        help="An incident's id, a job's name or ARN, the beginning of one of them, or latest.",
    ),
]
SNOOZE_LIMIT = timedelta(days=365)


def ack(
    what: What,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Say that you have an incident, wherever it was told."""
    from watcher.model import Door
    from watcher.policy import incidents

    actor = user()
    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        case = _changed(
            store,
            settings,
            what,
            lambda case: incidents.acknowledge(case, actor, Door.CLI, now()),
            lambda incident: f"{actor} has the incident of {incident.job} already",
        )
    _print(case, f"{actor} has the incident of {case.incident.job} now.", as_json=as_json)


def snooze(
    what: What,
    *,
    span: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d12h.")] = "1h",
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Be told nothing more of an incident for a while."""
    from watcher.model import Door
    from watcher.policy import incidents

    actor, until = user(), _end_of(span, now())
    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        case = _changed(
            store,
            settings,
            what,
            lambda case: incidents.snooze(case, until, actor, Door.CLI, now()),
            lambda incident: f"nothing to snooze for {incident.job}",
        )
    sentence = f"The incident of {case.incident.job} is snoozed until {until:%Y-%m-%d %H:%M:%S} UTC."
    _print(case, sentence, as_json=as_json)


def unsnooze(
    what: What,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """End a snooze before its time."""
    from watcher.model import Door
    from watcher.policy import incidents

    actor = user()
    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        case = _changed(
            store,
            settings,
            what,
            lambda case: incidents.unsnooze(case, actor, Door.CLI, now()),
            lambda incident: f"the incident of {incident.job} is not snoozed",
        )
    _print(case, f"The snooze of the incident of {case.incident.job} has ended.", as_json=as_json)


def redeliver(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="INCIDENT|JOB", help="Only this incident, named as for ack. Default: all that is refused."
        ),
    ] = None,
    *,
    all_dead: Annotated[
        bool, typer.Option("--all-dead", help="All that is refused, and all that Watcher gave up.")
    ] = False,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Send again what destinations refused, after fixing the cause."""
    from watcher.config.destination import shown
    from watcher.model import Door
    from watcher.policy import incidents
    from watcher.store import incident_views

    if what and all_dead:
        raise OptionsError("name an incident, or use --all-dead, not both")
    actor = user()

    sent: dict[str, list[str]] = {}

    def again(case: Case | None) -> Case | None:
        if case:
            sent[case.incident.id] = [shown(row.to) for row in case.deliveries if incidents.given_up(row)]
        return incidents.redeliver(case, actor, Door.CLI, now())

    settings = load_settings(config, verbose=verbose)
    with existing_store(settings) as store:
        if what:
            cases = [
                _changed(
                    store,
                    settings,
                    what,
                    again,
                    lambda incident: f"no destination refuses the incident of {incident.job}",
                    even_resolved=True,
                )
            ]
        else:
            changed = (store.amend(id_, again) for id_ in _to_redeliver(store, all_dead=all_dead))
            cases = [case for case in changed if case]
            if not cases:
                raise NothingToDo(_nothing_refused(store, all_dead=all_dead))
    if as_json:
        print_json([incident_views.incident(case) for case in cases])
        return
    for case in cases:
        say(f"The incident of {case.incident.job} is sent again: {', '.join(sent[case.incident.id])}.")
    say("`watcher run` sends it within a few seconds; `watcher status` says whether it arrived.")


def _to_redeliver(store: Store, *, all_dead: bool) -> list[str]:
    """The incidents of which something is refused; with `all_dead`, or given up."""
    from watcher.policy import incidents

    rows = store.deliveries() if all_dead else store.refused()
    alerts = filter(incidents.given_up, rows)
    return list(dict.fromkeys(row.incident for row in alerts))


def _nothing_refused(store: Store, *, all_dead: bool) -> str:
    dead = 0 if all_dead else len(_to_redeliver(store, all_dead=True))
    hint = f"; {dead} given up: use --all-dead to send them again" if dead else ""
    return f"no destination refuses anything{hint}"


def _changed(
    store: Store,
    settings: Config,
    what: str,
    amend: Callable[[Case | None], Case | None],
    unchanged: Callable[[Incident], str],
    *,
    even_resolved: bool = False,
) -> Case:
    """The incident after `amend`. Raises `NothingToDo` if that changes nothing: the incident is resolved, or
    `unchanged`."""
    from watcher.cli.job_names import without_incident
    from watcher.model import IncidentState
    from watcher.store.lookup import find_incident

    try:
        incident = find_incident(store, what)
    except NoSuchJob as unknown:
        raise without_incident(what, settings, unknown) from None
    case = store.amend(incident.id, amend)
    if case is not None:
        return case
    if incident.state is IncidentState.RESOLVED and not even_resolved:
        at = f"{incident.resolved_at:%Y-%m-%d %H:%M:%S} UTC" if incident.resolved_at else "an unknown time"
        raise NothingToDo(f"the incident of {incident.job} is resolved already, since {at}")
    raise NothingToDo(unchanged(incident))


def _end_of(span: str, now: datetime) -> datetime:
    from watcher.logs.since import span as parse

    length = parse(span)
    if length is None:
        raise UsageError(f"--for {span!r}: write how long, such as 30m, 2h or 1d12h")
    if not timedelta(0) < length <= SNOOZE_LIMIT:
        raise UsageError(f"--for {span!r}: write more than 0, and at most {SNOOZE_LIMIT.days} days")
    return now + length


def _print(case: Case, sentence: str, *, as_json: bool) -> None:
    from watcher.store import incident_views

    if as_json:
        print_json(incident_views.incident(case))
    else:
        say(sentence)
