"""ClickHouse, a database on a server: for many readers, and more than one machine holds."""

from forebay.drivers import Driven
from forebay.stores.kind import StoreKind

__all__ = ["STORE"]
_OPENING = Driven(f"{__name__}.opening", "clickhouse_connect", "clickhouse")

STORE = StoreKind(
    name="clickhouse",
    open=_OPENING.at("open_clickhouse"),
    read=_OPENING.at("read_clickhouse"),
    audited=_OPENING.at("ClickHouseAudited"),
    probe=_OPENING.at("probe_clickhouse"),
    complaints=_OPENING.at("complaints_of"),
    checkpoints=False,
    arrival="received_ts",
)
