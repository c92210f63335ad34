"""What a rule needs of a job, so that the job's configuration can be checked before any tensor is saved.

Parameters have the names that they have in RuleParameters, so that a message can say which one to change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class ModelKind(StrEnum):
    """What is trained: the frameworks save tensors of different kinds."""

    TREES = "XGBoost"
    DEEP_LEARNING = "deep learning"


class MxnetNames(NamedTuple):
    """The default of this parameter finds tensors by the names that MXNet gives them."""

    parameter: str
    default: str
    fits_pytorch: bool = False
    """PyTorch names tensors after the modules, so the default may fit: torchvision's ReLUs are called
    `relu`."""


class RisingMetrics(NamedTuple):
    """What goes wrong when a rule about losses is given a metric that should rise, such as accuracy."""

    effect: str
    """Completes "accuracy should rise; the rule …"."""
    fix: str = "let the rule read a metric that should fall, such as logloss, rmse or error"


class SavedSteps(NamedTuple):
    """The rule needs this number of saved steps before it can fire."""

    parameter: str
    number: int


class StepsApart(NamedTuple):
    """The rule compares two saved steps that are at least `distance` steps apart."""

    parameter: str
    distance: int


class SameInterval(NamedTuple):
    """The rule compares saved steps that are at most `interval` steps apart, and Debugger wants the tensors
    to be saved at exactly this interval."""

    parameter: str
    interval: int


class FirstSteps(NamedTuple):
    """The rule looks only at this number of first steps, and needs two of them."""

    parameter: str
    number: float


StepsNeeded = SavedSteps | StepsApart | SameInterval | FirstSteps


class Forest(NamedTuple):
    """What is known about XGBoost's trees before the job trains."""

    max_depth: int
    """No tree can be deeper."""
    first_step: int | None
    """The first step at which the rule's tensors are saved; None if they never are."""
    trees_per_step: int


class FixedOutcome(NamedTuple):
    """Parameters that make a rule's verdict the same for all tensors."""

    fires: bool
    """True: the rule always fires. False: it never does."""
    sentence: str
    fix: str
