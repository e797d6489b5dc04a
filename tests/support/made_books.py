"""A made-up venue whose books are differences, numbered over all that one connection tells.

A :class:`Market` makes changes and knows each book at any moment. A :class:`Wire` tells it over one
connection, loses messages as it is told to, and asks again for books that broke. What it received
is a list of frames, as a collector would have them.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from forebay.domain.channels import Channel
from forebay.domain.frames import EpochAccepted, EpochClosed, FrameKind, encode_control
from forebay.domain.parsed import CountedMessages, Moments, Parsed, RawEvents
from forebay.services.book_bases import Stream
from forebay.services.books import book_at
from forebay.sources.websocket.refetch import Refetch
from forebay.stores.duckdb import DuckDBStore
from tests.support.delivery import deliver
from tests.support.frames import SECOND, T0, batch, context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from forebay.domain.frames import FrameBatch
    from forebay.ports import Parser, ReadableStore
    from forebay.services.books import BookAt

VENUE = "made-books"
UNIT = 10**18
TICK_NS = SECOND // 20
"""What happens, happens at multiples of it, and is received half of one later."""
KINDS: tuple[Literal["book_snapshot"], Literal["book_delta"]] = ("book_snapshot", "book_delta")
SIDES = ("bid", "ask")

Book = tuple[dict[int, int], dict[int, int]]
"""Sizes by price, bids and asks."""


class Change(NamedTuple):
    """What is added to a level."""

    at_ns: int
    side: int
    price: int
    size: int


class Message(msgspec.Struct, frozen=True):
    """What the venue sends; levels are price and size, bids and asks."""

    kind: Literal["book_snapshot", "book_delta"]
    number: int
    symbol: str
    at_ns: int | None
    levels: tuple[list[tuple[int, int]], list[tuple[int, int]]]


class BooksParser:
    """The venue's."""

    name = "made-books/1"
    channels: Mapping[str, Channel] = {
        "book_snapshot": Channel("book_snapshot", "content", "time"),
        "book_delta": Channel("book_delta", "session", "time", relative=True),
    }

    def parse(self, told: FrameBatch) -> Parsed:
        """Account for every frame."""
        messages = [msgspec.json.decode(payload, type=Message) for payload in told.payloads]
        events = []
        for kind in KINDS:
            mine = [(at, each) for at, each in enumerate(messages) if each.kind == kind]
            if mine:
                events.append(self._events(self.channels[kind], mine))
        numbers = [each.number for each in messages]
        frames = list(range(len(messages)))
        counted = CountedMessages(line="1", kinds=KINDS, frames=frames, numbers=numbers)
        return Parsed(events=events, counted=[counted])

    def _events(self, channel: Channel, told: Sequence[tuple[int, Message]]) -> RawEvents:
        session = channel.identity == "session"
        symbols = [each.symbol for _, each in told]
        return RawEvents(
            channel=channel,
            frame=[frame for frame, _ in told],
            item=[0] * len(told),
            venue_symbol=symbols,
            symbol=symbols,
            native=[each.number for _, each in told] if session else None,
            time=Moments([each.at_ns for _, each in told], 1) if session else None,
            columns={
                f"{SIDES[side]}_{name}": [
                    [str(level[at]) for level in each.levels[side]] for _, each in told
                ]
                for side in (0, 1)
                for at, name in enumerate(("prices", "sizes"))
            },
        )


PARSERS: dict[str, Parser] = {VENUE: BooksParser()}


class Market:
    """Books that change, and all that they ever were."""

    def __init__(self, symbols: Iterable[str], seed: int = 0) -> None:
        self._dice = random.Random(seed)
        self._books: dict[str, Book] = {symbol: ({}, {}) for symbol in symbols}
        self._past: dict[str, tuple[list[int], list[Book]]] = {s: ([], []) for s in self._books}

    @property
    def symbols(self) -> list[str]:
        return [*self._books]

    def move(self, at_ns: int) -> tuple[str, Change]:
        """Change one book; each moment of a book has one change."""
        symbol = self._dice.choice(self.symbols)
        side = self._dice.randrange(2)
        book = self._books[symbol][side]
        price = self._dice.randint(1, 5) + 5 * side
        held = book.get(price, 0)
        size = self._dice.choice([n for n in range(-held, 4) if n])
        change = Change(at_ns, side, price, size)
        book[price] = held + size
        times, books = self._past[symbol]
        times.append(at_ns)
        books.append(self.now(symbol))
        return symbol, change

    def now(self, symbol: str) -> Book:
        bids, asks = ({p: size for p, size in side.items() if size} for side in self._books[symbol])
        return bids, asks

    def at(self, symbol: str, at_ns: int) -> Book:
        times, books = self._past[symbol]
        place = bisect_right(times, at_ns)
        return books[place - 1] if place else ({}, {})

    def moments(self, symbol: str) -> list[int]:
        """Return when a book changed."""
        return self._past[symbol][0]


