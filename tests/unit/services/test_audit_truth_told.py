"""The audit of events without numbers against the truth: what was not withheld is owed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from forebay.domain.channels import Channel
from forebay.domain.frames import EpochAccepted, EpochOpened, FrameKind
from forebay.domain.parsed import Parsed, RawEvents
from forebay.lab.exchanges.coinbase import messages
from forebay.lab.truth import CHANNEL, SOURCES, Tickers, TruthDigest, events
from tests.support.audit_bench import BTC, MARKET, Bench, TruthServer, bench, truth_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from forebay.domain.frames import FrameBatch
    from forebay.ports import Parser
    from forebay.services.audit import AuditReport

FIRST, LAST = 100, 399
TICKERS = Tickers(MARKET[BTC])
DUE = [event.index for event in events(TICKERS.event, FIRST, LAST + 1)]


class QuoteParser:
    """Reads the best bid and ask of tickers, and takes all else for control."""

    name = "quotes/1"
    channel = Channel("quote", "content", "time", time_unit_ns=1000)

    def __init__(self) -> None:
        self.channels: Mapping[str, Channel] = {"quote": self.channel}

    def parse(self, batch: FrameBatch) -> Parsed:
        parsed = Parsed()
        told = [json.loads(payload) for payload in batch.payloads]
        frames = [index for index, message in enumerate(told) if message["type"] == "ticker"]
        parsed.control = len(told) - len(frames)
        tickers = [told[index] for index in frames]
        symbols = [ticker["product_id"] for ticker in tickers]
        raw = RawEvents(
            channel=self.channel,
            market="spot",
            frame=frames,
            item=[0] * len(frames),
            symbol=symbols,
            venue_symbol=symbols,
            time=[ticker["time"] for ticker in tickers],
            columns={
                f"{side}_{what}": [ticker[name] for ticker in tickers]
                for side in ("bid", "ask")
                for what, name in (("price", f"best_{side}"), ("size", f"best_{side}_size"))
            },
        )
        parsed.events = [raw] if frames else []
        return parsed


PARSERS: dict[str, Parser] = {"coinbase": QuoteParser()}


@dataclass
class ToldServer(TruthServer):
    """A truth server that somebody subscribed to tickers of."""

    ticker_withheld: list[tuple[int, int, str]] = field(default_factory=list)
    ticker_in_doubt: list[tuple[int, int, str]] = field(default_factory=list)

    def answer(self, path: str) -> bytes:
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/":
            status = json.loads(super().answer(path))
            status["symbols"] = {BTC: {"first": None, "last": LAST}}
            status["feeds"] = {"ticker": {BTC: {"first": FIRST, "last": LAST}}}
            return json.dumps(status).encode()
        if parts.path == "/withheld":
            told: dict[str, Any] = {
                key: [] for key in ("certain", "in_doubt", "poison", "poison_in_doubt")
            }
            if asked["channel"] != CHANNEL:
                told |= {"certain": self.ticker_withheld, "in_doubt": self.ticker_in_doubt}
            return json.dumps({BTC: told}).encode()
        if asked["channel"] == CHANNEL:
            return super().answer(path)
        self.asked.append(path)
        trades = MARKET[BTC]
        if "since" in asked:
            first = trades.index_at(int(asked["since"]) - 1) + 1
            end = min(trades.index_at(int(asked["until"]) - 1), LAST) + 1
        else:
            first, end = int(asked["from"]), int(asked["to"])
        truth = list(events(SOURCES[asked["channel"]](trades), first, end))
        if parts.path == "/digests":
            sums: dict[int, TruthDigest] = {}
            for event in truth:
                sums.setdefault(event.event_ts // int(asked["by"]), TruthDigest()).add(event)
            return json.dumps({bucket: each.document() for bucket, each in sums.items()}).encode()
        lines = (json.dumps({**event.document(), "row": event.row()}) for event in truth)
        return "\n".join(lines).encode()


@pytest.fixture
def truth() -> Iterator[ToldServer]:
    with truth_server(ToldServer()) as server:
        assert isinstance(server, ToldServer)
        yield server


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "journal", delivering=PARSERS) as made:
        made.parsers = PARSERS
        yield made


def capture(made: Bench, *indices: int) -> None:
    """Capture the tickers of these indices over one connection, and deliver them."""
    context = made.context("e1")
    begin = MARKET[BTC].time_ns(FIRST - 1)
    for control in (EpochOpened(), EpochAccepted()):
        made.control(control, begin, context)
    for index in indices:
        trade = MARKET[BTC].event(index)
        frame = messages.ticker(TICKERS.of(trade), trade)
        made.write([frame], FrameKind.TEXT, trade.event_ts + 5_000_000, context)
    made.deliver()


def wrong(report: AuditReport) -> dict[str, int]:
    return {problem.kind: problem.count for problem in report.problems}


def test_a_whole_store_equals_the_truth(empty: Bench, truth: ToldServer) -> None:
    capture(empty, *DUE)

    report = empty.audit(truth=truth.url)

    assert wrong(report) == {}
    (stream,) = (stream for stream in report.streams if stream.symbol == BTC)
    assert stream.channel == "quote"
    assert stream.stages["truth"] == stream.stages["store"]
    assert stream.stages["truth"].count == len(DUE)


def test_the_ticker_that_a_new_subscriber_is_told_is_not_owed_but_right(
    empty: Bench, truth: ToldServer
) -> None:
    before = TICKERS.last(FIRST - 1)
    assert before is not None
    capture(empty, before.index, *DUE)

    assert wrong(empty.audit(truth=truth.url)) == {}


def test_what_nobody_received_is_missing(empty: Bench, truth: ToldServer) -> None:
    capture(empty, *DUE[:-3])

    assert empty.audit().ok, "nothing can be known of it without a truth"
    assert wrong(empty.audit(truth=truth.url)) == {"missing": 3}


def test_what_was_withheld_or_is_in_doubt_may_be_missing(empty: Bench, truth: ToldServer) -> None:
    capture(empty, *DUE[5:-3])
    truth.ticker_withheld = [(FIRST, DUE[4], "outage")]
    truth.ticker_in_doubt = [(DUE[-3], DUE[-2], "closed by peer")]

    report = empty.audit(truth=truth.url)

    assert wrong(report) == {"missing": 1}


def test_what_never_happened_is_spurious(empty: Bench, truth: ToldServer) -> None:
    trade = MARKET[BTC].event(DUE[7] - 1)
    capture(empty, *DUE[:8], *DUE[8:])
    frame = messages.ticker(TICKERS.of(trade), trade)
    empty.write([frame], FrameKind.TEXT, trade.event_ts + 9_000_000, empty.context("e1"))
    empty.deliver()

    assert wrong(empty.audit(truth=truth.url)) == {"spurious": 1}


def test_a_row_that_was_altered_is_not_what_happened(empty: Bench, truth: ToldServer) -> None:
    capture(empty, *DUE)
    price = TICKERS.of(MARKET[BTC].event(DUE[3])).bid_price
    empty.sql(f"UPDATE quotes SET bid_size = bid_size + 1 WHERE bid_price = {price}")  # noqa: S608

    assert "mutated" in wrong(empty.audit(truth=truth.url))


def test_only_differing_minutes_are_asked_for_events(empty: Bench, truth: ToldServer) -> None:
    capture(empty, *DUE)
    assert wrong(empty.audit(truth=truth.url)) == {}
    assert [path for path in truth.asked if path.startswith("/events")] == []
