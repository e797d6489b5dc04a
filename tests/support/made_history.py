"""Candles that a test makes up: what there is, what is answered otherwise, what was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_S = 86_400
BEGIN_S = 1_772_409_600
"""2026-03-02, a Monday."""
MOST_ROWS = 300


def prices(symbol: str, step_s: int, opened_s: int) -> tuple[str, str, str, str, str]:
    """Low, high, open, close and volume of a candle, each unlike those beside it."""
    base = 10_000 + (opened_s // 60) % 997 + len(symbol) + step_s % 7
    return f"{base}.1", f"{base}.9", f"{base}.2", f"{base}.8", f"{opened_s // 60 % 13 + 1}.5"


@dataclass
class MadeHistory:
    """Implements ``/products/SYMBOL/candles`` as Coinbase does."""

    exists: Callable[[str, int], bool] = lambda _symbol, _opened_s: True
    """Whether a symbol has a candle that opens then."""
    prices: Callable[[str, int, int], tuple[str, str, str, str, str]] = prices
    gone: frozenset[str] = frozenset()
    """Symbols that there are none of."""
    delay_s: float = 0.0
    spoilt: deque[web.Response] = field(default_factory=deque)
    """Answers that are given instead, the next ones first."""
    spoil: Callable[[str, int], web.Response | None] = lambda _symbol, _begin_s: None
    """What is answered instead to a window that begins then, if anything is."""
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    """Symbol, seconds of a candle and begin of each window that was asked for, in order."""

    async def answer(self, request: web.Request) -> web.Response:
        symbol = request.path.split("/")[2]
        if symbol in self.gone:
            return web.json_response({"message": "NotFound"}, status=404)
        step, query = int(request.query["granularity"]), request.query
        begin, last = (
            int(datetime.fromisoformat(query[end]).timestamp()) for end in ("start", "end")
        )
        self.asked.append((symbol, step, begin))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.spoilt:
            return self.spoilt.popleft()
        if instead := self.spoil(symbol, begin):
            return instead
        if (last - begin) // step >= MOST_ROWS:
            return web.json_response({"message": "too many"}, status=400)
        return web.Response(
            text=self.page(symbol, step, begin, last), content_type="application/json"
        )

    def page(self, symbol: str, step: int, begin: int, last: int) -> str:
        """What a window holds, newest first, both ends included."""
        rows = [
            f"[{opened},{','.join(self.prices(symbol, step, opened))}]"
            for opened in range(last // step * step, begin - 1, -step)
            if self.exists(symbol, opened)
        ]
        return f"[{','.join(rows)}]"


def bars(
    history: MadeHistory, symbol: str, step: int, begin: int, end: int
) -> list[tuple[int, str]]:
    """When each candle of a range opens, and its close."""
    found = (each for each in range(begin, end, step) if history.exists(symbol, each))
    return [(opened, prices(symbol, step, opened)[3]) for opened in found]


def on_weekdays(_symbol: str, opened_s: int) -> bool:
    """Trading on five days of seven, from :data:`BEGIN_S` on."""
    return (opened_s - BEGIN_S) // DAY_S % 7 < 5
