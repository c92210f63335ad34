"""Wires the daemon together. These are its named loops:

    reconcile       finds the jobs in progress, every poll_interval; of several processes, one does
    receive         takes messages from the SQS queue, if there is one
    keep            holds these messages until their jobs are handled, then deletes them
    look-N          describe one job at a time
    evaluate-N      evaluate rules on what jobs have saved, one job at a time
    logs            reads the logs of rules in progress; of several processes, one does
    evaluation_log  writes the log of Watcher's own evaluations, if rules.log_group is set
    outbox          gives due deliveries to its workers (deliver_N)
    heartbeat       requests an address each minute while all is well, if one is set
    http            serves /healthz, /readyz, /metrics and the status page

The first loop that ends with an error ends the process, and whatever runs it (ECS, systemd) starts it again.
`/healthz` reports a loop whose turn takes too long.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from watcher import __version__
from watcher.alerts.evidence import Gatherer
from watcher.arn import job_name
from watcher.aws.queue import Queue
from watcher.aws.session import Aws
from watcher.config.settings import Config
from watcher.daemon.evaluation_worker import EvaluationWorker
from watcher.daemon.http_server import open_server
from watcher.daemon.job_worker import JobWorker
from watcher.daemon.log_reader import LogReader
from watcher.daemon.queue_consumer import QueueConsumer
from watcher.daemon.reconcile_pass import ReconcilePass
from watcher.daemon.schedule import Schedule
from watcher.daemon.shared import Shared, utc_now
from watcher.daemon.single_pass import SinglePass
from watcher.daemon.threads import DRAIN_TIMEOUT_S, MAX_PASS_S, MAX_TURN_S, Threads, join_until
from watcher.delivery.channels import open_channel
from watcher.delivery.outbox import LEASE_S, Outbox
from watcher.delivery.stop import Stopper
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.queued_work import QueuedWork
from watcher.jobs.reconcile import Reconciler
from watcher.jobs.work import LocalWork, Work
from watcher.logs.evaluation_log import EvaluationLog
from watcher.logs.listener import Listener
from watcher.logs.streams import JobLogs
from watcher.model import Finding, JobSnapshot
from watcher.web.gauges import Gauges
from watcher.web.heartbeat import HEARTBEAT_INTERVAL_S, Heartbeat
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

if TYPE_CHECKING:
    from watcher.web.server import Server

log = structlog.get_logger(__name__)

JOB_WORKERS = 2
JOB_WORKERS_ON_A_QUEUE = 8
"""Events are answered at once, and a worker mostly waits for SageMaker."""
EVALUATION_WORKERS = 2
RECEIVES_PER_SECOND = 20.0
"""Messages that arrive in between come in one request, and several about one job are one look at it."""
DESCRIBES_PER_SECOND = 5.0
"""SageMaker's quotas are shared by everyone in the account; people's own calls come first."""
LOG_READ_INTERVAL_S = 30.0
"""Between two readings of the rules' logs; less if reconciliations are closer together."""
LOG_READS_PER_SECOND = 3.0
"""`FilterLogEvents` has a quota of 5 calls a second for the account and region."""
LOG_STREAM_SEARCHES_PER_SECOND = 10.0
"""`DescribeLogStreams` has one of 25. A stream found ahead need not be looked for when an alert is due."""
SIGNAL_CHECK_INTERVAL_S = 1.0
"""Python handles signals in the main thread, which does not wake when the system hands one to another thread,
such as while a debugger or a profiler looks at the main one."""


