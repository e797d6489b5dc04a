"""The REST half of a simulated exchange: faults and refusals around the venue's own routes."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from aiohttp import web

from forebay.lab.exchanges.limits import Limiter
from forebay.lab.exchanges.queries import BadQuery
from forebay.lab.faults import BAN, BROKEN, HANG, PAGE, REFUSE, TOO_MANY, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler

    from forebay.clock import Clock
    from forebay.lab.exchanges.exchange import Exchange

_TOO_MANY: Final = 429
_BANNED: Final = 418
_HANG_POLL_S = 0.05
_NO_BODY, _A_PAGE, _FRACTION, _DATE, _WORD, _NOUGHT = range(1, 7)


class RestApi:
    """Only what has happened by now is in the history."""

    def __init__(self, exchange: Exchange, clock: Clock, *, limited: bool) -> None:
        self._exchange = exchange
        self._clock = clock
        self._limiter = Limiter(exchange.venue.rest_limit) if limited else None

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        told = self._exchange
        app.router.add_routes(
            web.route(each.method, told.venue.rest_path + each.path, each.handler)
            for each in told.venue.routes(told.market, self._clock, told.switched)
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._exchange.rest_requests += 1
        if (troubled := await self._troubled(request)) is not None:
            return troubled
        if (roll := self._exchange.faults.of_request(self._exchange.rest_requests)) is not None:
            self._exchange.rate_limited += 1
            told = self._exchange.venue.waits_told
            return self._refusal(_TOO_MANY, wait=retry_after(roll) if told else 0)
        now_ns = self._clock.monotonic_ns()
        if self._limiter and not self._limiter.take(request.remote or "", now_ns):
            self._exchange.rate_limited += 1
            return self._refusal(_TOO_MANY)
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPUnauthorized) as error:
            said = error.text if isinstance(error, web.HTTPUnauthorized) else None
            return self._refusal(error.status, said or "")
        except BadQuery as error:
            return self._refusal(400, str(error))

    async def _troubled(self, request: web.Request) -> web.Response | None:
        """Return as the trouble that lasts would have it, None if there is none."""
        switched, now_ns = self._exchange.switched, self._clock.monotonic_ns()
        if switched.strikes(TOO_MANY, now_ns):
            return self._too_many(
                switched.setting(TOO_MANY, "form"), switched.setting(TOO_MANY, "retry_after_s")
            )
        if switched.strikes(PAGE, now_ns):
            return _page(switched.setting(PAGE, "status"))
        if switched.strikes(BROKEN, now_ns):
            return self._refusal(switched.setting(BROKEN, "status"), "Internal server error")
        if switched.strikes(BAN, now_ns):
            ban_s = switched.setting(BAN, "ban_s")
            until_ms = self._clock.wall_ns() // 1_000_000 + ban_s * 1000
            said = f"Way too many requests; IP banned until {until_ms}."
            return self._refusal(_BANNED, said, wait=ban_s)
        hanging = switched.strikes(HANG, now_ns)
        while switched.on(HANG):
            await self._clock.sleep(_HANG_POLL_S)
        if not (hanging or switched.strikes(REFUSE, now_ns)):
            return None
        if request.transport is not None:
            request.transport.abort()
        return self._refusal(500, "never sent: the connection is gone")

    def _too_many(self, form: int, wait_s: int) -> web.Response:
        """Return a 429 in one of the forms that there are."""
        until = formatdate(self._clock.wall_ns() / 1e9 + wait_s, usegmt=True)
        waits = {_FRACTION: f"{wait_s}.493", _DATE: until, _WORD: "soon", _NOUGHT: "0"}
        wait = waits.get(form, str(wait_s)) if wait_s else ""
        headers = {"Retry-After": wait} if wait else {}
        if form == _NO_BODY:
            return web.Response(status=_TOO_MANY, headers=headers)
        if form == _A_PAGE:
            return _page(_TOO_MANY, headers)
        return self._refusal(_TOO_MANY, wait=wait)

    def _refusal(self, status: int, message: str = "", *, wait: int | str = 0) -> web.Response:
        """A refusal; ``wait``, mostly seconds, is its Retry-After, if any."""
        body = self._exchange.venue.complaint(status, message)
        headers = {"Retry-After": str(wait)} if wait else {}
        return web.json_response(body, status=status, headers=headers)


def _page(status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return what something before the venue answers, to people."""
    text = "<!doctype html><html><body>Just a moment…</body></html>"
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)
