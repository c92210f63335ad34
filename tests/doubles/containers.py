"""Containers that train nothing: their document says what they do. Run as scripts.

`trainer` looks at the hyperparameters: `seconds` is how long it takes, `exit` its exit code, `last_words`
its stderr (lines separated by |), and `deaf` makes it ignore SIGTERM.

`rule` reads the RuleParameters: `status`, `details` and `step` are its verdict, and `garbage` makes it give
none. It ends when its training job has ended, or immediately with `early`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

TRAINER = (sys.executable, __file__, "trainer")
RULE = (sys.executable, __file__, "rule")


def trainer(document: dict[str, Any]) -> int:
    wishes = document.get("HyperParameters", {})
    if "deaf" in wishes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"training {os.environ['TRAINING_JOB_NAME']} against {os.environ['AWS_ENDPOINT_URL']}", flush=True)
    time.sleep(float(wishes.get("seconds", "0")))
    sys.stderr.write(wishes.get("last_words", "").replace("|", "\n"))
    return int(wishes.get("exit", "0"))


def rule(document: dict[str, Any]) -> int:
    wishes = document["RuleParameters"]
    print(f"reading {document['S3OutputPath']}", file=sys.stderr, flush=True)
    while "early" not in wishes and not Path(document["TrainingJobEndedFile"]).exists():
        time.sleep(0.01)
    if "garbage" in wishes:
        print("no verdict")
        return 3
    verdict = {"status": wishes.get("status", "NoIssuesFound"), "details": wishes.get("details", "")}
    print(json.dumps(verdict | {"step": int(wishes.get("step", "0"))}))
    return 0


if __name__ == "__main__":
    sys.exit({"trainer": trainer, "rule": rule}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text())))
