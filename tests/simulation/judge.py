"""The verdict on a world that has come to rest: what is there against what there must be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from forebay.domain.frames import FrameKind
from forebay.domain.intervals import IntervalSet
from forebay.journal import LOSS_KIND, JournalReader
from forebay.services.deliver import Deliverer
from tests.simulation.accounts import judge_accounts
from tests.simulation.venue import (
    HISTORY,
    SYMBOLS,
    heartbeat_bytes,
    match_bytes,
    trade,
    truth_row,
)
from tests.simulation.witness import Frame
from tests.simulation.world import FOLDER, PARSERS, covered_ids
from tests.support.memory_store import MemoryStore, stored_gaps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.journal import Block
    from tests.simulation.world import World

_HOW = frozenset({"flags"})
"""A column that tells how a fact came; whether it was out of order depends on how the journal was
cut into steps."""

_AGAIN = 3
"""One world in so many is read again into a fresh store, which costs as much as the world."""


class Judge:
    """Judges one world; each method adds what is wrong to the world's failures."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.durable, self.lost = _read_all(world)
        self.live, self.told = _live_ids(world, self.durable.values())

    def judge(self) -> None:
        """Everything."""
        self._promises()
        self._rows()
        self._gaps()
        if not self.world.rotted:
            judge_accounts(self.world)
        if self.world.seed % _AGAIN == 0:
            self._again()

    def _promises(self) -> None:
        """Whatever was acknowledged is in the journal, or a LOSS says that it is not."""
        world, witness = self.world, self.world.witness
        absent = [
            seq
            for seq, frame in witness.durable.items()
            if self.durable.get(seq) != frame and not (world.rotted and seq in self.lost)
        ]
        if absent:
            world.fail(
                f"{len(absent)} acknowledged frames are not in the journal, first {absent[0]}"
            )
        if self.lost and not world.rotted:
            world.fail(f"the journal lost {self.lost} though nothing was damaged")
        durable = (frame.as_given() for frame in witness.durable.values())
        kept = Counter(durable) + witness.forgiven
        early = witness.flushed - kept
        if early:
            world.fail(f"flushed() before {early.total()} frames were durable: {next(iter(early))}")

    def _rows(self) -> None:
        """Every row is the truth's, once, and none conflicts."""
        world = self.world
        self.stored: dict[str, IntervalSet] = {symbol: IntervalSet() for symbol in SYMBOLS}
        for row in _rows(world.store.table("trades")):
            symbol, number = str(row["symbol"]), int(str(row["trade_id"]))
            index = number - trade(symbol, 0).trade_id
            if not 0 <= index <= world.venue.last(symbol):
                world.fail(f"spurious row: {symbol} {number}")
            elif _text(row) != truth_row(symbol, index):
                world.fail(f"mutated row: {symbol} {number}: {row}")
            if number in self.stored[symbol]:
                world.fail(f"doubled row: {symbol} {number}")
            self.stored[symbol].add(number)
        conflicts = world.store.table("conflicts").num_rows
        if conflicts:
            world.fail(f"{conflicts} conflicts between frames of one truth")

    def _gaps(self) -> None:
        """Stored and permanent gap, together, are every event that was owed; neither is both."""
        gaps = stored_gaps(self.world.store)
        for symbol in SYMBOLS:
            declared = {state: IntervalSet() for state in ("open", "filled", "permanent")}
            for gap in gaps:
                if gap.symbol == symbol:
                    declared[gap.state].add(gap.first, gap.last)
            if declared["open"]:
                self.world.fail(f"{symbol}: open for ever: {declared['open']}")
            self._account(symbol, declared["filled"], declared["permanent"])

    def _account(self, symbol: str, filled: IntervalSet, permanent: IntervalSet) -> None:
        world, stored, live = self.world, self.stored[symbol], self.live[symbol]
        origin = trade(symbol, 0).trade_id
        last = origin + world.venue.last(symbol)
        known = [each.first for each in (live, self.told[symbol]) if each]
        first = min(known, default=last)
        if missing := stored.holes(first, last) - permanent:
            world.fail(f"{symbol}: missing and not declared: {missing}")
        if both := stored & permanent:
            world.fail(f"{symbol}: stored and declared permanent: {both}")
        withheld = IntervalSet(
            (origin + i, origin + i) for i in sorted(world.venue.withheld[symbol])
        )
        if lie := permanent - withheld:
            world.fail(f"{symbol}: declared permanent though history lists it: {lie}")
        if world.rotted:
            return
        if gone := live - stored:
            world.fail(f"{symbol}: received, durable and not stored: {gone}")
        coverage = covered_ids(world.store, symbol)
        if coverage and coverage.live & coverage.fill:
            world.trace.seen["fill_met_live"] += 1
        holes, gaps = live.holes(first, last), filled | permanent
        if holes != gaps:
            world.fail(
                f"{symbol}: withheld {holes - gaps} undeclared, declared {gaps - holes} in vain"
            )

    def _again(self) -> None:
        """A fresh store, read from the same journal, holds the same; every frame is counted."""
        world, fresh = self.world, MemoryStore()
        deliverer = Deliverer(FOLDER, fresh, PARSERS, disk=world.disk)
        deliverer.drain()
        outcomes = sum(deliverer.delivered.outcomes.values())
        venues = sum(frame.kind < FrameKind.CONTROL for frame in self.durable.values())
        if outcomes != venues:
            world.fail(f"{venues} frames of the venue are durable, {outcomes} accounted for")
        if world.rotted:
            return
        # Of two connections at once, what each spanned depends on how the journal is cut.
        how = _HOW if world.weather.feeds == 1 else _HOW | {"reason"}
        for name in ("trades", "dead_letters", "coverage", "gaps"):
            one, other = (_facts(store.table(name), how) for store in (world.store, fresh))
            if one != other:
                differ = list(one - other) + list(other - one)
                world.fail(f"{name} made again differ in {len(differ)} rows: {sorted(differ)[:2]}")


