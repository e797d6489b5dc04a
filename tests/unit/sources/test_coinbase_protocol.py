"""The Coinbase parser: every frame ends as events, as control or as a dead letter."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.domain.columns import as_arrays
from forebay.domain.intervals import IntervalSet
from forebay.sources.coinbase import protocol
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import PRODUCT, as_json, batch, context, heartbeat, match, rest_row
from tests.support.recordings import COINBASE, recorded

if TYPE_CHECKING:
    from forebay.domain.parsed import Parsed

DEEP = b"[" * 100_000
HUGE = b"9" * 5000


def parse(*payloads: bytes, symbols: tuple[str, ...] = ()) -> Parsed:
    return CoinbaseParser().parse(batch(payloads, context(symbols=symbols)))


def parse_pages(*pages: bytes) -> Parsed:
    return CoinbaseParser().parse(batch(pages, context("rest")))


class Trades:
    """The trades of what was parsed, a list a column."""

    def __init__(self, parsed: Parsed) -> None:
        assert all(len(raw) for raw in parsed.events), "events of nothing"
        parts = [as_arrays(raw) for raw in parsed.events]
        self.channels = {(raw.channel, raw.market) for raw in parts}
        own = ("price", "size", "side")
        names = ("frame", "item", "symbol", "venue_symbol", "native", "time")
        self._columns = {name: [cell for raw in parts for cell in as_list(getattr(raw, name))]
                         for name in names}  # fmt: skip
        for name in own:
            self._columns[name] = [cell for raw in parts for cell in as_list(raw.columns[name])]

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self["frame"])


def as_list(column: Any) -> list[Any]:  # noqa: ANN401 - any of the columns
    listed: list[Any] = column.tolist()
    return listed


def account(parsed: Parsed) -> tuple[int, int, list[tuple[int, str]]]:
    dead = [(letter.frame, str(letter.reason)) for letter in parsed.dead]
    return len(Trades(parsed)), parsed.control, dead


# ------------------------------------------------------------------ what the feed says


@pytest.mark.parametrize("kind", ["match", "last_match"])
def test_a_match_is_a_trade_in_the_venues_own_texts(kind: str) -> None:
    frame = match(280232, "SKL-BTC", type=kind, side="sell", size="985", price="0.00001305",
                  time="2021-04-17T16:43:37.089723Z")  # fmt: skip
    trades = Trades(parse(heartbeat(1), frame))
    assert (trades["frame"], trades["item"]) == ([1], [0])
    assert (trades["symbol"], trades["venue_symbol"]) == (["SKL-BTC"], ["SKL-BTC"])
    assert trades["native"] == [280232]
    assert (trades["price"], trades["size"]) == (["0.00001305"], ["985"])
    assert trades["side"] == ["buy"], "the maker sold, so the taker bought"
    assert trades["time"] == ["2021-04-17T16:43:37.089723Z"]
    assert trades.channels == {(protocol.TRADES, "spot")}


def test_its_trades_count_ids_that_history_can_be_asked_for() -> None:
    channel = CoinbaseParser.channels["trade"]
    assert (channel.identity, channel.unit, channel.history) == ("native", "id", True)
    assert channel.time_unit_ns == 1000


def test_the_takers_side_is_the_opposite_of_the_makers() -> None:
    both = parse(match(1, side="buy"), match(2, side="sell"))
    assert Trades(both)["side"] == ["sell", "buy"]
    page = as_json([rest_row(2, side="buy"), rest_row(1, side="sell")])
    assert Trades(parse_pages(page))["side"] == ["sell", "buy"]


@pytest.mark.parametrize("side", ["", "BUY", "bid", "unknown", "sell?"])
def test_a_side_that_the_venue_does_not_have_never_becomes_one(side: str) -> None:
    for parsed in (parse(match(1, side=side)), parse_pages(as_json([rest_row(1, side=side)]))):
        assert not set(Trades(parsed)["side"]) & {"buy", "sell", "unknown"}


def test_heartbeats_say_what_exists() -> None:
    parsed = parse(heartbeat(7), heartbeat(9), heartbeat(8), heartbeat(3, "ETH-USD"))
    assert parsed.known == {
        ("spot", "trade", PRODUCT): IntervalSet([(7, 9)]),
        ("spot", "trade", "ETH-USD"): IntervalSet([(3, 3)]),
    }
    assert account(parsed) == (0, 4, [])


def test_a_heartbeat_of_a_product_never_traded_says_nothing() -> None:
    parsed = parse(heartbeat(0))
    assert parsed.known == {}
    assert account(parsed) == (0, 1, [])


@pytest.mark.parametrize("last", [-1, 1 << 62, 1 << 63, 10**30, "7", 7.0, None, True, HUGE])
def test_a_heartbeat_with_an_impossible_id_is_dead_and_declares_nothing(last: object) -> None:
    written = last if isinstance(last, bytes) else as_json(last)
    payload = heartbeat("LAST").replace(b'"LAST"', written)
    parsed = parse(match(1), payload, match(2))
    assert parsed.known == {}
    assert (len(Trades(parsed)), [dead.frame for dead in parsed.dead]) == (2, [1])


@pytest.mark.parametrize("kind", ["subscriptions", "error"])
def test_control_messages_are_counted_as_control(kind: str) -> None:
    assert account(parse(as_json({"type": kind, "message": "x"}))) == (0, 1, [])


@pytest.mark.parametrize("kind", protocol.UNBUILT)
def test_messages_of_channels_not_built_are_counted_by_type(kind: str) -> None:
    parsed = parse(as_json({"type": kind, "changes": [["buy", "1", "2"]]}), match(1))
    assert account(parsed) == (1, 1, [])
    assert parsed.unbuilt == Counter({kind: 1})


def test_fields_that_we_do_not_know_do_not_matter() -> None:
    extra = {"profile_id": "x", "nested": {"a": [1, {"b": None}]}, "taker_fee_rate": 0.5}
    assert account(parse(match(1, **extra), as_json({**json.loads(heartbeat(3)), **extra}))) == (
        1, 1, [])  # fmt: skip


# ------------------------------------------------------------------ what it must not say

POISON = [
    (b"", "not_json"),
    (b"\x00\xff\xfe garbage", "not_json"),
    (match(5)[:-1], "not_json"),
    (match(5)[:40], "not_json"),
    (match(5) + b"}", "not_json"),
    (b"<html>502 Bad Gateway</html>", "not_json"),
    (match(5).replace(b"sell", b"se\xffl"), "not_json"),
    (match(5, trade_id="x", extra=1).replace(b'"extra":1', b'"extra":"\xff"'), "not_json"),
    (DEEP, "not_json"),
    (b'{"type":"heartbeat","x":' + DEEP, "not_json"),
    (b'{"type":"match","trade_id":"x","e":' + DEEP, "not_json"),
    (b'{"x":' * 100_000, "not_json"),
    (match(5).replace(b'"sell"', b"NaN"), "not_json"),
    (b"null", "wrong_type"),
    (b"[]", "wrong_type"),
    (b'"match"', "wrong_type"),
    (b"5", "wrong_type"),
    (b"{}", "missing_field"),
    (b'{"type":"wibble"}', "unknown_type"),
    (b'{"type":"Match"}', "unknown_type"),
    (b'{"type":null}', "unknown_type"),
    (b'{"type":[]}', "unknown_type"),
    (b'{"type":{"a":1}}', "unknown_type"),
    (match(5, trade_id="5"), "wrong_type"),
    (match(5, trade_id=5.5), "wrong_type"),
    (match(5, trade_id=True), "wrong_type"),
    (match(5, price=10000.5), "wrong_type"),
    (match(5, size=1), "wrong_type"),
    (match(5, side=["buy"]), "wrong_type"),
    (match(5, time=1618677817), "wrong_type"),
    (match(5, product_id=7), "wrong_type"),
    *[(match(5, **{name: None}), "missing_field")
      for name in ("trade_id", "product_id", "price", "size", "side", "time")],
    (match(5, "BTC-USD<script>"), "unknown_symbol"),
    (match(5, "btc-usd"), "unknown_symbol"),
    (match(5, "BTC-USD\n"), "unknown_symbol"),
    (match(5, ""), "unknown_symbol"),
]  # fmt: skip


@pytest.mark.parametrize(("payload", "reason"), POISON, ids=lambda value: repr(value)[:50])
def test_poison_is_dead_and_its_neighbours_are_not(payload: bytes, reason: str) -> None:
    parsed = parse(match(1), payload, heartbeat(2), match(2))
    assert account(parsed) == (2, 1, [(1, reason)])
    assert Trades(parsed)["frame"] == [0, 3]
    assert parsed.dead[0].error


def test_a_trade_id_of_any_length_reaches_validation_or_is_dead() -> None:
    assert Trades(parse(match(1, trade_id=10**30)))["native"] == [10**30]
    long = match(5).replace(b'"trade_id":5', b'"trade_id":' + HUGE)
    assert len(parse(long).dead) == 1


def test_only_what_was_asked_for_is_taken() -> None:
    parsed = parse(match(1), match(2, "ETH-USD"), heartbeat(9), heartbeat(9, "ETH-USD"),
                   symbols=("ETH-USD",))  # fmt: skip
    assert account(parsed) == (1, 2, [(0, "unknown_symbol")])
    assert Trades(parsed)["symbol"] == ["ETH-USD"]
    assert parsed.known == {("spot", "trade", "ETH-USD"): IntervalSet([(9, 9)])}
    assert PRODUCT in parsed.dead[0].error


def frames() -> st.SearchStrategy[bytes]:
    """Real frames, mutated ones and pure noise."""
    real = st.sampled_from([match(1), match(2, "ETH-USD"), heartbeat(3),
                            b'{"type":"l2update"}', b'{"type":"subscriptions"}'])  # fmt: skip
    mutated = st.builds(
        lambda frame, at, junk, cut: frame[:at] + junk + frame[at:][cut:],
        real, st.integers(0, 200), st.binary(max_size=4), st.integers(0, 6),
    )  # fmt: skip
    return real | mutated | st.binary(max_size=40) | st.text(max_size=20).map(str.encode)


@given(st.lists(frames(), max_size=12))
@example([payload for payload, _ in POISON])
def test_every_frame_of_the_feed_is_accounted_for_once(payloads: list[bytes]) -> None:
    parsed = parse(*payloads)
    dead = [letter.frame for letter in parsed.dead]
    trades = Trades(parsed)
    assert len(trades) + parsed.control + len(dead) == len(payloads)
    assert len(set(dead)) == len(dead)
    assert not set(dead) & set(trades["frame"])
    assert sum(parsed.unbuilt.values()) <= parsed.control


@given(st.lists(frames(), max_size=8))
def test_a_frame_means_the_same_whatever_came_with_it(payloads: list[bytes]) -> None:
    together = parse(*payloads)
    alone = [parse(payload) for payload in payloads]
    natives = [native for each in alone for native in Trades(each)["native"]]
    assert Trades(together)["native"] == natives
    assert {letter.frame: letter.reason for letter in together.dead} == {
        place: letter.reason for place, each in enumerate(alone) for letter in each.dead
    }


# ------------------------------------------------------------------------------ history


def test_a_page_of_history_gives_its_trades_under_the_symbol_asked_for() -> None:
    page = as_json([rest_row(9), rest_row(8), rest_row(7)])
    trades = Trades(parse_pages(page, b"[]", as_json([rest_row(6)])))
    assert trades["native"] == [9, 8, 7, 6]
    assert (trades["frame"], trades["item"]) == ([0, 0, 0, 2], [0, 1, 2, 0])
    assert trades["symbol"] == trades["venue_symbol"] == [PRODUCT] * 4


def test_both_paths_tell_the_same_facts() -> None:
    live, history = Trades(parse(match(9))), Trades(parse_pages(as_json([rest_row(9)])))
    for name in ("native", "price", "size", "side", "time", "symbol"):
        assert live[name] == history[name]
    assert live.channels == history.channels


def test_answers_to_other_questions_are_counted_by_what_was_asked() -> None:
    asked = context("rest", request="GET /products?type=spot")
    parsed = CoinbaseParser().parse(batch([as_json([{"id": "BTC-USD"}]), b"<html>"], asked))
    assert account(parsed) == (0, 2, [])
    assert parsed.unbuilt == Counter({"GET /products": 2})


def test_an_empty_page_is_control() -> None:
    assert account(parse_pages(b"[]", b" [ ] ")) == (0, 2, [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (rest_row(8, price=None), "missing_field"),
        (rest_row(8, price=1), "wrong_type"),
        (rest_row(8, trade_id="8"), "wrong_type"),
        ([1, 2], "wrong_type"),
        (None, "wrong_type"),
    ],
)
def test_a_bad_row_of_a_page_costs_only_itself(row: object, reason: str) -> None:
    parsed = parse_pages(as_json([rest_row(9), row, rest_row(7)]))
    assert account(parsed) == (2, 0, [(0, reason)])
    assert parsed.dead[0].item == 1
    trades = Trades(parsed)
    assert (trades["native"], trades["item"]) == ([9, 7], [0, 2])


def test_rows_that_break_the_decoder_cost_only_themselves() -> None:
    bad_text = as_json(rest_row(8)).replace(b'"price":"', b'"price":"\xff')
    page = b"[" + as_json(rest_row(9)) + b"," + bad_text + b"," + as_json(rest_row(7)) + b"]"
    parsed = parse_pages(page)
    assert Trades(parsed)["native"] == [9, 7]
    assert [(letter.frame, letter.item) for letter in parsed.dead] == [(0, 1)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"message":"NotFound"}', "wrong_type"),
        (b"null", "wrong_type"),
        (b"<html>", "not_json"),
        (b"", "not_json"),
        (as_json([rest_row(9)])[:-1], "not_json"),
        (DEEP, "not_json"),
        (b"\xff", "not_json"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_is_no_page_is_one_dead_letter(body: bytes, reason: str) -> None:
    parsed = parse_pages(as_json([rest_row(9)]), body)
    assert account(parsed) == (1, 0, [(1, reason)])


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"[]", as_json([rest_row(1)])])))
def test_every_page_is_accounted_for(pages: list[bytes]) -> None:
    parsed = parse_pages(*pages)
    yielding, dead = set(Trades(parsed)["frame"]), {letter.frame for letter in parsed.dead}
    assert len(yielding | dead) + parsed.control == len(pages)


# ------------------------------------------------------------------------ real frames


def test_a_recording_is_accounted_for_to_the_last_frame() -> None:
    frames = recorded(COINBASE)
    parsed = parse(*[frame.payload for frame in frames])
    kinds = Counter(json.loads(frame.payload)["type"] for frame in frames)
    assert {raw.channel.kind: len(raw) for raw in parsed.events} == {
        "trade": kinds["match"] + kinds["last_match"],
        "ticker": kinds["ticker"],
        "quote": kinds["ticker"],
        "book_snapshot": kinds["snapshot"],
        "book_delta": kinds["l2update"],
    }
    assert (parsed.dead, parsed.unbuilt) == ([], Counter())
    assert parsed.control == kinds["subscriptions"]


def test_ids_of_a_recording_are_contiguous_per_product() -> None:
    frames = [frame.payload for frame in recorded(COINBASE) if b"match" in frame.payload[:30]]
    trades = Trades(parse(*frames))
    by_product: dict[str, list[int]] = {}
    for symbol, native in zip(trades["symbol"], trades["native"], strict=True):
        by_product.setdefault(symbol, []).append(native)
    assert len(by_product) == 6
    for natives in by_product.values():
        assert natives == list(range(natives[0], natives[0] + len(natives)))
