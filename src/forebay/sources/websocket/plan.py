"""What a feed connects to, as its venue's connector says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """What to connect to and what to say there."""

    venue: str
    collector: str
    url: str
    messages: tuple[bytes, ...]
    """Sent as text, in order, as soon as the connection is up."""
    accepts: Callable[[bytes], bool]
    """Told each message until it answers True (accepted). Raises
    :class:`~forebay.errors.Permanent` if the message refuses the subscription."""
    symbols: tuple[str, ...] = ()
    market: str = "spot"
    channels: tuple[str, ...] = ()
    """Asked for, in Forebay's words; empty: all that the venue declares."""
    max_message_bytes: int = 64 << 20
    """First snapshots of whole books have tens of megabytes."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            message = f"{self.url!r} is not a websocket address."
            raise ConfigError(message, hint="Write ws://HOST:PORT/PATH or wss://HOST/PATH.")
