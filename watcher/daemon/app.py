"""Wires the daemon together. These are its named loops:

    reconcile       finds the jobs in progress, every watch.poll_interval; with a queue, in one process
    receive         takes messages from the SQS queue, if there is one
    keep            holds these messages until their jobs are handled, then deletes them
    look-N          describe one job at a time
    evaluate-N      evaluate rules on what jobs have saved, one job at a time
    logs            reads the logs of rules in progress; in one process of those that share a store
    evaluation_log  writes the log of Watcher's own evaluations, if rules.log_group is set
    outbox          gives due deliveries to its workers (deliver_N)
    heartbeat       requests http.heartbeat_url each minute while all is well, if it is set
    http            serves /healthz, /readyz, /metrics and the status page

If a loop ends with an error, the process ends, and ECS or systemd starts it again. `/healthz` reports a loop
that makes no progress.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from math import ceil
from typing import TYPE_CHECKING

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from watcher import __version__
from watcher.alerts.evidence import Gatherer
from watcher.arn import job_name, run_id
from watcher.aws.queue import Queue
from watcher.aws.session import Aws
from watcher.config.settings import Config, Watch
from watcher.daemon.context import Context, utc_now
from watcher.daemon.evaluation_worker import EvaluationWorker
from watcher.daemon.http_server import open_server
from watcher.daemon.incident_count import IncidentCount
from watcher.daemon.job_worker import JobWorker
from watcher.daemon.log_reader import LogReader
from watcher.daemon.queue_consumer import QueueConsumer
from watcher.daemon.reconcile_pass import ReconcilePass
from watcher.daemon.schedule import Schedule
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
from watcher.logs.rule_monitor import RuleMonitor
from watcher.logs.streams import LogStreams
from watcher.model import Case, JobSnapshot
from watcher.web.gauges import Gauges
from watcher.web.heartbeat import HEARTBEAT_INTERVAL_S, Heartbeat
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

if TYPE_CHECKING:
    from watcher.web.server import Server

log = structlog.get_logger(__name__)

JOB_WORKERS = 2
JOB_WORKERS_ON_A_QUEUE = 8
"""More, because events come in bursts and are handled at once. A worker mostly waits for SageMaker."""
EVALUATION_WORKERS = 2
MAX_RECEIVES_PER_SECOND = 20.0
"""The limit lets messages collect: one request returns several, and a job with several is described once."""
MAX_DESCRIBES_PER_SECOND = 5.0
"""Everyone in the account shares SageMaker's quotas, so most of them is left to people."""
LOG_READ_INTERVAL_S = 30.0
"""Between two reads of the rules' logs; `watch.poll_interval` if that is shorter."""
MAX_LOG_READS_PER_SECOND = 3.0
"""`FilterLogEvents` has a quota of 5 calls a second for the account and region."""
MAX_LOG_STREAM_SEARCHES_PER_SECOND = 10.0
"""`DescribeLogStreams` has a quota of 25 calls a second. A stream that is found now need not be searched for
when an alert is due."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(days=1)


class App:
    """One daemon. Call `run` or `run_once`, then `close`.

    `arns`: the jobs to watch; empty for all that the configuration matches. `lease`: if this process dies,
    others take over its work after so many seconds. `once`: for `run_once`, which does not use the queue.
    `clock`: need not agree with those of other daemons.
    """

    def __init__(
        self,
        config: Config,
        arns: Sequence[str] = (),
        lease: float = LEASE_S,
        *,
        once: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        comparable = config.watch  # a job named on the command line may be compared with others
        if arns:
            only = config.watch.model_copy(update={"jobs": tuple(map(job_name, arns)), "tags": {}})
            config = config.model_copy(update={"watch": only})
        context = Context.open(config, lease, clock)
        self.context, self.config = context, config
        self.store, self.accounts, self.instruments = context.store, context.accounts, context.instruments
        self.stopping = context.stopping
        self.queued = _queued_work(context) if config.watch.queue_url and not (arns or once) else None
        self.work: Work = self.queued or LocalWork()
        logs_of = cache(LogStreams)  # evidence is read from the streams that the rule monitor has found
        self.outbox = _outbox(context, logs_of)
        self.pipeline = _pipeline(context, self._committed)
        self.reconciler = _reconciler(context, self.pipeline, self.work, arns)
        self.evaluation_log = _evaluation_log(context)
        self.evaluations = _evaluation_worker(context, self.pipeline, self.evaluation_log, comparable)
        self.log_reader = _log_reader(context, self.pipeline, self.work, logs_of)
        self.consumer = _queue_consumer(context, self.queued) if self.queued else None
        self.loops = Loops(time.monotonic)
        self.threads = Threads(self.loops, self.stopping, self.stop)
        depth = self.queued.queue.depth if self.queued else None
        self.readiness = Readiness(self.store, depth, context.clock, time.monotonic)
        self.instruments.registry.register(Gauges(self.loops, self.readiness, self.queued))
        self.server: Server | None = None
        self.drained = True

    @property
    def failure(self) -> BaseException | None:
        """The error that ended a loop, and so the daemon."""
        return self.threads.failure

    def run(self) -> None:
        """Run until `stop` is called or, with `arns`, until these jobs are finished.

        Raises `ConfigError` if it cannot listen at `http.listen`.
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
        log.info("ready", version=__version__, region=self.accounts.home.name, store=self.config.store.url)
        self.stopping.wait()
        schedule.close()
        self._drain(workers, log_writer)
        if self.server:
            self.server.close()
        log.info("stopped", drained=self.drained)

    def run_once(self) -> bool:
        """Make one pass over everything, deliveries included. False if AWS refused a call or a delivery is
        still open."""
        assert isinstance(self.work, LocalWork)  # noqa: S101 - with `once`, there is no queue
        single_pass = SinglePass(
            reconciler=self.reconciler,
            work=self.work,
            evaluations=self.evaluations,
            outbox=self.outbox,
            refused=self.context.refused,
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
        self.stopping.wait()
        self._drain([worker], log_writer)
        return done.is_set()

    def stop(self) -> None:
        """Let `run` or `run_once` drain and return. May be called from any thread, but from no signal handler
        (see `end_signals`)."""
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
        # With a queue, there is one request for each change. Only polling could exceed SageMaker's quota.
        pace = None if self.queued else self.context.pace(MAX_DESCRIBES_PER_SECOND)
        refused, failures = self.context.refused, self.context.failures
        worker = JobWorker(self.work, self.pipeline, self.accounts, refused, pace, failures)
        count = JOB_WORKERS_ON_A_QUEUE if self.queued else JOB_WORKERS
        return [self.threads.start_loop(f"look-{number}", worker.run) for number in range(1, count + 1)]

    def _start_periodic(self, schedule: Schedule) -> list[threading.Thread]:
        start, interval = self.threads.start_loop, self.config.watch.reconcile_every
        reconcile = _reconcile_pass(self.context, self.reconciler, self.stop, on_a_queue=bool(self.queued))
        loops = [start("reconcile", schedule.every(interval, reconcile.run), interval + MAX_PASS_S)]
        if url := self.config.http.heartbeat_url.get_secret_value():
            beat = Heartbeat(url, self.loops, self.readiness).beat
            loop = schedule.every(HEARTBEAT_INTERVAL_S, beat)
            loops.append(start("heartbeat", loop, HEARTBEAT_INTERVAL_S + MAX_TURN_S))
        return loops

    def _start_evaluation_log(self) -> threading.Thread | None:
        writer = self.evaluation_log
        return self.threads.start_loop("evaluation_log", writer.run) if writer else None

    def _drain(self, workers: Sequence[threading.Thread], log_writer: threading.Thread | None) -> None:
        """Start nothing new, and let current work finish within `DRAIN_TIMEOUT_S`.

        The evaluation log ends last, because the evaluations that are finishing still write to it.
        """
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

    def _committed(self, changed: Sequence[tuple[Case, JobSnapshot]]) -> None:
        self.outbox.wake(changed)
        self.evaluations.wake()


# -- construction of the parts --------------------------------------------------------------------


def _queued_work(context: Context) -> QueuedWork:
    def is_stored(
        arn: str,
    ) -> bool:  # any run of the job is earlier than one that is created at the end of time
        return context.store.has_earlier_run(run_id(arn, END_OF_TIME))

    return QueuedWork(
        Queue(context.accounts.home, context.config.watch.queue_url),
        context.clock,
        time.monotonic,
        visibility_timeout_s=ceil(context.lease_s),
        is_ours=context.accounts.covers,
        is_stored=is_stored,
        ignored=context.instruments.ignored,
        failures=context.failures,
    )


def _queue_consumer(context: Context, queued: QueuedWork) -> QueueConsumer:
    pace = context.pace(MAX_RECEIVES_PER_SECOND)
    return QueueConsumer(queued, context.accounts, context.refused, pace, context.stopping)


def _outbox(context: Context, logs_of: Callable[[Aws], LogStreams]) -> Outbox:
    config, accounts = context.config, context.accounts
    return Outbox(
        store=context.store,
        open_channel=lambda to: open_channel(to, config, accounts.home.sns),
        stopper=Stopper(accounts, context.store, config.stop, context.clock, config.watch),
        gather=Gatherer(accounts, config.rules, context.clock, logs_of, context.earlier_runs.since).gather,
        config=config,
        owner=context.owner,
        clock=context.clock,
        random=random.random,
        instruments=context.instruments,
        lease=context.lease_s,
    )


def _pipeline(context: Context, committed: Callable[[Sequence[tuple[Case, JobSnapshot]]], None]) -> Pipeline:
    return Pipeline(
        accounts=context.accounts,
        store=context.store,
        config=context.config,
        clock=context.clock,
        spread=random.random,
        committed=committed,
        owner=context.owner,
        wait=context.stopping.wait,
        instruments=context.instruments,
        lease=context.lease_s,
        failures=context.failures,
    )


def _reconciler(context: Context, pipeline: Pipeline, work: Work, arns: Sequence[str]) -> Reconciler:
    return Reconciler(
        accounts=context.accounts,
        store=context.store,
        pipeline=pipeline,
        watch=context.config.watch,
        work=work,
        refused=context.refused,
        clock=context.clock,
        stopping=context.stopping.is_set,
        only=tuple(arns),
    )


def _reconcile_pass(
    context: Context, reconciler: Reconciler, stop: Callable[[], None], *, on_a_queue: bool
) -> ReconcilePass:
    return ReconcilePass(
        reconciler=reconciler,
        store=context.store,
        instruments=context.instruments,
        incidents=IncidentCount(context.store, context.instruments, time.monotonic),
        refused=context.refused,
        clock=context.clock,
        interval_s=context.config.watch.reconcile_every,
        on_a_queue=on_a_queue,
        stop=stop,
    )


def _evaluation_log(context: Context) -> EvaluationLog | None:
    if not (group := context.config.rules.log_group):
        return None
    host = f"{socket.gethostname()}:{os.getpid()}"
    return EvaluationLog(context.accounts.home, group, host, context.refused)


def _evaluation_worker(
    context: Context, pipeline: Pipeline, evaluation_log: EvaluationLog | None, comparable: Watch
) -> EvaluationWorker:
    return EvaluationWorker(
        accounts=context.accounts,
        store=context.store,
        pipeline=pipeline,
        rules=context.config.rules,
        evaluation_log=evaluation_log,
        refused=context.refused,
        clock=context.clock,
        stopping=context.stopping.is_set,
        since=context.earlier_runs.since,
        watch=comparable,
        failures=context.failures,
    )


def _log_reader(
    context: Context, pipeline: Pipeline, work: Work, logs_of: Callable[[Aws], LogStreams]
) -> LogReader:
    monitor = RuleMonitor(
        accounts=context.accounts,
        logs_of=logs_of,
        store=context.store,
        pipeline=pipeline,
        work=work,
        stuck_after=context.config.rules.stuck_after,
        refused=context.refused,
        reads=context.pace(MAX_LOG_READS_PER_SECOND),
        looks=context.pace(MAX_LOG_STREAM_SEARCHES_PER_SECOND),
        clock=context.clock,
        stopping=context.stopping.is_set,
        failures=context.failures,
    )
    return LogReader(
        monitor=monitor,
        store=context.store,
        owner=context.owner,
        lease_s=context.lease_s,
        pace=context.pace(1 / min(LOG_READ_INTERVAL_S, context.config.watch.poll_interval)),
        refused=context.refused,
        clock=context.clock,
        stopping=context.stopping.is_set,
    )
