"""Digests of stored events by SQL; see :mod:`forebay.domain.digest` for what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forebay.domain.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

# MD5's first eight bytes are the low half of the little-endian number; DuckDB calls them upper.
# HUGEINT sums of 64-bit halves are exact up to 2**63 rows.
DIGEST_COLUMNS = """
    count(*) AS events,
    sum(id_high::HUGEINT) AS ids_high, sum(id_low::HUGEINT) AS ids_low,
    sum(md5_number_lower(canonical)::HUGEINT) AS rows_high,
    sum(md5_number_upper(canonical)::HUGEINT) AS rows_low
"""

CANONICAL_TRADES = """
    SELECT venue, 'trade' AS channel, symbol, event_ts,
        ('0x' || replace(event_id::VARCHAR, '-', '')[1:16])::UBIGINT AS id_high,
        ('0x' || replace(event_id::VARCHAR, '-', '')[17:32])::UBIGINT AS id_low,
        trade_id::BIGINT AS native,
        concat_ws('|', event_id::VARCHAR, venue, symbol, epoch_ns(event_ts), trade_id,
            price::VARCHAR, size::VARCHAR, side) AS canonical
    FROM (SELECT DISTINCT ON (event_id) * FROM {source}) distinct_trades
"""


class StreamHour(NamedTuple):
    """One bucket of an audit."""

    venue: str
    channel: str
    symbol: str
    hour_ns: int
    """Start of the hour, UTC nanoseconds."""


def stream_digests(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    where: str = "true",
    parameters: Sequence[object] = (),
) -> Mapping[StreamHour, Digest]:
    """Answer the digest of every stream and hour of ``source``, a table or view like ``trades``."""
    found = connection.execute(
        f"SELECT venue, channel, symbol, epoch_ns(time_bucket(INTERVAL 1 HOUR, event_ts)) AS hour, "
        f"{DIGEST_COLUMNS} FROM ({CANONICAL_TRADES.format(source=source)}) WHERE {where} "
        "GROUP BY ALL",
        list(parameters),
    ).fetchall()
    return {
        StreamHour(*row[:4]): Digest.from_halves(row[4], (row[5], row[6]), (row[7], row[8]))
        for row in found
    }
