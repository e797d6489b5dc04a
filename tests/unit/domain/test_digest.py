"""Digests: of columns, against the words of the definition."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import (
    MINUTE_NS,
    Digest,
    audited_rows,
    digests_by,
    digests_by_hour,
    hours_of,
)
from forebay.domain.kinds import KINDS
from tests.support.event_tables import canonical, table_of
from tests.support.event_tables import rows_of as any_rows
from tests.support.frames import HOUR, T0, Told, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.event_tables import Row

TRADE = KINDS["trade"]
BTC = StreamKey("coinbase", "spot", "trade", "BTC-USD")
ROWS = [
    Told(1, "99999999999999999999.999999999999999999", "0.000000000000000001"),
    Told(2, "0.00001305", "985", "sell", T0 + 89_723_000),
    Told(3, time_ns=T0 - 2 * HOUR),
    Told(4, symbol="ETH-USD"),
    Told((1 << 62) - 1, "7.1", side="sell"),
]
HOUR_OF_T0 = T0 // HOUR


def digests(*told: Told) -> dict[tuple[StreamKey, int], Digest]:
    return digests_by_hour(rows_of(*told), TRADE)


def by_hand(
    kind: str, rows: Sequence[Row], bucket_ns: int = HOUR
) -> dict[tuple[StreamKey, int], Digest]:
    """Sum up one row after the other in plain Python."""
    found: dict[tuple[StreamKey, int], Digest] = {}
    for row in rows:
        md5 = hashlib.md5(canonical(kind, row).encode()).digest()  # noqa: S324
        event_id = int.from_bytes(row["event_id"], "big")
        stream = StreamKey(row["venue"], row["market"], kind, row["symbol"])
        key = (stream, row["event_ts"] // bucket_ns)
        one = Digest(1, event_id, int.from_bytes(md5, "little"))
        found[key] = found.get(key, Digest()) + one
    return found


@given(st.data())
def test_digests_are_as_the_definition_says(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    rows = data.draw(any_rows(kind))
    table = table_of(kind, rows)
    assert digests_by_hour(table, KINDS[kind]) == by_hand(kind, rows)
    assert sorted(hours_of(table, KINDS[kind])) == sorted(by_hand(kind, rows))
    minutes: dict[int, Digest] = {}
    for (_, minute), digest in by_hand(kind, rows, 60 * 10**9).items():
        minutes[minute] = minutes.get(minute, Digest()) + digest
    assert digests_by(audited_rows(table, KINDS[kind]), MINUTE_NS) == minutes


def test_digests_are_by_stream_and_hour() -> None:
    assert {key: digest.count for key, digest in digests(*ROWS).items()} == {
        (BTC, HOUR_OF_T0): 3,
        (BTC, HOUR_OF_T0 - 2): 1,
        (BTC._replace(symbol="ETH-USD"), HOUR_OF_T0): 1,
    }


@given(st.lists(st.sampled_from(ROWS), min_size=1, max_size=5, unique=True), st.integers(0, 4))
def test_order_and_pieces_do_not_matter(told: list[Told], at: int) -> None:
    rows = rows_of(*told)
    whole = digests_by_hour(rows, TRADE)

    assert digests_by_hour(rows.take(list(reversed(range(len(rows))))), TRADE) == whole
    sums = dict(digests_by_hour(rows[:at], TRADE))
    chunked = pa.concat_tables([rows[at:][:1], rows[at:][1:]])
    for key, digest in digests_by_hour(chunked, TRADE).items():
        sums[key] = sums.get(key, Digest()) + digest
    assert sums == whole


@pytest.mark.parametrize(
    "changed",
    [
        {"price": "99999999999999999999.999999999999999998"},
        {"size": "0.000000000000000002"},
        {"side": "sell"},
        {"time_ns": T0 + 1000},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_one_changed_fact_changes_rows_and_not_ids(changed: dict[str, object]) -> None:
    key = (BTC, HOUR_OF_T0)
    before = digests(*ROWS)[key]
    after = digests(ROWS[0].but(**changed), *ROWS[1:])[key]
    assert (after.count, after.ids) == (before.count, before.ids)
    assert after.rows != before.rows


def test_receipt_precision_and_flags_are_not_in_it() -> None:
    one, other = (
        Told(9),
        Told(9, received_ns=T0 + 300 * HOUR, time="2021-04-17T16:43:37.000000999Z"),
    )
    assert digests(one) == digests(other)


def test_nothing_has_no_digest() -> None:
    nothing = TRADE.schema.empty_table()
    assert digests_by_hour(nothing, TRADE) == {}
    assert hours_of(nothing, TRADE) == []


HALF = st.integers(0, 2**64 - 1)


@given(st.lists(st.tuples(HALF, HALF, HALF, HALF), max_size=20), st.integers(0, 20))
def test_digests_add_up(events: list[tuple[int, int, int, int]], at: int) -> None:
    def digest(part: list[tuple[int, int, int, int]]) -> Digest:
        sums = [sum(event[half] for event in part) for half in range(4)]
        return Digest.from_halves(len(part), (sums[0], sums[1]), (sums[2], sums[3]))

    whole = digest(events)
    assert digest(events[:at]) + digest(events[at:]) == whole
    assert whole.ids == sum(event[0] * 2**64 + event[1] for event in events) % 2**128
    assert whole.rows == sum(event[2] * 2**64 + event[3] for event in events) % 2**128
