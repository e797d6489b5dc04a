"""The audit of events that only their connection knows, against the truth: by what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from forebay.domain.channels import Channel
from forebay.domain.frames import EpochAccepted, EpochOpened, FrameKind
from forebay.domain.parsed import Parsed, RawEvents
from forebay.lab.truth import BookTruth
from forebay.lab.truth.book import ASK, BID
from tests.support.audit_bench import BTC, MARKET, Bench, bench, truth_server
from tests.unit.services.test_audit_truth_told import FIRST, LAST, ToldServer, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from forebay.domain.frames import FrameBatch
    from forebay.ports import Parser

BOOK = BookTruth(MARKET[BTC])
ALL = range(FIRST, LAST + 1)


class DeltaParser:
    """Reads changes of a book that a connection numbers."""

    name = "deltas/1"
    channel = Channel("book_delta", "session", "time", time_unit_ns=1000)

    def __init__(self) -> None:
        self.channels: Mapping[str, Channel] = {"book_delta": self.channel}

    def parse(self, batch: FrameBatch) -> Parsed:
        told = [json.loads(payload) for payload in batch.payloads]
        columns = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
        raw = RawEvents(
            channel=self.channel,
            market="spot",
            frame=[*range(len(told))],
            item=[0] * len(told),
            symbol=[BTC] * len(told),
            venue_symbol=[BTC] * len(told),
            native=[each["number"] for each in told],
            time=[each["time"] for each in told],
            columns={name: [each[name] for each in told] for name in columns},
        )
        return Parsed(events=[raw])


PARSERS: dict[str, Parser] = {"coinbase": DeltaParser()}


class DeltaServer(ToldServer):
    """A truth server that somebody subscribed to books of."""

    def answer(self, path: str) -> bytes:
        said = super().answer(path)
        return said.replace(b'"feeds": {"ticker"', b'"feeds": {"book"') if path == "/" else said


@pytest.fixture
def truth() -> Iterator[DeltaServer]:
    with truth_server(DeltaServer()) as server:
        assert isinstance(server, DeltaServer)
        yield server


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "journal", delivering=PARSERS) as made:
        made.parsers = PARSERS
        yield made


def frame(index: int, number: int, more: str = "") -> bytes:
    delta = BOOK.delta(index)
    told: dict[str, object] = {"number": number, "time": delta.time}
    for side in (BID, ASK):
        changes = [(price, size) for at, price, size in delta.changes if at == side]
        told[f"{side}_prices"] = [price + more for price, _ in changes]
        told[f"{side}_sizes"] = [size for _, size in changes]
    return json.dumps(told).encode()


def capture(made: Bench, epoch: str, frames: Mapping[int, bytes]) -> None:
    """Capture frames, by index, over one connection, and deliver them."""
    context = made.context(epoch)
    begin = MARKET[BTC].time_ns(FIRST - 1)
    for control in (EpochOpened(), EpochAccepted()):
        made.control(control, begin, context)
    for index, payload in frames.items():
        at = MARKET[BTC].time_ns(index) + 5_000_000
        made.write([payload], FrameKind.TEXT, at, context)
    made.deliver()


def all_frames(first_number: int = 1) -> dict[int, bytes]:
    return {index: frame(index, index - FIRST + first_number) for index in ALL}


def test_two_connections_may_tell_every_event_once(empty: Bench, truth: DeltaServer) -> None:
    some = all_frames(first_number=77)
    capture(empty, "e1", {index: some[index] for index in ALL[:200]})
    capture(empty, "e2", {index: some[index] for index in ALL[100:]})
    assert wrong(empty.audit(truth=truth.url)) == {}


def test_what_nobody_received_is_missing_unless_it_was_withheld(
    empty: Bench, truth: DeltaServer
) -> None:
    frames = all_frames()
    del frames[FIRST + 7], frames[FIRST + 8]
    capture(empty, "e1", frames)
    truth.ticker_withheld = [(FIRST + 8, FIRST + 8, "drop")]

    assert empty.audit().ok, "nothing can be known of it without a truth"
    assert wrong(empty.audit(truth=truth.url)) == {"missing": 1}


@pytest.mark.parametrize("what", ["told again", "altered"])
def test_what_never_happened_like_that_is_spurious(
    what: str, empty: Bench, truth: DeltaServer
) -> None:
    frames = all_frames()
    if what == "altered":
        frames[FIRST + 7] = frame(FIRST + 7, 8, more="1")
    capture(empty, "e1", frames)
    if what == "told again":
        at = MARKET[BTC].time_ns(FIRST + 8)
        again = frame(FIRST + 7, 10_000)
        empty.write([again], FrameKind.TEXT, at, empty.context("e1"))
        empty.deliver()

    missing = {"missing": 1} if what == "altered" else {}
    assert wrong(empty.audit(truth=truth.url)) == {"spurious": 1, **missing}