def judge(world: World) -> None:
    """Add to the world's failures whatever is wrong with what it left behind."""
    Judge(world).judge()


def _read_all(world: World) -> tuple[dict[int, Frame], IntervalSet]:
    """Every frame of the journal by its number, and the numbers that are lost."""
    frames: dict[int, Frame] = {}
    lost = IntervalSet()
    with JournalReader(FOLDER, disk=world.disk) as reader:
        while blocks := reader.read():
            for block in blocks:
                _take(block, frames, lost)
    return frames, lost


def _take(block: Block, frames: dict[int, Frame], lost: IntervalSet) -> None:
    if block.kind == LOSS_KIND:
        loss = msgspec.json.decode(block.payloads[0])
        lost.add(loss["first"], loss["last"])
        if not block.unreadable and not loss["first"] <= block.first_seq <= loss["last"]:
            # The writer's own record is a frame with a number of its own.
            frames[block.first_seq] = Frame(b"", block.kind, block.payloads[0])
        return
    for seq, payload in enumerate(block.payloads, block.first_seq):
        frames[seq] = Frame(block.context, block.kind, payload)


def _live_ids(
    world: World, frames: Iterable[Frame]
) -> tuple[dict[str, IntervalSet], dict[str, IntervalSet]]:
    """By symbol, ids of the trades that arrived whole over a connection, and ids told of."""
    matches: dict[bytes, tuple[str, int]] = {}
    beats: dict[bytes, tuple[str, int]] = {}
    for symbol in SYMBOLS:
        origin = trade(symbol, 0).trade_id
        for index in range(HISTORY - 1, world.venue.last(symbol) + 1):
            named = symbol, origin + index
            matches[match_bytes(symbol, index)] = named
            matches[match_bytes(symbol, index, "last_match")] = named
            beats[heartbeat_bytes(symbol, index)] = named
    live: dict[str, IntervalSet] = {symbol: IntervalSet() for symbol in SYMBOLS}
    told: dict[str, IntervalSet] = {symbol: IntervalSet() for symbol in SYMBOLS}
    for frame in frames:
        if frame.kind != FrameKind.TEXT:
            continue
        if (event := matches.get(frame.payload)) is not None:
            live[event[0]].add(event[1])
        elif (event := beats.get(frame.payload)) is not None:
            told[event[0]].add(event[1])
    return live, told


def _rows(table: pa.Table) -> list[dict[str, object]]:
    """Rows with times as integers, since Python's own have no nanoseconds."""
    fields = [
        field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field
        for field in table.schema
    ]
    rows: list[dict[str, object]] = table.cast(pa.schema(fields)).to_pylist()
    return rows


def _facts(table: pa.Table, without: frozenset[str]) -> set[str]:
    """Rows as texts, without some columns."""
    return {
        str([(name, value) for name, value in row.items() if name not in without])
        for row in _rows(table)
        if not ("reason" in without and row.get("origin") == "spanned")
    }


def _text(row: dict[str, Any]) -> str:
    """A row as the truth writes it."""
    return (
        f"{row['event_id']}|{row['venue']}|{row['market']}|{row['symbol']}|{row['event_ts']}"
        f"|{row['trade_id']}|{row['price']:f}|{row['size']:f}|{row['side']}"
    )
