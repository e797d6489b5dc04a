"""What a feed connects to, as its venue says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.sources.venue import ConnectionPurpose, Session


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """What to connect to, what for, and who talks there."""

    venue: str
    collector: str
    url: str
    asked: ConnectionPurpose
    session: Callable[[ConnectionPurpose], Session]
    """Makes the conversation of one connection; each has its own."""
    max_message_bytes: int = 64 << 20
    """First snapshots of whole books have tens of megabytes."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            message = f"{self.url!r} is not a websocket address."
            raise ConfigError(message, hint="Write ws://HOST:PORT/PATH or wss://HOST/PATH.")
