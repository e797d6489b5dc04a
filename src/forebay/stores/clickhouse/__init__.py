"""ClickHouse: columns on a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.errors import ConfigError
from forebay.secret_files import read_secrets
from forebay.stores.kind import StoreConfig, StoreKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    import pyarrow as pa

    from forebay.ports import Audited, ReadableStore, Reader
    from forebay.stores.clickhouse.session import Target

__all__ = ["STORE"]
_SECRETS = ("user", "password")


def _driven() -> ModuleType:
    try:
        from forebay.stores.clickhouse import driven  # noqa: PLC0415 - the client is an extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("clickhouse_connect", "lz4"):
            raise
        message = "The client of ClickHouse is not installed."
        raise ConfigError(message, hint='Run: pip install "forebay[clickhouse]"') from error
    return driven


def _target(config: StoreConfig) -> Target:
    secrets = read_secrets(config.credentials_file, "the store")
    if unknown := sorted(secrets.keys() - set(_SECRETS)):
        message = f"The credentials_file of the store has {unknown[0]!r}."
        raise ConfigError(message, hint=f"It holds {' and '.join(_SECRETS)}.")
    made: Target = _driven().Target(
        config.url or _driven().Target.url,
        config.database,
        secrets.get("user", ""),
        secrets.get("password", ""),
        config.options,
    )
    return made


def _open(config: StoreConfig, _: Path) -> ReadableStore:
    target = _target(config)
    made: ReadableStore = _driven().ClickHouseStore(
        target.url,
        database=target.database,
        user=target.user,
        password=target.password,
        options=target.options,
    )
    return made


def _read(config: StoreConfig, _: Path, memory_limit_mb: int | None) -> Reader:
    made: Reader = _driven().ClickHouseReader(_target(config), memory_limit_mb=memory_limit_mb)
    return made


def _audited(query: Callable[[str], pa.Table], consumer: str) -> Audited:
    made: Audited = _driven().ClickHouseAudited(query, consumer)
    return made


def _probe(config: StoreConfig) -> str:
    told: str = _driven().probe_clickhouse(_target(config))
    return told


STORE = StoreKind(
    name="clickhouse",
    open=_open,
    read=_read,
    audited=_audited,
    probe=_probe,
    checkpoints=False,
    arrival="received_ts",
)
