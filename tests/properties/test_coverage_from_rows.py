"""Coverage of event rows alone is that of the frames they came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.domain.coverage import COVERAGES, Coverage, IdCoverage, StreamKey
from forebay.domain.digest import first_of_each_id
from forebay.domain.frames import EpochAccepted, EpochClosed, FrameKind
from forebay.domain.frames import encode_control as encoded
from forebay.domain.kinds import KINDS
from forebay.services.projection import Projection
from tests.support.coverage_from_rows import coverage_of
from tests.support.frames import SECOND, T0, batch, context
from tests.support.made_venue import PAIRS, Deal, MadeParser, frame

if TYPE_CHECKING:
    import random

    from forebay.domain.channels import Unit
    from forebay.domain.frames import Control, FrameBatch
    from forebay.domain.identity import IdentityClass
    from forebay.services.projection import Projected

    Pair = tuple[IdentityClass, Unit]
    Telling = tuple[str, int, str, list[Deal]]

VENUE = "made"
SYMBOLS = ("A-B", "A-C")
DEALS = st.builds(
    lambda number, symbol: Deal(number=number, micros=number, symbol=symbol),
    st.integers(1, 12),
    st.sampled_from(SYMBOLS),
)
TOLD = st.lists(
    st.tuples(
        st.sampled_from(["ws", "ws", "ws", "rest", "partial"]),
        st.integers(0, 2),
        st.sampled_from(["spot", "perpetual"]),
        st.lists(DEALS, min_size=1, max_size=5),
    ),
    max_size=8,
)


def batches(told: list[Telling]) -> list[FrameBatch]:
    """Build a batch for each telling, received one after the other."""
    made: list[FrameBatch] = []
    now, seq = T0, 1
    for way, number, market, deals in told:
        origin = context(
            "file" if way == "partial" else way,  # type: ignore[arg-type]  # one of the sources
            f"{way}{number}" if market == "spot" else f"{market}-{way}{number}",
            venue=VENUE,
            market=market,
            partial=way == "partial",
        )
        received = [now + place * SECOND for place in range(len(deals))]
        now = received[-1] + SECOND
        frames = [frame(deal) for deal in deals]
        made.append(batch(frames, origin, received_ns=received, first_seq=seq))
        seq += len(frames)
    return made


def same(one: Coverage, other: Coverage) -> bool:
    """Return whether two coverages know the same, and would go on in the same way."""
    spoke = list(one.epochs.items()) == list(other.epochs.items())
    return spoke and sorted(one.rows()) == sorted(other.rows())


def rows_of(projected: Projected) -> dict[str, pa.Table]:
    return {name: events.rows for name, events in projected.events.items()}


@given(pair=st.sampled_from(PAIRS), told=TOLD)
@example(("native", "id"), [("ws", number, "spot", [Deal()]) for number in (0, 1, 0)])
def test_rows_say_what_their_frames_did(pair: Pair, told: list[Telling]) -> None:
    parser = MadeParser(*pair)
    projected = Projection({VENUE: parser}, {}).project(batches(told))
    found = coverage_of(rows_of(projected), {(VENUE, "trade"): parser.channel})
    assert set(found) == set(projected.coverage)
    assert all(same(coverage, projected.coverage[key]) for key, coverage in found.items())


@given(
    pair=st.sampled_from(PAIRS),
    told=TOLD,
    dice=st.randoms(use_true_random=False),
    cut=st.integers(0, 40),
)
def test_the_order_of_rows_and_where_tables_are_cut_do_not_matter(
    pair: Pair, told: list[Telling], dice: random.Random, cut: int
) -> None:
    parser = MadeParser(*pair)
    projected = Projection({VENUE: parser}, {}).project(batches(told))
    tables = rows_of(projected)
    for name, rows in tables.items():
        places = list(range(len(rows)))
        dice.shuffle(places)
        mixed = rows.take(pa.array(places, pa.int64()))
        tables[name] = pa.concat_tables([mixed[:cut], mixed[cut:]])
    found = coverage_of(tables, {(VENUE, "trade"): parser.channel})
    assert {key: sorted(coverage.rows()) for key, coverage in found.items()} == {
        key: sorted(coverage.rows()) for key, coverage in projected.coverage.items()
    }


@given(
    unit=st.sampled_from(["seq", "time"]),
    told=TOLD,
    silent=st.lists(st.integers(0, 9), min_size=3, max_size=3),
)
def test_only_acceptance_and_end_of_connections_are_not_in_rows(
    unit: Unit, told: list[Telling], silent: list[int]
) -> None:
    """Told of those as well, what rows say is all there is."""
    parser = MadeParser("content", unit)
    frames = batches(told)
    after = int(max((each.received_ns[-1] for each in frames), default=T0))
    controls = []
    for number, seconds in enumerate(silent):
        origin = context(epoch=f"ws{number}", venue=VENUE, symbols=SYMBOLS, channels=("trade",))
        said: list[Control] = [EpochAccepted(), EpochClosed("done", silent_ns=seconds * SECOND)]
        times = [T0 - number, after + 10 * SECOND]
        controls.append(batch([encoded(one) for one in said], origin,
                              kind=FrameKind.CONTROL, received_ns=times))  # fmt: skip
    projected = Projection({VENUE: parser}, {}).project([*frames, *controls])
    found = coverage_of(rows_of(projected), {(VENUE, "trade"): parser.channel})
    for symbol in SYMBOLS:
        key = StreamKey(VENUE, "spot", "trade", symbol)
        coverage = found.setdefault(key, COVERAGES[unit]())
        for number, seconds in enumerate(silent):
            coverage.opened(f"ws{number}", T0 - number)
            coverage.closed(f"ws{number}", after + (10 - seconds) * SECOND)
        if not parser.channel.history:
            coverage.give_up()
    assert {key: sorted(coverage.rows()) for key, coverage in found.items()} == {
        key: sorted(coverage.rows()) for key, coverage in projected.coverage.items()
    }


@given(TOLD)
def test_of_a_store_which_keeps_one_row_an_event_all_ids_are_known(told: list[Telling]) -> None:
    parser = MadeParser("native")
    projected = Projection({VENUE: parser}, {}).project(batches(told))
    kept = {
        name: rows.filter(pa.array(first_of_each_id(rows) == np.arange(len(rows))))
        for name, rows in rows_of(projected).items()
    }
    found = coverage_of(kept, {(VENUE, "trade"): parser.channel})
    for key, coverage in projected.coverage.items():
        assert isinstance(coverage, IdCoverage)
        assert isinstance(one := found[key], IdCoverage)
        assert one.arrived() == coverage.arrived()


def test_what_nobody_declares_is_not_counted() -> None:
    parser = MadeParser("native")
    projected = Projection({VENUE: parser}, {}).project(batches([("ws", 0, "spot", [Deal()])]))
    (coverage,) = coverage_of(rows_of(projected), {}).values()
    assert isinstance(coverage, Coverage)
    assert coverage_of({}, {}) == {}
    nothing = {kind.table: kind.schema.empty_table() for kind in KINDS.values()}
    assert coverage_of(nothing, {}) == {}
