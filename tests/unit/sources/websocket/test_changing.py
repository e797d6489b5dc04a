"""What is wanted changes while connections live: what is asked, recorded and forgotten."""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.frames import EpochAccepted, EpochOpened, StreamsEnded
from forebay.sources.venue import ConnectionPurpose, MessageVerdict
from forebay.sources.websocket import Timeouts
from forebay.sources.websocket.lots import Lots, Refusal, divided
from tests.support.changing_venue import ChangingRig, StiffSession, in_virtual_time
from tests.support.sinks import RecordingSink
from tests.unit.sources.websocket.test_sessions import Rig, Talk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.sources.websocket.lots import Lot

ASKED = ConnectionPurpose(("A", "B"), ("quote", "trade"))
NAMES = [f"S{number}" for number in range(12)]


def streams(*symbols: str) -> tuple[tuple[str, str], ...]:
    return tuple((kind, symbol) for kind in ("quote", "trade") for symbol in symbols)


# ------------------------------------------------------------------------------- one connection


class Supple(Talk):
    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        word, _, symbol = payload.decode().partition(" ")
        if word == "gone":
            return MessageVerdict(released=frozenset({symbol}))
        return super().received(payload, now_ns)

    def change(self, added: Sequence[str], removed: Sequence[str], now_ns: int) -> Sequence[bytes]:
        return [f"+{' '.join(added)} -{' '.join(removed)}".encode()]


def test_a_living_connection_goes_on_with_more_symbols_in_the_same_epoch() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A", b"ok B", b"x")
    rig.connection.change(replace(ASKED, symbols=("A", "B", "C")))
    rig.tell(b"y", b"ok C", b"z")
    (epoch,) = rig.sink.epochs
    assert rig.transport.did == ["all", "+C -"]
    assert [each.symbols for _, each in epoch.renewed] == [("A", "B", "C")]
    assert epoch.data[-3:] == [(epoch.data[0][0], each) for each in (b"y", b"ok C", b"z")]
    assert epoch.renewed[0][0] == len(epoch.frames) - 4, "what comes from then on carries it"
    assert epoch.controls[-1] == EpochAccepted(streams("C"))
    heard = len(rig.session.heard)
    rig.tell(b"w")
    assert len(rig.session.heard) == heard, "all is settled again"


def test_what_is_not_wanted_any_more_ends_on_record_and_the_rest_goes_on() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A", b"ok B")
    rig.connection.change(replace(ASKED, symbols=("B",)))
    rig.tell(b"ok A", b"x")
    (epoch,) = rig.sink.epochs
    assert rig.transport.did == ["all", "+ -A"]
    last = epoch.controls[-1]
    assert last == EpochAccepted(streams("B")), "what is lost until then is lost of A"
    assert [each.symbols for _, each in epoch.renewed] == [("B", "A")]
    rig.tell(b"y", b"gone A")
    rig.tell(b"z")
    assert epoch.controls[-1:] == [StreamsEnded(streams("A"))]
    assert [each.symbols for _, each in epoch.renewed] == [("B", "A"), ("B",)]
    assert epoch.renewed[-1][0] == len(epoch.frames) - 1
    assert not rig.connection.over


def test_what_flowed_without_an_answer_ends_on_record_too() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A")
    rig.clock.advance(5.1)
    rig.connection.examine()
    rig.tell(b"of B")
    rig.connection.change(replace(ASKED, symbols=("A",)))
    rig.tell(b"gone B", b"x")
    assert rig.sink.epochs[0].controls[-1] == StreamsEnded(streams("B"))


def test_an_end_that_the_venue_never_confirms_is_believed_after_a_while() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A", b"ok B")
    rig.clock.advance(60)
    rig.connection.change(replace(ASKED, symbols=("B", "C")))
    rig.connection.change(replace(ASKED, symbols=("B", "A")))
    rig.tell(b"no C")
    assert rig.transport.did == ["all", "+C -A"]
    rig.clock.advance(5.1)
    rig.tell(b"x")
    rig.connection.examine()
    rig.connection.examine()
    assert rig.sink.epochs[0].controls[-1] == StreamsEnded(streams("A"))
    assert rig.transport.did == ["all", "+C -A", "+A -C"]


def test_a_change_waits_until_what_was_asked_before_is_answered_and_the_last_one_counts() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A")
    rig.connection.change(replace(ASKED, symbols=("A", "B", "C")))
    rig.connection.change(replace(ASKED, symbols=("A", "D")))
    assert rig.transport.did == ["all"]
    rig.tell(b"ok B")
    assert rig.transport.did == ["all", "+D -B"]


