"""Bars that a venue makes up while its market is closed are stored, flagged, and no coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from forebay.domain.calendars import ALWAYS, FOREX, Calendar, expected, missing
from forebay.services.projection import Projection
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import SECOND, batch, context
from tests.unit.sources.coinbase.test_feed_kinds import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

HOUR_S = 3600
SATURDAY_S = 1_618_617_600
"""2021-04-17."""
FRIDAY_S = SATURDAY_S - 4 * HOUR_S
"""Its 20:00 UTC, 16:00 in New York."""
ASKED = "GET /products/BTC-USD/candles?granularity=3600&start=a&end=b"


class ForexHours(CoinbaseParser):
    """A venue whose market closes on Friday evening."""

    calendars: ClassVar[Mapping[str, Calendar]] = {"spot": FOREX}


def bars(parser: CoinbaseParser, *told: tuple[int, str, str]) -> list[dict[str, Any]]:
    page = ",".join(f"[{at},1.1,{high},1.1,1.1,{volume}]" for at, high, volume in told)
    asked = batch(
        [f"[{page}]".encode()],
        context("rest", request=ASKED),
        received_ns=[(SATURDAY_S + 86_400 * 3) * SECOND],
    )
    projected = Projection({"coinbase": parser}, {}).project([asked])
    return sorted(rows(projected, "bars"), key=lambda row: row["open_ts"])


def flagged(parser: CoinbaseParser, *told: tuple[int, str, str]) -> list[bool]:
    return ["closed_hours" in row["flags"].split(",") for row in bars(parser, *told)]


def test_what_is_flat_and_empty_in_closed_hours_is_flagged_and_stored() -> None:
    told = [(FRIDAY_S + at * HOUR_S, "1.1", "0") for at in range(6)]
    assert flagged(ForexHours(), *told) == [False, True, True, True, True, True]


def test_what_moved_or_traded_in_closed_hours_is_data() -> None:
    assert flagged(ForexHours(), (SATURDAY_S, "1.2", "0"), (SATURDAY_S + HOUR_S, "1.1", "3")) == [
        False,
        False,
    ]


def test_a_venue_without_hours_flags_nothing() -> None:
    assert flagged(CoinbaseParser(), (SATURDAY_S, "1.1", "0")) == [False]


def test_filler_is_no_coverage() -> None:
    saturday, friday = SATURDAY_S * SECOND, FRIDAY_S * SECOND
    stored = [row["open_ts"] for row in bars(ForexHours(), (SATURDAY_S, "1.1", "0"))]
    wanted = expected(FOREX, "1h", friday, saturday + HOUR_S * SECOND)
    assert missing(wanted, np.array(stored)) == missing(wanted, np.array([], dtype=np.int64))
    assert missing(expected(ALWAYS, "1h", saturday, saturday + 1), np.array(stored)).count() == 0
