"""Kalshi's answers: both generations, bars that end when they say, and pages that go on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest

from forebay.errors import Stuck, Unusable
from forebay.ports import HistoryRequest
from forebay.sources.kalshi import VENUE
from forebay.sources.kalshi.history import CUTOFF
from forebay.sources.kalshi.pages import begin_of
from forebay.sources.venue import PollRound
from forebay.times import to_text
from tests.support.kalshi import MARKET, SECOND, T0, answer, as_json, told, trade

D = Decimal
DAY = 86_400 * SECOND
TRADES = f"/markets/trades?ticker={MARKET}"


def recorded(name: str) -> bytes:
    found = answer(name)
    if found is None:
        pytest.skip(f"the recorded answer {name} is not beside this checkout")
    return found


def row_of(number: int, **changed: object) -> dict[str, Any]:
    fields = {
        "trade_id": f"t{number}",
        "ticker": MARKET,
        "count_fp": "21.74",
        "yes_price_dollars": "0.4800",
        "taker_outcome_side": "yes",
        "created_time": "2026-08-11T00:15:33.623871Z",
    }
    return {name: value for name, value in (fields | changed).items() if value is not None}


# ---------------------------------------------------------------------------- trades


def test_a_trade_is_the_same_event_by_rest_and_over_the_websocket() -> None:
    page = as_json({"trades": [row_of(1, trade_id="x")], "cursor": ""})
    by_rest = told(page, request=TRADES)[0]["trade"][0]
    pushed = told(trade(trade_id="x"))[0]["trade"][0]
    alike = ("event_id", "event_ts", "price", "size", "side", "symbol", "trade_id")
    assert [by_rest[name] for name in alike] == [pushed[name] for name in alike]


def test_recorded_trades_mean_the_same_without_their_strings_and_without_their_integers() -> None:
    body = recorded("trades_list")
    rows = told(body, request="/markets/trades?limit=5")[0]["trade"]
    assert len(rows) == 5
    assert (rows[0]["price"], rows[0]["size"], rows[0]["side"]) == (D("0.06"), D(1), "sell")
    older = body.replace(b"yes_price_dollars", b"ignored")
    newer = body.replace(b'"yes_price"', b'"gone"').replace(b'"count":1', b'"count_fp":"1.00"')
    for form in (older, newer, newer.replace(b'"count"', b'"count_fp"')):
        assert told(form, request="/markets/trades?limit=5")[0]["trade"] == rows


def test_a_row_that_is_poison_costs_itself() -> None:
    bad = [row_of(2, yes_price_dollars=None), row_of(3, count_fp=7), row_of(4, ticker="KXB-1")]
    page = as_json({"trades": [row_of(1), *bad], "cursor": "x"})
    rows, dead = told(page, request=TRADES, symbols=(MARKET,))
    assert [row["trade_id"] for row in rows["trade"]] == ["t1"]
    reasons = {letter.item: letter.reason for letter in dead}
    assert reasons == {1: "missing_field", 2: "wrong_type", 3: "unknown_symbol"}
    rows, dead = told(b'{"error":"odd"}', request=TRADES)
    assert (rows, [letter.reason for letter in dead]) == ({}, ["missing_field"])


# ----------------------------------------------------------------------------- books


def test_books_are_read_alone_and_together() -> None:
    newer = {"yes_dollars": [["0.48", "41.20"]], "no_dollars": [["0.51", "3.00"]]}
    one = as_json({"orderbook_fp": newer})
    row = told(one, request=f"/markets/{MARKET}/orderbook")[0]["book_snapshot"][0]
    assert (row["symbol"], row["bid_prices"], row["ask_prices"]) == (
        MARKET,
        [D("0.48")],
        [D("0.49")],
    )
    older = as_json({"orderbook": {"yes": [[48, 7]], "no": None}})
    row = told(older, request=f"/markets/{MARKET}/orderbook")[0]["book_snapshot"][0]
    assert (row["bid_sizes"], row["ask_prices"]) == ([D(7)], [])
    both = as_json(
        {"orderbooks": [{"ticker": name, "orderbook_fp": newer} for name in ("KA", "KB")]}
    )
    rows, dead = told(both, request="/markets/orderbooks?tickers=KA&tickers=KB", symbols=("KA",))
    assert [row["symbol"] for row in rows["book_snapshot"]] == ["KA"]
    assert [letter.reason for letter in dead] == ["unknown_symbol"]
    odd = as_json({"orderbook_fp": {"bids": [["0.48", "1"]]}})
    assert [letter.reason for letter in told(odd, request="/markets/KA/orderbook")[1]] == [
        "missing_field"
    ]


def test_the_recorded_empty_book_is_empty() -> None:
    rows, dead = told(recorded("orderbook"), request=f"/markets/{MARKET}/orderbook")
    assert not dead
    assert rows["book_snapshot"][0]["bid_prices"] == rows["book_snapshot"][0]["ask_prices"] == []


# --------------------------------------------------------------------------- candles


def candle(end: int, **changed: object) -> dict[str, Any]:
    price = {f"{name}_dollars": "0.4800" for name in ("open", "high", "low", "close")}
    return {"end_period_ts": end, "price": price, "volume_fp": "2.50"} | changed


def test_a_candle_says_when_it_ends() -> None:
    nothing = {"price": {"open_dollars": None, "previous_dollars": "0.4700"}, "volume_fp": "0.00"}
    page = as_json({"ticker": MARKET, "candlesticks": [
        candle(1_700_000_100), candle(1_700_000_160, **nothing), candle(1_700_000_220, price=None),
        candle(1_700_000_281)]})  # fmt: skip
    at = f"/series/KXA/markets/{MARKET}/candlesticks?start_ts=1&end_ts=2&period_interval=1"
    rows, dead = told(page, request=at)
    (bar,) = rows["bar"]
    assert (bar["open_ts"].value, bar["close_ts"].value) == (
        1_700_000_040 * SECOND, 1_700_000_100 * SECOND)  # fmt: skip
    assert (bar["timeframe"], bar["session"], bar["of"]) == ("1m", "UTC", "trade")
    assert (bar["close"], bar["volume"], bar["state"]) == (D("0.48"), D("2.5"), "final")
    assert [(letter.item, letter.reason) for letter in dead] == [(3, "bad_time")]


def test_a_day_is_from_midnight_to_midnight_in_new_york() -> None:
    assert begin_of("1d", 1_762_056_000) == 1_762_056_000 - DAY // SECOND
    assert begin_of("1d", 1_762_146_000) == 1_762_146_000 - 25 * 3600, "clocks were put back"
    assert begin_of("1d", 1_762_041_600) is None, "midnight in London"
    assert begin_of("1h", 1_762_041_600) == 1_762_041_600 - 3600
    assert begin_of("1m", -60) is None


def test_recorded_candles_mean_the_same_in_both_forms_and_both_answers() -> None:
    path = "/series/KXELONMARS/markets/KXELONMARS-99/candlesticks?period_interval=1440"
    body = recorded("series_candlesticks")
    rows = told(body, request=path)[0]["bar"]
    assert len(rows) == 68, "of 90 days so many had a trade"
    assert {row["session"] for row in rows} == {"NY00"}
    cents = body.replace(b"_dollars", b"_ignored")
    assert told(cents, request=path)[0]["bar"] == rows
    several = told(
        recorded("candlesticks_batch"), request="/markets/candlesticks?period_interval=1440"
    )
    alike = [[row[name] for name in ("open_ts", "close_ts", "open", "close", "volume")]
             for row in several[0]["bar"]]  # fmt: skip
    assert alike == [[row[name] for name in ("open_ts", "close_ts", "open", "close", "volume")]
                     for row in rows]  # fmt: skip


# ------------------------------------------------------------------------ statements


def test_recorded_statements_are_whole() -> None:
    market = told(recorded("market_single"), request="/markets/KXA")[0]["market"][0]
    assert (market["price_level_structure"], market["tick_size"]) == ("deci_cent", D("0.001"))
    assert market["series_symbol"] == "KXMVENFLSINGLEGAME"
    rows = told(recorded("event_single"), request="/events/KXELONMARS-99")[0]
    assert rows["market_event"][0]["series_symbol"] == "KXELONMARS"
    assert rows["market"][0]["created_ts"] is None, "the zero of its times is none"
    series = told(recorded("series_single"), request="/series/CO2")[0]["market_series"][0]
    assert (series["frequency"], series["tags"]) == ("monthly", '["Climate change"]')
    assert not told(recorded("exchange_status"), request="/exchange/status")[0]


@pytest.mark.parametrize(
    ("structure", "unknown"),
    [
        ("tapered_deci_cent", ""),
        ("center_half_edge_half_cent", ""),
        ("center_deci_edge_centi_cent", ""),
        ("center_half_edge_centi_cent", "price_level_structure"),
    ],
)
def test_grids_of_prices_are_known_by_their_names(structure: str, unknown: str) -> None:
    market = {"ticker": "KXA-1", "price_level_structure": structure}
    page = as_json({"markets": [market], "cursor": ""})
    (row,) = told(page, request="/markets")[0]["market"]
    assert (row["price_level_structure"], row["unknown"]) == (structure, unknown)


def test_what_nobody_knows_and_what_cannot_be_is_kept_and_said() -> None:
    market = {"ticker": "KXA-1", "event_ticker": "KXA", "status": "quaking", "open_time": "soon",
              "updated_time": "2026-08-11T00:15:33Z", "price_level_structure": "new_cent",
              "settlement_value": 100, "notional_value": 100}  # fmt: skip
    page = as_json({"markets": [market, {"ticker": "KXA-2"}], "cursor": ""})
    first, second = told(page, request="/markets?status=open")[0]["market"]
    assert (first["status"], first["price_level_structure"]) == ("quaking", "new_cent")
    assert first["unknown"] == "status,price_level_structure"
    assert (first["open_ts"], first["impossible"]) == (None, "open_ts")
    assert (first["settlement_value"], first["notional_value"]) == (D(1), D(1))
    assert str(first["event_ts"])[:19] == "2026-08-11 00:15:33"
    assert (second["symbol"], second["exchange_ts"]) == ("KXA-2", None)


# --------------------------------------------------------------------------- history


def request(first_s: int, last_s: int, channel: str = "trade") -> HistoryRequest:
    return HistoryRequest(channel, MARKET, first_s * SECOND, last_s * SECOND, "time")


def pages(asked: HistoryRequest, answers: dict[str, list[dict[str, Any]]], kind: str) -> list[str]:
    """Run a plan against pages by path, each once, in order; return the targets."""
    plan, targets = VENUE.history[kind].plan(asked), list[str]()
    body: bytes | None = None
    try:
        while True:
            target = plan.send(body)  # type: ignore[arg-type]
            if not isinstance(target, str):
                body = None
                continue
            targets.append(target)
            given = answers[target.partition("?")[0]]
            body = as_json(given.pop(0) if len(given) > 1 else given[0])
    except StopIteration:
        return targets


def cutoff(at: str) -> dict[str, list[dict[str, Any]]]:
    return {CUTOFF: [{"trades_created_ts": at, "market_settled_ts": at}]}


NOW_S = T0 // 1000
OLD, NEW = "/historical/trades", "/markets/trades"


@pytest.mark.parametrize(
    ("moved", "asked"),
    [
        ("2026-05-01T00:00:00Z", [NEW]),
        ("2026-09-01T00:00:00Z", [OLD]),
        ("2026-08-11T00:00:00Z", [NEW, OLD]),
        ("2026-08-10T12:00:00Z", [NEW, OLD]),
        ("2026-08-09T12:00:00Z", [NEW]),
    ],
)
def test_trades_are_asked_for_where_they_are(moved: str, asked: list[str]) -> None:
    empty: dict[str, list[dict[str, Any]]] = {NEW: [{"trades": []}], OLD: [{"trades": []}]}
    told_paths = pages(request(NOW_S - 3600, NOW_S), cutoff(moved) | empty, "trade")
    assert [path.partition("?")[0] for path in told_paths] == [CUTOFF, *asked]
    assert f"ticker={MARKET}&min_ts={NOW_S - 3660}&" in told_paths[-1], "from a minute before"
    assert asked[0] == OLD or f"&max_ts={NOW_S + 10}&" in told_paths[1]


def test_of_a_long_time_each_list_is_asked_for_its_own_part_and_a_day_more() -> None:
    moved_s, day_s = NOW_S - 50 * 86_400, 86_400
    empty: dict[str, list[dict[str, Any]]] = {NEW: [{"trades": []}], OLD: [{"trades": []}]}
    moved = cutoff(to_text(moved_s * SECOND, exact=True))
    asked = pages(request(NOW_S - 100 * day_s, NOW_S), moved | empty, "trade")
    assert f"&min_ts={moved_s - day_s}&max_ts={NOW_S + 10}&" in asked[1]
    assert f"&min_ts={NOW_S - 100 * day_s - 60}&max_ts={moved_s + day_s}&" in asked[2]


def test_pages_of_any_length_go_on_until_there_is_no_cursor() -> None:
    given = [{"trades": [row_of(1)] * count, "cursor": name}
             for count, name in ((170, "a"), (0, "b="), (3, "c"), (500, ""))]  # fmt: skip
    answers = cutoff("2020-01-01T00:00:00Z") | {NEW: given}
    told_paths = pages(request(NOW_S, NOW_S + 1), answers, "trade")
    assert [path.partition("&cursor=")[2] for path in told_paths[1:]] == ["", "a", "b%3D", "c"]


def test_a_cursor_that_is_told_again_is_a_source_that_does_not_advance() -> None:
    answers = cutoff("2020-01-01T00:00:00Z") | {NEW: [{"trades": [], "cursor": "a"}]}
    with pytest.raises(Stuck):
        pages(request(NOW_S, NOW_S + 1), answers, "trade")
    with pytest.raises(Unusable, match="cutoff"):
        pages(request(NOW_S, NOW_S + 1), {CUTOFF: [{"error": "odd"}]}, "trade")


@pytest.mark.parametrize("moved", [False, True])
def test_bars_are_asked_for_by_their_ends_and_where_they_are(moved: bool) -> None:
    path = "/historical" if moved else "/series/KXA"
    path += f"/markets/{MARKET}/candlesticks"
    listed = {"markets": [{"ticker": MARKET}] if moved else []}
    answers = {
        **cutoff("2023-11-14T23:00:00Z"),
        "/historical/markets": [listed],
        path: [{"candlesticks": [candle(1_700_000_100)]}],
    }
    asked = request(1_700_000_040, 1_700_000_099, "bar:1m")
    *before, target = pages(asked, answers, "bar")
    assert target == f"{path}?start_ts=1700000100&end_ts=1700000159&period_interval=1"
    assert before == [CUTOFF, f"/historical/markets?tickers={MARKET}&limit=1"]
    later = pages(asked, answers | cutoff("2023-11-14T20:00:00Z"), "bar") if not moved else []
    assert moved or later == [CUTOFF, target], "it was not settled by then"


def test_days_of_an_hour_more_or_less_are_among_those_that_are_asked_for() -> None:
    begin_s, end_s = 1_762_056_000, 1_762_146_000  # 25 hours, since clocks are put back
    answers = {
        **cutoff("2020-01-01T00:00:00Z"),
        f"/series/KXA/markets/{MARKET}/candlesticks": [{"candlesticks": [candle(end_s)]}],
    }
    *_, target = pages(request(begin_s, end_s - 1, "bar:1d"), answers, "bar")
    asked = dict(parse_qsl(target.partition("?")[2]))
    assert int(asked["start_ts"]) <= begin_s + 23 * 3600
    assert int(asked["end_ts"]) >= end_s


def test_polls_ask_for_what_is_new_and_for_many_at_once() -> None:
    polls = VENUE.polls
    asked = PollRound(("KA", "KB"), NOW_S * SECOND, (NOW_S + 15) * SECOND)
    assert polls["book_snapshot"].request(asked) == "/markets/orderbooks?tickers=KA&tickers=KB"
    assert "market_tickers=KA,KB&" in polls["bar"].request(asked)
    target = polls["trade"].request(asked._replace(symbols=("KA",)))
    assert f"ticker=KA&min_ts={NOW_S - 30}&" in target
    following = polls["trade"].following(target, as_json({"trades": [], "cursor": "x"}))
    assert following == f"{target}&cursor=x"
    assert not polls["trade"].following(following, as_json({"trades": [], "cursor": ""}))
