"""The REST half of a simulated exchange: faults and refusals around the venue's own routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.lab.exchanges.limits import Limiter
from forebay.lab.exchanges.queries import BadQuery
from forebay.lab.faults import BROKEN, HANG, REFUSE, TOO_MANY, retry_after

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.exchange import Exchange

_TOO_MANY: Final = 429
_HANG_POLL_S = 0.05


class RestApi:
    """Only what has happened by now is in the history."""

    def __init__(self, exchange: Exchange, clock: Clock, *, limited: bool) -> None:
        self._exchange = exchange
        self._clock = clock
        self._limiter = Limiter(exchange.venue.rest_limit) if limited else None

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_routes(self._exchange.venue.routes(self._exchange.market, self._clock))
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._exchange.rest_requests += 1
        if (troubled := await self._troubled(request)) is not None:
            return troubled
        if (roll := self._exchange.faults.of_request(self._exchange.rest_requests)) is not None:
            self._exchange.rate_limited += 1
            return self._refusal(_TOO_MANY, wait=retry_after(roll))
        now_ns = self._clock.monotonic_ns()
        if self._limiter and not self._limiter.take(request.remote or "", now_ns):
            self._exchange.rate_limited += 1
            return self._refusal(_TOO_MANY)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return self._refusal(404)
        except BadQuery as error:
            return self._refusal(400, str(error))

    async def _troubled(self, request: web.Request) -> web.Response | None:
        """Return as the trouble that lasts would have it, None if there is none."""
        switched, now_ns = self._exchange.switched, self._clock.monotonic_ns()
        if switched.strikes(TOO_MANY, now_ns):
            return self._refusal(_TOO_MANY, wait=switched.setting(TOO_MANY, "retry_after_s"))
        if switched.strikes(BROKEN, now_ns):
            return self._refusal(switched.setting(BROKEN, "status"), "Internal server error")
        hanging = switched.strikes(HANG, now_ns)
        while switched.on(HANG):
            await self._clock.sleep(_HANG_POLL_S)
        if not (hanging or switched.strikes(REFUSE, now_ns)):
            return None
        if request.transport is not None:
            request.transport.abort()
        return self._refusal(500, "never sent: the connection is gone")

    def _refusal(self, status: int, message: str = "", *, wait: int = 0) -> web.Response:
        """A refusal; ``wait`` seconds are in its Retry-After, if any."""
        body = self._exchange.venue.complaint(status, message)
        headers = {"Retry-After": str(wait)} if wait else {}
        return web.json_response(body, status=status, headers=headers)
