"""moto's server reads its own folder at each request, to learn which services it has, and others wait
meanwhile. Here it does once."""

from __future__ import annotations

import moto.backends

_list_of_moto_modules = moto.backends.list_of_moto_modules


def install() -> None:
    services = frozenset(_list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: services
