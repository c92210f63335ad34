"""Evaluates the expressions of `GetMetricData`, such as `100 * errors / requests`. Pure.

Of CloudWatch's metric math it has arithmetic of series and numbers, not the functions.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from datetime import datetime

Series = Mapping[datetime, float]
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}


class NotArithmetic(ValueError):
    """The expression uses something that the sandbox does not evaluate."""


def evaluate(expression: str, series: Callable[[str], Series]) -> Series:
    """`series` returns the series with an id, and raises KeyError if there is none. A point without a value,
    as after a division by zero, is left out.

    Raises `NotArithmetic` and, from `series`, KeyError.
    """
    try:
        found = _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body, series)
    except SyntaxError:
        raise NotArithmetic from None
    if isinstance(found, float):  # CloudWatch wants a series, too
        raise NotArithmetic
    return {at: value for at, value in found.items() if math.isfinite(value)}


def _value(node: ast.expr, series: Callable[[str], Series]) -> Series | float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return series(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _combined(operator.mul, -1.0, _value(operand, series))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combined(_OPERATORS[type(op)], _value(left, series), _value(right, series))
        case _:
            raise NotArithmetic


def _combined(
    compute: Callable[[float, float], float], left: Series | float, right: Series | float
) -> Series | float:
    """Two series have a value where both have one."""

    def safe(first: float, second: float) -> float:
        try:
            return compute(first, second)
        except (ArithmeticError, ValueError):
            return math.nan

    if isinstance(left, float):
        if isinstance(right, float):
            return safe(left, right)
        return {at: safe(left, value) for at, value in right.items()}
    if isinstance(right, float):
        return {at: safe(value, right) for at, value in left.items()}
    return {at: safe(value, right[at]) for at, value in left.items() if at in right}
