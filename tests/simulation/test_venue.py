"""The simulated venue and network: what they say, and what they withhold."""

from __future__ import annotations

import json
import random

import pytest

from forebay.lab.truth import Trades
from tests.simulation.venue import (
    HISTORY,
    SYMBOLS,
    Venue,
    heartbeat_bytes,
    match_bytes,
    trade,
    truth_row,
)
from tests.simulation.weather import Weather

BTC = SYMBOLS[0]
FIRST = trade(BTC, 0).trade_id


class FakeLine:
    symbols: tuple[str, ...] = SYMBOLS

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.late: list[float] = []

    def say(self, payload: bytes, late_s: float = 0.0) -> None:
        self.said.append(payload)
        self.late.append(late_s)


class Sky(Weather):
    def __init__(self, *, lag_s: float = 0.0, withheld: float = 0.0, **rates: float) -> None:
        self.notes: list[str] = []
        super().__init__(random.Random(1), rates, [], lag_s, withheld, 1, self.notes.append)


def venue(sky: Weather, now: float = 10.0) -> tuple[Venue, FakeLine]:
    made, line = Venue(random.Random(2), sky, lambda: now), FakeLine()
    made.subscribed(line)
    line.said.clear()
    line.late.clear()
    return made, line


def page(made: Venue, after: int, limit: int = 1000) -> list[int]:
    rows = json.loads(made.page(f"/products/{BTC}/trades?limit={limit}&after={FIRST + after}"))
    return [row["trade_id"] - FIRST for row in rows]


def test_the_truth_is_that_of_the_simulated_exchange() -> None:
    event = Trades(1, "coinbase", BTC).event(33)
    assert trade(BTC, 33) == event
    assert truth_row(BTC, 33) == event.row()


def test_a_subscriber_is_accepted_and_told_the_latest_trade_of_each_symbol() -> None:
    made, line = Venue(random.Random(1), Sky(), lambda: 0.0), FakeLine()
    made.subscribed(line)
    assert json.loads(line.said[0])["type"] == "subscriptions"
    assert line.said[1:] == [match_bytes(name, HISTORY - 1, "last_match") for name in SYMBOLS]


def test_everybody_is_told_of_an_event_and_heartbeats_say_how_far_it_is() -> None:
    made, line = venue(Sky())
    made.happen(BTC)
    made.heartbeat()
    assert line.said == [
        match_bytes(BTC, HISTORY),
        heartbeat_bytes(BTC, HISTORY),
        heartbeat_bytes(SYMBOLS[1], HISTORY - 1),
    ]
    made.gone(line)
    made.happen(BTC)
    assert len(line.said) == 3


def test_a_connection_is_told_of_what_it_asked_for_alone() -> None:
    made, line = Venue(random.Random(1), Sky(), lambda: 0.0), FakeLine()
    line.symbols = (BTC,)
    made.subscribed(line)
    for symbol in SYMBOLS:
        made.happen(symbol)
    made.heartbeat()
    assert not any(SYMBOLS[1].encode() in said for said in line.said)
    assert line.said[1:] == [
        match_bytes(BTC, HISTORY - 1, "last_match"),
        match_bytes(BTC, HISTORY),
        heartbeat_bytes(BTC, HISTORY),
    ]


@pytest.mark.parametrize(
    ("fault", "said"), [("drop", []), ("duplicate", [match_bytes(BTC, HISTORY)] * 2)]
)
def test_a_frame_is_withheld_or_comes_twice(fault: str, said: list[bytes]) -> None:
    sky = Sky(**{fault: 1.0})
    made, line = venue(sky)
    made.happen(BTC)
    assert line.said == said
    assert sky.notes == [fault]


def test_a_frame_comes_torn_or_late() -> None:
    made, line = venue(Sky(torn=1.0))
    made.happen(BTC)
    assert match_bytes(BTC, HISTORY).startswith(line.said[0])
    assert 0 < len(line.said[0]) < len(match_bytes(BTC, HISTORY))
    made, line = venue(Sky(late=1.0))
    made.happen(BTC)
    assert line.late[0] > 0


def test_a_page_holds_the_newest_first_below_an_id() -> None:
    made, _ = venue(Sky())
    assert page(made, HISTORY + 1, 3) == [HISTORY - 1, HISTORY - 2, HISTORY - 3]
    assert page(made, 2) == [1, 0]
    assert page(made, 0) == []
    assert made.page("/products") == b"[]"


def test_history_lags_comes_short_and_is_whole_in_calm_weather() -> None:
    sky = Sky(lag_s=3.0)
    made, _ = venue(sky)
    made.happen(BTC)
    assert page(made, HISTORY + 5, 1) == [HISTORY - 1]
    sky.clear()
    assert page(made, HISTORY + 5, 1) == [HISTORY]
    made, _ = venue(Sky(short_page=1.0))
    pages = [page(made, HISTORY, HISTORY) for _ in range(20)]
    assert all(found and found[0] == HISTORY - 1 for found in pages)
    assert min(map(len, pages)) < HISTORY


def test_a_page_is_never_wrongly_empty_twice_in_a_row() -> None:
    made, _ = venue(Sky(empty_page=1.0))
    assert [bool(page(made, HISTORY)) for _ in range(6)] == [False, True] * 3


def test_what_history_never_lists_has_no_neighbour_of_its_kind() -> None:
    sky = Sky(withheld=1.0)
    made, line = venue(sky)
    for _ in range(40):
        made.happen(BTC)
    withheld = made.withheld[BTC]
    assert withheld == set(range(HISTORY, HISTORY + 40, 2))
    assert set(page(made, HISTORY + 40)) == set(range(HISTORY + 40)) - withheld
    told = {json.loads(payload)["trade_id"] - FIRST for payload in line.said}
    assert told >= set(range(HISTORY + 1, HISTORY + 40, 2))
    assert 0 < len(told & withheld) < len(withheld)
