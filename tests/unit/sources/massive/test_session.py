"""What is said to Massive: the key, the subscription, and what its statuses mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring import venues
from forebay.app.wiring.config import VenueConfig
from forebay.errors import ConfigError
from forebay.ports import HistoryRequest
from forebay.sources.massive import VENUE
from forebay.sources.massive.connector import (
    ENDINGS,
    NO_KEY,
    MassiveSession,
    sign,
    ticks_path,
    wait,
)
from forebay.sources.massive.instruments import parse_tickers
from forebay.sources.venue import NOTHING, ConnectionPurpose, MessageVerdict
from tests.support.frames import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "the-key"
FOREX = ("EUR-USD", "GBP-USD")


def session(
    *kinds: str,
    market: str = "forex",
    symbols: tuple[str, ...] = FOREX,
    credentials: Mapping[str, str] | None = None,
) -> MassiveSession:
    asked = ConnectionPurpose(
        symbols,
        kinds or ("quote", "bar"),
        market,
        credentials={"key": SECRET} if credentials is None else credentials,
    )
    return MassiveSession(asked)


def status(word: str, message: str = "") -> dict[str, str]:
    return {"ev": "status", "status": word, "message": message}


def said(to: MassiveSession, *told: dict[str, str]) -> MessageVerdict:
    return to.received(as_json(list(told)), 0)


def subscribed(*kinds: str, **how: object) -> tuple[MassiveSession, MessageVerdict]:
    """Return a session that has been admitted, and what it said then."""
    one = session(*kinds, **how)  # type: ignore[arg-type]  # as session takes them
    said(one, status("connected", "Connected Successfully"))
    return one, said(one, status("auth_success", "authenticated"))


def test_nothing_is_said_before_the_venue_speaks() -> None:
    assert not session().opened(0)
    assert not session().headers(0)


def test_the_key_is_shown_once_greeted_and_everything_is_subscribed_to_once_admitted() -> None:
    one = session()
    greeted = said(one, status("connected", "Connected Successfully"))
    assert greeted.send == (b'{"action":"auth","params":"the-key"}',)
    admitted = said(one, status("auth_success", "authenticated"))
    topics = "CA.EUR/USD,CA.GBP/USD,C.EUR/USD,C.GBP/USD"
    assert [json.loads(each) for each in admitted.send] == [
        {"action": "subscribe", "params": topics}
    ]
    assert said(one, status("connected")) == said(one, status("auth_success")) == NOTHING


def test_topics_of_cryptocurrencies() -> None:
    _, admitted = subscribed("trade", "quote", "bar", market="crypto", symbols=("BTC-USD",))
    (message,) = admitted.send
    assert json.loads(message)["params"] == "XA.BTC-USD,XQ.BTC-USD,XT.BTC-USD"


def test_each_success_accepts_its_topic() -> None:
    one, _ = subscribed()
    both = said(
        one,
        status("success", "subscribed to: C.EUR/USD"),
        status("success", "subscribed to: CA.GBP/USD"),
    )
    assert both.accepted == {("quote", "EUR-USD"), ("bar", "GBP-USD")}
    assert said(one, status("success", "subscribed to: C.GBP-USD")).accepted == {
        ("quote", "GBP-USD")
    }
    assert not said(one, status("success", "subscribed to: C.JPY/USD")).accepted


def test_a_kind_that_the_market_has_not_is_refused() -> None:
    _, admitted = subscribed("quote", "trade")
    assert set(admitted.refused) == {("trade", symbol) for symbol in FOREX}


@pytest.mark.parametrize("word", ENDINGS)
def test_what_ends_a_connection_blames_no_stream(word: str) -> None:
    one, _ = subscribed()
    said(one, status("success", "subscribed to: C.EUR/USD"))
    verdict = said(one, status(word, "why C.EUR/USD"))
    assert verdict.ended == f"{word}: why C.EUR/USD"
    assert verdict.complaint == verdict.ended
    assert not verdict.refused


def test_an_error_is_a_complaint_and_refuses_what_it_names() -> None:
    one, _ = subscribed()
    verdict = said(one, status("error", "not authorized: C.EUR/USD, CA.EUR/USD"))
    assert set(verdict.refused) == {("quote", "EUR-USD"), ("bar", "EUR-USD")}
    assert verdict.complaint.startswith("error: ")
    vague = said(one, status("error", "something"))
    assert (vague.complaint, vague.refused) == ("error: something", {})


def test_a_topic_is_not_blamed_for_a_longer_one() -> None:
    one, _ = subscribed("quote", market="crypto", symbols=("BTC-USD",))
    assert not said(one, status("error", "no XQ.BTC-USDT")).refused
    assert not said(one, status("error", "no CXQ.BTC-USD")).refused


def test_without_a_key_it_says_what_to_do() -> None:
    verdict = said(session(credentials={}), status("connected"))
    assert (verdict.ended, verdict.send) == (NO_KEY, ())


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"[" * 100_000, b"7", b"{}", b"[]", b"[7]", b'[{"ev":"C"}]',
                b'[{"ev":"status"}]'[:-1]],
)  # fmt: skip
def test_what_says_nothing_of_the_subscription_is_left_alone(payload: bytes) -> None:
    assert session().received(payload, 0) == NOTHING


def test_later_statuses_are_heard_by_their_mark() -> None:
    assert session().marks
    assert all(mark in as_json([status("slow_consumer")]) for mark in session().marks)


def test_what_ends_a_connection_is_known() -> None:
    assert set(ENDINGS) == {
        "auth_failed", "auth_timeout", "max_connections", "slow_consumer", "force_disconnect",
    }  # fmt: skip


def test_the_key_is_in_a_header_and_in_no_address() -> None:
    headers = sign({"key": SECRET}, "GET", "/v2/x", b"", 0)
    assert headers == {"Authorization": f"Bearer {SECRET}"}
    assert SECRET not in repr(session().asked)
    request = HistoryRequest("trade", "BTC-USD", 1, 2, "time", "crypto")
    assert "apiKey" not in ticks_path(request, "")


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {}, 40.0),
        (429, {"Retry-After": "soon"}, 40.0),
        (429, {"Retry-After": ""}, 40.0),
        (429, {"Retry-After": "0"}, None),
        (429, {"Retry-After": "0.493"}, None),
        (429, {"Retry-After": "Tue, 14 Nov 2023 22:14:50 GMT"}, None),
        (503, {}, None),
    ],
)
def test_who_is_not_told_how_long_to_wait_waits_for_the_next_minute(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    assert wait(status, headers, b"", 1_700_000_000 * 10**9) == seconds  # 20 s after one


def test_ticks_are_asked_for_with_a_margin() -> None:
    first, last = 1_700_000_000_000_000_000, 1_700_000_060_000_000_000
    request = HistoryRequest("quote", "EUR-USD", first, last, "time", "forex")
    assert ticks_path(request, "") == (
        "/v3/quotes/C:EUR-USD?timestamp.gte=1699999999000000000&timestamp.lte=1700000061000000000"
        "&order=asc&sort=timestamp&limit=50000"
    )
    assert ticks_path(request, "/v3/quotes/C:EUR-USD?cursor=x").endswith("cursor=x")


def test_each_market_has_its_address_and_kinds() -> None:
    assert "{market}" in VENUE.ws_url

    def kinds(market: str, *words: str) -> tuple[str, ...]:
        config = VenueConfig(
            name="massive", symbols=("EUR-USD",), market=market, channels=tuple(words)
        )
        return venues.kinds(config)

    assert kinds("forex", "all") == ("quote", "bar")
    assert kinds("crypto", "all") == ("trade", "quote", "bar")
    with pytest.raises(ConfigError, match="no channel 'trades'"):
        kinds("forex", "trades")
    with pytest.raises(ConfigError, match="no market 'spot'"):
        venues.check(VenueConfig(name="massive", symbols=("EUR-USD",), market="spot"))
    left_out = VenueConfig(name="massive", symbols=("EUR-USD",))
    assert venues.market_of(left_out) == "forex", "the venue's first"


def test_the_list_of_tickers_is_read() -> None:
    body = as_json({"results": [
        {"ticker": "C:EURUSD", "market": "fx", "base_currency_symbol": "EUR",
         "currency_symbol": "USD", "active": True},
        {"ticker": "X:BTCUSD", "market": "crypto", "base_currency_symbol": "BTC",
         "currency_symbol": "USD", "active": False},
        {"ticker": "AAPL", "market": "stocks"},
    ], "status": "OK"})  # fmt: skip
    told = [(each.symbol, each.venue_symbol, each.status) for each in parse_tickers(body)]
    assert told == [("EUR-USD", "C:EURUSD", "online"), ("BTC-USD", "X:BTCUSD", "inactive")]
    for empty in (b"{}", b'{"results":null}', b'{"results":[]}'):
        assert parse_tickers(empty) == []
    for wrong in (b"<html>", b"[]", b'{"results":[{}]}', b"[" * 100_000):
        with pytest.raises((ValueError, RecursionError)):
            parse_tickers(wrong)


def test_tickers_of_a_market_are_asked_for_page_by_page() -> None:
    listing = VENUE.listing
    assert listing is not None
    assert listing.first("forex") == "/v3/reference/tickers?market=fx&active=true&limit=1000"
    assert "market=crypto" in listing.first("crypto")
    assert "market=" not in listing.first("spot")
    page = as_json(
        {"results": [], "next_url": "https://evil/v3/reference/tickers?cursor=a&apiKey=b"}
    )
    assert listing.following(page) == "/v3/reference/tickers?cursor=a"
    assert listing.following(b'{"results":[]}') == ""
    assert listing.following(b'{"next_url":"https://evil/v1/account"}') == ""
