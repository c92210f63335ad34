"""IAM's policy simulator, which moto lacks: `SimulatePrincipalPolicy` and `SimulateCustomPolicy`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from moto.core.responses import ActionResult
from moto.iam.exceptions import IAMException, NotFoundException
from moto.iam.models import IAMBackend
from moto.iam.responses import IamResponse

from watcher.sandbox.aws.policies import Context, Policy, condition_keys, decide

MAX_PAGE_RESULTS = 100
"""Results on a page, unless the request has MaxItems."""


class InvalidInput(IAMException):  # type: ignore[misc] # moto has no types
    code = "InvalidInput"


def install() -> None:
    IamResponse.simulate_principal_policy = simulate_principal_policy
    IamResponse.simulate_custom_policy = simulate_custom_policy
    IamResponse.get_context_keys_for_principal_policy = get_context_keys_for_principal_policy
    IamResponse.get_context_keys_for_custom_policy = get_context_keys_for_custom_policy


def simulate_principal_policy(self: IamResponse) -> ActionResult:
    request = self._get_params()
    principal, policies = _principal(self.backend, request["PolicySourceArn"])
    boundary = _given(request, "PermissionsBoundaryPolicyInputList")
    if boundary is None and (arn := getattr(principal, "permissions_boundary_arn", None)):
        boundary = [_managed(self.backend.get_policy(arn))]
    policies += _given(request, "PolicyInputList") or []
    return _simulated(request, policies, boundary)


def simulate_custom_policy(self: IamResponse) -> ActionResult:
    request = self._get_params()
    policies = _given(request, "PolicyInputList") or []
    return _simulated(request, policies, _given(request, "PermissionsBoundaryPolicyInputList"))


def get_context_keys_for_principal_policy(self: IamResponse) -> ActionResult:
    request = self._get_params()
    _, policies = _principal(self.backend, request["PolicySourceArn"])
    return _context_keys(policies + (_given(request, "PolicyInputList") or []))


def get_context_keys_for_custom_policy(self: IamResponse) -> ActionResult:
    return _context_keys(_given(self._get_params(), "PolicyInputList") or [])


def _context_keys(policies: Iterable[Policy]) -> ActionResult:
    statements = (statement for policy in policies for statement in policy.statements)
    keys = {key for statement in statements for key in condition_keys(statement)}
    return ActionResult({"ContextKeyNames": sorted(keys)})


# -- policies -------------------------------------------------------------------------------------


def _principal(backend: IAMBackend, arn: str) -> tuple[Any, list[Policy]]:
    """A user, group or role, and all policies that it has: inline, attached, and those of a user's groups."""
    kind = re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:(user|group|role)/(?:.*/)?([^/]+)", arn)
    if kind is None:  # sessions of roles and the root user are no principals that have policies
        raise InvalidInput(f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
    known = {"user": backend.users, "group": backend.groups, "role": backend.roles}[kind[1]]
    principal = next((each for each in known.values() if each.arn == arn), None)
    if principal is None:
        raise NotFoundException(f"The {kind[1]} with name {kind[2]} cannot be found.")
    holders = [principal]
    if kind[1] == "user":
        holders += backend.get_groups_for_user(principal.name)
    return principal, [policy for holder in holders for policy in _held(kind[1], holder)]


def _held(kind: str, holder: Any) -> Iterator[Policy]:
    for name, document in holder.policies.items():
        yield _parsed(f"{kind}_{holder.name}_{name}", document)
    yield from map(_managed, holder.managed_policies.values())


def _managed(policy: Any) -> Policy:
    return _parsed(policy.name, next(version.document for version in policy.versions if version.is_default))


def _given(request: dict[str, Any], name: str) -> list[Policy] | None:
    """The policies that the request itself holds."""
    if name not in request:
        return None
    return [_parsed(f"{name}.{number}", text) for number, text in enumerate(request[name], start=1)]


def _parsed(name: str, document: Any) -> Policy:
    try:
        return Policy.parsed(name, document)
    except ValueError as error:
        raise InvalidInput(f"Invalid policy {name}: {error}") from error


# -- results --------------------------------------------------------------------------------------


def _simulated(
    request: dict[str, Any], policies: Sequence[Policy], boundary: Sequence[Policy] | None
) -> ActionResult:
    actions, resources = request["ActionNames"], request.get("ResourceArns") or ["*"]
    for action in actions:
        if not re.fullmatch(r"[a-z0-9-]+:[A-Za-z0-9]+", action):
            raise InvalidInput(f"Invalid Entity Action: {action}")
    for resource in resources:
        if resource != "*" and not re.fullmatch(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", resource):
            raise InvalidInput(f"Invalid Entity Arn: {resource}")
    context = _context(request)
    pairs = list(product(actions, resources))
    start, size = _offset(request.get("Marker")), int(request.get("MaxItems") or MAX_PAGE_RESULTS)
    answer: dict[str, Any] = {
        "EvaluationResults": [
            _result(policies, boundary, action, resource, context)
            for action, resource in pairs[start : start + size]
        ],
        "IsTruncated": start + size < len(pairs),
    }
    if answer["IsTruncated"]:
        answer["Marker"] = str(start + size)
    return ActionResult(answer)


def _offset(marker: str | None) -> int:
    if marker and not marker.isdecimal():
        raise InvalidInput(f"Invalid Marker: {marker}")
    return int(marker or 0)


def _context(request: dict[str, Any]) -> Context:
    return {
        entry["ContextKeyName"].lower(): [str(value) for value in entry.get("ContextKeyValues", ())]
        for entry in request.get("ContextEntries", ())
    }


def _result(
    policies: Sequence[Policy],
    boundary: Sequence[Policy] | None,
    action: str,
    resource: str,
    context: Context,
) -> dict[str, Any]:
    """If the request names resources, missing context keys are in the result for the resource."""
    verdict = decide(policies, action, resource, context, boundary)
    matched = [{"SourcePolicyId": name, "SourcePolicyType": "IAM Policy"} for name in verdict.matched]
    details: dict[str, Any] = {"MatchedStatements": matched}
    if verdict.within_boundary is not None:
        details["PermissionsBoundaryDecisionDetail"] = {
            "AllowedByPermissionsBoundary": verdict.within_boundary
        }
    result = {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": verdict.decision.value,
        "MissingContextValues": list(verdict.missing) if resource == "*" else [],
        **details,
    }
    if resource != "*":
        specific = {
            "EvalResourceName": resource,
            "EvalResourceDecision": verdict.decision.value,
            "MissingContextValues": list(verdict.missing),
            **details,
        }
        result["ResourceSpecificResults"] = [specific]
    return result
