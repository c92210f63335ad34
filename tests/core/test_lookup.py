"""What a person may type to name a job or an incident."""

from __future__ import annotations

import pytest

from tests.contract.samples import after, arn, case, incident, look, opens, run, snapshot
from watcher.errors import NothingToDo, UsageError
from watcher.model import incident_id
from watcher.store.lookup import find_incident, find_run, known_name
from watcher.store.memory import MemoryStore

JOBS = ("churn", "churn-xgb-1", "churn-xgb-2", "sales-7")
"""In the order in which they were created. The first two have incidents."""


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for number, name in enumerate(JOBS):
        if number < 2:
            opened = opens(case(name, incident=incident(name, opened_at=after(number))))
            store.commit([look(name, opened)])
        else:
            store.commit([look(name, snapshot=snapshot(name, created_at=after(number)))])
    return store


@pytest.fixture
def same_time() -> MemoryStore:
    """Both jobs have incidents."""
    store = MemoryStore()
    store.commit([look(name, opens(case(name))) for name in ("churn", "sales")])
    return store


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("churn", "churn"),  # though others begin with it
        (arn("churn-xgb-1"), "churn-xgb-1"),
        ("sal", "sales-7"),
        ("churn-xgb-2", "churn-xgb-2"),
        ("latest", "sales-7"),
    ],
)
def test_a_job_is_named_by_its_name_its_arn_a_unique_beginning_or_latest(store: MemoryStore, word, name):
    assert find_run(store, word).snapshot.name == name


def test_a_job_that_is_called_latest_is_meant_by_its_name(store: MemoryStore):
    store.commit([look("latest", snapshot=snapshot("latest", created_at=after(-9)))])

    assert find_run(store, "latest").snapshot.name == "latest"


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("churn-", "2 jobs begin with churn-: churn-xgb-1, churn-xgb-2; write more"),
        ("chrun", "the store has no job chrun; did you mean churn"),
        ("something else", "the store has no job something else; `watcher jobs` lists"),
        ("", "the store has no job ; `watcher jobs` lists"),
        (arn("xgb"), "the store has no job arn:aws"),
        ("xgb", "the store has no job xgb"),
    ],
)
def test_what_names_no_job_or_several_is_refused(store: MemoryStore, word, complaint):
    with pytest.raises(UsageError, match=complaint):
        find_run(store, word)


def test_an_empty_store_has_no_latest_job():
    with pytest.raises(UsageError, match="the store has no job latest"):
        find_run(MemoryStore(), "latest")


def test_a_beginning_is_completed_only_if_one_job_has_it(store: MemoryStore):
    assert known_name(store, "sal") == "sales-7"
    assert known_name(store, "latest") == arn("sales-7")
    assert known_name(store, "x") is None
    with pytest.raises(UsageError, match="2 jobs begin with churn-"):
        known_name(store, "churn-")


@pytest.mark.parametrize("word", ["churn", "chu", run("churn"), arn("churn"), incident_id(run("churn"))])
def test_an_incident_is_named_by_its_id_or_by_its_job(same_time: MemoryStore, word):
    assert find_incident(same_time, word).job == "churn"


def test_an_incident_is_named_by_enough_of_its_id(same_time: MemoryStore):
    assert find_incident(same_time, incident_id(run("churn"))[:6]).job == "churn"


def test_the_latest_incident_is_the_one_that_was_opened_last(store: MemoryStore):
    assert find_incident(store, "latest").job == "churn-xgb-1"


def test_only_the_newest_run_of_a_name_counts(same_time: MemoryStore):
    same_time.commit([look("churn", snapshot=snapshot("churn", created_at=after(3600)))])

    with pytest.raises(NothingToDo, match="churn has no incident"):
        find_incident(same_time, "churn")
    assert find_incident(same_time, run("churn")).job == "churn"


def test_what_names_no_incident_is_refused_with_the_closest_job(store: MemoryStore):
    with pytest.raises(UsageError, match=r"no incident or job sales-8; did you mean sales-7\?"):
        find_incident(store, "sales-8")
    with pytest.raises(UsageError, match="no incident or job feed0123"):
        find_incident(store, "feed0123")
    with pytest.raises(NothingToDo, match="there is no incident yet"):
        find_incident(MemoryStore(), "latest")
