"""What a venue withholds, through the whole path: asked for again, ended by a person, on record."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from forebay.clock import SystemClock
from forebay.times import to_text
from tests.support.commands import Answer, capture, forebay, said
from tests.support.http_server import serving
from tests.support.ws_server import Peer, WsServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.drill

SYMBOL = "BTC-USD"
FIRST, LATER, POISON, ODD_AT, REAL, NEVER, LAST = 1000, 1010, 1020, 1030, 1040, 1050, 1060
"""Ids that are withheld on the feed, each for its reason; at one of them a far id is told."""
WITHHELD = {LATER, POISON, REAL, NEVER, LAST}
ODD = 10**15
LAG_S = 5.0
"""How long history leaves out what it has later."""


def fields(number: int, **changes: object) -> dict[str, object]:
    moment = TIMES.setdefault(number, to_text(SystemClock.wall_ns(), exact=True))
    told = {"trade_id": number, "price": "101.25", "size": "1E-8", "side": "buy", "time": moment}
    return told | changes


TIMES: dict[int, str] = {}


class Venue:
    """Tells trades for some seconds, and what its history has of them."""

    def __init__(self) -> None:
        self.last = FIRST
        self.began = time.monotonic()
        self.calls = 0
        self.gone = {NEVER, LAST}

    async def script(self, peer: Peer) -> None:
        await peer.receive()
        await peer.text(b'{"type": "subscriptions", "channels": []}')
        for number in range(self.last, FIRST + 400):  # goes on after a reconnect
            self.last = number
            odd = [ODD] if number == ODD_AT else []
            for told in [number, *odd]:
                if told not in WITHHELD:
                    about = {"type": "match", "product_id": SYMBOL, **fields(told)}
                    await peer.text(json.dumps(about).encode())
            await asyncio.sleep(0.03)
        await peer.gone()

    async def history(self, request: web.Request) -> web.Response:
        self.calls += 1
        after, limit = (int(request.query[name]) for name in ("after", "limit"))
        gone = self.gone | ({LATER} if time.monotonic() - self.began < LAG_S else set())
        ids = [n for n in range(min(after - 1, self.last), FIRST - 1, -1) if n not in gone]
        rows = [fields(n, **({"size": "NaN"} if n == POISON else {})) for n in ids[:limit]]
        return web.json_response(rows)


@asynccontextmanager
async def venue() -> AsyncIterator[tuple[Venue, tuple[str, ...]]]:
    made = Venue()
    async with WsServer(made.script) as server, serving(made.history) as rest_url:
        yield made, ("--ws-url", server.url, "--rest-url", rest_url)


def gaps(data: Path) -> dict[int, dict[str, Any]]:
    found = forebay("gaps", "list", "--data", data, "--json").json
    return {gap["first"]: gap for gap in found}


def accept(data: Path, *arguments: object) -> Answer:
    return forebay("gaps", "accept", SYMBOL, *arguments, "--data", data, "--json")


def fill(data: Path, flags: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = forebay("gaps", "fill", *flags[2:], "--data", data, "--json").json
    return counts


def captured(data: Path, made: Venue, flags: tuple[str, ...]) -> dict[str, Any]:
    """Capture all that the venue tells; return what was seen meanwhile."""
    found: dict[str, Any] = {}
    with capture(data, *flags, symbols=SYMBOL) as running:
        running.until(lambda told: told["deliver"]["gaps"]["filled"] >= 2, "two gaps to be filled")
        found["accepted"] = accept(data, POISON, "--by", "ann", "--reason", "it is no number")
        found["odd"] = accept(data, ODD - 9, "--reason", "an odd id")
        running.until(lambda told: told["deliver"]["rows"] >= 390, "everything to be told")
        found["gaps"] = gaps(data)
        assert running.stop() == 0
    made.calls, found["calls"] = 0, made.calls
    found["fills"] = [fill(data, flags), fill(data, flags)]
    made.gone = {NEVER}
    found["fills"].append(fill(data, flags))
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    data = tmp_path_factory.mktemp("verdicts") / "data"

    async def take() -> dict[str, Any]:
        async with venue() as (made, flags):
            return await asyncio.to_thread(captured, data, made, flags) | {"data": data}

    return asyncio.run(take())


def test_what_history_leaves_out_for_a_while_is_filled_in_the_end(seen: dict[str, Any]) -> None:
    assert seen["gaps"][LATER]["state"] == seen["gaps"][REAL]["state"] == "filled"


def test_what_history_never_had_stays_open_for_hours(seen: dict[str, Any]) -> None:
    gap = seen["gaps"][NEVER]
    assert (gap["state"], gap["looks"]) == ("open", 1), "looks within a minute are one"


def test_asking_by_hand_neither_believes_at_once_nor_gives_up(seen: dict[str, Any]) -> None:
    states = [(counts["open"], counts["permanent"]) for counts in seen["fills"]]
    assert states == [(2, 0), (2, 0), (1, 0)], "what comes at last is filled"


def test_a_row_that_cannot_be_read_is_one_dead_letter_and_seldom_asked_for(
    seen: dict[str, Any],
) -> None:
    letters = forebay("dlq", "list", "--data", seen["data"], "--json").json
    assert [letter["reason"] for letter in letters] == ["bad_size"]
    assert len(said(seen["data"].with_name("data.log"), "dead_lettered")) == 1
    assert seen["calls"] < 60


def test_one_hole_is_one_line_however_it_shrinks(seen: dict[str, Any]) -> None:
    opened = said(seen["data"].with_name("data.log"), "gap_opened")
    assert sorted(line["reason"] for line in opened) == ["far_ahead", *["in_connection"] * 5]


def test_what_is_accepted_is_named_with_who_and_why(seen: dict[str, Any]) -> None:
    assert seen["accepted"].code == 0
    (gap,) = seen["accepted"].json
    named = gap["first"], gap["last"], gap["state"], gap["accepted_by"], gap["accepted_reason"]
    assert named == (POISON, POISON, "accepted", "ann", "it is no number")
    assert seen["odd"].json[0]["accepted_by"]
    (odd,) = [gap for gap in seen["gaps"].values() if gap["reason"] == "far_ahead"]
    assert (odd["state"], odd["accepted_reason"], odd["last"]) == ("accepted", "an odd id", ODD - 1)


def test_accepted_gaps_are_green_and_survive_a_rebuild(seen: dict[str, Any]) -> None:
    data = seen["data"]
    assert forebay("audit", "--data", data, "--json").code == 1, "one is open"
    for _ in range(2):
        answer = accept(data, NEVER, "--by", "bob", "--reason", "never listed")
        assert (answer.code, answer.json[0]["state"]) == (0, "accepted")
    before = [gap for gap in gaps(data).values() if gap["state"] == "accepted"]
    assert len(before) == 3
    assert forebay("rebuild", "--data", data).code == 0
    assert [gap for gap in gaps(data).values() if gap["state"] == "accepted"] == before
    audit = forebay("audit", "--data", data, "--json")
    assert audit.code == 0, audit
    told = {gap["first"]: gap["accepted_by"] for gap in audit.json["gaps"]}
    assert (told[POISON], told[NEVER]) == ("ann", "bob")
    shown = forebay("audit", "--data", data).stdout
    assert "2 accepted" in " ".join(shown.split())


def test_a_list_shows_open_gaps_and_counts_the_others(seen: dict[str, Any]) -> None:
    shown = forebay("gaps", "list", "--data", seen["data"], "--state", "all").stdout
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    assert "Z by ann: it is no number" in shown
