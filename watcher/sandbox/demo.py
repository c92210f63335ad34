"""`watcher demo`: shows the whole of Watcher on this machine.

It starts a sandbox, a real XGBoost training through the SageMaker Python SDK, and the daemon in its own
process. A rule fires, the daemon alerts and stops the job, and the alert is updated. The demo itself only
observes: it checks each step at SageMaker's API and in the alert, and exits 0 only if all of them happened.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from watcher.aws.links import TRAINING_LOGS
from watcher.aws.session import Aws, translate
from watcher.end_signals import END_SIGNALS
from watcher.logs.streams import LogStreams
from watcher.sandbox.process import Sandbox
from watcher.sandbox.slack_channel import SlackChannelStandIn
from watcher.sandbox.webhook_receiver import WebhookReceiver

DEMO_TIMEOUT_S = 300.0
"""On two idle cores, the demo takes about 25 seconds."""
POLL_S = 0.25
SLACK_LINES = 3
"""How many lines of each version of the message in Slack the demo shows."""
CONFIRMED = "Stopped by Watcher"
"""What an alert says once SageMaker has confirmed the stop."""

CONFIGURATION = """\
[watch]
poll_interval = 1                     # seconds between two looks at SageMaker; 30 by default

[store]
url = "sqlite:///{folder}/watcher.db"

[rules]
local = "off"                         # Debugger's own verdict; with "mirror", Watcher's is often first

[prices]
"ml.m5.xlarge" = 0.23                 # US dollars an hour, so that alerts say what a job costs

[webhook]
secret = "${{WATCHER_DEMO_SECRET}}"

[slack]                               # a channel on this machine, instead of Slack's
bot_token = "${{WATCHER_DEMO_SLACK_TOKEN}}"
api_url = "{slack}"

