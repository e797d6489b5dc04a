"""Wiring of venues."""

from __future__ import annotations

import random
from typing import Any

import pytest

from forebay.app import venues
from forebay.app.config import VenueConfig
from forebay.clock import ManualClock
from forebay.errors import ConfigError
from forebay.sources.coinbase.protocol import CoinbaseParser
from forebay.telemetry import ignore


def test_every_venue_has_a_parser() -> None:
    assert set(venues.parsers()) == set(venues.VENUES)


def test_a_venue_that_a_program_adds_is_wired_as_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser, source = CoinbaseParser(), object()
    made: list[tuple[VenueConfig, venues.Wiring]] = []

    def wire(*parts: Any) -> Any:  # noqa: ANN401
        made.append(parts)
        return source

    monkeypatch.setitem(venues.VENUES, "made", venues.Venue(lambda: parser, wire))
    config = VenueConfig(name="made", symbols=("A",))
    wiring = venues.Wiring("c", ManualClock(), random.Random(0), ignore)
    assert venues.parsers()["made"] is parser
    assert venues.source(config, wiring) is source
    assert made == [(config, wiring)]


def test_a_near_miss_is_suggested() -> None:
    assert venues.check_venue("coinbase") == "coinbase"
    with pytest.raises(ConfigError, match="Did you mean 'coinbase'"):
        venues.check_venue("coinbas")
    with pytest.raises(ConfigError, match="There is: coinbase"):
        venues.check_venue("xyz")


@pytest.mark.parametrize(
    "url", ["ws://[::1", "ws://localhost:65536", "ws://localhost:x", "http://localhost", "ws://"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    config = VenueConfig(name="coinbase", symbols=("BTC-USD",), ws_url=url)
    with pytest.raises(ConfigError, match="is no address"):
        venues.check_addresses(config)


def test_addresses_are_accepted() -> None:
    venues.check_addresses(
        VenueConfig(
            name="coinbase", symbols=("A",), ws_url="ws://[::1]:65535/x", rest_url="https://h"
        )
    )