class App:
    """One daemon: `run` or `run_once`, then `close`.

    `arns`: the jobs to watch; if there are none, all that the configuration matches. `lease`: seconds until
    other processes take over the work of this one, should it die. `once`: for `run_once`, which leaves the
    queue to others.
    """

    def __init__(
        self, config: Config, arns: Sequence[str] = (), lease: float = LEASE_S, *, once: bool = False
    ) -> None:
        if arns:
            only = config.watch.model_copy(update={"jobs": tuple(map(job_name, arns)), "tags": {}})
            config = config.model_copy(update={"watch": only})
        shared = Shared.open(config, lease)
        self.shared, self.config = shared, config
        self.store, self.accounts, self.instruments = shared.store, shared.accounts, shared.instruments
        self.stopping = shared.stopping
        self.queued = _queued_work(shared) if config.watch.queue_url and not (arns or once) else None
        self.work: Work = self.queued or LocalWork()
        logs_of = cache(JobLogs)  # evidence is read from the streams that the listener has found
        self.outbox = _outbox(shared, logs_of)
        self.pipeline = _pipeline(shared, self._committed)
        self.reconciler = _reconciler(shared, self.pipeline, self.work, arns)
        self.evaluation_log = _evaluation_log(shared)
        self.evaluations = _evaluation_worker(shared, self.pipeline, self.evaluation_log)
        self.log_reader = _log_reader(shared, self.pipeline, self.work, logs_of)
        self.consumer = _queue_consumer(shared, self.queued) if self.queued else None
        self.loops = Loops(time.monotonic)
        self.threads = Threads(self.loops, self.stopping, self.stop)
        depth = self.queued.queue.depth if self.queued else None
        self.readiness = Readiness(self.store, depth, utc_now, time.monotonic)
        self.instruments.registry.register(Gauges(self.loops, self.readiness, self.queued))
        self.server: Server | None = None
        self.drained = True

    @property
    def failure(self) -> BaseException | None:
        """What ended a loop, and so the daemon."""
        return self.threads.failure

    def run(self) -> None:
        """Run until `stop` is called or, if jobs were named, until they need no more watching.

        Raises `ConfigError` if it cannot listen where the settings say.
        """
        registry = self.instruments.registry
        self.server = open_server(self.config, self.store, self.loops, self.readiness, registry)
        if self.server:
            self.threads.start("http", self.server.run)
        workers = self._start_workers()
        log_writer = self._start_evaluation_log()
        schedule = Schedule(BackgroundScheduler(timezone=UTC))
        workers += self._start_periodic(schedule)
        schedule.start()
        log.info("ready", version=__version__, region=self.accounts.home.region, store=self.config.store.url)
        self._wait_for_stop()
        schedule.close()
        self._drain(workers, log_writer)
        if self.server:
            self.server.close()
        log.info("stopped", drained=self.drained)

    def run_once(self) -> bool:
        """One pass over everything, deliveries included; False if AWS refused it or something is left."""
        assert isinstance(self.work, LocalWork)  # noqa: S101 - `once`: there is no queue
        single_pass = SinglePass(
            reconciler=self.reconciler,
            work=self.work,
            evaluations=self.evaluations,
            outbox=self.outbox,
            refused=self.shared.refused,
            start_job_workers=self._start_job_workers,
            stopping=self.stopping.is_set,
        )
        done = threading.Event()

        def once() -> None:
            if single_pass.run():
                done.set()
            self.stop()

        log_writer = self._start_evaluation_log()
        worker = self.threads.start("once", once)
        self._wait_for_stop()
        self._drain([worker], log_writer)
        return done.is_set()

    def stop(self) -> None:
        """Let `run` or `run_once` drain and return. May be called from any thread or signal handler."""
        self.stopping.set()
        self.evaluations.wake()

    def close(self) -> None:
        self.store.close()

    # -- threads ----------------------------------------------------------------------------------

    def _start_workers(self) -> list[threading.Thread]:
        start, rules = self.threads.start_loop, self.config.rules
        workers = [*self._start_job_workers(), start("outbox", self.outbox.run)]
        if rules.local != "off":
            names = [f"evaluate-{number}" for number in range(1, EVALUATION_WORKERS + 1)]
            workers += [start(name, self.evaluations.run) for name in names]
        if rules.stuck_after:
            workers.append(start("logs", self.log_reader.run, MAX_PASS_S))
        if self.consumer:
            workers += [start("receive", self.consumer.receive), start("keep", self.consumer.keep)]
        return workers

    def _start_job_workers(self) -> list[threading.Thread]:
        # What events ask for is as many requests as there are changes: only polling needs a limit.
        pace = None if self.queued else self.shared.pace(DESCRIBES_PER_SECOND)
        worker = JobWorker(self.work, self.pipeline, self.accounts, self.shared.refused, pace)
        count = JOB_WORKERS_ON_A_QUEUE if self.queued else JOB_WORKERS
        return [self.threads.start_loop(f"look-{number}", worker.run) for number in range(1, count + 1)]

    def _start_periodic(self, schedule: Schedule) -> list[threading.Thread]:
        start, interval = self.threads.start_loop, self.config.watch.reconcile_every
        reconcile = _reconcile_pass(self.shared, self.reconciler, self.stop, on_a_queue=bool(self.queued))
        loops = [start("reconcile", schedule.every(interval, reconcile.run), interval + MAX_PASS_S)]
        if url := self.config.http.heartbeat_url.get_secret_value():
            beat = Heartbeat(url, self.loops, self.readiness).beat
            loop = schedule.every(HEARTBEAT_INTERVAL_S, beat)
            loops.append(start("heartbeat", loop, HEARTBEAT_INTERVAL_S + MAX_TURN_S))
        return loops

    def _start_evaluation_log(self) -> threading.Thread | None:
        writer = self.evaluation_log
        return self.threads.start_loop("evaluation_log", writer.run) if writer else None

    def _wait_for_stop(self) -> None:
        while not self.stopping.wait(SIGNAL_CHECK_INTERVAL_S):
            pass

    def _drain(self, workers: Sequence[threading.Thread], log_writer: threading.Thread | None) -> None:
        """Start nothing new, and let what is under way finish within `DRAIN_TIMEOUT_S`; log lines last."""
        self.work.close()
        self.outbox.stop()
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        join_until(workers, deadline)
        if self.consumer:
            self.consumer.hand_back()
        self.drained = not any(worker.is_alive() for worker in workers)
        if self.evaluation_log and log_writer:
            self.evaluation_log.close()
            join_until([log_writer], deadline)

    def _committed(self, found: Sequence[tuple[Finding, JobSnapshot]]) -> None:
        self.outbox.wake(found)
        self.evaluations.wake()


