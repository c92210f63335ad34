"""Finds the run or the incident that a command names.

A job is named by its name, its ARN, a prefix that no other job has, or `latest`; of several runs of one job,
the newest is meant. An earlier run is named by its own identity, `ARN@CreationTime`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from watcher.arn import is_arn, job_name, run_arn
from watcher.errors import NoSuchJob, NothingToDo, UsageError
from watcher.model import Incident, incident_id
from watcher.store.base import JobRecord, KnownRun, Store

LATEST: Final = "latest"
"""The job that was created last; or the incident that was opened last."""
SHOWN_MATCHES: Final = 5
"""How many names an error about an ambiguous prefix shows."""

_INCIDENT = re.compile(r"[0-9a-f]{4,16}")
"""An incident's id, or enough of it."""


def find_run(store: Store, word: str) -> JobRecord:
    """The run that `word` names. Raises `NoSuchJob`, and `UsageError` if there is more than one job."""
    if record := _exact(store, word):
        return record
    runs = store.runs()
    if word == LATEST and runs:
        return find_run(store, runs[0].run)
    if name := _only_match(word, {run.name for run in runs}, "jobs"):
        return find_run(store, name)
    raise NoSuchJob(_unknown(word, runs, "job"))


def known_name(store: Store, word: str) -> str | None:
    """The name or ARN of the job that `word` abbreviates; None if the store knows no such job. Raises
    `UsageError` if it abbreviates several."""
    runs = store.runs()
    if word == LATEST and runs:
        return run_arn(runs[0].run)
    return _only_match(word, {run.name for run in runs}, "jobs")


def find_incident(store: Store, word: str) -> Incident:
    """The incident with this id or unique prefix of it, or that of the run that `word` names.

    Raises `NoSuchJob` if nothing has this name, `UsageError` if more than one thing has, and `NothingToDo` if
    the run has no incident.
    """
    if _INCIDENT.fullmatch(word) and (case := store.case(word)):
        return case.incident
    if record := _exact(store, word):
        return _of_run(store, record)
    incidents = store.incidents()
    if word == LATEST:
        if not incidents:
            raise NothingToDo("there is no incident yet")
        return incidents[0]
    runs = store.runs()
    if name := _only_match(word, {run.name for run in runs}, "jobs"):
        return _of_run(store, find_run(store, name))
    by_id = {incident.id: incident for incident in incidents}
    if _INCIDENT.fullmatch(word) and (id_ := _only_match(word, by_id, "incidents")):
        return by_id[id_]
    raise NoSuchJob(_unknown(word, runs, "incident or job"))


def _exact(store: Store, word: str) -> JobRecord | None:
    records = store.jobs(job_name(run_arn(word)))
    if is_arn(word):
        records = [record for record in records if word in (record.snapshot.arn, record.snapshot.run)]
    arns = list(dict.fromkeys(record.snapshot.arn for record in records))
    if len(arns) > 1:
        raise UsageError(f"there are {len(arns)} jobs named {word}; name one by its ARN: {', '.join(arns)}")
    return records[0] if records else None


def _of_run(store: Store, record: JobRecord) -> Incident:
    case = store.case(incident_id(record.snapshot.run))
    if case is None:
        raise NothingToDo(f"{record.snapshot.name} has no incident")
    return case.incident


def _only_match(prefix: str, among: Iterable[str], what: str) -> str | None:
    matches = [each for each in among if prefix and each.startswith(prefix)]
    if len(matches) > 1:
        raise ambiguous(prefix, matches, what)
    return matches[0] if matches else None


def ambiguous(prefix: str, matches: Iterable[str], what: str, *, complete: bool = True) -> UsageError:
    """The error about a prefix that several names have. `complete`: `matches` are all of them."""
    names = sorted(matches)
    shown = ", ".join(names[:SHOWN_MATCHES]) + (", …" if len(names) > SHOWN_MATCHES else "")
    count = str(len(names)) if complete else f"more than {SHOWN_MATCHES}"
    return UsageError(f"{count} {what} begin with {prefix}: {shown}; write more of the one you mean")


def _unknown(word: str, runs: Iterable[KnownRun], what: str) -> str:
    close = get_close_matches(word, {run.name for run in runs}, n=1)
    hint = f"did you mean {close[0]}?" if close else "`watcher jobs` lists the known jobs"
    return f"the store has no {what} {word}; {hint}"
