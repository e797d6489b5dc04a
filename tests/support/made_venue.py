"""A made-up venue for each identity class and unit: a trade is one line of text, a page many.

``SYMBOL NUMBER MICROSECONDS PRICE SIZE SIDE``, microseconds after :data:`T0`; on REST and file a
frame may hold several, separated by ``;``. ``#`` begins a frame that says nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

from forebay.clock import ManualClock
from forebay.domain.channels import UNITS_OF, Channel
from forebay.domain.frames import Context, EpochClosed, FrameKind, encode_control
from forebay.domain.identity import IdentityClass
from forebay.domain.parsed import DeadLetter, Parsed, RawEvents
from forebay.journal import JournalReader, JournalWriter, PendingBlock
from forebay.services.deliver import Deliverer
from forebay.services.ledger_builder import LiveSums
from forebay.stores.duckdb import DuckDBStore
from tests.support.frames import PURPOSES, SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from forebay.domain.channels import Unit
    from forebay.domain.frames import FrameBatch
    from forebay.journal import Block, Position
    from forebay.ports import Parser
    from tests.support.delivery import TableStore
    from tests.support.frames import Source

T0 = datetime(2021, 4, 17, 16, 43, 37, tzinfo=UTC)
T0_NS = 1_618_677_817_000_000_000
SYMBOL = "A-B"
FIELDS = 6
TOLD = ["event_id", "symbol", "event_ts", "trade_id", "price", "size", "side", "flags"]
"""The columns of :meth:`Rig.rows`."""


@dataclass(frozen=True, slots=True, order=True)
class Deal:
    """One trade as the venue tells it."""

    price: str = "7.5"
    size: str = "1"
    side: str = "buy"
    micros: int = 5
    number: int = 0
    symbol: str = SYMBOL

    def line(self) -> str:
        fields = (self.symbol, self.number, self.micros, self.price, self.size, self.side)
        return " ".join(map(str, fields))


def frame(*deals: Deal) -> bytes:
    return ";".join(deal.line() for deal in deals).encode()


class MadeParser:
    """The venue whose trades are of one class and counted in one unit.

    Where its own ids are ``texts``, they are ``t`` and the number.
    """

    def __init__(
        self,
        identity: IdentityClass,
        unit: Unit | None = None,
        *,
        texts: bool = False,
        history: bool = False,
    ) -> None:
        counted = unit or UNIT_OF[identity]
        self.channel = Channel("trade", identity, counted, time_unit_ns=1000, history=history)
        self.channels: Mapping[str, Channel] = {self.channel.kind: self.channel}
        self.name = f"made-{identity}/1"
        self._texts = texts

    def parse(self, batch: FrameBatch) -> Parsed:
        parsed, lines = Parsed(), []
        for index, payload in enumerate(batch.payloads):
            if payload.startswith(b"#"):
                parsed.control += 1
                continue
            for item, line in enumerate(payload.decode().split(";")):
                fields = line.split(" ")
                if len(fields) == FIELDS:
                    lines.append((index, item, fields))
                else:
                    parsed.dead.append(DeadLetter(index, item, "missing_field", line))
        parsed.events = [self._trades(lines, batch.context.market)] if lines else []
        return parsed

    def _trades(self, lines: list[tuple[int, int, list[str]]], market: str) -> RawEvents:
        symbols, numbers, micros, prices, sizes, sides = (
            [fields[place] for _, _, fields in lines] for place in range(FIELDS)
        )
        counted = [int(number) for number in numbers]
        native: list[int] | list[str] | None = None
        if self.channel.identity in ("native", "session"):
            native = [f"t{number}" for number in numbers] if self._texts else counted
        return RawEvents(
            channel=self.channel,
            market=market,
            frame=[index for index, _, _ in lines],
            item=[item for _, item, _ in lines],
            symbol=symbols,
            venue_symbol=symbols,
            native=native,
            sequence=counted if self.channel.unit == "seq" and native is not counted else None,
            time=[_spelled(int(text)) for text in micros],
            columns={"price": prices, "size": sizes, "side": sides},
        )


def _spelled(micros: int) -> str:
    return (T0 + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


CLASSES: tuple[IdentityClass, ...] = get_args(IdentityClass)
UNIT_OF: dict[IdentityClass, Unit] = {
    "native": "id",
    "session": "seq",
    "content": "time",
    "observation": "time",
}
"""What each class counts unless told otherwise."""
PAIRS = [(identity, unit) for identity in CLASSES for unit in UNITS_OF[identity]]
"""Every class with every unit that it may have."""
MADE: dict[str, Parser] = {f"made-{identity}": MadeParser(identity) for identity in CLASSES}


class Rig:
    """A journal on disk and a store, with a deliverer between them that can be killed."""

    def __init__(
        self,
        folder: Path,
        identity: IdentityClass,
        opened: Callable[[], TableStore],
        parser: MadeParser | None = None,
    ) -> None:
        self.venue = f"made-{identity}"
        self.parsers: dict[str, Parser] = {self.venue: parser or MadeParser(identity)}
        self._folder = folder / "journal"
        self._opened = opened
        self.writer = JournalWriter.open(self._folder, clock=ManualClock())
        self.store = opened()
        self._deliverer = self._deliver()

    def _deliver(self) -> Deliverer:
        self.sums = LiveSums()
        return Deliverer(self._folder, self.store, self.parsers, sums=self.sums)

    @property
    def delivered(self) -> Position | None:
        """Up to where the journal is stored."""
        return self._deliverer.position

    def blocks(self) -> list[Block]:
        """Return the whole journal."""
        blocks: list[Block] = []
        with JournalReader(self._folder) as reader:
            while read := reader.read():
                blocks += read
        return blocks

    def context(
        self, epoch: str, collector: str = "c1", source: Source = "ws", run: str = ""
    ) -> bytes:
        """Encode a context of :data:`SYMBOL`."""
        return Context(
            venue=self.venue,
            source=source,
            purpose=PURPOSES[source],
            collector=collector,
            epoch=epoch,
            symbols=(SYMBOL,),
            run=run,
        ).encode()

    def put(self, context: bytes, *frames: bytes, kind: FrameKind = FrameKind.TEXT) -> None:
        """Write one block."""
        received = [T0_NS + SECOND] * len(frames)
        self.writer.commit([PendingBlock(kind, context, list(frames), received, (0, 0))])

    def tell(self, epoch: str, *deals: Deal, collector: str = "c1") -> None:
        """Write one block of one frame a deal."""
        self.put(self.context(epoch, collector), *map(frame, deals))

    def page(self, epoch: str, *deals: Deal) -> None:
        """Write one answer of the venue's history."""
        self.put(self.context(epoch, source="rest"), frame(*deals), kind=FrameKind.REST)

    def close(self, epoch: str, collector: str = "c1") -> None:
        """Write that a connection is over."""
        closed = encode_control(EpochClosed("done"))
        self.put(self.context(epoch, collector), closed, kind=FrameKind.CONTROL)

    def step(self) -> None:
        self._deliverer.step()

    def drain(self) -> None:
        self._deliverer.drain()

    def kill(self) -> None:
        """Forget what is in memory, and open the store again."""
        self._leave()
        self.store = self._opened()
        self._deliverer = self._deliver()

    def rebuilt(self, store: TableStore) -> TableStore:
        """Fill an empty store from the whole journal."""
        Deliverer(self._folder, store, self.parsers).drain()
        return store

    def rows(self, store: TableStore | None = None) -> list[dict[str, object]]:
        """Return all trades, in the order of their ids; ``event_ts`` in nanoseconds."""
        table = (store or self.store).table("trades")
        times = table["event_ts"].cast("int64")
        place = table.column_names.index("event_ts")
        rows: list[dict[str, object]] = (
            table.set_column(place, "event_ts", times).select(TOLD).to_pylist()
        )
        for row in rows:
            row["event_id"] = str(row["event_id"])
        return sorted(rows, key=lambda row: str(row["event_id"]))

    def end(self) -> None:
        self._leave()
        self.writer.close()

    def _leave(self) -> None:
        self._deliverer.close()  # a process that ended has no files open
        self.store.close()


@contextmanager
def rig(
    folder: Path,
    identity: IdentityClass,
    opened: Callable[[], TableStore] | None = None,
    parser: MadeParser | None = None,
) -> Iterator[Rig]:
    """Return a rig whose store is DuckDB in ``folder`` unless told otherwise."""
    made = Rig(folder, identity, opened or (lambda: DuckDBStore(folder / "made.duckdb")), parser)
    try:
        yield made
    finally:
        made.end()
