"""The REST half of the simulated exchange: products, trade history and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.lab.exchanges.coinbase import messages
from forebay.lab.faults import rate_limit
from forebay.lab.faults.troubles import BROKEN, HANG, REFUSE, TOO_MANY

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.coinbase.exchange import Exchange

MAX_PAGE: Final = 1_000
REQUESTS_PER_SECOND: Final = 10
BURST: Final = 15
_CLIENTS = 1_024
_SECOND_NS = 1_000_000_000
_HANG_POLL_S = 0.05


@dataclass(slots=True)
class Bucket:
    """Tokens of one client, counted in nanoseconds so that no fraction is lost."""

    filled_ns: int

    def take(self, now_ns: int) -> bool:
        """Whether a request is within 10 a second with a burst of 15; if so it counts."""
        cost = _SECOND_NS // REQUESTS_PER_SECOND
        filled = max(self.filled_ns, now_ns - BURST * cost)
        if now_ns - filled < cost:
            return False
        self.filled_ns = filled + cost
        return True


class Limiter:
    """Buckets by client address."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}

    def take(self, client: str, now_ns: int) -> bool:
        """Whether ``client`` may ask now; if so it counts."""
        if client not in self._buckets:
            if len(self._buckets) >= _CLIENTS:
                self._buckets.pop(next(iter(self._buckets)))
            self._buckets[client] = Bucket(now_ns - BURST * _SECOND_NS)
        return self._buckets[client].take(now_ns)


class BadQuery(Exception):
    """A query parameter that the exchange does not take."""


def number(text: str | None, name: str) -> int | None:
    """A query parameter that must be a whole number.

    Raises:
        BadQuery: it is something else.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):  # noqa: PLR2004 - an int64
        raise BadQuery(f"Invalid {name}")
    return int(text)


class RestApi:
    """Handlers; only what has happened by now is in the history."""

    def __init__(self, exchange: Exchange, clock: Clock, *, limited: bool) -> None:
        self._exchange = exchange
        self._clock = clock
        self._limiter = Limiter() if limited else None

    def app(self) -> web.Application:
        """The application to be served."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/products", self._products)
        app.router.add_get("/products/{id}/trades", self._trades)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._exchange.rest_requests += 1
        troubled = await self._troubled(request)
        if troubled is not None:
            return troubled
        roll = self._exchange.refuses_request(self._exchange.rest_requests)
        if roll is not None:
            wait = rate_limit.retry_after(roll)
            return _refusal(
                429, "Public rate limit exceeded", {"Retry-After": wait} if wait else {}
            )
        now_ns = self._clock.monotonic_ns()
        if self._limiter and not self._limiter.take(request.remote or "", now_ns):
            self._exchange.rate_limited += 1
            return _refusal(429, "Public rate limit exceeded")
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _refusal(404, "NotFound")
        except BadQuery as error:
            return _refusal(400, str(error))

    async def _troubled(self, request: web.Request) -> web.Response | None:
        """Answer as the trouble that lasts would have it, None if there is none."""
        troubles, now_ns = self._exchange.troubles, self._clock.monotonic_ns()
        if troubles.strikes(TOO_MANY, now_ns):
            wait = troubles.setting(TOO_MANY, "retry_after_s")
            headers = {"Retry-After": str(wait)} if wait else {}
            return _refusal(429, "Public rate limit exceeded", headers)
        if troubles.strikes(BROKEN, now_ns):
            return _refusal(troubles.setting(BROKEN, "status"), "Internal server error")
        hanging = troubles.strikes(HANG, now_ns)
        while troubles.on(HANG):
            await self._clock.sleep(_HANG_POLL_S)
        if not (hanging or troubles.strikes(REFUSE, now_ns)):
            return None
        if request.transport is not None:
            request.transport.abort()
        return _refusal(500, "never sent: the connection is gone")

    async def _products(self, request: web.Request) -> web.Response:
        del request
        trades = self._exchange.market.trades.values()
        return web.json_response([messages.product(t.symbol, t.price_decimals) for t in trades])

    async def _trades(self, request: web.Request) -> web.Response:
        symbol = request.match_info["id"]
        if symbol not in self._exchange.market.trades:
            raise web.HTTPNotFound
        query = request.query
        limit = number(query.get("limit"), "limit")
        limit = MAX_PAGE if limit is None else limit
        if not 1 <= limit <= MAX_PAGE:
            raise BadQuery("Invalid limit")
        page = self._exchange.market.page(
            symbol,
            before=number(query.get("before"), "before"),
            after=number(query.get("after"), "after"),
            limit=limit,
        )
        headers = {}
        if page:
            headers = {"CB-BEFORE": str(page[0].trade_id), "CB-AFTER": str(page[-1].trade_id)}
        return web.json_response([messages.history_row(trade) for trade in page], headers=headers)


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"message": message}, status=status, headers=headers)
