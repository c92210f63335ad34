"""`lineage`: what a training job was made of, what it made, and what was made from that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from watcher.cli.terminal import ConfigFile, Json, Verbose, err, load_settings, out, print_json
from watcher.model import IN_PROGRESS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from watcher.jobs.lineage import InputView, LineageView, PlaceView


NOTHING = "nothing there"
_UNBOUNDED = 100_000
"""Cells. A place is neither wrapped nor cut, because people copy it into the next command."""

INDENT, MIN_VALUE_LENGTH = 12, 40
"""Of a hyperparameter on a terminal, in cells."""


def lineage(
    job: Annotated[str, typer.Argument(help="The job's name or ARN, the beginning of its name, or latest.")],
    config: ConfigFile = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Trace what a job was made of, and made."""
    settings = load_settings(config, verbose=verbose)
    from watcher.alerts.hyperparameters import shown_hyperparameters
    from watcher.aws.accounts import Accounts
    from watcher.cli.job_names import described_job
    from watcher.jobs.lineage import trace
    from watcher.redaction import without_secrets

    with err().status(f"reading {job} …"):
        described = described_job(job, settings, Accounts(settings.region, settings.account))
        traced = trace(described)
    given = described.snapshot.hyperparameters
    shown = without_secrets(given)
    own, hidden = shown_hyperparameters(given), sorted(given.keys() - shown.keys())
    if as_json:
        print_json({**traced, "hyperparameters": {**own, **shown}, "hidden_hyperparameters": hidden})
    else:
        _print(traced, own, hidden, out())


def _print(traced: LineageView, hyperparameters: dict[str, str], hidden: list[str], console: Console) -> None:
    """Empty branches are left out."""
    missing = "nothing there yet" if traced["status"] == IN_PROGRESS else NOTHING
    root = _node(f"{traced['job']} ({traced['status']})")
    _branch(
        root,
        "made of",
        [
            _fact("image", traced["image"]),
            _fact("role", traced["role"]),
            _source(traced),
            _branch(None, "hyperparameters", _hyperparameters(hyperparameters, hidden, console)),
            *(_input(each, traced) for each in traced["inputs"]),
        ],
    )
    _branch(
        root,
        "made",
        [
            _place(name.replace("_", " "), traced[name], missing=missing)
            for name in (
                *("model", "output", "checkpoints"),
                *("debug_output", "profiler_output", "tensorboard_output"),
            )
        ],
    )
    _branch(
        root,
        "belongs to",
        [
            _fact("experiment", traced["experiment"]),
            _fact("trial", traced["trial"]),
            _fact("tuning job", traced["tuning_job"]),
        ],
    )
    _branch(
        root,
        "used by",
        [
            _node(" ".join(filter(None, (user["name"] or user["arn"], f"({_use(user)})"))))
            for user in traced["used_by"]
        ],
    )
    _branch(root, "not read", [_node(sentence) for sentence in traced["not_read"]])
    console.width = _UNBOUNDED
    console.print(root, soft_wrap=True, highlight=False)


def _use(user: Any) -> str:
    return ", ".join(filter(None, (user["kind"], user["status"], f"{user['what']} as {user['how']}")))


def _input(channel: InputView, traced: LineageView) -> Tree | None:
    node = _place(f"input {channel['channel']}", channel, kind=channel["kind"])
    for maker in traced["trained_from"]:
        if node and maker["channel"] == channel["channel"]:
            gone = "" if maker["arn"] else " (SageMaker no longer has this job)"
            node.add(_node(f"made by {maker['job']}{gone}"))
    return node


def _source(traced: LineageView) -> Tree | None:
    return _place(f"source {traced['program']}".rstrip(), traced["source"]) or _fact(
        "source", traced["program"]
    )


def _hyperparameters(shown: dict[str, str], hidden: list[str], console: Console) -> Iterable[Tree]:
    from watcher.text import truncated

    # Unlike a place, nobody copies it from here.
    length = max(console.width - INDENT, MIN_VALUE_LENGTH) if console.is_terminal else _UNBOUNDED
    yield from (_node(truncated(f"{name} = {value}", length)) for name, value in shown.items())
    if hidden:
        yield _node(f"not shown, may be secrets: {', '.join(hidden)}")


def _place(label: str, place: PlaceView | None, *, kind: str = "", missing: str = NOTHING) -> Tree | None:
    if place is None:
        return None
    unusual = f", {kind}" if kind not in ("", "S3Prefix") else ""
    return _node(
        f"{label}  {place['uri']} ({_amount(place, missing)}{unusual})", missing=place["exists"] is False
    )


def _amount(place: PlaceView, missing: str) -> str:
    """`12 objects, 3.1 MB`, `more than 3,000 objects, …`, `missing`, or why it was not read."""
    from rich.filesize import decimal

    if place["exists"] is None:
        return f"not read: {place['not_read']}"
    if not place["exists"]:
        return missing
    more = "more than " if place["more"] else ""
    count, size = place["objects"] or 0, decimal(place["bytes"] or 0)
    return f"{more}{count:,} {'object' if count == 1 else 'objects'}, {more}{size}"


def _fact(label: str, value: str) -> Tree | None:
    return _node(f"{label}  {value}") if value else None


def _branch(parent: Tree | None, label: str, children: Iterable[Tree | None]) -> Tree | None:
    """The branch, below `parent` if there is one; None if it has no leaf."""
    branch = _node(label)
    branch.children.extend(child for child in children if child)
    if not branch.children:
        return None
    if parent:
        parent.children.append(branch)
    return branch


def _node(label: str, *, missing: bool = False) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    from watcher.text import in_row

    return Tree(Text(in_row(label), style="yellow" if missing else ""))