@dataclass
class Wire:
    """One connection: the venue's end, and a collector with its :class:`Refetch`."""

    market: Market
    epoch: str
    lost: Callable[[Message], bool] = lambda _: False
    refetch: Refetch = field(default_factory=Refetch)
    withheld: Callable[[str], bool] = lambda _: False
    """Books that the venue does not answer for."""
    frames: list[tuple[int, bytes, FrameKind]] = field(default_factory=list)
    """Receipt, payload and kind of all that came."""
    asked: list[tuple[int, list[str]]] = field(default_factory=list)
    """When which books were asked for again."""
    _number: int = 0
    _heard: int = 0
    _under_way: list[Message] = field(default_factory=list)
    _answers: list[str] = field(default_factory=list)

    def open(self, at_ns: int) -> None:
        self._control(at_ns, encode_control(EpochAccepted()))
        self._answers = self.market.symbols

    def tell(self, symbol: str, change: Change) -> None:
        """Send a change."""
        levels: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        levels[change.side].append((change.price, change.size))
        self._send("book_delta", symbol, change.at_ns, levels)

    def answer(self) -> None:
        """Send the books that were asked for."""
        for symbol in self._answers:
            if not self.withheld(symbol):
                self.snapshot(symbol, self.market.now(symbol))
        self._answers = []

    def snapshot(self, symbol: str, book: Book) -> None:
        """Send a book, asked for or not."""
        bids, asks = book
        self._send("book_snapshot", symbol, None, ([*bids.items()], [*asks.items()]))

    def _send(
        self,
        kind: Literal["book_snapshot", "book_delta"],
        symbol: str,
        at_ns: int | None,
        levels: tuple[list[tuple[int, int]], list[tuple[int, int]]],
    ) -> None:
        self._number += 1
        message = Message(kind, self._number, symbol, at_ns, levels)
        if not self.lost(message):
            self._under_way.append(message)

    def receive(self, at_ns: int) -> None:
        """Read all that is under way at once, and ask for what is due."""
        for message in self._under_way:
            self.frames.append((at_ns, msgspec.json.encode(message), FrameKind.TEXT))
            if message.number != self._heard + 1:
                self.refetch.broken(self.market.symbols, at_ns)
            self._heard = message.number
            if message.kind == "book_snapshot":
                self.refetch.arrived(message.symbol, at_ns)
        self._under_way = []
        if due := self.refetch.due(at_ns):
            self.asked.append((at_ns, due))
            self._answers += due

    def close(self, at_ns: int) -> None:
        self._control(at_ns, encode_control(EpochClosed("over", silent_ns=0)))

    def _control(self, at_ns: int, payload: bytes) -> None:
        self.frames.append((at_ns, payload, FrameKind.CONTROL))


def journal(*wires: Wire) -> Iterator[FrameBatch]:
    """Yield what wires received, in the order of receipt, numbered as in one journal."""
    told = sorted(
        ((at_ns, place, kind, payload, wire)
         for wire in wires for place, (at_ns, payload, kind) in enumerate(wire.frames)),
        key=lambda entry: (entry[0], wires.index(entry[4]), entry[1]),
    )  # fmt: skip
    seq, at = 1, 0
    while at < len(told):
        _, _, kind, _, wire = told[at]
        end = at
        while end < len(told) and (told[end][4] is wire and told[end][2] is kind):
            end += 1
        some = told[at:end]
        origin = context(epoch=wire.epoch, venue=VENUE, symbols=tuple(wire.market.symbols),
                         channels=KINDS)  # fmt: skip
        yield batch([entry[3] for entry in some], origin, kind=kind,
                    received_ns=[entry[0] for entry in some], first_seq=seq)  # fmt: skip
        seq += len(some)
        at = end


class StoredIn:
    """What wires received, in a store, delivered in pieces if there is a die to throw."""

    def __init__(
        self, store: ReadableStore, *wires: Wire, dice: random.Random | None = None
    ) -> None:
        batches = [*journal(*wires)]
        runs: list[list[FrameBatch]] = []
        while batches:
            count = dice.randint(5, 60) if dice else len(batches)
            runs.append(batches[:count])
            batches = batches[count:]
        deliver(store, runs, PARSERS)
        self._reader = store.reader()
        self._checkpoints = isinstance(store, DuckDBStore)

    def query(self, statement: str) -> pa.Table:
        return self._reader.query(statement, timeout_s=60.0)

    def at(self, symbol: str, at_ns: int | None) -> BookAt:
        stream = Stream(VENUE, "spot", symbol)
        return book_at(self.query, stream, at_ns, PARSERS, checkpoints=self._checkpoints)

    def said(self, symbol: str, at_ns: int | None) -> Book | str:
        """Return the sizes by price, or why they are unknown."""
        told = self.at(symbol, at_ns)
        if told.reason:
            assert (told.book.state, told.book.bids.best()) == ("unknown", [])
            return told.reason
        bids, asks = (
            {price // UNIT: size // UNIT for price, size in side.best()}
            for side in (told.book.bids, told.book.asks)
        )
        return bids, asks


class Stored(StoredIn):
    """The same in a DuckDB in memory."""

    def __init__(self, *wires: Wire, dice: random.Random | None = None) -> None:
        self.store = DuckDBStore(None)
        super().__init__(self.store, *wires, dice=dice)


@dataclass
class Days:
    """What happens tick by tick: the market moves, wires tell it, and are read now and then."""

    market: Market
    dice: random.Random
    now_ns: int = T0
    wires: list[Wire] = field(default_factory=list)

    def pass_(self, ticks: int, *, busy: float = 0.5) -> None:
        """Let time pass; in a tick the market moves once, or not, and each wire is read, or not."""
        for _ in range(ticks):
            self.now_ns += TICK_NS
            if self.dice.random() < busy:
                moved = self.market.move(self.now_ns)
                for wire in self.wires:
                    wire.tell(*moved)
            for wire in self.wires:
                wire.answer()
                if self.dice.random() < 0.6:
                    wire.receive(self.now_ns + TICK_NS // 2)

    def open(self, wire: Wire) -> Wire:
        wire.open(self.now_ns + TICK_NS // 2)
        self.wires.append(wire)
        return wire

    def close(self, wire: Wire) -> None:
        wire.receive(self.now_ns + TICK_NS // 2)
        wire.close(self.now_ns + TICK_NS // 2)
        self.wires.remove(wire)
