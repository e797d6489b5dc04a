"""What becomes of markets while they are watched: created, opened, closed, determined, settled.

``POST /markets/TICKER`` of the truth server has it happen, see :data:`DEEDS`; what has a time
happens by itself. It is told on the channels of lifecycles, multivariate markets (``KXMVE…``) on
one of their own, and a book that is none any more by a snapshot without sides.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from forebay.errors import ConfigError
from forebay.lab.exchanges.kalshi import messages
from forebay.lab.exchanges.kalshi.symbols import event_of, is_ticker, series_of
from forebay.lab.exchanges.kalshi.truth import KalshiBook, KalshiTrades, of_kalshi
from forebay.lab.exchanges.model import Announcement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from forebay.lab.exchanges.market import Market

_S = 1_000_000_000
_NEVER_NS = 1 << 62
_HOUR_S = 3_600
_SETTINGS: Final[Mapping[str, Mapping[str, type]]] = {
    "create": {
        "open_in_s": int,
        "close_in_s": int,
        "idle": bool,
        "determine_after_s": int,
        "settle_after_s": int,
        "result": str,
    },
    "open": {},
    "close": {},
    "deactivate": {},
    "activate": {},
    "move_close": {"in_s": int},
    "determine": {"result": str},
    "settle": {},
    "describe": {"yes_sub_title": str, "floor_strike": int, "price_level_structure": str},
}
DEEDS: Final = tuple(_SETTINGS)
"""What can be done with a market, as ``do`` of the posted object; the rest of it are settings."""


class Lives:
    """The lives of all markets of one exchange, at one moment."""

    def __init__(self, market: Market, now_ns: int) -> None:
        self._market = market
        self._now_ns = now_ns
        self._moment_ns = market.moment_ns(now_ns)

    def change(self, ticker: str, wanted: Mapping[str, object]) -> Sequence[Announcement]:
        """Have something become of a market, and return what is told of it.

        Raises :class:`~forebay.errors.ConfigError` for what cannot be.
        """
        settings = dict(wanted)
        deed = settings.pop("do", None)
        if deed not in _SETTINGS:
            raise ConfigError(f"{deed!r} is nothing to do.", hint=f"There is {', '.join(DEEDS)}.")
        for name, value in settings.items():
            if type(value) is not _SETTINGS[str(deed)].get(name):
                raise ConfigError(f"{name}={value!r} is no setting of {deed}.")
        exists = ticker in self._market.trades
        if exists == (deed == "create") or not is_ticker(ticker):
            raise ConfigError(f"{ticker!r} is {'there already' if exists else 'no market'}.")
        if deed == "create":
            told = [*self._create(ticker, settings)]
        else:
            told = [*self._deed(str(deed))(of_kalshi(self._market.trades[ticker]), settings)]
        self._market.alarm_ns = 0
        return told

    def due(self) -> Iterator[Announcement]:
        """Let happen what is due."""
        if self._moment_ns < self._market.alarm_ns:
            return
        alarm_ns = _NEVER_NS
        for each in [*self._market.trades.values()]:
            trades = of_kalshi(each)
            while (at_ns := _due_ns(trades)) <= self._moment_ns:
                yield from self._deed(_next_deed(trades))(trades, {})
            alarm_ns = min(alarm_ns, at_ns)
        self._market.alarm_ns = alarm_ns

    def _deed(self, name: str) -> Callable[[KalshiTrades, dict[str, Any]], Iterator[Announcement]]:
        deeds = {
            "open": self._open,
            "activate": self._open,
            "close": self._close,
            "deactivate": self._deactivate,
            "move_close": self._move_close,
            "determine": self._determine,
            "settle": self._settle,
            "describe": self._describe,
        }
        return deeds[name]

    # ------------------------------------------------------------------------- deeds

    def _create(self, ticker: str, settings: dict[str, Any]) -> Iterator[Announcement]:
        event = event_of(ticker)
        new = all(event_of(other) != event for other in self._market.trades)
        trades = of_kalshi(self._market.add(ticker, self._now_ns))
        life, at_ns = trades.life, self._moment_ns // _S * _S
        life.status, life.created_ns, life.updated_ns = "initialized", at_ns, self._moment_ns
        life.open_ns = at_ns + settings.get("open_in_s", 0) * _S
        life.close_ns = life.open_ns + settings.get("close_in_s", _HOUR_S) * _S
        life.idle = settings.get("idle", False)
        life.determine_after_s = settings.get("determine_after_s")
        life.settle_after_s = settings.get("settle_after_s")
        life.result = settings.get("result", "")
        if new:
            yield _event_created(ticker)
        yield _told(ticker, "created", **_of_new(trades))
        if life.open_ns <= self._moment_ns:
            yield from self._open(trades, {})

    def _open(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        del settings
        life = trades.life
        if life.status not in ("initialized", "inactive"):
            raise ConfigError(f"{trades.symbol} is {life.status}.")
        self._become(trades, "active")
        life.open_ns = min(life.open_ns, self._moment_ns // _S * _S)
        if not life.idle:
            self._market.begin(trades.symbol, self._now_ns)
        yield _told(trades.symbol, "activated")
        yield self._book(trades)

    def _close(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        del settings
        life = trades.life
        if life.status not in ("active", "inactive"):
            raise ConfigError(f"{trades.symbol} is {life.status}.")
        if life.close_ns > self._moment_ns:
            yield from self._move_close(trades, {"in_s": 0})
        self._become(trades, "closed")
        self._market.halt(trades.symbol, self._now_ns)
        yield self._book(trades)

    def _deactivate(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        del settings
        if trades.life.status != "active":
            raise ConfigError(f"{trades.symbol} is {trades.life.status}.")
        self._become(trades, "inactive")
        self._market.halt(trades.symbol, self._now_ns)
        yield _told(trades.symbol, "deactivated", is_deactivated=True)
        yield self._book(trades)

    def _move_close(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        in_s = settings.get("in_s", _HOUR_S)
        trades.life.close_ns = (self._moment_ns // _S + in_s) * _S
        trades.life.updated_ns = self._moment_ns
        yield _told(trades.symbol, "close_date_updated", close_ts=trades.life.close_ns // _S)

    def _determine(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        life = trades.life
        if life.status != "closed":
            raise ConfigError(f"{trades.symbol} is {life.status}.")
        life.result = settings.get("result") or life.result or "yes"
        life.determined_ns = self._moment_ns
        self._become(trades, "determined")
        at = {"result": life.result, "determination_ts": self._moment_ns // _S}
        yield _told(trades.symbol, "determined", **at, settlement_value=settlement_value(trades))

    def _settle(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        del settings
        if trades.life.status != "determined":
            raise ConfigError(f"{trades.symbol} is {trades.life.status}.")
        trades.life.settled_ns = self._moment_ns
        self._become(trades, "finalized")
        yield _told(trades.symbol, "settled", settled_ts=self._moment_ns // _S)

    def _describe(self, trades: KalshiTrades, settings: dict[str, Any]) -> Iterator[Announcement]:
        trades.life.told.update(settings)
        trades.life.updated_ns = self._moment_ns
        structure = settings.pop("price_level_structure", None)
        if structure is not None:
            more = {"price_level_structure": structure, "price_ranges": price_ranges(trades)}
            yield _told(trades.symbol, "price_level_structure_updated", **more)
        if settings:
            yield _told(trades.symbol, "metadata_updated", **settings)

    def _become(self, trades: KalshiTrades, status: str) -> None:
        trades.life.status, trades.life.updated_ns = status, self._moment_ns

    def _book(self, trades: KalshiTrades) -> Announcement:
        """What its book is now, to those who subscribed to it."""
        told = KalshiBook(trades).snapshot(self._market.last(trades.symbol))
        frame = messages.snapshot(trades.symbol, *messages.levels(told))
        return Announcement(messages.BOOK, frame, trades.symbol)


# ------------------------------------------------------------------------- what is due


def _next_deed(trades: KalshiTrades) -> str:
    deeds = {"initialized": "open", "closed": "determine", "determined": "settle"}
    return deeds.get(trades.life.status, "close")


def _due_ns(trades: KalshiTrades) -> int:
    """When the next thing happens by itself, far away if nothing does."""
    life = trades.life
    if life.status == "initialized":
        return life.open_ns
    if life.status in ("active", "inactive"):
        return life.close_ns
    if life.status == "closed" and life.determine_after_s is not None:
        return life.close_ns + life.determine_after_s * _S
    if life.status == "determined" and life.settle_after_s is not None:
        return (life.determined_ns or 0) + life.settle_after_s * _S
    return _NEVER_NS


# ------------------------------------------------------------------------- what is told


def settlement_value(trades: KalshiTrades) -> str:
    """What a contract of YES is worth in the end."""
    return "1.0000" if trades.life.result == "yes" else "0.0000"


def price_ranges(trades: KalshiTrades) -> list[dict[str, str]]:
    """The prices that there are."""
    return [{"start": "0.0000", "end": "1.0000", "step": trades.price(1)}]


def _told(ticker: str, kind: str, **more: object) -> Announcement:
    combined = ticker.startswith("KXMVE")
    channel = messages.COMBINED if combined else messages.LIFECYCLE
    told = {"market_ticker": ticker, "event_type": kind, **more}
    return Announcement(channel, messages.encode({"type": channel, "msg": told}), ticker)


def _event_created(ticker: str) -> Announcement:
    combined = ticker.startswith("KXMVE")
    told = {
        "event_ticker": event_of(ticker),
        "exchange_index": 0,
        "title": title(event_of(ticker)),
        "subtitle": "",
        "collateral_return_type": "",
        "series_ticker": series_of(ticker),
    }
    channel = messages.COMBINED if combined else messages.LIFECYCLE
    return Announcement(channel, messages.encode({"type": "event_lifecycle", "msg": told}))


def _of_new(trades: KalshiTrades) -> dict[str, object]:
    life = trades.life
    return {
        "exchange_index": 0,
        "open_ts": life.open_ns // _S,
        "close_ts": life.close_ns // _S,
        "additional_metadata": {
            "name": trades.symbol,
            "title": title(trades.symbol),
            "yes_sub_title": "Yes",
            "no_sub_title": "No",
            "rules_primary": f"If it is so, then {trades.symbol} resolves to Yes.",
            "rules_secondary": "",
            "can_close_early": True,
            "event_ticker": event_of(trades.symbol),
            "expected_expiration_ts": life.close_ns // _S + _HOUR_S,
            "strike_type": "greater_or_equal",
            "floor_strike": 4405.11,
        },
        "price_level_structure": trades.grid.structure,
    }


def title(ticker: str) -> str:
    """What a market or an event asks."""
    return f"Will {ticker} be?"


def told_lives(market: Market) -> dict[str, object]:
    """What has become of each market."""
    return {ticker: asdict(of_kalshi(each).life) for ticker, each in market.trades.items()}
