"""deploy/policy.json allows what the code calls, and nothing more."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.docs.pages import ROOT, read
from watcher.aws.permissions import STATEMENTS

NOT_BY_THE_DAEMON = {
    Path("cli/preflight.py"),
    Path("aws/lineage.py"),
    Path("aws/iam.py"),
    Path("aws/experiments.py"),
}
"""What only commands call. They say what they lack, and docs/commands.md names it."""
NAMES_ONLY = Path("aws/permissions.py")


def test_the_list_of_permissions_is_that_of_the_policy():
    statements = json.loads(read("deploy/policy.json"))["Statement"]
    listed = {
        each["Sid"]: tuple([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
        for each in statements
    }

    assert listed == dict(STATEMENTS)


def test_the_policy_allows_what_the_code_calls_and_nothing_more():
    policy = json.loads(read("deploy/policy.json"))
    allowed = set[str]()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    called = set[str]()
    optional = set[str]()
    operation = re.compile(r'"((?:sagemaker|logs|cloudwatch|s3|sns|sqs|iam|sts):[A-Z]\w+)"')
    for file in (ROOT / "watcher").rglob("*.py"):
        if "sandbox" not in file.parts and file.relative_to(ROOT / "watcher") != NAMES_ONLY:
            operations = set(operation.findall(file.read_text()))
            (optional if file.relative_to(ROOT / "watcher") in NOT_BY_THE_DAEMON else called).update(
                operations
            )

    # The store lists no actions; tests/e2e/test_least_privilege.py shows that it needs those of the policy.
    allowed = {action for action in allowed if not action.startswith("dynamodb:")}
    assert called <= allowed
    assert allowed - {"sns:Publish"} <= called | optional
    for extra in optional - allowed:
        assert f"`{extra}`" in read("docs/commands.md")
