"""The one place that wires everything, and that starts and ends the named loops.

    reconcile   asks which jobs are in progress, every poll_interval; of several processes, one does
    receive     takes hints from the SQS queue, where there is one
    keep        holds on to these messages until their jobs are handled, then deletes them
    look-N      describe one job at a time
    evaluate-N  look at what jobs have saved, one job at a time
    logs        reads what the rules' processing jobs write; of several processes, one does
    outbox      hands deliveries to its workers (deliver_N)
    heartbeat   tells an address each minute that all is well, where one is set
    http        answers /healthz, /readyz and /metrics, and shows the status page

The first loop that ends unexpectedly ends the process, and one that does not turn within its bound makes
/healthz say so: whatever runs the process (ECS, systemd) starts it anew.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from math import ceil
from typing import TYPE_CHECKING

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor as SchedulerPool
from apscheduler.schedulers.background import BackgroundScheduler

from watcher import __version__
from watcher.alerts.evidence import Gatherer
from watcher.arn import job_name
from watcher.aws.accounts import Accounts
from watcher.aws.metrics import OPERATION as GET_METRIC_DATA
from watcher.aws.metrics import SERIES
from watcher.aws.queue import Queue
from watcher.aws.refused_calls import RefusedCalls
from watcher.aws.session import Aws, telling
from watcher.config.settings import Config
from watcher.daemon.expected_errors import expected_errors
from watcher.delivery.channels import open_channel
from watcher.delivery.outbox import LEASE, Outbox
from watcher.delivery.stop import Stopper
from watcher.errors import ConfigError, LeaseLost
from watcher.instruments import Instruments
from watcher.jobs.find import find_jobs
from watcher.jobs.pipeline import Pipeline
from watcher.jobs.queued_work import QueuedWork
from watcher.jobs.reconcile import Reconciler
from watcher.jobs.work import LookAgain, Pace
from watcher.logs.evaluation_log import EvaluationLog
from watcher.logs.listener import Listener
from watcher.logs.streams import JobLogs
from watcher.model import Finding, JobSnapshot, Reads
from watcher.store import open_store
from watcher.store.base import JobRecord
from watcher.web.gauges import Momentary
from watcher.web.heartbeat import EVERY as BEAT_EVERY
from watcher.web.heartbeat import Heartbeat
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness

if TYPE_CHECKING:
    from watcher.evaluation.evaluator import Evaluator
    from watcher.web.server import Server

log = structlog.get_logger(__name__)

LOOKERS = 2
LOOKERS_BEHIND_EVENTS = 8
"""Events are answered at once, and most of a look is waiting for SageMaker."""
EVALUATORS = 2
EVALUATION_LEASE = 300.0
"""Seconds after which an evaluation that nobody finished is tried again."""
EVALUATE_AT_LEAST = 30.0
"""Seconds between two looks for what is due: other processes write to the store as well."""
AFTER_A_FAULT = 5.0
"""Seconds until evaluating is tried again where AWS or the store refused it."""
RECEIVES_PER_SECOND = 20.0
"""What comes in between comes together, in fewer requests; several events about a job are one look at it."""
DESCRIBES_PER_SECOND = 5.0
"""SageMaker's quotas are shared with everybody in the account; people's own calls come first."""
LISTEN_EVERY = 30.0
"""Seconds between two readings of the rules' logs; less where reconciliations are closer together."""
RULE_LOGS = "rule logs"
"""What the one process holds that reads them. If it does not come back, another goes on; where two overlap,
what both find is told once."""
LOG_READS_PER_SECOND = 3.0
"""`FilterLogEvents` has a quota of 5 calls a second, for everybody in the account and region."""
LOG_STREAMS_PER_SECOND = 10.0
"""`DescribeLogStreams` has one of 25. What is found ahead need not be looked for when an alert is due."""
LONGEST_TURN = 300.0
"""Seconds in which any loop turns: a request to AWS that nobody answers is given up, after its repetitions,
in half of that."""
LONGEST_PASS = 900.0
"""Seconds for what goes through all jobs or all logs, however often it is told to come more slowly."""
SIGNALS_SEEN_WITHIN = 1.0
"""Seconds. Python handles signals in the main thread, which one that the system hands to another thread (as
while a debugger or a profiler looks at the main one) does not wake."""
DRAIN = 8.0
"""Seconds to finish what is under way after SIGTERM; ECS would wait 30 before it kills."""
ONCE_PATIENCE = 60.0
"""Seconds that `--once` gives destinations and stops to settle."""


