"""Small JSON calls over HTTP, for a drill that looks at what it runs."""

from __future__ import annotations

from typing import Any, Self

import aiohttp

from forebay.errors import Unreachable

_ASK_S = 5.0


class Web:
    """A pooled session; use ``async with``."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, url: str, method: str = "GET", document: object = None) -> tuple[int, Any]:
        """Return status and body: JSON as what it is, anything else as text.

        Raises :class:`~forebay.errors.Unreachable`.
        """
        assert self._session is not None  # noqa: S101 - the context is entered
        try:
            async with self._session.request(method, url, json=document) as response:
                is_json = response.content_type.endswith("json")
                return response.status, await (response.json() if is_json else response.text())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            message = f"{method} {url} was not answered: {error or type(error).__name__}."
            raise Unreachable(message, hint="Is it running?") from error
