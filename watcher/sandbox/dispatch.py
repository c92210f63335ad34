"""Makes moto list its services once. Its server reads its own folder for that at each request, under a
lock."""

from __future__ import annotations

import moto.backends

_list_of_moto_modules = moto.backends.list_of_moto_modules


def install() -> None:
    services = frozenset(_list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: services
