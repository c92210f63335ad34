"""How many cores and GPUs an instance type of SageMaker has. Pure.

EC2 names sizes by their vCPUs: an `xlarge` has four, an `Nxlarge` N times as many. The numbers of GPUs are
those of EC2's pages on accelerated instances.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TYPE = re.compile(r"ml\.(?P<family>[a-z0-9-]+)\.(?P<size>(?P<times>\d*)xlarge|large|medium)")
_OTHER_CORES = {"ml.c4.8xlarge": 36, "ml.t3.medium": 2}
_CORES = {"medium": 1, "large": 2}

_ONE_TO_EIGHT = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_EIGHT: Mapping[str, int] = {"24xlarge": 8, "48xlarge": 8}
_WITHOUT_GPUS = re.compile(r"[cdimrtxz]\d|trn\d|inf\d")
"""Families for general purposes, and those with AWS's own accelerators."""
_GPUS: Mapping[str, Mapping[str, int]] = {
    "p2": {"xlarge": 1, "8xlarge": 8, "16xlarge": 16},
    "p3": {"2xlarge": 1, "8xlarge": 4, "16xlarge": 8},
    "p3dn": _EIGHT,
    "p4d": _EIGHT,
    "p4de": _EIGHT,
    "p5": {"4xlarge": 1, "48xlarge": 8},
    "p5e": _EIGHT,
    "p5en": _EIGHT,
    "p6-b200": _EIGHT,
    "p6-b300": _EIGHT,
    "p6e-gb200": {"36xlarge": 4},
    "g4dn": {"12xlarge": 4},
    "g5": _ONE_TO_EIGHT,
    "g6": _ONE_TO_EIGHT,
    "g6e": _ONE_TO_EIGHT,
    "g7e": {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8},
}
"""By family and size. A size of a `g` family that is not listed has one GPU."""


def cores(instance_type: str) -> int | None:
    """vCPUs; None if it is not known."""
    if instance_type in _OTHER_CORES:
        return _OTHER_CORES[instance_type]
    match = _TYPE.fullmatch(instance_type)
    if match is None:
        return None
    return _CORES.get(match["size"]) or 4 * int(match["times"] or 1)


def gpus(instance_type: str) -> int | None:
    """0 for an instance type without GPUs, None if it is not known. AWS's own accelerators are not GPUs, and
    have none of their metrics."""
    match = _TYPE.fullmatch(instance_type)
    if match is None:
        return None
    family, size = match["family"], match["size"]
    if family in _GPUS:
        return _GPUS[family].get(size, 1 if family.startswith("g") else None)
    return 0 if _WITHOUT_GPUS.match(family) else None
