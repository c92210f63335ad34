"""`permissions`: what IAM says that a role may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from watcher.cli.terminal import ConfigFile, Json, Verbose, err, load_settings, out, print_json
from watcher.errors import AccessDenied, OptionsError, WatcherError

if TYPE_CHECKING:
    from watcher.aws.iam import Verdict
    from watcher.aws.permissions import Need, Surroundings
    from watcher.aws.session import Aws
    from watcher.config.settings import Config


def permissions(
    *,
    role: Annotated[
        str, typer.Option("--role", metavar="ARN", help="Judge this role, not that of the credentials.")
    ] = "",
    action: Annotated[
        list[str] | None,
        typer.Option("--action", help="Ask about this action, such as s3:GetObject; can be repeated."),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="ARN", help="With --action, on this resource; can be repeated."),
    ] = None,
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Ask IAM whether a role may do what Watcher needs."""
    if resource and not action:
        raise OptionsError("--resource needs --action: Watcher's own needs name their resources")
    if role and not role.startswith("arn:"):
        raise OptionsError(f"--role {role}: write the ARN, such as arn:aws:iam::111122223333:role/watcher")
    settings = load_settings(config, verbose=verbose)
    from watcher.aws import iam
    from watcher.aws.accounts import Accounts
    from watcher.aws.permissions import Need, needs

    aws = Accounts(settings.region, settings.account).home
    with err().status("asking IAM …"):
        caller = iam.caller(aws)
        judged = role or _own(aws, caller)
        not_asked: list[str] = []
        if action:
            wanted: Sequence[Need] = [Need("", tuple(action), tuple(resource or ("*",)))]
        else:
            around = _surroundings(aws, caller, settings, not_asked)
            wanted = list(needs(settings, around))
        verdicts = _judged(aws, judged, wanted)
    if as_json:
        print_json(_document(judged, verdicts, not_asked))
    else:
        _print(judged, verdicts, not_asked)
    return 0 if all(verdict.allowed for verdict in verdicts) else 1


def _own(aws: Aws, caller: str) -> str:
    from watcher.aws import iam

    try:
        return iam.principal(aws, caller)
    except AccessDenied as denied:
        raise _with_advice(denied) from denied


def _judged(aws: Aws, principal: str, wanted: Sequence[Need]) -> list[Verdict]:
    from watcher.aws import iam

    try:
        return [verdict for need in wanted for verdict in iam.simulate(aws, principal, need)]
    except AccessDenied as denied:
        raise _with_advice(denied) from denied


def _with_advice(denied: AccessDenied) -> AccessDenied:
    return AccessDenied(
        f"{denied}; or sign in as somebody who has it, and name the role with --role ARN",
        operation=denied.operation,
    )


def _surroundings(aws: Aws, caller: str, settings: Config, not_asked: list[str]) -> Surroundings:
    """What Watcher's needs depend on. What cannot be found out is not asked about, and said."""
    from watcher.aws.permissions import surroundings
    from watcher.aws.queue import Queue
    from watcher.aws.sagemaker import TrainingJobs

    around = surroundings(caller, aws.region)
    try:
        recent = TrainingJobs(aws).recent()
    except WatcherError as error:
        not_asked.append(f"which jobs there are: {error}")
        recent = []
    saved = next((job.debug_output for job in recent if job.debug_output), "")
    if not saved:
        not_asked.append(
            "s3:ListBucket and s3:GetObject: no recent job saves tensors; "
            "name the bucket: --action s3:ListBucket --resource arn:aws:s3:::BUCKET"
        )
    around = replace(around, job_arn=recent[0].arn if recent else "", debug_output=saved)
    if url := settings.watch.queue_url:
        try:
            around = replace(around, dead_letters=Queue(aws, url).dead_letter_arn())
        except WatcherError as error:
            not_asked.append(f"the dead-letter queue: {error}")
    return around


def _document(principal: str, verdicts: Sequence[Verdict], not_asked: Sequence[str]) -> dict[str, object]:
    return {
        "principal": principal,
        "allowed": all(verdict.allowed for verdict in verdicts),
        "verdicts": [
            {
                "statement": verdict.statement or None,
                "action": verdict.action,
                "resource": verdict.resource,
                "allowed": verdict.allowed,
                "decision": verdict.decision,
                "by": list(verdict.by),
                "missing_context": list(verdict.missing_context),
            }
            for verdict in verdicts
        ],
        "not_asked": list(not_asked),
    }


def _print(principal: str, verdicts: Sequence[Verdict], not_asked: Sequence[str]) -> None:
    from watcher.cli.tables import Table, print_facts

    console = out()
    print_facts([("role", principal)], console)
    rows = [
        (
            _ALLOWED.get(verdict.decision, verdict.decision),
            verdict.action,
            verdict.resource,
            "; ".join(verdict.by) or "no statement",
            _note(verdict),
        )
        for verdict in verdicts
    ]
    columns = ("allowed", "action", "resource", "by", "note")
    Table(columns, rows, title="Permissions", names=("action",), prose=("resource", "by", "note")).print(
        console
    )
    print_facts([("not asked", sentence) for sentence in not_asked], console)


def _note(verdict: Verdict) -> str:
    """A statement with these conditions might allow it. What another one allows needs no note."""
    if verdict.allowed or not verdict.missing_context:
        return ""
    return f"depends on {', '.join(verdict.missing_context)}"


_ALLOWED = {"allowed": "yes", "implicitDeny": "no", "explicitDeny": "denied"}
