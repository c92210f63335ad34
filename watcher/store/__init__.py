"""What Watcher stores: the protocol in `base`, and a module or folder for each kind of store."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from watcher import USER_AGENT
from watcher.errors import ConfigError, StoreError
from watcher.store.base import Store

_TABLE = re.compile(r"dynamodb://([A-Za-z0-9_.-]{3,255})")
_USER_AND_PASSWORD = re.compile(r"//[^/]*@")


def open_store(
    url: str, *, create: bool = True, region: str = "", on_response: Callable[..., None] | None = None
) -> Store:
    """Open the store that `store.url` names: `sqlite:///FILE`, with four slashes if FILE is absolute; or
    `dynamodb://TABLE` in `region`, which by default comes from the usual AWS chain.

    `on_response` handles botocore's event `response-received` for each request to DynamoDB. Raises
    `ConfigError` for any other URL, and `StoreError` if the store cannot be used, or if it does not exist and
    `create` is False.
    """
    if table := _TABLE.fullmatch(url):
        return _open_table(table[1], region, on_response)
    scheme, found, file = url.partition(":///")
    if scheme != "sqlite" or not found or not file:
        shown = _USER_AND_PASSWORD.sub("//…@", url)
        raise ConfigError(
            f'store.url = "{shown}": this version has no such store; '
            "write sqlite:///FILE, sqlite:////FOLDER/FILE for an absolute path, or dynamodb://TABLE"
        )
    if not create and not Path(file).exists():
        raise StoreError(
            f"there is no store at {file} yet: `watcher run` creates it. "
            "Use the folder in which it runs, or name its configuration with -c"
        )
    from watcher.store.sqlite import SqliteStore

    return SqliteStore(Path(file))


def _open_table(table: str, region: str, on_response: Callable[..., None] | None) -> Store:
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    from watcher.aws.session import new_session
    from watcher.store.dynamodb.store import DynamoStore

    # Not adaptive: then one throttled partition would slow down every call of this process, and those that
    # hold jobs and deliveries must be fast.
    retries = Config(
        retries={"mode": "standard", "total_max_attempts": 6},
        connect_timeout=3,
        read_timeout=5,
        max_pool_connections=64,
        user_agent=USER_AGENT,
        parameter_validation=False,  # takes a third of a transaction's time, and would never find anything
    )
    session = new_session()
    if on_response:
        session.register("response-received", on_response)
    try:
        client: Any = session.create_client("dynamodb", region_name=region or None, config=retries)
    except NoRegionError as error:
        raise ConfigError(
            'region is not set: write region = "us-east-1" or export AWS_REGION, where the table is'
        ) from error
    store = DynamoStore(client, table)
    store.bring_up_to_date(lambda: datetime.now(UTC))
    return store
