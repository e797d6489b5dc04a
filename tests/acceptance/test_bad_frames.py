"""Bad input through the whole path: each ends as a dead letter or a flag, and nothing stops."""

from __future__ import annotations

import asyncio
import base64
import json
import operator
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web

import forebay as package
from forebay.clock import SystemClock
from tests.support.commands import capture, forebay
from tests.support.http_server import serving
from tests.support.ws_server import BINARY, CONTINUATION, TEXT, Peer, WsServer, encode

GOOD = 10_000
AFTER = 100
FIRST = 1_000
RSV1 = 4
TEN_MB = 10_000_000
NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=SystemClock.wall_ns() // 1000)


def match(trade_id: int, *, symbol: str = "BTC-USD", **changes: object) -> bytes:
    """A good trade, but for ``changes``; a change to None leaves the field out."""
    fields: dict[str, object] = {
        "type": "match",
        "trade_id": trade_id,
        "product_id": symbol,
        "price": "101.25",
        "size": "0.5",
        "side": "buy",
        "time": f"{NOW:%Y-%m-%dT%H:%M:%S}.{trade_id:06d}Z",
        **changes,
    }
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


class Bad(NamedTuple):
    """One piece of bad input: how it is sent, its bytes and what it must end as."""

    payload: bytes
    reason: str
    opcode: int = TEXT
    rsv: int = 0


BAD = {
    "garbage": Bad(b"\x01{[garbage", "not_json"),
    "invalid UTF-8": Bad(b'{"type": "match", "side": "\xff\xfe"}', "not_json"),
    "truncated": Bad(match(1)[:60], "not_json"),
    "compressed": Bad(zlib.compress(match(1)), "compressed", rsv=RSV1),
    "binary": Bad(b"\x00\x01\x02binary\xff", "binary", opcode=BINARY),
    "ten megabytes": Bad(b"x" * TEN_MB, "not_json"),
    "a missing field": Bad(match(2, size=None), "missing_field"),
    "a price that is no number": Bad(match(3, price="NaN"), "bad_price"),
    "a negative size": Bad(match(4, size="-0.5"), "bad_size"),
    "time as a number of seconds": Bad(match(5, time=1_700_000_000), "wrong_type"),
    "seconds for milliseconds": Bad(
        match(6, time="1970-01-20T16:13:20.000000Z"), "implausible_time"
    ),
    "an unknown product": Bad(match(7, symbol="DOGE-USD"), "unknown_symbol"),
    "an unknown type": Bad(json.dumps({"type": "surprise"}).encode(), "unknown_type"),
}
FRAGMENTED = match(FIRST + GOOD)
SKEWED = match(FIRST + GOOD + 1, time=f"{NOW + timedelta(hours=12):%Y-%m-%dT%H:%M:%S}.000000Z")
BAD_AT = FIRST + GOOD // 2
"""The good trade in whose midst the bad price stands."""


async def script(peer: Peer) -> None:
    """Speak as the venue does, and badly."""
    await peer.receive()  # the subscription
    await peer.text(b'{"type": "subscriptions", "channels": []}')
    for trade_id in range(FIRST, FIRST + GOOD):
        if trade_id == BAD_AT:
            await peer.text(BAD["a price that is no number"].payload)
        await peer.text(match(trade_id))
    middle = len(FRAGMENTED) // 2
    await peer.send(encode(TEXT, FRAGMENTED[:middle], fin=False))
    await peer.send(encode(CONTINUATION, FRAGMENTED[middle:]))
    await peer.text(SKEWED)
    for name, bad in BAD.items():
        if name != "a price that is no number":
            await peer.send(encode(bad.opcode, bad.payload, rsv=bad.rsv))
    for trade_id in range(FIRST + GOOD + 2, FIRST + GOOD + 2 + AFTER):
        await peer.text(match(trade_id))
    await peer.gone()


async def no_history(request: web.Request) -> web.Response:
    del request
    return web.json_response([])


ROWS = GOOD + 2 + AFTER


def captured(data: Path, ws_url: str, rest_url: str) -> dict[str, dict[str, Any]]:
    """Capture everything that the server says; answer the last status."""
    flags = ("--ws-url", ws_url, "--rest-url", rest_url)
    with capture(data, *flags, symbols="BTC-USD") as running:
        told = running.until(
            lambda told: (
                told["deliver"]["rows"] >= ROWS and told["deliver"]["dead_letters"] >= len(BAD)
            ),
            "everything to be stored",
        )
        assert running.stop() == 0
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """A data folder into which a capture took all of it, over one connection."""
    data = tmp_path_factory.mktemp("bad") / "data"

    async def take() -> tuple[dict[str, dict[str, Any]], int]:
        async with WsServer(script) as server, serving(no_history) as rest_url:
            told = await asyncio.to_thread(captured, data, server.url, rest_url)
            return told, server.requests

    told, connections = asyncio.run(take())
    assert connections == 1
    return data, told


Folder = tuple[Path, dict[str, dict[str, Any]]]


