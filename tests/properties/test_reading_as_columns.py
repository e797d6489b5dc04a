"""Messages are read as columns where that is sure, and nobody can tell by the outcome."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay.domain.columns import as_arrays
from forebay.domain.parsed import Moments
from forebay.services.projection import Projection
from forebay.sources.coinbase.feed import read_matches, read_updates
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import as_json, batch, context, heartbeat, l2update, match, ticker
from tests.support.recordings import COINBASE, recorded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.domain.parsed import Parsed, RawEvents
    from forebay.services.projection import Projected

QUICK, CAREFUL = CoinbaseParser(fewest=0), CoinbaseParser(fewest=10**9)
CHANGE = l2update(("buy", "61234.56", "0.01000000"))
GOOD = match(123_456_789, size="0.01000000", price="61234.56")
TOLD = ("frame", "item", "venue_symbol", "symbol", "native", "time")
INTERESTING = b'"\\,:{}[] \t\n\r\x00\x1f\x7f\x80\xc3\xa9\xff/+-.019eEnuAZz'


def outcome(parsed: Parsed) -> list[object]:
    """Everything that a parser says, in a form that can be compared."""
    told: dict[tuple[str, bool], list[object]] = {}
    for raw in map(as_arrays, parsed.events):
        columns = {name: as_list(getattr(raw, name)) for name in TOLD}
        own = {name: as_list(column) for name, column in raw.columns.items()}
        parts = told.setdefault((raw.channel.kind, raw.time is None), [])
        parts.append([columns, own, raw.sequence, raw.channel, raw.market])
    return [told, parsed.control, parsed.unbuilt, parsed.dead, parsed.known]


def as_list(column: Any) -> list[Any] | None:  # noqa: ANN401 - any of the columns
    column = column.values if isinstance(column, Moments) else column
    found: list[Any] | None = None if column is None else column.tolist()
    return found


def trades(parsed: Parsed) -> RawEvents:
    (only,) = parsed.events
    return only


def both_say_the_same(payloads: Sequence[bytes], symbols: tuple[str, ...] = ()) -> int:
    """Compare the two ways; return how many frames were read as columns."""
    told = batch(payloads, context(symbols=symbols))
    quick, careful = QUICK.parse(told), CAREFUL.parse(told)
    assert all(isinstance(raw.frame, list) for raw in careful.events)
    assert outcome(quick) == outcome(careful)
    wanted = partial(_wanted, set(symbols))
    read = read_matches(payloads, wanted)
    read += read_updates(payloads, wanted=wanted, received_ns=told.received_ns)
    return sum(len(part) for part in read)


def _wanted(taken: set[str], names: set[str]) -> set[str]:
    return names & taken if taken else names


def both_project_the_same(payloads: Sequence[bytes]) -> None:
    told = batch(payloads, received_ns=[1_700_000_000 * 10**9] * len(payloads))
    quick, careful = (
        Projection({"coinbase": parser}, {}).project([told]) for parser in (QUICK, CAREFUL)
    )
    for one, other in zip(projected(quick), projected(careful), strict=True):
        assert one == other


def spelled_out(table: pa.Table) -> pa.Table:
    """Return the table with labels as texts: how they are numbered is of no matter."""
    plain = [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
             for field in table.schema]  # fmt: skip
    return table.cast(pa.schema(plain)).combine_chunks()


def projected(out: Projected) -> list[object]:
    events = [
        (name, spelled_out(told.rows), told.seen_before.tolist(), told.vouched_new.tolist())
        for name, told in out.events.items()
    ]
    letters = out.letters
    return [events, letters, out.coverage, out.frames, out.reasons, out.unbuilt, out.flagged]


# ------------------------------------------------------------------- every small mistake


def mutants(frame: bytes, substitutes: Iterable[int], inserts: Iterable[int]) -> Iterator[bytes]:
    """Every frame that differs in one place: a byte changed, put in, left out or told twice."""
    for at in range(len(frame)):
        for byte in substitutes:
            yield frame[:at] + bytes([byte]) + frame[at + 1 :]
        for byte in inserts:
            yield frame[:at] + bytes([byte]) + frame[at:]
        yield frame[:at] + frame[at + 1 :]
        yield frame[:at] + frame[at : at + 2][::-1] + frame[at + 2 :]
        yield frame[:at]
        yield frame[at:]
        yield frame + frame[:at]


@pytest.mark.parametrize("good", [GOOD, CHANGE], ids=["match", "l2update"])
def test_every_byte_at_every_place(good: bytes) -> None:
    made = list(mutants(good, range(256), INTERESTING))
    assert len(made) > 30_000
    read = both_say_the_same(made)
    assert 0.1 < read / len(made) < 0.85, "both ways are taken"


def test_a_mutant_costs_its_neighbours_nothing() -> None:
    made = [frame for mutant in mutants(GOOD, b'"\\\x00\xff0', b'"1') for frame in (mutant, GOOD)]
    read = both_say_the_same(made)
    assert read >= len(made) // 2
    both_project_the_same(made)


def test_real_frames_and_what_becomes_of_them() -> None:
    frames = [frame.payload for frame in recorded(COINBASE)]
    real = [frame for frame in frames if b'"match"' in frame or b'"l2update"' in frame]
    assert both_say_the_same(frames) == len(real)
    both_project_the_same(frames)
    few = [frame for frame in real if b'"match"' in frame][:8] + real[-4:]
    made = [mutant for frame in few for mutant in mutants(frame, b'"\\ 0A\xff', b'",:0')]
    assert len(made) > 25_000
    assert 0 < both_say_the_same(made) < len(made)


# ---------------------------------------------------------------------- any message


TEXTS = st.sampled_from(
    ["", "1", "0.5", "NaN", "-1", "1e5", "é", "\\", '"', "\n", "\x7f", "0" * 50]
)
NOT_TEXTS: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**17, 10**18, 2**63, 10**30, [], {}]
)
VALUES: st.SearchStrategy[object] = TEXTS | NOT_TEXTS
FIELDS = st.sampled_from(["type", "trade_id", "maker_order_id", "side", "size", "price",
                          "product_id", "sequence", "time", "extra"])  # fmt: skip
PRODUCTS = st.sampled_from(["BTC-USD", "ETH-USD", "btc-usd", "X", "A-B", "BTC-USD\n"])
TIMES = st.sampled_from(
    [
        "2021-04-17T16:43:37.089723Z",
        "2021-04-17T16:43:37Z",
        "2021-04-17T16:43:37.089723456+02:00",
        "1999-01-01T00:00:00.000000Z",
        "yesterday",
    ]
)
MATCHES = st.one_of(
    st.builds(match, st.integers(0, 10**9), PRODUCTS),
    st.builds(lambda product, time: match(7, product, time=time), PRODUCTS, TIMES),
    st.builds(lambda name, value: match(8, **{name: value}), FIELDS, VALUES),
    st.builds(lambda side: match(9, side=side), st.sampled_from(["buy", "sell", "bu", "buy?", ""])),
    st.builds(lambda kind: match(10, type=kind), st.sampled_from(["last_match", "matc", "ticker"])),
)
CHANGES = st.tuples(st.sampled_from(["buy", "sell", "bid", ""]), st.sampled_from(["1", "x", "0"]),
                    st.sampled_from(["0", "5.5", ""]))  # fmt: skip
BOOKS = st.one_of(
    st.builds(l2update, CHANGES),
    st.builds(l2update, CHANGES, CHANGES),
    st.builds(lambda change, time: l2update(change, time=time), CHANGES,
              TIMES | st.sampled_from([None, "0001-01-01T00:00:00Z"])),
    st.builds(lambda name, value: l2update(("buy", "1", "2"), **{name: value}),
              st.sampled_from(["product_id", "changes", "time", "type"]), VALUES),
    st.builds(lambda name, value: ticker(**{name: value}),
              st.sampled_from(["product_id", "price", "best_bid", "time", "trade_id"]), VALUES),
)  # fmt: skip
OTHERS = st.sampled_from([heartbeat(3), b"", b"junk", b"{}", b'{"type":"l2update"}', b"\xff",
                          b'{"type":"error","message":"\\"\\u00e9"}'])  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    frame = draw(MATCHES | BOOKS)
    at, until = draw(st.integers(0, len(frame))), draw(st.integers(0, 4))
    return frame[:at] + draw(st.binary(max_size=4)) + frame[at + until :]


@settings(max_examples=60)
@given(st.lists(MATCHES | BOOKS | OTHERS | spoilt(), max_size=16))
@example([])
@example([match(1), heartbeat(1), match(2, trade_id=10**30), match(3), match(4, size=1)])
def test_any_frames_mean_the_same_both_ways(payloads: list[bytes]) -> None:
    both_say_the_same(payloads)
    both_say_the_same(payloads, ("ETH-USD", "A-B"))
    both_project_the_same(payloads)


def test_keys_in_another_order_are_read_frame_by_frame() -> None:
    swapped = GOOD.replace(b'{"type":"match",', b"{").replace(b"}", b',"type":"match"}')
    twice = GOOD.replace(b"}", b',"price":"1"}')
    spaced = GOOD.replace(b":", b": ")
    assert both_say_the_same([swapped, twice, spaced]) == 0
    assert len(trades(QUICK.parse(batch([swapped, twice, spaced])))) == 3


def test_arrival_order_is_kept_whichever_way_a_frame_is_read() -> None:
    odd = {3, 4, 9, 17}
    made = [match(n, note="x") if n in odd else match(n) for n in range(1, 21)]
    made[6] = match(7, trade_id=10**30)
    quick, careful = (trades(parser.parse(batch(made))) for parser in (QUICK, CAREFUL))
    assert as_list(quick.frame) == list(range(20))
    assert as_list(quick.native) == [1, 2, 3, 4, 5, 6, 10**30, *range(8, 21)]
    assert as_list(quick.columns["price"]) == careful.columns["price"]
    both_project_the_same(made)


def test_frames_enough_are_read_as_columns_by_default() -> None:
    made = [match(n) for n in range(1, 2001)]
    assert isinstance(trades(CoinbaseParser().parse(batch(made))).frame, np.ndarray)
    assert isinstance(trades(CoinbaseParser().parse(batch(made[:10]))).frame, list)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_million_random_mutants() -> None:
    dice = random.Random(7)
    frames = [GOOD, CHANGE, match(5, "ETH-USD"), match(6, type="last_match"), heartbeat(4),
              as_json({"type": "l2update", "product_id": "A-B", "changes": []})]  # fmt: skip
    for _ in range(50):
        made = []
        for _ in range(20_000):
            frame = bytearray(dice.choice(frames))
            for _ in range(dice.choice((0, 1, 1, 2, 3))):
                at, length = dice.randrange(len(frame) + 1), dice.choice((0, 0, 1, 1, 2, 9))
                byte = dice.choice((*INTERESTING, dice.randrange(256)))
                frame[at : at + length] = bytes([byte] * dice.choice((0, 1, 1, 2)))
            made.append(bytes(frame))
        both_say_the_same(made)
        both_project_the_same(made[:2_000])
