"""What is told of gaps: each hole once, however it shrinks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forebay.domain.coverage import Arrival, IdCoverage, Look, StreamKey
from forebay.domain.intervals import FAR
from forebay.services.deliver import Deliverer
from forebay.services.projection import Projected
from forebay.sources.coinbase import VENUE
from forebay.telemetry import GapClosed, GapOpened, TelemetryEvent
from tests.support.memory_store import MemoryStore

KEY = StreamKey("coinbase", "spot", "trade", "BTC-USD")
ODD = 10**15


class Told:
    """A stream as deliver commits it, step by step, and what was told."""

    def __init__(self) -> None:
        self.said: list[TelemetryEvent] = []
        self.coverage = IdCoverage()
        parsers = {"coinbase": VENUE.parser}
        nowhere = Path("no journal")
        self.writer = Deliverer(nowhere, MemoryStore(), parsers, observer=self.said.append)

    def step(self, *ids: int, live: bool = True) -> None:
        self.coverage = self.coverage.copy()
        numbers = np.array(ids, dtype=np.int64)
        self.coverage.see(Arrival("e1", live, numbers, numbers))
        self.tell()

    def tell(self) -> None:
        self.writer._tell(Projected(coverage={KEY: self.coverage}), "log")

    def opened(self) -> list[tuple[int, int, str]]:
        return [
            (each.first, each.last, each.reason)
            for each in self.said
            if isinstance(each, GapOpened)
        ]

    def closed(self) -> list[tuple[int, int, str]]:
        return [
            (each.first, each.last, each.state) for each in self.said if isinstance(each, GapClosed)
        ]

    def asked(self) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in self.writer.open_gaps()[0]]


def test_a_hole_that_live_trades_fill_upwards_is_told_once() -> None:
    told = Told()
    told.step(1, 2, 500)
    for number in range(3, 400):
        told.step(number)
    assert told.opened() == [(3, 499, "in_connection")]


def test_a_hole_that_splits_is_told_once_and_closed_where_it_ends() -> None:
    told = Told()
    told.step(1, 10)
    told.step(5, 6)
    for number in (9, 8, 7):
        told.step(number, live=False)
    assert told.opened() == [(2, 9, "in_connection")]
    assert told.closed() == [(7, 9, "filled")]


def test_a_hole_that_is_partly_gone_for_good_is_told_in_its_parts() -> None:
    told = Told()
    told.step(1, 10)
    for number in (9, 8):
        told.step(number, live=False)
    told.coverage = told.coverage.copy()
    told.coverage.finished(2, 7, [(5, 7)])
    told.tell()
    told.step(2, 3, 4, live=False)
    assert told.closed() == [(5, 7, "permanent"), (8, 9, "filled"), (2, 4, "filled")]


def test_a_far_id_is_one_line_and_the_real_holes_behind_it_are_their_own() -> None:
    told = Told()
    told.step(1, 2, ODD)
    for number in range(3, 60):
        if number not in (20, 40):
            told.step(number)
    assert told.opened() == [
        (3, ODD - 1, "far_ahead"),
        (20, 20, "in_connection"),
        (40, 40, "in_connection"),
    ]


def test_of_a_far_id_history_is_asked_whether_it_knows_it() -> None:
    told = Told()
    told.step(5 * FAR, 5 * FAR + 1, 7, ODD)
    assert told.asked() == [(ODD - 1, ODD - 1)], "and of one far behind nothing"
    told.step(ODD, live=False)
    assert told.asked() == [(5 * FAR + 2, ODD - 1)], "it does, so all of it is missing"


def test_a_request_says_what_looks_there_were() -> None:
    told = Told()
    told.step(1, 3)
    waits_s = VENUE.parser.channels["trade"].believed_after_s
    for second in (0, 60, 660):
        told.coverage = told.coverage.copy()
        told.coverage.finished(2, 2, [(2, 2)], Look(second * 10**9, waits_s))
        told.tell()
    (request,) = told.writer.open_gaps()[0]
    assert (request.looked_ns, request.wait_s) == (660 * 10**9, 600)


@pytest.mark.parametrize("states", [("open",), ("open", "permanent")])
def test_permanent_gaps_are_asked_for_if_they_are_wanted(states: tuple[str, ...]) -> None:
    told = Told()
    told.step(1, 3, 5)
    told.coverage = told.coverage.copy()
    told.coverage.finished(2, 2, [(2, 2)])
    told.tell()
    found = [request.first for request in told.writer.open_gaps("coinbase", states)[0]]
    assert found == ([4] if states == ("open",) else [2, 4])
