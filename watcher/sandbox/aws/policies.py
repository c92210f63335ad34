"""Decides what IAM policies allow, as IAM's policy simulator does. Pure.

Follows "Policy evaluation logic" and "IAM JSON policy elements" of the IAM User Guide: an explicit deny wins,
then an allow, and nothing else is allowed. A permissions boundary must allow, too. The sandbox knows no
service control policies and no resource policies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from ipaddress import ip_address, ip_network
from operator import eq, ge, gt, le, lt
from typing import Any, Self

Statement = Mapping[str, Any]
Context = Mapping[str, Sequence[str]]
"""The values of each context key. The keys are in lower case, because IAM ignores their case."""


class Decision(StrEnum):
    """With the values of `EvalDecision` in IAM's API."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


@dataclass(frozen=True)
class Policy:
    name: str
    statements: Sequence[Statement]

    @classmethod
    def parsed(cls, name: str, document: str | Mapping[str, Any]) -> Self:
        """Raises `ValueError` if the document is not a policy."""
        policy = json.loads(document) if isinstance(document, str) else document
        if not isinstance(policy, Mapping) or "Statement" not in policy:
            raise ValueError("it has no Statement")
        statements = _listed(policy["Statement"])
        for statement in statements:
            if not isinstance(statement, Mapping) or statement.get("Effect") not in ("Allow", "Deny"):
                raise ValueError("a statement has no Effect that is Allow or Deny")
            for element in ("Action", "Resource"):
                if not {element, f"Not{element}"} & statement.keys():
                    raise ValueError(f"a statement has no {element}")
        return cls(name, statements)


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    matched: tuple[str, ...]
    """The names of the policies with the statements that decided."""
    missing: tuple[str, ...]
    """Context keys that conditions on this action and resource need, and that were not given."""
    within_boundary: bool | None
    """Whether the permissions boundary allows it; None without a boundary."""


def decide(
    policies: Collection[Policy],
    action: str,
    resource: str,
    context: Context,
    boundary: Collection[Policy] | None = None,
) -> Verdict:
    decision, matched = _decide(policies, action, resource, context)
    within = None
    if boundary is not None:
        limit, _ = _decide(boundary, action, resource, context)
        within = limit is Decision.ALLOWED
        if limit is Decision.EXPLICIT_DENY:
            decision = limit
        elif not within and decision is Decision.ALLOWED:
            decision, matched = Decision.IMPLICIT_DENY, ()
    applicable = (
        statement
        for policy in (*policies, *(boundary or ()))
        for statement in policy.statements
        if _concerns(statement, action, resource, context)
    )
    missing = {key for statement in applicable for key in condition_keys(statement)}
    return Verdict(
        decision, matched, tuple(sorted(key for key in missing if key.lower() not in context)), within
    )


def _decide(
    policies: Iterable[Policy], action: str, resource: str, context: Context
) -> tuple[Decision, tuple[str, ...]]:
    matched: dict[str, list[str]] = {"Allow": [], "Deny": []}
    for policy in policies:
        for statement in policy.statements:
            if _concerns(statement, action, resource, context) and _conditions_hold(statement, context):
                matched[statement["Effect"]].append(policy.name)
    if matched["Deny"]:
        return Decision.EXPLICIT_DENY, tuple(matched["Deny"])
    if matched["Allow"]:
        return Decision.ALLOWED, tuple(matched["Allow"])
    return Decision.IMPLICIT_DENY, ()


def _concerns(statement: Statement, action: str, resource: str, context: Context) -> bool:
    """Whether the statement is about this action and resource, whatever its conditions."""
    return _element(statement, "Action", action.lower(), lambda text: text.lower()) and _element(
        statement, "Resource", resource, lambda text: _substituted(text, context)
    )


def _element(statement: Statement, name: str, value: str, prepared: Callable[[str], str]) -> bool:
    """Trust policies have no Resource; what has none concerns every resource."""
    if f"Not{name}" in statement:
        return not any(_like(value, prepared(text)) for text in _listed(statement[f"Not{name}"]))
    return any(_like(value, prepared(text)) for text in _listed(statement.get(name, "*")))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _like(value: str, pattern: str) -> bool:
    return _regex(pattern).fullmatch(value) is not None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile(
        "".join(parts.get(part, re.escape(part)) for part in re.split(r"([*?])", pattern)), re.S
    )


def _substituted(text: str, context: Context) -> str:
    """The text with the values of its policy variables, such as `${aws:username}`, that the context has."""

    def value(variable: re.Match[str]) -> str:
        values = context.get(variable[1].lower(), ())
        return values[0] if len(values) == 1 else variable[0]

    return re.sub(r"\$\{([^}]+)\}", value, text) if "${" in text else text


# -- conditions -----------------------------------------------------------------------------------


def condition_keys(statement: Statement) -> Iterator[str]:
    for keys in statement.get("Condition", {}).values():
        yield from keys


def _conditions_hold(statement: Statement, context: Context) -> bool:
    return all(
        _holds(
            operator,
            context.get(key.lower()),
            [_substituted(_text(each), context) for each in _listed(wanted)],
        )
        for operator, keys in statement.get("Condition", {}).items()
        for key, wanted in keys.items()
    )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _holds(operator: str, values: Sequence[str] | None, wanted: Sequence[str]) -> bool:
    """Whether a condition holds for the values of its key; None: the request has no such key."""
    quantifier, _, name = operator.rpartition(":")
    name, if_exists, _ = name.partition("IfExists")
    if name == "Null":
        return (values is None) == (wanted[0].lower() == "true")
    negated = name.replace("Not", "", 1) in _TESTS and "Not" in name
    test = _TESTS.get(name.replace("Not", "", 1))
    if test is None:  # an operator that IAM does not have, so that nothing satisfies it
        return False
    if values is None:
        return bool(if_exists) or negated or quantifier == "ForAllValues"

    def matches(value: str) -> bool:
        with suppress(ValueError):
            return any(test(value, each) for each in wanted) != negated
        return False

    if quantifier == "ForAllValues" or (negated and not quantifier):
        return all(map(matches, values))
    return any(map(matches, values))


def _compared(
    parse: Callable[[str], float], test: Callable[[float, float], bool]
) -> Callable[[str, str], bool]:
    return lambda value, wanted: test(parse(value), parse(wanted))


def _seconds(time: str) -> float:
    """Since 1970, of a time as ISO 8601 or as seconds."""
    with suppress(ValueError):
        return float(time)
    return datetime.fromisoformat(time).timestamp()


_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": eq,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "BinaryEquals": eq,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "IpAddress": lambda value, wanted: ip_address(value) in ip_network(wanted, strict=False),
    **{
        f"{kind}{name}": _compared(parse, test)
        for kind, parse in (("Numeric", float), ("Date", _seconds))
        for name, test in (
            ("Equals", eq),
            ("LessThan", lt),
            ("LessThanEquals", le),
            ("GreaterThan", gt),
            ("GreaterThanEquals", ge),
        )
    },
}
"""By the name of the operator, without the `Not` that some have."""
