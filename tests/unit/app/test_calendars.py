"""Calendars by name: built in, of exchanges, and a configuration's own."""

from __future__ import annotations

import builtins
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.wiring.calendars import ExchangeHours, calendar_of
from forebay.app.wiring.config import Config, load
from forebay.domain.calendars import ALWAYS, FOREX
from forebay.errors import ConfigError
from tests.support.pages import page

if TYPE_CHECKING:
    from pathlib import Path

library = pytest.mark.filterwarnings("ignore:Series.values:DeprecationWarning")
"""What the library does that pandas will not have for ever."""
HOUR = 3600 * 10**9
VENUE = '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'
FLOOR = '[[calendars]]\nname = "floor"\nweekly = ["Mon-Fri 09:30-16:00"]\n'


def ns(*at: int) -> int:
    return int(datetime(*at, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]


def loaded(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "forebay.toml"
    file.write_text(text)
    return load(file, {}, {})[0]


def test_two_are_built_in() -> None:
    assert calendar_of("24/7", Config()) is ALWAYS
    assert calendar_of("forex", Config()) is FOREX


def test_a_configuration_has_its_own(tmp_path: Path) -> None:
    text = (
        FLOOR
        + 'zone = "America/New_York"\nclosed = ["12-25", "2024-11-29 13:00/2024-11-29 16:00"]\n'
    )
    config = loaded(tmp_path, text + VENUE + 'calendar = "floor"\n')
    floor = calendar_of(config.venues[0].calendar, config)
    (day,) = floor.open(ns(2024, 7, 1), ns(2024, 7, 2))
    assert day == (ns(2024, 7, 1, 13, 30), ns(2024, 7, 1, 20) - 1)
    (day,) = floor.open(ns(2024, 11, 29), ns(2024, 11, 30))
    assert day == (ns(2024, 11, 29, 14, 30), ns(2024, 11, 29, 18) - 1)
    assert not floor.open(ns(2024, 12, 25), ns(2024, 12, 26))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (VENUE + 'calendar = "forx"\n', "Did you mean 'forex'"),
        (FLOOR + VENUE + 'calendar = "flor"\n', "Did you mean 'floor'"),
        (FLOOR + 'zone = "Mars/Olympus"\n', "zone 'Mars/Olympus' that nobody knows"),
        (FLOOR + 'zone = "/etc"\n', "zone '/etc' that nobody knows"),
        (FLOOR + 'closed = ["Christmas"]\n', "'Christmas' is no closed time"),
        (FLOOR.replace("Mon-Fri 09:30", "Mo 9:30"), "is no open time"),
        (FLOOR.replace("floor", "forex"), "is there already"),
        (FLOOR + "weekley = []\n", "Did you mean 'weekly'"),
        ('[[calendars]]\nweekly = ["Mon 09:30-16:00"]\n', "name' is missing"),
        ('[[calendars]]\nname = "floor"\n', "weekly' is missing"),
        ('[[calendars]]\nname = "floor"\nsymbol = 1\n', "symbol'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, text)
    assert told in str(error.value)


def test_the_calendar_of_an_exchange_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if name == "exchange_calendars":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install .\.\[calendars\]"):
        calendar_of("exchange:XNYS", Config())


@library
def test_an_exchange_has_its_sessions() -> None:
    pytest.importorskip("exchange_calendars")
    new_york = calendar_of("exchange:XNYS", Config())
    (day,) = new_york.open(ns(2024, 7, 1), ns(2024, 7, 2))
    assert day == (ns(2024, 7, 1, 13, 30), ns(2024, 7, 1, 20) - 1)
    (early,) = new_york.open(ns(2024, 11, 29), ns(2024, 11, 30))
    assert early == (ns(2024, 11, 29, 14, 30), ns(2024, 11, 29, 18) - 1)
    assert not new_york.open(ns(2024, 12, 25), ns(2024, 12, 26))
    assert len(new_york.open(ns(2024, 1, 1), ns(2025, 1, 1))) == 252


@library
def test_an_exchange_is_closed_at_noon_if_it_has_a_break() -> None:
    pytest.importorskip("exchange_calendars")
    tokyo = calendar_of("exchange:XTKS", Config())
    morning, afternoon = tokyo.open(ns(2024, 7, 1), ns(2024, 7, 2))
    assert morning == (ns(2024, 7, 1, 0), ns(2024, 7, 1, 2, 30) - 1)
    assert afternoon[0] == ns(2024, 7, 1, 3, 30)


@library
def test_an_exchange_that_nobody_knows_or_a_time_beyond_is_told() -> None:
    pytest.importorskip("exchange_calendars")
    with pytest.raises(ConfigError, match="exchange 'XNYZ'"):
        ExchangeHours("XNYZ")
    with pytest.raises(ConfigError, match="does not reach"):
        ExchangeHours("XKRX").open(ns(1901, 1, 1), ns(1902, 1, 1))


def test_the_example_of_the_page_is_a_calendar(tmp_path: Path) -> None:
    example = page("explanation/calendars").partition("```toml\n")[2].partition("```")[0]
    config = loaded(tmp_path, example)
    floor = calendar_of(config.venues[0].calendar, config)
    hours = floor.open(ns(2026, 11, 22), ns(2026, 11, 29))
    assert [(last + 1 - first) / HOUR for first, last in hours] == [8, 6.5, 6.5, 6.5, 3.5]


class Library:
    """As much of ``exchange_calendars`` as is used, with one session of a floor with a break."""

    def __init__(self, *sessions: tuple[int, float, float, int]) -> None:
        columns = zip(*sessions, strict=True)
        self.opens, self.break_starts, self.break_ends, self.closes = (
            [Moment(at) for at in column] for column in columns
        )

    def get_calendar_names(self) -> list[str]:
        return ["XTKS"]

    def get_calendar(self, name: str, *, start: str, end: str) -> Library:
        if start < "2000":
            raise ValueError("nobody knows")
        return self


class Moment(float):
    """A time of pandas: not equal to itself if there is none."""

    @property
    def value(self) -> int:
        return int(self)


def test_sessions_are_taken_from_the_library_without_their_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = ns(2024, 7, 1), ns(2024, 7, 2)
    nothing = float("nan")
    made = Library(
        (first, first + 2 * HOUR, first + 3 * HOUR, first + 6 * HOUR),
        (second, nothing, nothing, second + 4 * HOUR),
    )
    monkeypatch.setitem(sys.modules, "exchange_calendars", made)
    tokyo = calendar_of("exchange:XTKS", Config())
    found = [
        ((begin - first) / HOUR, (end + 1 - first) / HOUR)
        for begin, end in tokyo.open(first, second + 9 * HOUR)
    ]
    assert found == [(0, 2), (3, 6), (24, 28)]
    with pytest.raises(ConfigError, match="does not reach"):
        tokyo.open(ns(1990, 1, 1), ns(1990, 2, 1))
    with pytest.raises(ConfigError, match="no calendar of an exchange 'XNYS'"):
        calendar_of("exchange:XNYS", Config())