def test_a_change_waits_no_longer_than_for_what_is_overdue() -> None:
    rig = Rig(Supple, ASKED)
    rig.tell(b"ok A")
    rig.connection.change(replace(ASKED, symbols=("A", "B", "C")))
    rig.clock.advance(5.1)
    rig.connection.examine()
    assert rig.transport.did == ["all", "+C -"]
    rig.tell(b"no C")
    assert [(each.symbol, each.reason) for each in rig.heard_refusals()] == [
        *[("B", "no answer in 5 s")] * 2,
        *[("C", "it is unknown")] * 2,
    ]
    assert not rig.connection.over


def test_a_session_that_cannot_change_is_left_as_it_is() -> None:
    rig = Rig(Talk, ASKED)
    rig.tell(b"ok A", b"ok B")
    rig.connection.change(replace(ASKED, symbols=("C",)))
    assert rig.transport.did == ["all"]
    assert rig.sink.epochs[0].controls == [
        EpochOpened(),
        EpochAccepted(streams("A")),
        EpochAccepted(streams("B")),
    ]


# ----------------------------------------------------------------------------------- lots, pure


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 12))
def test_symbols_are_divided_evenly_and_none_is_lost(
    count: int, size: int, connections: int
) -> None:
    symbols = tuple(f"S{number}" for number in range(count))
    parts = [each.symbols for each in divided(replace(ASKED, symbols=symbols), size, connections)]
    assert tuple(name for part in parts for name in part) == symbols
    sizes = [len(part) for part in parts]
    assert all(0 < each <= size for each in sizes)
    assert len(parts) == min(count, max(connections, -(-count // size)))
    if connections and sizes:
        assert max(sizes) - min(sizes) <= 1


WANTED = st.sets(st.sampled_from(NAMES))
STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "end", "left", "give", "due"]), WANTED, st.integers(0, 9)),
    max_size=40,
)


@given(STEPS, st.integers(0, 5), st.booleans())
def test_whatever_happens_all_that_is_wanted_is_asked_for_and_nothing_else(
    steps: list[tuple[str, set[str], int]], connections: int, supple: bool
) -> None:
    whole = replace(ASKED, symbols=())
    lots = Lots([], Timeouts(), random.Random(3), size=5, connections=connections, whole=whole)
    wanted, now = set[str](), 0
    for what, symbols, number in steps:
        now += 5_000_000_000
        lot = lots.lots[number % len(lots.lots)] if lots.lots else None
        if what == "want":
            wanted = symbols
            told = lots.want(sorted(symbols), lambda _: supple)
            assert all(each.asked.symbols for each in (*told.begun, *told.changed))
            assert not set(told.changed) & {*told.begun, *told.ended}
        elif what == "due":
            lots.due(now)
        elif lot is not None and what == "give":
            lots.accepted(lot, lot.asked.streams, now)
        elif lot is not None and what == "left":
            blamed = dict.fromkeys(each for each in lot.asked.streams if each[1] in symbols)
            lots.left_out(lot, dict.fromkeys(blamed, "no"), now)
        elif lot is not None:
            said = dict.fromkeys(
                ((kind, each) for each in symbols for kind in ASKED.channels), "no"
            )
            refusal = Refusal("no", said if number % 2 else {}, whole=number % 3 == 0)
            lots.ended(lot, number * 2_000_000_000, refusal, now)
        in_lots = {stream for each in lots.lots for stream in each.asked.streams}
        waiting = {stream for stream, aside in lots._aside.items() if aside.due_ns is not None}
        assert {symbol for _, symbol in in_lots | waiting | lots._aside.keys()} == wanted
        assert in_lots | waiting == {(kind, each) for each in wanted for kind in ASKED.channels}
        assert all(0 < len(each.asked.symbols) <= 5 for each in lots.lots)


def sizes(lots: list[Lot]) -> list[int]:
    return sorted(len(each.asked.symbols) for each in lots)


def test_new_symbols_go_to_the_smallest_of_so_many_connections() -> None:
    whole = replace(ASKED, symbols=tuple(NAMES))
    lots = Lots(divided(whole, 100, 4), Timeouts(), random.Random(3), size=100, connections=4)
    assert sizes(lots.lots) == [3, 3, 3, 3]
    told = lots.want([*NAMES[3:], "N1", "N2"], lambda _: True)
    assert (len(told.begun), len(told.changed), len(told.ended)) == (1, 0, 1)
    assert sizes(lots.lots) == [2, 3, 3, 3]


# ------------------------------------------------------------------------------- a whole source