def test_the_stream_goes_on_and_the_frames_add_up(folder: Folder) -> None:
    data, told = folder
    deliver = told["deliver"]
    outcomes = deliver["outcomes"]
    assert outcomes["dead"] == len(BAD)
    assert outcomes["yielding"] == ROWS
    assert deliver["frames"] == sum(outcomes.values())
    assert told["capture"]["reconnects"] == 0
    with package.open(data) as opened:
        report = opened.audit_report()
    assert report.problems == []
    assert report.frames["dead"] == len(BAD)


def test_everything_good_is_stored(folder: Folder) -> None:
    with package.open(folder[0]) as opened:
        ids = [int(native) for native in opened.trades("BTC-USD")["trade_id"].to_pylist()]
        flagged = opened.sql("SELECT trade_id, flags FROM trades WHERE flags <> ''").to_pylist()
    assert sorted(ids) == list(range(FIRST, FIRST + ROWS))
    assert {"trade_id": str(FIRST + GOOD + 1), "flags": "skewed"} in flagged


def shown(data: Path, letter: str) -> bytes:
    """The bytes of a dead letter as ``dlq show --json`` tells them."""
    answer = forebay("dlq", "show", letter, "--data", data, "--json")
    assert answer.code == 0, answer.stderr
    if answer.json["payload"] is None:
        return base64.b64decode(answer.json["payload_base64"])
    text: str = answer.json["payload"]
    return text.encode()


def test_each_bad_frame_is_a_dead_letter_with_its_reason_and_its_bytes(folder: Folder) -> None:
    data, _ = folder
    with package.open(data) as opened:
        letters = opened.dead_letters()
    stored = dict(zip(letters["payload"].to_pylist(), letters["reason"].to_pylist(), strict=True))
    expected = {bad.payload: bad.reason for bad in BAD.values()}
    assert {name: stored.get(bad.payload) for name, bad in BAD.items()} == {
        name: bad.reason for name, bad in BAD.items()
    }
    assert stored == expected


def test_dead_letters_are_listed_and_shown(folder: Folder) -> None:
    data, _ = folder
    answer = forebay("dlq", "list", "--data", data, "--json")
    listed = answer.json
    assert answer.code == 0
    assert sorted(letter["reason"] for letter in listed) == sorted(b.reason for b in BAD.values())
    assert max(letter["bytes"] for letter in listed) == TEN_MB
    assert all(letter["error"] for letter in listed)
    by_reason = {letter["reason"]: letter["letter"] for letter in listed}
    for name in ("binary", "a missing field"):
        assert shown(data, by_reason[BAD[name].reason]) == BAD[name].payload
    only = forebay("dlq", "list", "--data", data, "--reason", "bad_price", "--json").json
    assert [letter["reason"] for letter in only] == ["bad_price"]


def test_a_dead_letter_can_be_written_out_as_it_was(folder: Folder) -> None:
    data, _ = folder
    listed = forebay("dlq", "list", "--data", data, "--reason", "not_json", "--json").json
    largest = max(listed, key=operator.itemgetter("bytes"))
    answer = forebay("dlq", "show", largest["letter"][:18], "--data", data, "--raw")
    assert answer.stdout.encode() == BAD["ten megabytes"].payload


@pytest.mark.drill
def test_letters_are_replayed_and_discarded_beside_a_running_capture(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def listed(*arguments: object) -> dict[str, dict[str, Any]]:
        answer = forebay("dlq", "list", "--data", data, "--json", *arguments)
        assert answer.code == 0, answer
        return {letter["letter"]: letter for letter in answer.json}

    def settle(ws_url: str, rest_url: str) -> None:
        flags = ("--ws-url", ws_url, "--rest-url", rest_url)
        with capture(data, *flags, symbols="BTC-USD") as running:
            running.until(
                lambda told: told["deliver"]["dead_letters"] >= len(BAD), "the letters to be stored"
            )
            before = listed()
            answer = forebay("dlq", "replay", "--data", data, "--json")
            assert answer.code == 1, answer
            assert answer.json["replayed"] == []
            assert answer.json["failed"].keys() == before.keys()
            again = listed()
            assert again.keys() == before.keys()
            assert {letter["attempts"] for letter in again.values()} == {2}
            asked = ("--of-reason", "not_json", "--reason", "a test", "--by", "me")
            given_up = forebay("dlq", "discard", "--data", data, *asked, "--json")
            assert given_up.code == 0, given_up
            assert len(listed()) == len(BAD) - len(given_up.json["discarded"]) == len(BAD) - 4
            assert running.stop() == 0

    told: list[Peer] = []

    async def once(peer: Peer) -> None:
        told.append(peer)
        if len(told) == 1:
            await script(peer)
        else:
            await peer.gone()

    async def take() -> None:
        async with WsServer(once) as server, serving(no_history) as rest_url:
            await asyncio.to_thread(settle, server.url, rest_url)

    asyncio.run(take())
    with package.open(data) as opened:
        report = opened.audit_report()
    assert report.problems == []
    assert report.dead_letters == len(BAD) - 4
    assert report.frames["dead"] == 2 * len(BAD)
