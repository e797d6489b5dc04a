"""ClickHouse, a database on a server: for many readers, and more than one machine holds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.stores.clickhouse.audit import ClickHouseAudited
from forebay.stores.clickhouse.check import complaints
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import ClickHouseSession, Target
from forebay.stores.clickhouse.store import ClickHouseStore
from forebay.stores.kind import StoreConfig, StoreKind

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["STORE", "ClickHouseAudited", "ClickHouseReader", "ClickHouseStore"]


def _open(config: StoreConfig, _: Path) -> ClickHouseStore:
    return ClickHouseStore(Target.of(config))


def _read(config: StoreConfig, _: Path, most_mb: int | None) -> ClickHouseReader:
    return ClickHouseReader(Target.of(config), memory_limit_mb=most_mb)


def _probe(config: StoreConfig) -> str:
    with contextlib.closing(ClickHouseSession(Target.of(config))) as session:
        return f"ClickHouse {session.client().server_version}"


def _complaints(config: StoreConfig) -> list[str]:
    with contextlib.closing(ClickHouseSession(Target.of(config))) as session:
        return complaints(session)


STORE = StoreKind(
    name="clickhouse",
    open=_open,
    read=_read,
    audited=ClickHouseAudited,
    probe=_probe,
    complaints=_complaints,
    checkpoints=False,
    arrival="received_ts",
)