[[route]]                             # alerts go to the terminal, and to the demo, which checks them
rule = "LossNotDecreasing"
to = ["console", "slack:#demo", "webhook:{receiver}"]
stop = true                           # opt-in: stop the job when the rule finds an issue
"""


class DemoError(Exception):
    """Something that the demo claims did not happen."""


@dataclass
class Timeline:
    """The moments that the table at the end shows."""

    moments: list[tuple[datetime, str]] = field(default_factory=list)

    def add(self, what: str, at: datetime | None = None) -> None:
        self.moments.append((at or datetime.now(UTC), what))

    def table(self) -> Table:
        table = Table(title="What happened when", title_justify="left", box=None, padding=(0, 3, 0, 0))
        table.add_column("time (UTC)", style="dim")
        table.add_column("after", justify="right", style="dim")
        table.add_column("what")
        moments = sorted(self.moments)
        for at, what in moments:
            table.add_row(f"{at:%H:%M:%S.%f}"[:-5], f"{(at - moments[0][0]).total_seconds():.1f} s", what)
        return table


def main() -> int:
    """Run the demo; the exit code is 0 only if everything it claims happened."""
    console = Console(highlight=False)
    started = time.monotonic()
    for number in END_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="watcher-demo-") as folder:
            _Demo(console, Path(folder)).run()
    except DemoError as failure:
        console.print(Text(f"✗ {failure}", style="bold red"))
        return 1
    console.print(Text(f"✓ All of it happened, in {time.monotonic() - started:.0f} s.", style="bold green"))
    console.print("Next: docs/first-run.md (a training job of your own), or watcher init (your AWS account).")
    return 0


def _interrupt(*_: object) -> NoReturn:
    """The first signal interrupts the demo, and no other one interrupts its clearing up."""
    for number in END_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@dataclass
class _Demo:
    console: Console
    folder: Path
    timeline: Timeline = field(default_factory=Timeline)
    deadline: float = field(default_factory=lambda: time.monotonic() + DEMO_TIMEOUT_S)

    def run(self) -> None:
        secret = secrets.token_hex(16)
        with self._doing("Starting the sandbox, a SageMaker on this machine"):
            sandbox = Sandbox.start(pace=0.5)
        with sandbox, WebhookReceiver(secret) as receiver, SlackChannelStandIn() as slack:
            self._done(f"The sandbox answers at {sandbox.endpoint}")
            os.environ.update(sandbox.env)
            secrets_of = {"WATCHER_DEMO_SECRET": secret, "WATCHER_DEMO_SLACK_TOKEN": slack.token}
            with self._daemon(receiver.url, slack.api_url, secrets_of) as daemon:
                self._follow(sandbox, receiver, slack, daemon)

    # -- the story --------------------------------------------------------------------------------

    def _follow(
        self,
        sandbox: Sandbox,
        receiver: WebhookReceiver,
        slack: SlackChannelStandIn,
        daemon: subprocess.Popen[str],
    ) -> None:
        sagemaker, logs = sandbox.client("sagemaker"), LogStreams(Aws())
        with self._doing("The SageMaker Python SDK uploads the data and creates the training job"):
            job = _start_training()
        self._done(f"Training job {job}, with the Debugger rule LossNotDecreasing")
        self.timeline.add("the training job is created")

        def describe() -> Any:
            with translate("sagemaker:DescribeTrainingJob"):
                return sagemaker.describe_training_job(TrainingJobName=job)

        with self._doing("Waiting for XGBoost to train, and for the rule to find an issue") as status:
            fired = self._wait(
                "the rule's processing job did not end in IssuesFound",
                lambda: _fired(describe()),
                daemon,
                lambda: status.update(_progress(describe(), logs)),
            )
        self.timeline.add("XGBoost trains", describe()["TrainingStartTime"].astimezone(UTC))
        issue_at = fired["LastModifiedTime"].astimezone(UTC)
        self.timeline.add("the rule's processing job ends in IssuesFound", issue_at)
        self._done(fired["StatusDetails"].strip())

        with self._doing("Waiting for Watcher to notice"):
            alert = self._wait("Watcher sent no alert", lambda: receiver.first("alert"), daemon)
        self.timeline.add("Watcher's alert arrives", alert.at)
        _check_alert(alert.body, job, fired)

        with self._doing("Waiting for the job to be stopped"):
            stopped = self._wait(
                "the job was not stopped",
                lambda: (found := describe())["TrainingJobStatus"] == "Stopped" and found,
                daemon,
            )
            update = self._wait("Watcher did not confirm the stop", lambda: receiver.first("update"), daemon)
            edited = self._wait(
                "the message in Slack was not updated",
                lambda: next((at for at, says in _edits(slack) if CONFIRMED in says), None),
                daemon,
            )
        self.timeline.add("the training job is Stopped", stopped["TrainingEndTime"].astimezone(UTC))
        self.timeline.add("Watcher has verified the stop, and says so", update.at)
        self.timeline.add("the same message in Slack is updated", edited)
        if CONFIRMED not in update.body["stop"]:
            _fail(f"the update does not say who stopped the job: {update.body['stop']!r}")
        if len(slack.messages) != 1:
            _fail(f"there are {len(slack.messages)} messages in Slack instead of one")
        self._end(daemon)
        self.console.print(self.timeline.table())
        self.console.print()
        self.console.print(_in_slack(slack))
        self.console.print()
        self.console.print(
            Text.assemble(
                "From IssuesFound to the alert: ",
                (f"{(alert.at - issue_at).total_seconds():.2f} s", "bold"),
                " (SageMaker is asked once a second here)",
            )
        )

    # -- the daemon -------------------------------------------------------------------------------

    @contextmanager
    def _daemon(
        self, webhook: str, slack: str, secrets_of: dict[str, str]
    ) -> Iterator[subprocess.Popen[str]]:
        """Run `watcher run` as a user would start it. Its stdout is shown as it comes."""
        file = self.folder / "watcher.toml"
        file.write_text(CONFIGURATION.format(folder=self.folder, receiver=webhook, slack=slack))
        colours = {"FORCE_COLOR": "1"} if self.console.is_terminal else {}
        with (self.folder / "watcher.log").open("w") as log:
            daemon = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-m", "watcher", "run", "-c", str(file)],
                env={
                    **os.environ,
                    **colours,
                    "COLUMNS": str(min(self.console.width, 120)),
                    "PYTHONUTF8": "1",
                    **secrets_of,
                },
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        shown = threading.Thread(target=self._show, args=(daemon,), name="show", daemon=True)
        shown.start()
        try:
            with self._doing("Starting Watcher in its own process"):
                self._wait("Watcher was not ready", lambda: '"ready"' in self._log(), daemon)
            self._done("Watcher watches every training job")
            yield daemon
        finally:
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
            shown.join(5)

    def _show(self, daemon: subprocess.Popen[str]) -> None:
        for line in daemon.stdout or ():
            self.console.print(Text.from_ansi(line.rstrip("\n")))

    def _end(self, daemon: subprocess.Popen[str]) -> None:
        daemon.terminate()
        if code := daemon.wait(15):
            _fail(f"Watcher ended with exit code {code} after SIGTERM")

    def _log(self) -> str:
        return (self.folder / "watcher.log").read_text()

    # -- waiting and printing ---------------------------------------------------------------------

    def _wait(
        self,
        failure: str,
        look: Callable[[], Any],
        daemon: subprocess.Popen[str],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Any:
        while not (found := look()):
            ended = daemon.poll()
            if ended is not None or time.monotonic() > self.deadline:
                why = failure if ended is None else f"Watcher ended unexpectedly, with exit code {ended}"
                end = "\n".join(self._log().splitlines()[-10:])
                _fail(f"{why}. The end of Watcher's log:\n{end}")
            meanwhile()
            time.sleep(POLL_S)
        return found

    def _doing(self, what: str) -> Status:
        return self.console.status(f"{what} …")

    def _done(self, what: str) -> None:
        self.console.print(Text.assemble(("✓ ", "green"), what))


def _in_slack(slack: SlackChannelStandIn) -> Table:
    """The beginning of each version of the message in Slack."""
    table = Table(title="The one message in Slack", title_justify="left", box=None, padding=(0, 3, 0, 0))
    table.add_column("time (UTC)", style="dim")
    table.add_column("said")
    for message in slack.messages.values():
        for at, says in ((message.posted_at, message.text), *message.edits):
            first = "\n".join(says.splitlines()[:SLACK_LINES])
            table.add_row(f"{at:%H:%M:%S.%f}"[:-5], Text(first))
    return table


def _edits(slack: SlackChannelStandIn) -> Iterator[tuple[datetime, str]]:
    for message in list(slack.messages.values()):
        yield from list(message.edits)


def _start_training() -> str:
    from watcher.sandbox.cookbook import start_training

    return start_training()


def _fired(job: dict[str, Any]) -> dict[str, Any] | None:
    for rule in job["DebugRuleEvaluationStatuses"]:
        if rule["RuleEvaluationStatus"] == "IssuesFound":
            return dict(rule)
        if rule["RuleEvaluationStatus"] != "InProgress":
            _fail(f"the rule ended in {rule['RuleEvaluationStatus']}: {rule.get('StatusDetails')}")
    if job["TrainingJobStatus"] != "InProgress":
        _fail(
            f"the job ended before the rule fired: {job['TrainingJobStatus']} {job.get('FailureReason', '')}"
        )
    return None


def _progress(job: dict[str, Any], logs: LogStreams) -> Text:
    """The secondary status, and the last line of the training's log."""
    said = f"{job['TrainingJobName']}: {job['SecondaryStatus']}"
    if stream := logs.training_stream(job["TrainingJobName"]):
        said += "".join(f"  {line}" for line in logs.tail(TRAINING_LOGS, stream, 1))
    return Text(said.replace("#011", "  "), no_wrap=True, overflow="ellipsis")


def _check_alert(alert: dict[str, Any], job: str, fired: dict[str, Any]) -> None:
    """Fail if the alert lacks anything that an alert should hold."""
    finding, evidence = alert["finding"], alert["evidence"]
    expected = {
        "the job": finding["job"] == job,
        "the rule": finding["rule"] == "LossNotDecreasing",
        "the step": f"at step {finding['step']} " in fired["StatusDetails"],
        "the status details": finding["reason"].strip() == fired["StatusDetails"].strip(),
        "an excerpt of the rule's log": any("not decreasing" in line for line in evidence["log"]["lines"]),
        "the values that decided": len(evidence["deciding"]) >= 2 and evidence["explanation"],
        "their curve": len(evidence["curve"]) > 2,
        "the cost of the job": alert["job"]["spend"]["saved_by_stopping"] > 0,
        "what Watcher does about the job": "stopping this job" in alert["stop"],
    }
    if missing := [what for what, present in expected.items() if not present]:
        _fail(f"the alert lacks {', '.join(missing)}: {alert}")


def _fail(sentence: str) -> NoReturn:
    raise DemoError(sentence)
