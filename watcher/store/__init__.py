"""What Watcher remembers: the protocol (`base`), and where it can be kept."""

from __future__ import annotations

import re
from pathlib import Path

from watcher.errors import ConfigError, StoreError
from watcher.store.base import Store

_USER_AND_PASSWORD = re.compile(r"//[^/]*@")


def open_store(url: str, *, create: bool = True) -> Store:
    """Open what `store.url` names: `sqlite:///FILE`, with four slashes where FILE is absolute.

    Raises `ConfigError` for any other URL, and `StoreError` where the store cannot be used or, unless it
    may be created, is not there yet.
    """
    scheme, found, file = url.partition(":///")
    if scheme != "sqlite" or not found or not file:
        shown = _USER_AND_PASSWORD.sub("//…@", url)
        raise ConfigError(
            f'store.url = "{shown}": is not a store of this version; '
            "write sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path"
        )
    if not create and not Path(file).exists():
        raise StoreError(
            f"there is no store at {file} yet: `watcher run` makes it; "
            "start in the same folder, or name the same configuration with -c"
        )
    from watcher.store.sqlite import SqliteStore

    return SqliteStore(Path(file))
