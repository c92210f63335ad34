"""Renders the alert that the documents show, with the console channel's own code.

`docs/alert.svg` is the README's picture. `docs/package.md`, which an index shows, holds the same alert as
text: an index does not show pictures from the repository.

python -m tests.docs.picture
"""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from watcher.alerts.message import Message, compose
from watcher.config.settings import Config, Route
from watcher.delivery.channels.console import render
from watcher.model import (
    AlertEvidence,
    Case,
    DeliveryKind,
    FindingKind,
    HookConfiguration,
    JobSnapshot,
    Judge,
    Outcome,
    Reading,
    Report,
    RuleConfiguration,
    RuleFamily,
)
from watcher.policy import incidents
from watcher.store.base import claimed

SVG = Path(__file__).parents[2] / "docs" / "alert.svg"
PACKAGE = SVG.with_name("package.md")

_NOW = datetime(2026, 11, 20, 10, 0, 5, tzinfo=UTC)
_JOB = "prod-churn-2026-11-20-09-52"
_ARN = f"arn:aws:sagemaker:us-east-1:111122223333:training-job/{_JOB}"
_CURVE = (
    0.3512,
    0.2431,
    0.2012,
    0.1764,
    0.1583,
    0.1449,
    0.1357,
    0.1294,
    0.1249,
    0.1217,
    0.1197,
    0.1182,
    0.1168,
)
_RULE_JOB = f"{_JOB[:26]}-LossNotDecreasing-0a1b2c3d"


def draw() -> str:
    console = Console(
        record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(render(message()))
    svg = console.export_svg(title="watcher run", unique_id="alert")
    # rich links to fonts on another host. Without them the picture needs no network.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def package() -> str:
    """`docs/package.md` with the alert as the console shows it today."""
    console = Console(width=96, file=io.StringIO(), color_system=None, record=True)
    console.print(render(message()))
    before, _, rest = PACKAGE.read_text().partition("```text\n")
    return f"{before}```text\n{console.export_text().strip()}\n```{rest.partition('```')[2]}"


def message() -> Message:
    """The alert that the documents show."""
    prices = {"ml.m5.4xlarge": 0.922}
    case = _case()
    [alert] = [row for row in case.deliveries if row.kind is DeliveryKind.ALERT]
    return compose(case, claimed(alert), _job(), _evidence(), _NOW, prices=prices)


def _job() -> JobSnapshot:
    return JobSnapshot(
        arn=_ARN,
        name=_JOB,
        status="InProgress",
        secondary_status="Training",
        created_at=_NOW - timedelta(minutes=9),
        modified_at=_NOW - timedelta(seconds=20),
        started_at=_NOW - timedelta(minutes=7, seconds=30),
        outcomes=(
            Outcome(
                "LossNotDecreasing",
                RuleFamily.DEBUGGER,
                Judge.DEBUGGER,
                "IssuesFound",
                evaluation_job_arn=f"arn:aws:sagemaker:us-east-1:111122223333:processing-job/{_RULE_JOB.lower()}",
            ),
        ),
        rules=(
            RuleConfiguration(
                "LossNotDecreasing", RuleFamily.DEBUGGER, {"num_steps": "2", "diff_percent": "5"}
            ),
        ),
        hook=HookConfiguration("s3://ml-churn/debug"),
        hyperparameters={
            "objective": "binary:logistic",
            "num_round": "10000",
            "max_depth": "16",
            "eta": "0.1",
        },
        instance_type="ml.m5.4xlarge",
        instance_count=2,
        max_runtime=86_400,
        experiment="churn",
        trial="deep-trees",
        tags={"team": "growth", "env": "prod"},
    )


def _case() -> Case:
    report = Report(
        FindingKind.RULE_ISSUE,
        "LossNotDecreasing",
        RuleFamily.DEBUGGER,
        Judge.DEBUGGER,
        "IssuesFound",
        24,
        "RuleEvaluationConditionMet: Evaluation of the rule LossNotDecreasing at step 24 resulted in the "
        "condition being met",
    )
    config = Config(route=(Route(job="prod-*", rule="LossNotDecreasing", to=("console",), stop=True),))
    case = incidents.seen(None, _job(), [report], config, _NOW - timedelta(seconds=2))
    assert case
    return case


def _evidence() -> AlertEvidence:
    return AlertEvidence(
        log_stream=f"{_RULE_JOB}/algo-1-1795168800000",
        log_lines=(
            "[2026-11-20 09:59:51.120 ip-10-0-1-7:1 INFO rule_invoker.py:15] Started execution of rule "
            "LossNotDecreasing at step 0",
            "[2026-11-20 09:59:59.345 ip-10-0-1-7:1 INFO loss_decrease.py:305] Loss is not decreasing over "
            "the last 2 steps at step 24.",
        ),
        explanation="train-error fell 1.18 % between step 22 and step 24; the rule wants 5 %",
        deciding=(Reading("train-error", 22, 0.1182), Reading("train-error", 24, 0.1168)),
        needed=(Reading("train-error", 24, 0.1123),),
        curve=tuple(Reading("train-error", 2 * place, value) for place, value in enumerate(_CURVE)),
    )


if __name__ == "__main__":
    SVG.write_text(draw())
    PACKAGE.write_text(package())