def test_a_market_joins_a_connection_and_leaves_it() -> None:
    async def script() -> None:
        rig, sink = ChangingRig(["A", "B"]), RecordingSink()
        async with rig.running(sink):
            await asyncio.sleep(1)
            rig.source.want(["B", "C"])
            await asyncio.sleep(1)
            assert rig.venue.carried == ["B", "C"]
            (line,) = rig.venue.lines
            assert line.heard == ["add A B", "drop A", "add C"]
            assert {place.symbol for place in rig.roster.standings} == {"B", "C"}
            rig.source.want([])
            await asyncio.sleep(1)
            assert (rig.venue.carried, rig.source.connections) == ([], 0)
            assert [each.reason for each in sink.epochs] == ["stopped"]
            rig.source.want(["D"])
            await asyncio.sleep(1)
            assert rig.venue.carried == ["D"]

    in_virtual_time(script)


def test_what_changes_while_nobody_is_connected_is_asked_for_with_the_next_connection() -> None:
    async def script() -> None:
        rig = ChangingRig(["A", "B"])
        async with rig.running(RecordingSink()):
            await asyncio.sleep(1)
            rig.venue.go("refused")
            rig.source.want(["B", "C"])
            await asyncio.sleep(20)
            rig.venue.come_back()
            await asyncio.sleep(90)
            assert rig.venue.carried == ["B", "C"]
            assert len(rig.venue.lines) == 1

    in_virtual_time(script)


def test_a_session_that_cannot_change_gets_other_connections_for_new_symbols() -> None:
    async def script() -> None:
        rig = ChangingRig(["A", "B"], session=StiffSession)
        async with rig.running(RecordingSink()):
            await asyncio.sleep(1)
            rig.source.want(["B", "C"])
            await asyncio.sleep(1)
            assert rig.venue.carried == ["A", "B", "C"], "the living connection goes on"
            assert len(rig.venue.lines) == 2
            rig.source.want(["C"])
            await asyncio.sleep(1)
            assert rig.venue.carried == ["C"]
            rig.source.want(["C", "D", "E"])
            await asyncio.sleep(1)
            rig.source.want(["C", "D"])
            rig.venue.go("up")
            await asyncio.sleep(5)
            assert rig.venue.carried == ["C", "D"], "the next one asks for what is wanted"

    in_virtual_time(script)


def test_what_is_refused_of_what_was_added_is_asked_for_again_and_forgotten_when_unwanted() -> None:
    async def script() -> None:
        rig = ChangingRig(["A"])
        async with rig.running(RecordingSink()):
            await asyncio.sleep(1)
            rig.venue.bad.add("C")
            rig.source.want(["A", "B", "C"])
            await asyncio.sleep(1)
            assert rig.venue.carried == ["A", "B"]
            assert rig.roster.standings[("made", "spot", "trade", "C")].refused  # type: ignore[index]
            assert len(rig.venue.lines) == 1
            rig.source.want(["A", "B"])
            dialled = len(rig.venue.dialled)
            await asyncio.sleep(4000)
            assert len(rig.venue.dialled) == dialled
            assert rig.roster.refusals == {"made": 1}

    in_virtual_time(script)


def test_what_the_venue_lists_is_passed_on() -> None:
    async def script() -> None:
        rig = ChangingRig(["A", "B"])
        async with rig.running(RecordingSink()):
            await asyncio.sleep(1)
            rig.source.want(["A", "B", "C"])
            for line in rig.venue.lines:
                line.say("new Z")
            await asyncio.sleep(1)
            assert rig.listed == [frozenset({"Z"})]

    in_virtual_time(script)


@pytest.mark.parametrize("connections", [0, 8])
def test_ten_thousand_markets_come_and_go(connections: int) -> None:
    """Of each hundred two are refused, and a connection breaks now and then."""

    async def script() -> None:
        rig = ChangingRig([], size=10, connections=connections)
        sink, held = Forgetful(), list[int]()
        async with rig.running(sink):
            for begin in range(0, 10_000, 10):
                window = [f"M{number}" for number in range(begin, begin + 40)]
                rig.venue.bad = {name for name in window if name.endswith("50")}
                rig.source.want(window)
                await asyncio.sleep(5)
                if begin % 700 == 0:
                    next(iter(rig.venue.lines)).drop()
                if begin % 2000 == 1990:
                    await asyncio.sleep(20)
                    rig.said.clear()
                    rig.venue.dialled.clear()
                    rig.venue.connected.clear()
                    assert set(rig.venue.carried) == set(window) - rig.venue.bad
                    assert {place.symbol for place in rig.roster.standings} == set(window)
                    assert rig.source.connections <= 12
                    gc.collect()
                    held.append(len(gc.get_objects()))
        assert held[-1] - held[1] < 1500, "6000 markets later, less than one object each"

    in_virtual_time(script)


class Forgetful(RecordingSink):
    """Keeps nothing."""

    def notice(self) -> None:
        self.epochs.clear()
