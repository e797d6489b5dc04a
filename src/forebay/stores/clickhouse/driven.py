"""What needs ClickHouse's client, in one place: it is brought in when a store is opened."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.stores.clickhouse.audit import ClickHouseAudited
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import ClickHouseSession, Target
from forebay.stores.clickhouse.store import ClickHouseStore

if TYPE_CHECKING:
    from typing import Final

__all__ = ["ClickHouseAudited", "ClickHouseReader", "ClickHouseStore", "Target", "probe_clickhouse"]
_VERSION: Final = "SELECT version() AS version"


def probe_clickhouse(target: Target) -> str:
    """Return what answers; see :class:`forebay.stores.kind.StoreKind`."""
    with contextlib.closing(ClickHouseSession(target)) as session:
        (version,) = session.rows(_VERSION)["version"].to_pylist()
    return f"ClickHouse {version.decode()}"
