"""The queue of jobs to look at again, and the pace of the calls."""

from __future__ import annotations

import threading

from watcher.jobs.work import LocalWork, Pace, Urgency


def test_ended_jobs_come_first():
    work = LocalWork()
    work.put("due", Urgency.DUE)
    work.put("ended", Urgency.ENDED)
    assert [work.take(), work.take()] == ["ended", "due"]


def test_a_job_is_queued_once_even_when_it_is_put_often():
    work = LocalWork()
    for urgency in (Urgency.DUE, Urgency.DUE, Urgency.ENDED, Urgency.DUE):
        work.put("job", urgency)
    work.put("other", Urgency.DUE)
    assert [work.take(), work.take()] == ["job", "other"]


def test_a_job_that_one_worker_handles_is_not_given_to_another():
    work = LocalWork()
    work.put("job", Urgency.ENDED)
    assert work.take() == "job"
    work.put("job", Urgency.ENDED)  # it changed again meanwhile
    work.put("other", Urgency.DUE)
    assert work.take() == "other"
    work.done("job")
    assert work.take() == "job"


def test_a_waiting_worker_gets_the_next_job():
    work, taken = LocalWork(), []
    worker = threading.Thread(target=lambda: taken.append(work.take()))
    worker.start()
    work.put("job", Urgency.DUE)
    worker.join(5)
    assert taken == ["job"]


def test_closing_the_queue_ends_the_workers():
    work, taken = LocalWork(), []
    workers = [threading.Thread(target=lambda: taken.append(work.take())) for _ in range(3)]
    for worker in workers:
        worker.start()
    work.close()
    for worker in workers:
        worker.join(5)
    assert taken == [None, None, None]


def test_waiting_for_an_empty_queue_includes_the_jobs_in_progress():
    work = LocalWork()
    work.put("job", Urgency.DUE)
    name = work.take()
    assert name is not None
    checks = []

    def stop() -> bool:
        checks.append(True)
        if len(checks) == 2:
            work.done(name)
        return len(checks) > 5

    work.wait_until_empty(stop, interval=0)
    assert len(checks) == 2


def test_fast_calls_are_held_to_a_steady_pace():
    now, waits = [100.0], []

    def wait(seconds: float) -> None:
        waits.append(round(seconds, 6))
        now[0] += seconds

    pace = Pace(5.0, clock=lambda: now[0], wait=wait)
    for _ in range(4):
        pace.keep()
    assert waits == [0.2, 0.2, 0.2]
    now[0] += 10
    pace.keep()
    assert len(waits) == 3