def utc_now() -> datetime:
    return datetime.now(UTC)


class App:
    """Everything one daemon consists of. `arns`: the jobs to watch, none: all that the configuration
    matches. `lease`: seconds after which others take over what this process had in hand when it died.
    `once`: for `run_once`, which leaves the queue to others."""

    def __init__(
        self, config: Config, arns: Sequence[str] = (), lease: float = LEASE, *, once: bool = False
    ) -> None:
        if arns:
            only = config.watch.model_copy(update={"jobs": tuple(map(job_name, arns)), "tags": {}})
            config = config.model_copy(update={"watch": only})
        self.config = config
        self.instruments = Instruments()
        self.accounts = Accounts(config.region, config.account, self.instruments.aws_answered)
        counted = telling(self.instruments.aws_answered)
        self.store = open_store(config.store.url, region=config.region, on_response=counted)
        self.stopping = threading.Event()
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.queued = self._queued(lease) if config.watch.queue_url and not (arns or once) else None
        self.work = self.queued or LookAgain()
        self.refused = RefusedCalls(self.accounts)
        self.loops = Loops(time.monotonic)
        depth = self.queued.queue.depth if self.queued else None
        self.readiness = Readiness(self.store, depth, utc_now, time.monotonic)
        self.instruments.registry.register(Momentary(self.loops, self.readiness, self.queued))
        logs_of = cache(JobLogs)  # the listener has found the stream that evidence is read from
        self.outbox = Outbox(
            store=self.store,
            open_channel=lambda to: open_channel(to, config, self.accounts.home.sns),
            stopper=Stopper(self.accounts, self.store, config.stop, utc_now),
            gather=Gatherer(self.accounts, config.rules, utc_now, logs_of).gather,
            owner=self.owner,
            clock=utc_now,
            random=random.random,
            instruments=self.instruments,
            lease=lease,
            prices=config.prices,
        )
        self.pipeline = Pipeline(
            accounts=self.accounts,
            store=self.store,
            config=config,
            clock=utc_now,
            spread=random.random,
            committed=self._committed,
            owner=self.owner,
            wait=self.stopping.wait,
            instruments=self.instruments,
            lease=lease,
        )
        self.reconciler = Reconciler(
            accounts=self.accounts,
            store=self.store,
            pipeline=self.pipeline,
            watch=config.watch,
            work=self.work,
            refused=self.refused,
            clock=utc_now,
            stopping=self.stopping.is_set,
            only=tuple(arns),
        )
        self.listener = Listener(
            accounts=self.accounts,
            logs_of=logs_of,
            store=self.store,
            pipeline=self.pipeline,
            work=self.work,
            stuck_after=config.rules.stuck_after,
            refused=self.refused,
            reads=Pace(LOG_READS_PER_SECOND, time.monotonic, self.stopping.wait),
            looks=Pace(LOG_STREAMS_PER_SECOND, time.monotonic, self.stopping.wait),
            clock=utc_now,
            stopping=self.stopping.is_set,
        )
        self.evaluation_log: EvaluationLog | None = None
        if group := config.rules.log_group:
            host = f"{socket.gethostname()}:{os.getpid()}"
            self.evaluation_log = EvaluationLog(self.accounts.home, group, host, self.refused)
        self.server: Server | None = None
        self.failure: BaseException | None = None
        self.drained = True
        self._lease = lease
        self._evaluations = threading.Event()
        self._receives = Pace(RECEIVES_PER_SECOND, time.monotonic, self.stopping.wait)
        self._pace = Pace(DESCRIBES_PER_SECOND, time.monotonic, self.stopping.wait)

    # -- one pass ---------------------------------------------------------------------------------

    def run_once(self) -> bool:
        """One pass over everything, and deliver; False where AWS refused it or something is left."""
        done = threading.Event()

        def one_pass() -> None:
            if self._one_pass():
                done.set()
            self.stop()

        writer = self._start_evaluation_log()
        once = self._thread("once", one_pass)
        self._wait_for_the_end()
        self._drain([once], writer)
        return done.is_set()

    def _one_pass(self) -> bool:
        lookers = self._start_lookers()
        seen = False
        with expected_errors(self.refused):
            seen = self.reconciler.run().complete
        assert isinstance(self.work, LookAgain)  # noqa: S101 - `once`: there is no queue
        self.work.wait_until_empty(self.stopping.is_set)
        self.work.close()
        for looker in lookers:
            looker.join()
        with expected_errors(self.refused):
            while not self.stopping.is_set() and self._evaluate_due():
                pass
        delivered = False
        with expected_errors(self.refused):
            delivered = self.outbox.run_until_empty(ONCE_PATIENCE)
        return delivered and seen

    # -- for as long as it lives ------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop` is called or, where jobs were named, until nothing more can be learnt of them.

        Raises `ConfigError` where it cannot listen.
        """
        self.server = self._serve()
        workers = [
            *self._start_lookers(),
            *self._start_evaluators(),
            *self._start_listener(),
            *self._start_consumer(),
        ]
        writer = self._start_evaluation_log()
        outbox = self._start("outbox", self.outbox.run)
        scheduler = self._scheduler()
        scheduler.start()
        log.info("ready", version=__version__, region=self.accounts.home.region, store=self.config.store.url)
        self._wait_for_the_end()
        self._drain([outbox, *workers, self._thread("last pass", scheduler.shutdown)], writer)
        if self.server:
            self.server.close()
        log.info("stopped", drained=self.drained)

    def _wait_for_the_end(self) -> None:
        while not self.stopping.wait(SIGNALS_SEEN_WITHIN):
            pass

    def _scheduler(self) -> BackgroundScheduler:
        """Of what is done by the clock; a pass over all jobs holds up no heartbeat."""
        every = self.config.watch.reconcile_every
        turned = self.loops.add("reconcile", every + LONGEST_PASS)
        periodic: dict[str, tuple[Callable[[], None], float]] = {
            "reconcile": (partial(self._reconcile, turned), every)
        }
        if url := self.config.http.heartbeat_url.get_secret_value():
            periodic["heartbeat"] = (Heartbeat(url, self.loops, self.readiness).beat, BEAT_EVERY)
        scheduler = BackgroundScheduler(
            executors={name: SchedulerPool(1) for name in ("default", *periodic)}, timezone=UTC
        )
        for name, (work, seconds) in periodic.items():
            scheduler.add_job(
                self._guarded(name, work),
                "interval",
                seconds=seconds,
                name=name,
                executor=name,
                next_run_time=utc_now(),
                coalesce=True,
                max_instances=1,
            )
        return scheduler

    def _serve(self) -> Server | None:
        """Raises `ConfigError` where it cannot listen as the settings say; by default, the second daemon on a
        machine goes without."""
        if not (listen := self.config.http.listen):
            return None
        from watcher.web.application import application
        from watcher.web.server import Server
        from watcher.web.status_page import StatusPage

        page = StatusPage(
            store=self.store,
            url=self.config.store.url,
            loops=self.loops,
            readiness=self.readiness,
            clock=utc_now,
            monotonic=time.monotonic,
        )
        try:
            server = Server(listen, application(self.loops, self.readiness, self.instruments.registry, page))
        except ConfigError as error:
            if "listen" in self.config.http.model_fields_set:
                raise
            log.warning(
                "not_listening", error=str(error), consequence="there is no status page, nor /healthz"
            )
            return None
        self._thread("http", server.run)
        return server

    def _drain(self, under_way: Sequence[threading.Thread], writer: threading.Thread | None) -> None:
        """Begin nothing new, and let what is under way end, for as long as there is time; log lines last."""
        self.work.close()
        self.outbox.stop()
        deadline = time.monotonic() + DRAIN
        for thread in under_way:
            thread.join(max(deadline - time.monotonic(), 0))
        if self.queued:
            with expected_errors(self.refused, self.accounts.home):
                self.queued.settle()
                self.queued.give_back()
        self.drained = not any(thread.is_alive() for thread in under_way)
        if self.evaluation_log and writer:
            self.evaluation_log.close()
            writer.join(max(deadline - time.monotonic(), 0))

    def stop(self) -> None:
        self.stopping.set()
        self._evaluations.set()

    def _committed(self, found: Sequence[tuple[Finding, JobSnapshot]]) -> None:
        self.outbox.wake(found)
        self._evaluations.set()

    def close(self) -> None:
        self.store.close()

    def _reconcile(self, turned: Callable[[], None]) -> None:
        turned()
        with expected_errors(self.refused):
            if self._is_our_turn():
                done = self.reconciler.run()
                if done.complete:
                    self.instruments.reconciled(utc_now())
                    self.instruments.watched(job.status for job in done.watched)
            else:
                self.instruments.watched(())
            if self.reconciler.finished() and self.store.next_due() is None:
                log.info("finished", jobs=self.reconciler.only)
                self.stop()

    def _is_our_turn(self) -> bool:
        """Whether this process reconciles now. Where no queue is shared, each does for itself."""
        turn = int(time.time() // self.config.watch.reconcile_every)
        return self.queued is None or self.store.take_turn("reconcile", turn)

    def _start_lookers(self) -> list[threading.Thread]:
        lookers = LOOKERS_BEHIND_EVENTS if self.queued else LOOKERS
        return [self._start(f"look-{number}", self._look) for number in range(1, lookers + 1)]

    def _look(self, turned: Callable[[], None]) -> None:
        while not self.work.closed:
            turned()
            if (arn := self.work.take()) is None:
                continue
            if not self.queued:  # what events ask for is as many calls as there are changes
                self._pace.keep()
            place = self.accounts.of(arn)
            bound = structlog.contextvars.bound_contextvars(job=job_name(arn))
            with bound, expected_errors(self.refused, place) as errors:
                self.pipeline.look_again(arn)
            if errors:
                self.work.failed(arn)
            else:
                self.refused.resolved("sagemaker:DescribeTrainingJob", place)
                self.work.done(arn)

    def _queued(self, lease: float) -> QueuedWork:
        queue = Queue(self.accounts.home, self.config.watch.queue_url)
        return QueuedWork(queue, utc_now, time.monotonic, held=ceil(lease))

    def _start_consumer(self) -> list[threading.Thread]:
        if self.queued is None:
            return []
        receive, keep = partial(self._receive, self.queued), self.queued.keep
        turns: dict[str, Callable[[], None]] = {"receive": receive, "keep": keep}
        return [self._start(name, partial(self._consume, turn)) for name, turn in turns.items()]

    def _receive(self, queued: QueuedWork) -> None:
        self._receives.keep()
        queued.receive()

    def _consume(self, turn: Callable[[], None], turned: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            turned()
            with expected_errors(self.refused, self.accounts.home) as errors:
                turn()
            if errors:
                self.stopping.wait(AFTER_A_FAULT)

    def _start_evaluators(self) -> list[threading.Thread]:
        if self.config.rules.local == "off":
            return []
        return [self._start(f"evaluate-{number}", self._evaluate) for number in range(1, EVALUATORS + 1)]

    def _evaluate(self, turned: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            turned()
            self._evaluations.clear()
            wait = AFTER_A_FAULT
            with expected_errors(self.refused):
                if self._evaluate_due():
                    continue
                due = self.store.next_evaluation()
                wait = (due - utc_now()).total_seconds() if due else EVALUATE_AT_LEAST
            self._evaluations.wait(min(max(wait, 0.1), EVALUATE_AT_LEAST))

    def _evaluate_due(self) -> bool:
        """Go on with what is due, of what reads tensors only with the one that waits longest; False where
        nothing is."""
        # Metrics first: tensors that cannot be read end this with an error.
        return any([self._evaluate_metrics(), self._evaluate_tensors()])

    def _evaluate_metrics(self) -> bool:
        claimed = self.store.claim_evaluations(utc_now(), EVALUATION_LEASE, SERIES, Reads.METRICS)
        by_place: defaultdict[Aws, list[JobRecord]] = defaultdict(list)
        for arn in claimed:
            if record := self.store.job(arn):
                by_place[self.accounts.of(arn)].append(record)
        for place, records in by_place.items():
            with expected_errors(self.refused, place) as errors:
                for record, evaluation in self._evaluator.advance_together(place, records):
                    try:
                        self.pipeline.evaluated(record.snapshot.arn, evaluation)
                    except LeaseLost as error:  # of one job: the others' turn has not been yet
                        log.info("handled_elsewhere", error=str(error), consequence="it is looked at again")
            if not errors:
                self.refused.resolved(GET_METRIC_DATA, place)
        return bool(claimed)

    def _evaluate_tensors(self) -> bool:
        claimed = self.store.claim_evaluations(utc_now(), EVALUATION_LEASE, 1, Reads.TENSORS)
        for arn in claimed:
            if record := self.store.job(arn):
                with structlog.contextvars.bound_contextvars(job=record.snapshot.name):
                    self.pipeline.evaluated(arn, self._evaluator.advance(record))
        return bool(claimed)

    @cached_property
    def _evaluator(self) -> Evaluator:
        from watcher.evaluation.evaluator import (
            Evaluator,  # numpy comes with it: not before there is a rule to evaluate
        )

        tell = self.evaluation_log.write if self.evaluation_log else None
        return Evaluator(self.accounts, self.config.rules, utc_now, tell)

    def _start_evaluation_log(self) -> threading.Thread | None:
        return self._start("evaluation_log", self.evaluation_log.run) if self.evaluation_log else None

    def _start_listener(self) -> list[threading.Thread]:
        if not self.config.rules.stuck_after:
            return []
        return [self._start("logs", self._listen, LONGEST_PASS)]

    def _listen(self, turned: Callable[[], None]) -> None:
        every = min(LISTEN_EVERY, self.config.watch.poll_interval)
        turn = Pace(1 / every, time.monotonic, self.stopping.wait)
        turn.keep()
        while not self.stopping.is_set():
            turned()
            with expected_errors(self.refused):
                if self.store.hold([RULE_LOGS], self.owner, utc_now(), self._lease):
                    self.listener.cycle()
            turn.keep()
        with expected_errors(self.refused):
            self.store.release([RULE_LOGS], self.owner)

    def _start(
        self, name: str, loop: Callable[[Callable[[], None]], None], bound: float = LONGEST_TURN
    ) -> threading.Thread:
        """A named loop. It is given what to call in each of its turns, at least every `bound` seconds."""
        return self._thread(name, partial(loop, self.loops.add(name, bound)))

    def _thread(self, name: str, loop: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._guarded(name, loop), name=name, daemon=True)
        thread.start()
        return thread

    def _guarded(self, name: str, loop: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                loop()
            except BaseException as error:
                if self.stopping.is_set():  # the store is closed under a request that was too slow
                    log.debug("loop_interrupted", loop=name, error=str(error))
                    return
                log.exception("loop_failed", loop=name)
                self.failure = error
                self.stop()

        return guarded


def run(config: Config, names: Sequence[str] = (), once: bool = False) -> int:
    """`watcher run`: the exit code. Raises `UsageError` for a named job that does not exist."""
    accounts = Accounts(config.region, config.account)
    _ = accounts.home.region  # asked first: without one every loop would fail
    app = App(config, [job.arn for job in find_jobs(accounts, names)], once=once)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    if once:
        done = app.run_once()
    else:
        app.run()
        done = True
    app.close()
    code = 0 if done and app.failure is None else 1
    if not app.drained:
        # A request that hangs would keep the interpreter from ending. Its delivery is in flight in the
        # store, and will be looked up before it is sent again.
        sys.stdout.flush()
        os._exit(code)
    return code
