"""What Watcher remembers: the protocol (`base`), and where it can be kept."""

from __future__ import annotations

import re
from pathlib import Path

from watcher.errors import ConfigError
from watcher.store.base import Store

_USER_AND_PASSWORD = re.compile(r"//[^/]*@")


def open_store(url: str) -> Store:
    """Open what `store.url` names: `sqlite:///FILE`, with four slashes where FILE is absolute.

    Raises `ConfigError` for any other URL, and `StoreError` where the store cannot be used.
    """
    scheme, found, file = url.partition(":///")
    if scheme != "sqlite" or not found or not file:
        shown = _USER_AND_PASSWORD.sub("//…@", url)
        raise ConfigError(
            f'store.url = "{shown}": is not a store of this version; '
            "write sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path"
        )
    from watcher.store.sqlite import SqliteStore

    return SqliteStore(Path(file))