# -- the parts, each given what it works with -----------------------------------------------------


def _queued_work(shared: Shared) -> QueuedWork:
    queue = Queue(shared.accounts.home, shared.config.watch.queue_url)
    return QueuedWork(queue, utc_now, time.monotonic, visibility_timeout_s=ceil(shared.lease_s))


def _queue_consumer(shared: Shared, queued: QueuedWork) -> QueueConsumer:
    pace = shared.pace(RECEIVES_PER_SECOND)
    return QueueConsumer(queued, shared.accounts, shared.refused, pace, shared.stopping)


def _outbox(shared: Shared, logs_of: Callable[[Aws], JobLogs]) -> Outbox:
    config, accounts = shared.config, shared.accounts
    return Outbox(
        store=shared.store,
        open_channel=lambda to: open_channel(to, config, accounts.home.sns),
        stopper=Stopper(accounts, shared.store, config.stop, utc_now),
        gather=Gatherer(accounts, config.rules, utc_now, logs_of).gather,
        owner=shared.owner,
        clock=utc_now,
        random=random.random,
        instruments=shared.instruments,
        lease=shared.lease_s,
        prices=config.prices,
    )


def _pipeline(shared: Shared, committed: Callable[[Sequence[tuple[Finding, JobSnapshot]]], None]) -> Pipeline:
    return Pipeline(
        accounts=shared.accounts,
        store=shared.store,
        config=shared.config,
        clock=utc_now,
        spread=random.random,
        committed=committed,
        owner=shared.owner,
        wait=shared.stopping.wait,
        instruments=shared.instruments,
        lease=shared.lease_s,
    )


def _reconciler(shared: Shared, pipeline: Pipeline, work: Work, arns: Sequence[str]) -> Reconciler:
    return Reconciler(
        accounts=shared.accounts,
        store=shared.store,
        pipeline=pipeline,
        watch=shared.config.watch,
        work=work,
        refused=shared.refused,
        clock=utc_now,
        stopping=shared.stopping.is_set,
        only=tuple(arns),
    )


def _reconcile_pass(
    shared: Shared, reconciler: Reconciler, stop: Callable[[], None], *, on_a_queue: bool
) -> ReconcilePass:
    return ReconcilePass(
        reconciler=reconciler,
        store=shared.store,
        instruments=shared.instruments,
        refused=shared.refused,
        clock=utc_now,
        interval_s=shared.config.watch.reconcile_every,
        on_a_queue=on_a_queue,
        stop=stop,
    )


def _evaluation_log(shared: Shared) -> EvaluationLog | None:
    if not (group := shared.config.rules.log_group):
        return None
    host = f"{socket.gethostname()}:{os.getpid()}"
    return EvaluationLog(shared.accounts.home, group, host, shared.refused)


def _evaluation_worker(
    shared: Shared, pipeline: Pipeline, evaluation_log: EvaluationLog | None
) -> EvaluationWorker:
    return EvaluationWorker(
        accounts=shared.accounts,
        store=shared.store,
        pipeline=pipeline,
        rules=shared.config.rules,
        evaluation_log=evaluation_log,
        refused=shared.refused,
        clock=utc_now,
        stopping=shared.stopping.is_set,
    )


def _log_reader(
    shared: Shared, pipeline: Pipeline, work: Work, logs_of: Callable[[Aws], JobLogs]
) -> LogReader:
    listener = Listener(
        accounts=shared.accounts,
        logs_of=logs_of,
        store=shared.store,
        pipeline=pipeline,
        work=work,
        stuck_after=shared.config.rules.stuck_after,
        refused=shared.refused,
        reads=shared.pace(LOG_READS_PER_SECOND),
        looks=shared.pace(LOG_STREAM_SEARCHES_PER_SECOND),
        clock=utc_now,
        stopping=shared.stopping.is_set,
    )
    return LogReader(
        listener=listener,
        store=shared.store,
        owner=shared.owner,
        lease_s=shared.lease_s,
        pace=shared.pace(1 / min(LOG_READ_INTERVAL_S, shared.config.watch.poll_interval)),
        refused=shared.refused,
        clock=utc_now,
        stopping=shared.stopping.is_set,
    )
