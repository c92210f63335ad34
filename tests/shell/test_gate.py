"""Nothing hidden in a job's record reaches the output of a command, the status page or a log line."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import structlog
from rich.text import Text

from tests.alerts import EVIDENCE, FINDING, SNAPSHOT
from tests.contract.samples import NOON, case, delivery, finding, incident, look, opens
from tests.doubles.clock import Clock
from tests.doubles.debug_output import SavedJob
from tests.hidden import EVERYTHING, found_in, tainted
from tests.shell.conftest import CommandResult
from watcher import log
from watcher.alerts import plots
from watcher.model import DeliveryState, Finding, JobSnapshot
from watcher.store import open_store
from watcher.store.base import Store
from watcher.web.loops import Loops
from watcher.web.readiness import Readiness
from watcher.web.status_page import StatusPage

pytestmark = [
    pytest.mark.filterwarnings("ignore:Call to deprecated create function:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:_SixMetaPathImporter:ImportWarning"),
    pytest.mark.filterwarnings(r"ignore:tostring\(\) is deprecated:DeprecationWarning"),
]

Watcher = Callable[..., CommandResult]

JOB = "churn-xgb"
STORED = EVERYTHING.replace("\ud800", "")
"""Nothing that is stored has half of a surrogate pair."""


def hostile_job() -> JobSnapshot:
    """What its owner writes is hostile in every field; its name is as SageMaker allows."""
    job: JobSnapshot = tainted(SNAPSHOT, STORED)
    return replace(job, name=JOB, arn=look(JOB).snapshot.arn, created_at=NOON, status="InProgress")


def fill(store: Store) -> None:
    told: Finding = tainted(finding(JOB, reason="because", says=FINDING.says), STORED)
    about = case(
        JOB,
        *(
            delivery(JOB, to, state=state, attempts=3, error=f"refused{STORED}", due_at=NOON)
            for to, state in (("slack:#ml", DeliveryState.DEAD), ("console", DeliveryState.REFUSED))
        ),
        incident=incident(JOB, acknowledged_by=f"ann{STORED}"),
        findings=(replace(told, run=finding(JOB).run, job=JOB),),
    )
    store.commit([look(JOB, opens(about), snapshot=hostile_job())])


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("jobs",),
        ("incidents",),
        ("findings",),
        ("show", JOB),
        ("ack", JOB),
        ("unsnooze", JOB),
        ("redeliver", JOB),
        ("audit",),
    ],
    ids=" ".join,
)
def test_no_command_prints_what_is_hidden(watcher: Watcher, tmp_path: Path, command):
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        fill(store)

    ran = watcher(*command)
    assert "refused" in ran.out or "IssuesFound" in ran.out or JOB in ran.out + ran.err
    assert not found_in([ran.out, ran.err])

    if command != ("audit",):
        assert not found_in(watcher(*command, "--json").out)  # JSON keeps the data, escaped


def test_json_keeps_the_data(watcher: Watcher, tmp_path: Path):
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        fill(store)

    [shown] = watcher("findings", "--json").json
    assert shown["rule"] == f"LossNotDecreasing{STORED}"


def test_names_of_tensors_and_rules_reach_no_terminal(watcher: Watcher, tmp_path: Path):
    job = SavedJob(tmp_path / "debug-output")
    name = f"loss{STORED}".replace("\0", "")
    for step in range(0, 40):
        job.step(step, {name: np.float32(1.0)})
    job.collections()
    job.end()
    rule = (
        "--rule",
        "LossNotDecreasing",
        "--param",
        "tensor_regex=.*",
        "--param",
        "use_losses_collection=False",
    )

    listed = watcher("tensors", str(job.folder))
    values = watcher("tensors", str(job.folder), "--name", "loss")
    judged = watcher("evaluate", str(job.folder), *rule)

    assert listed.out.count("loss") == 1
    assert values.out.count("loss") == 40
    assert "issues_found" in judged.out
    for ran in (listed, values, judged):
        assert not found_in([ran.out, ran.err])
    assert name in watcher("tensors", str(job.folder), "--json").json


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", f"nothing{EVERYTHING}"),
        ("evaluate", JOB, "--rule", f"Nothing{EVERYTHING}"),
        ("status", "-c", f"nowhere{EVERYTHING}".replace("\0", "").replace("\ud800", "")),
        (f"shwo{EVERYTHING}",),
        ("logs", JOB, "--since", EVERYTHING),
    ],
    ids=lambda arguments: arguments[0][:4],
)
def test_an_error_sentence_repeats_nothing_hidden(watcher: Watcher, arguments):
    ran = watcher(*arguments)

    assert ran.code
    assert ran.err.startswith("watcher: ")
    assert ran.err.count("\n") == 1
    assert not found_in(ran.err)


def test_the_status_page_shows_nothing_hidden(tmp_path: Path):
    clock = Clock()
    with closing(open_store(f"sqlite:///{tmp_path / 'watcher.db'}")) as store:
        fill(store)
        page = StatusPage(
            store=store,
            url="sqlite:///watcher.db",
            loops=Loops(clock.monotonic),
            readiness=Readiness(store, lambda: None, lambda: NOON, clock.monotonic),
            clock=lambda: NOON,
            monotonic=clock.monotonic,
        )
        assert not found_in(page())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_log_line_has_nothing_hidden(restored_logging: None, kind):
    stream = kind()
    log.configure(stream)
    logger = structlog.get_logger("watcher.test")
    try:
        raise ValueError(STORED)
    except ValueError:
        logger.exception(f"event{STORED}", job=STORED, values=[STORED, {STORED: STORED}])
    logger.info("refused", error=f"one{STORED}\nforged")

    assert not found_in(Text.from_ansi(stream.getvalue()).plain)
    assert "\nforged" not in stream.getvalue()


def test_a_picture_has_nothing_hidden():
    """Every text that matplotlib is given."""
    from matplotlib.text import Text as Drawn

    evidence, about = tainted(EVIDENCE, EVERYTHING), tainted(FINDING, EVERYTHING)
    curves = {f"_loss{EVERYTHING}": [(0.0, 1.0), (1.0, 2.0)]}
    for figure in (
        plots.of_evidence(evidence, about),
        plots.of_curves(curves, EVERYTHING, "step", f"y{EVERYTHING}"),
        plots.of_panels(curves, EVERYTHING, "step"),
    ):
        drawn = [text.get_text() for text in figure.findobj(Drawn)]
        assert any("loss" in text or "error" in text for text in drawn)
        assert not found_in(drawn)
