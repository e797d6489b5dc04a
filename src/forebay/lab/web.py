"""Small JSON calls over HTTP, to look at what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

_ASK = aiohttp.ClientTimeout(total=5.0)


async def ask(
    url: str,
    method: str = "GET",
    document: object = None,
    query: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Return status and body: JSON as what it is, anything else as text.

    Raises :class:`~forebay.errors.Unreachable`.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=_ASK) as session,
            session.request(method, url, json=document, params=query) as response,
        ):
            is_json = response.content_type.endswith("json")
            return response.status, await (response.json() if is_json else response.text())
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        message = f"{method} {url} was not answered: {error or type(error).__name__}."
        raise Unreachable(message, hint="Is it running?") from error
