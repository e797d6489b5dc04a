"""A small recording end to end: journal, delivery, store and a truth, to be spoiled by tests."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlsplit

from forebay.clock import ManualClock
from forebay.domain.frames import (
    Context,
    EpochAccepted,
    EpochOpened,
    FrameKind,
    HistoryFinished,
    encode_control,
)
from forebay.journal import OS_DISK, JournalReader, JournalWriter, PendingBlock, Position
from forebay.journal.segments import list_segments, segment_path
from forebay.lab.exchanges.coinbase import messages
from forebay.lab.truth import CHANNEL, Trades, TruthDigest
from forebay.lab.truth import MARKET as MARKET_TYPE
from forebay.lab.truth_client import TruthClient
from forebay.services.audit import AuditReport, run_audit
from forebay.services.deliver import Deliverer
from forebay.services.ledger import open_ledger
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.audit import DuckDBAudited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from forebay.domain.coverage import StreamKey
    from forebay.domain.frames import Control
    from forebay.journal import Block
    from forebay.lab.truth import Trade
    from forebay.ports import Audited, Minutes, Parser, Rows, Span, StoreAccount
    from forebay.services.audit import Use
    from forebay.services.readback import TransportStage

T = TypeVar("T")
BTC, ETH = "BTC-USD", "ETH-USD"
SEED = 7
STEP_US = 36_000_000
"""36 s from event to event: 100 events an hour."""
PARSERS: dict[str, Parser] = {"coinbase": CoinbaseParser()}
MARKET = {symbol: Trades(SEED, "coinbase", symbol, step_us=STEP_US) for symbol in (BTC, ETH)}
LAST = 399
BLOCK = 10
"""Frames in a block of the journal."""


def native(index: int, symbol: str = BTC) -> int:
    """The trade id of an index."""
    return MARKET[symbol].first_trade_id + index


def event(index: int, symbol: str = BTC) -> Trade:
    return MARKET[symbol].event(index)


@dataclass
class Asked:
    """A store that notes what it is asked, and may move on before and after it answers."""

    store: Audited
    asked: list[str]
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def _answer(self, what: str, answer: Callable[[], T]) -> T:
        self.asked.append(what)
        self.before()
        answered = answer()
        self.after()
        return answered

    def account(self, span: Span) -> StoreAccount:
        return self._answer("account", lambda: self.store.account(span))

    def minutes(self, stream: StreamKey, hour: int) -> Minutes:
        return self._answer("minutes", lambda: self.store.minutes(stream, hour))

    def rows(self, stream: StreamKey, begin_ns: int, end_ns: int) -> Rows:
        return self._answer("rows", lambda: self.store.rows(stream, begin_ns, end_ns))

    def find(self, channel: str, ids: Sequence[str]) -> Rows:
        return self._answer("find", lambda: self.store.find(channel, ids))


@dataclass
class Bench:
    """A journal, the store made from it, and a way to audit them."""

    folder: Path
    writer: JournalWriter
    store: DuckDBStore
    deliverer: Deliverer
    parsers: Mapping[str, Parser] = field(default_factory=lambda: PARSERS)
    asked: list[str] = field(default_factory=list)
    """What the store was asked, in order."""
    clock: ManualClock = field(default_factory=ManualClock)

    @property
    def ledger(self) -> Path:
        """Folder of the ledger."""
        return self.folder.parent / "ledger"

    # ------------------------------------------------------------ capturing

    def write(
        self, payloads: Sequence[bytes], kind: FrameKind, received: int, context: Context
    ) -> None:
        times = [received + number for number in range(len(payloads))]
        self.writer.commit(
            [PendingBlock(int(kind), context.encode(), list(payloads), times, (0, 0))]
        )

    def live(
        self,
        indices: Iterable[int],
        epoch: str = "e1",
        symbol: str = BTC,
        poison: Iterable[int] = (),
    ) -> None:
        """Capture matches; those in ``poison`` are cut short."""
        context = self.context(epoch)
        spoiled = set(poison)
        drafts: list[PendingBlock] = []
        for number, index in enumerate(indices):
            if number % BLOCK == 0:
                drafts.append(PendingBlock(int(FrameKind.TEXT), context.encode(), [], [], (0, 0)))
            trade = event(index, symbol)
            frame = messages.match(trade)
            drafts[-1].payloads.append(frame[: len(frame) // 2] if index in spoiled else frame)
            drafts[-1].mono_ns.append(trade.event_ts + 5_000_000)
        for draft in drafts:
            self.writer.commit([draft])

    def begin(self, index: int, epoch: str = "e1", symbol: str = BTC) -> None:
        """Open a connection, which repeats the latest trade."""
        now = event(index, symbol).event_ts + 6_000_000
        for control in (EpochOpened(), EpochAccepted()):
            self.control(control, now, self.context(epoch))
        frame = messages.match(event(index, symbol), "last_match")
        self.write([frame], FrameKind.TEXT, now, self.context(epoch))

    def control(self, control: Control, now: int, context: Context) -> None:
        self.write([encode_control(control)], FrameKind.CONTROL, now, context)

    def heartbeat(self, index: int, epoch: str = "e1", symbol: str = BTC) -> None:
        trade = event(index, symbol)
        frame = messages.heartbeat(trade)
        self.write([frame], FrameKind.TEXT, trade.event_ts + 7_000_000, self.context(epoch))

    def fill(
        self, first: int, last: int, *, without: Iterable[int] = (), symbol: str = BTC
    ) -> None:
        """Ask the history for a hole; it gives all but ``without``."""
        now = event(LAST, symbol).event_ts + 9_000_000
        context = Context(
            venue="coinbase",
            source="rest",
            purpose="history",
            collector="c",
            epoch="fill",
            symbols=(symbol,),
            request=f"GET /products/{symbol}/trades?limit=1000",
        )
        rows = [
            _rest_row(event(i, symbol)) for i in range(first, last + 1) if i not in set(without)
        ]
        self.write([json.dumps(rows).encode()], FrameKind.REST, now, context)
        ends = native(first, symbol), native(last, symbol)
        self.control(HistoryFinished("trade", symbol, *ends, absent=(ends,)), now, context)

    @staticmethod
    def context(epoch: str) -> Context:
        return Context(
            venue="coinbase",
            source="ws",
            purpose="live",
            collector="c",
            epoch=epoch,
            symbols=(BTC, ETH),
        )

    # --------------------------------------------------------- housekeeping

    def ends(self) -> list[Position]:
        """Where every segment but the last ends."""
        firsts = list_segments(OS_DISK, self.folder)
        return [Position(self.writer.position.log_id, first) for first in firsts[1:]]

    def keep_ledger(self, ends: Iterable[Position] | None = None) -> list[Position]:
        """Record what lies before each of ``ends``; all whole segments if none are given."""
        ends = self.ends() if ends is None else list(ends)
        told = self.store.first_told
        with open_ledger(self.ledger, self.parsers, self.clock, first_told=told) as ledger:
            reached = ledger.reached()
            with JournalReader(self.folder, start=reached) as reader:
                for end in ends:
                    ledger.record(blocks_until(reader, end.seq), end)
        return ends

    def forget(self, before: int) -> None:
        """Unlink the segments that lie wholly before a sequence number."""
        firsts = list_segments(OS_DISK, self.folder)
        for first, following in itertools.pairwise(firsts):
            if following <= before:
                segment_path(self.folder, first).unlink()

    # ------------------------------------------------------------- auditing

    def deliver(self) -> None:
        self.deliverer.drain()

    def sql(self, statement: str) -> None:
        """Spoil the store."""
        self.store._session.connection.execute(statement).fetchall()

    def query(self, statement: str) -> pa.Table:
        with self.store.connection() as connection:
            return connection.sql(statement).to_arrow_table()

    def audit(
        self,
        *,
        truth: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        source: Use = "auto",
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
        progress: Callable[[int, int], object] = lambda *_: None,
        transports: Sequence[TransportStage] = (),
    ) -> AuditReport:
        """Audit; ``before`` and ``after`` happen around each answer of the store."""
        return run_audit(
            Asked(DuckDBAudited(self.query), self.asked, before, after),
            self.folder,
            self.parsers,
            ledger_folder=self.ledger,
            source=source,
            truth=TruthClient(truth) if truth else None,
            since_ns=since_ns,
            until_ns=until_ns,
            progress=progress,
            transports=transports,
            clock=ManualClock(),
        )


def _rest_row(trade: Trade) -> dict[str, object]:
    maker = {"buy": "sell", "sell": "buy"}[trade.side]
    return {
        "trade_id": trade.trade_id,
        "price": trade.price,
        "size": trade.size,
        "side": maker,
        "time": trade.time,
    }


def blocks_until(reader: JournalReader, end: int) -> Iterator[Block]:
    """What ``reader`` gives before a sequence number."""
    while (ahead := end - reader.position.seq) > 0 and (blocks := reader.read(max_frames=ahead)):
        yield from blocks


@contextlib.contextmanager
def bench(
    folder: Path,
    *,
    delivering: Mapping[str, Parser] = PARSERS,
    segment_bytes: int = 64 << 20,
) -> Iterator[Bench]:
    """An empty journal and store; ``delivering`` are the parsers of delivery, not of the audit."""
    writer = JournalWriter.open(
        folder, clock=ManualClock(), ballast_bytes=0, segment_bytes=segment_bytes
    )
    store = DuckDBStore(None)
    try:
        yield Bench(folder, writer, store, Deliverer(folder, store, delivering))
    finally:
        store.close()
        writer.close()


def record(bench: Bench) -> None:
    """Four hours with an outage (250 to 254), a drop (300) and a poison frame (310), all filled.

    Events 100 to 399 of BTC-USD are owed, 100 to 199 of ETH-USD.
    """
    bench.begin(99)
    bench.begin(99, symbol=ETH)
    bench.live(range(100, 200), symbol=ETH)
    bench.live(range(100, 250))
    bench.begin(255, "e2")
    bench.live((*range(256, 300), *range(301, LAST + 1)), "e2", poison=(310,))
    bench.heartbeat(LAST, "e2")
    bench.fill(250, 254)
    bench.fill(300, 300)
    bench.fill(310, 310)


# --------------------------------------------------------------------- the truth


@dataclass
class TruthServer:
    """What the simulator's truth server answers, from :mod:`forebay.lab.truth`."""

    url: str = ""
    bounds: dict[str, tuple[int | None, int]] = field(
        default_factory=lambda: {BTC: (100, LAST), ETH: (100, 199)}
    )
    withheld: dict[str, dict[str, object]] = field(
        default_factory=lambda: {
            BTC: {
                "certain": [[250, 254, "outage"], [300, 300, "drop"], [310, 310, "corrupt"]],
                "in_doubt": [],
                "poison": [310],
                "poison_in_doubt": [],
            },
            ETH: {"certain": [], "in_doubt": [], "poison": [], "poison_in_doubt": []},
        }
    )
    finished: bool = True
    asked: list[str] = field(default_factory=list)
    spoil: Callable[[bytes], bytes] = bytes

    def answer(self, path: str) -> bytes:
        self.asked.append(path)
        parts = urlsplit(path)
        if parts.path == "/":
            symbols = {s: {"first": f, "last": t} for s, (f, t) in self.bounds.items()}
            status = {
                "venue": "coinbase",
                "market": MARKET_TYPE,
                "channel": CHANNEL,
                "symbols": symbols,
                "finished": self.finished,
            }
            return json.dumps(status).encode()
        if parts.path == "/withheld":
            return json.dumps(self.withheld).encode()
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        trades = MARKET[asked["symbol"]].events(int(asked["from"]), int(asked["to"]))
        if parts.path == "/digests":
            digests: dict[int, TruthDigest] = {}
            for trade in trades:
                digests.setdefault(trade.event_ts // int(asked["by"]), TruthDigest()).add(trade)
            told = {bucket: digest.document() for bucket, digest in digests.items()}
            return json.dumps(told).encode()
        return "".join(json.dumps(_told(trade)) + "\n" for trade in trades).encode()


def _told(trade: Trade) -> dict[str, object]:
    return {**trade.document(), "number": trade.trade_id, "row": trade.row()}


@contextlib.contextmanager
def truth_server(of: TruthServer | None = None) -> Iterator[TruthServer]:
    """Serve a truth on loopback from a thread of its own."""
    truth = of or TruthServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = truth.spoil(truth.answer(self.path))
            self.send_response(200 if body else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    truth.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield truth
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
