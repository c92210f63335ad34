"""Reads a rule's parameters: SageMaker has them as strings, the rule needs values.

A rule declares them as a frozen dataclass, each field made by `parameter`:

    @dataclass(frozen=True, slots=True)
    class Parameters:
        num_steps: int = parameter(10, whole(at_least=1))

and `parse(Parameters, {"num_steps": "2"}, rule)` makes the values, or an error that says what is valid.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class RuleError(ValueError):
    """A rule cannot be loaded; the message says what to change."""


class ParameterError(RuleError):
    pass


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a parameter is read. `valid` completes "must be …"; `read` raises ValueError for anything else."""

    valid: str
    read: Callable[[str], T]


def parameter(default: T, kind: Kind[Any]) -> T:
    """A field of a `Parameters` dataclass."""
    return field(default=default, metadata={"kind": kind})


def whole(*, at_least: int) -> Kind[int]:
    def read(text: str) -> int:
        number = int(text)
        if number < at_least:
            raise ValueError
        return number

    return Kind(f"a whole number of at least {at_least}", read)


def number(
    *, above: float | None = None, at_least: float | None = None, below: float | None = None
) -> Kind[float]:
    """A finite number, within the bounds that are given."""

    def read(text: str) -> float:
        value = float(text)
        if (
            not math.isfinite(value)
            or (above is not None and value <= above)
            or (at_least is not None and value < at_least)
            or (below is not None and value >= below)
        ):
            raise ValueError
        return value

    bounds = (("above", above), ("of at least", at_least), ("below", below))
    limits = " and ".join(f"{words} {limit:g}" for words, limit in bounds if limit is not None)
    return Kind(f"a number {limits}".rstrip(), read)


def between(lowest: float, highest: float) -> Kind[float]:
    """Both ends are valid."""

    def read(text: str) -> float:
        value = float(text)
        if not lowest <= value <= highest:
            raise ValueError
        return value

    return Kind(f"a number from {lowest:g} to {highest:g}", read)


def choice(*options: str) -> Kind[str]:
    def read(text: str) -> str:
        if text.upper() not in options:
            raise ValueError
        return text.upper()

    return Kind(f"one of {', '.join(options)}", read)


def _flag(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _regexes(text: str) -> tuple[str, ...]:
    regexes = _names(text)
    for regex in regexes:
        re.compile(regex)
    return regexes


def _regex(text: str) -> str:
    re.compile(text)
    return text


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in _names(text))
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise ValueError
    return numbers


FLAG = Kind("True or False", _flag)
TEXT = Kind("text", str)
NAMES = Kind("names separated by commas", _names)
NUMBERS = Kind("numbers separated by commas", _numbers)
REGEX = Kind("a regular expression", _regex)
REGEXES = Kind("regular expressions separated by commas", _regexes)


@dataclass(frozen=True, slots=True)
class StepRange:
    """What SageMaker's rule container takes for every rule, and passes to smdebug's `invoke_rule`."""

    start_step: int = parameter(0, whole(at_least=0))
    end_step: int | None = parameter(None, whole(at_least=1))

    def __contains__(self, step: int) -> bool:
        return self.start_step <= step and (self.end_step is None or step < self.end_step)

    def __str__(self) -> str:
        if self.end_step is None:
            return f"from step {self.start_step} on (start_step)"
        if not self.start_step:
            return f"before step {self.end_step} (end_step)"
        return f"from step {self.start_step} (start_step) to before step {self.end_step} (end_step)"


FOR_EVERY_RULE = frozenset(field.name for field in fields(StepRange))


def step_range(given: Mapping[str, str], rule: str) -> StepRange:
    """The global steps that a rule judges. Raises `ParameterError`, also if there can be none."""
    own = {name: text for name, text in given.items() if name in FOR_EVERY_RULE}
    steps = parse(StepRange, own, rule)
    if steps.end_step is not None and steps.end_step <= steps.start_step:
        raise ParameterError(
            f"{rule}: end_step must be greater than start_step, {steps.start_step}, not {steps.end_step}"
        )
    return steps


def parse(parameters: type[T], given: Mapping[str, str], rule: str) -> T:
    """The values for a dataclass of parameters. As in SageMaker, an empty string is the default.

    Parameters that every rule has are ignored, unless the dataclass has them.
    """
    kinds: dict[str, Kind[Any]] = {
        field.name: field.metadata["kind"]
        for field in fields(parameters)  # type: ignore[arg-type] # T is a dataclass, which typing cannot express
    }
    for name in given:
        if name not in kinds and name not in FOR_EVERY_RULE:
            close = difflib.get_close_matches(name, kinds, n=1) or difflib.get_close_matches(
                name, FOR_EVERY_RULE, n=1, cutoff=0.8
            )
            raise ParameterError(
                f"{rule} has no parameter {name!r}"
                + (f" (did you mean {close[0]}?)" if close else "")
                + f"; it has {', '.join(kinds)}"
            )
    values = {
        name: _read(rule, name, kinds[name], text)
        for name, text in given.items()
        if name in kinds and text.strip()
    }
    return parameters(**values)


def require_one_of(parameters: object, rule: str, *names: str) -> None:
    """Raises `ParameterError` if none of these parameters is given."""
    if not any(getattr(parameters, name) for name in names):
        raise ParameterError(f"{rule} needs {' or '.join(names)}")


def _read(rule: str, name: str, kind: Kind[Any], text: str) -> Any:
    try:
        return kind.read(text.strip())
    except (ValueError, KeyError, OverflowError, RecursionError, re.error) as error:
        raise ParameterError(f"{rule}: {name} must be {kind.valid}, not {text!r}") from error
