"""The exam's venue, pure: what to say over a connection, and which pages to ask for."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import deque
from typing import TYPE_CHECKING

from forebay.sources.venue import NOTHING, MessageVerdict, PlainSession
from tests.exam.made.protocol import BANNED, POLLED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.ports import HistoryRequest
    from forebay.sources.venue import ConnectionPurpose, PollRound

ROWS = 10
"""Most rows of a page."""
DEPTH = 5
"""There is nothing deep at this venue, but it wants to be told."""


def sign(
    credentials: Mapping[str, str], method: str, target: str, body: bytes, now_ns: int
) -> Mapping[str, str]:
    """Return the headers of a signed call."""
    text = f"{method} {target} {now_ns} ".encode() + body
    key = credentials.get("secret", "").encode()
    signature = hmac.new(key, text, hashlib.sha256).hexdigest()
    return {"X-Made-Time": str(now_ns), "X-Made-Signature": signature}


class MadeSession(PlainSession):
    """Signs the upgrade, asks for one symbol a tick, then pings; hears complaints for ever."""

    attentive = True
    tick_s: float | None = 0.02

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._waiting = deque(asked.symbols)

    @property
    def asking(self) -> bool:
        return bool(self._waiting)

    def headers(self, now_ns: int) -> Mapping[str, str]:
        return sign(self.asked.credentials, "GET", "/", b"", now_ns)

    def opened(self, now_ns: int) -> Sequence[bytes]:
        return self.tick(now_ns)

    def tick(self, now_ns: int) -> Sequence[bytes]:
        if not self._waiting:
            return [b"ping"]
        return [f"subscribe {self._waiting.popleft()} {self.asked.depth}".encode()]

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        word, _, rest = payload.partition(b" ")
        text = rest.decode()
        if word == b"complain":
            return MessageVerdict(complaint=text, send=(b"sorry",))
        symbol, _, reason = text.partition(" ")
        streams = frozenset((kind, symbol) for kind in self.asked.channels)
        if word == b"ok":
            return MessageVerdict(accepted=streams)
        return MessageVerdict(refused=dict.fromkeys(streams, reason)) if word == b"no" else NOTHING


# --------------------------------------------------------------------------- REST


def by_id_path(symbol: str, before: int, rows: int) -> str:
    return f"/history/id?symbol={symbol}&before={before}&rows={rows}"


def ids(body: bytes) -> list[int]:
    return [int(line.split(b" ")[2]) for line in body.split(b"\n") if line]


def by_time_path(symbol: str, begin_ns: int, end_ns: int) -> str:
    return f"/history/time?symbol={symbol}&begin={begin_ns}&end={end_ns}"


def count(body: bytes) -> int:
    return body.count(b"\n")


def by_token_path(request: HistoryRequest, token: str) -> str:
    return f"/history/token?symbol={request.symbol}&token={token}"


def token(body: bytes) -> str:
    """Return what the last line says comes next."""
    word, _, rest = body.rstrip(b"\n").rpartition(b"\n")[2].partition(b" ")
    if word != b"next":
        raise ValueError("a page does not say what comes next")
    return rest.decode()


def poll_path(asked: PollRound) -> str:
    return f"/{POLLED}?symbol={asked.symbols[0]}&at={asked.now_ns}"


def banned_for(status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> float | None:
    """Return the seconds until the moment that a ban names, in milliseconds."""
    del headers
    until_ms = json.loads(body)[BANNED] if status == 418 else None
    return None if until_ms is None else max(0.0, until_ms / 1e3 - now_ns / 1e9)
