"""Digests of event sets: equal for equal sets, whatever the order, in any language and in SQL.

A set's digest is three numbers over its *distinct* events:

* ``count``
* ``ids``: the sum of event ids as 128-bit integers, mod 2**128
* ``rows``: the sum over the events of MD5 of the canonical row, read as a little-endian
  128-bit integer, mod 2**128

The canonical row of a trade is the text
``event_id|venue|symbol|event_ts|trade_id|price|size|side`` with the id in lower case with
dashes, the time in integer nanoseconds since the Unix epoch, and price and size with exactly
18 decimals. MD5 because DuckDB, PostgreSQL and ClickHouse all compute it; it guards against
accidents, not against an adversary. Two sets that agree in ``count`` and ``ids`` but not in
``rows`` differ in content.
"""

from __future__ import annotations

from dataclasses import dataclass

MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class Digest:
    """Digest of a set of events; the sum of two is the digest of their disjoint union."""

    count: int = 0
    ids: int = 0
    rows: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(
            self.count + other.count,
            (self.ids + other.ids) % MODULUS,
            (self.rows + other.rows) % MODULUS,
        )

    @classmethod
    def from_halves(cls, count: int, ids: tuple[int, int], rows: tuple[int, int]) -> Digest:
        """Combine sums of the high and of the low 64-bit halves, as SQL engines can add them."""
        return cls(
            count,
            ((ids[0] << 64) + ids[1]) % MODULUS,
            ((rows[0] << 64) + rows[1]) % MODULUS,
        )

    def as_json(self) -> dict[str, int | str]:
        """Count and the two sums as 32 hex digits each."""
        return {"count": self.count, "ids": f"{self.ids:032x}", "rows": f"{self.rows:032x}"}
