"""What opens, reads and probes the database that a configuration names."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.stores.clickhouse.audit import ClickHouseAudited
from forebay.stores.clickhouse.check import complaints
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import ClickHouseSession, Target
from forebay.stores.clickhouse.store import ClickHouseStore

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.stores.kind import StoreConfig

__all__ = [
    "ClickHouseAudited",
    "complaints_of",
    "open_clickhouse",
    "probe_clickhouse",
    "read_clickhouse",
]


def open_clickhouse(config: StoreConfig, _: Path) -> ClickHouseStore:
    """See :attr:`forebay.stores.kind.StoreKind.open`."""
    return ClickHouseStore(Target.of(config))


def read_clickhouse(config: StoreConfig, _: Path, most_mb: int | None) -> ClickHouseReader:
    """See :attr:`forebay.stores.kind.StoreKind.read`."""
    return ClickHouseReader(Target.of(config), memory_limit_mb=most_mb)


def probe_clickhouse(config: StoreConfig) -> str:
    """See :attr:`forebay.stores.kind.StoreKind.probe`."""
    with contextlib.closing(ClickHouseSession(Target.of(config))) as session:
        return f"ClickHouse {session.client().server_version}"


def complaints_of(config: StoreConfig) -> list[str]:
    """See :attr:`forebay.stores.kind.StoreKind.complaints`."""
    with contextlib.closing(ClickHouseSession(Target.of(config))) as session:
        return complaints(session)
