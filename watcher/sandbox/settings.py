"""The settings of a sandbox."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# -P: not from the working directory, which may have a folder `watcher`, such as that of the checkout.
XGBOOST = (sys.executable, "-P", "-m", "watcher.sandbox.containers.xgboost")
RULE_EVALUATOR = (sys.executable, "-P", "-m", "watcher.sandbox.containers.rule")


@dataclass(frozen=True)
class Settings:
    pace: float = 1.0
    """Seconds that each step of a job takes that does no work here (starting, downloading …)."""
    stop_timeout: float = 120.0
    """Seconds between SIGTERM and SIGKILL; SageMaker gives a training script 120."""
    region: str = "us-east-1"
    """The region of jobs that the control API creates. The AWS APIs serve all regions."""
    trainers: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"xgboost": XGBOOST})
    """By a part of a training image's name, the program that runs in place of the image."""
    rule_evaluator: tuple[str, ...] = RULE_EVALUATOR
    """The program that runs in place of the image of Debugger's rules."""

    def trainer(self, image: str) -> tuple[str, ...] | None:
        return next((command for part, command in self.trainers.items() if part in image), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        return cls(**json.loads(text))
