"""Wiring of venues."""

from __future__ import annotations

import pytest

from forebay.app import venues
from forebay.errors import ConfigError


def test_every_venue_has_a_parser() -> None:
    assert set(venues.parsers()) == set(venues.VENUES)


def test_a_near_miss_is_suggested() -> None:
    assert venues.check_venue("coinbase") == "coinbase"
    with pytest.raises(ConfigError, match="Did you mean 'coinbase'"):
        venues.check_venue("coinbas")
    with pytest.raises(ConfigError, match="There is: coinbase"):
        venues.check_venue("xyz")
