"""Massive, pure: what to say over a connection, and how a call is signed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from forebay.sources.massive.channels import BARS, CRYPTO, FOREX, QUOTES, TRADES
from forebay.sources.massive.protocol import UNDECODABLE
from forebay.sources.venue import NOTHING, MessageVerdict, PlainSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.sources.venue import ConnectionPurpose, Stream

KEY = "key"
"""What the secret is called in a file of credentials."""
TOPICS = {
    (FOREX, QUOTES.kind): "C",
    (FOREX, BARS.kind): "CA",
    (CRYPTO, TRADES.kind): "XT",
    (CRYPTO, QUOTES.kind): "XQ",
    (CRYPTO, BARS.kind): "XA",
}
"""The stream's word for each kind of event of a market."""
ENDINGS = ("auth_failed", "auth_timeout", "max_connections", "slow_consumer", "force_disconnect")
"""What ends a connection, whenever it is said."""
TOO_MANY = 429
NOT_THERE = "Massive has none of that market."
_TOPIC = re.compile(r"([A-Z]+[0-9]?)\.([A-Z0-9]+[/-][A-Z0-9]+)")
NO_KEY = 'it wants a key: name a file with key = "…" as credentials_file'


def sign(
    credentials: Mapping[str, str], method: str, target: str, body: bytes, now_ns: int
) -> Mapping[str, str]:
    """Return the header of a call; the key is never in its address."""
    del method, target, body, now_ns
    return {"Authorization": f"Bearer {credentials.get(KEY, '')}"}


def wait(status: int, headers: Mapping[str, str], body: bytes, now_ns: int) -> float | None:
    """Return how long to leave the venue alone that says so without saying how long.

    Calls are counted by the minute, so it is the rest of this one.
    """
    del body
    if status != TOO_MANY or any(each.isdigit() for each in headers.get("Retry-After", "")):
        return None
    return 60.0 - now_ns / 1e9 % 60.0


class MassiveSession(PlainSession):
    """Waits to be greeted, shows its key, subscribes; each topic is answered for itself."""

    marks = (b'"status"',)

    def __init__(self, asked: ConnectionPurpose) -> None:
        super().__init__(asked)
        self._topics: dict[str, Stream] = {
            f"{TOPICS[asked.market, kind]}.{_wire(asked.market, symbol)}": (kind, symbol)
            for kind, symbol in sorted(asked.streams)
            if (asked.market, kind) in TOPICS
        }
        self._shown = self._subscribed = False

    def opened(self, now_ns: int) -> Sequence[bytes]:
        """Say nothing: the venue speaks first."""
        del now_ns
        return ()

    def received(self, payload: bytes, now_ns: int) -> MessageVerdict:
        """Follow the states of the connection."""
        del now_ns
        try:
            events = msgspec.json.decode(payload)
        except UNDECODABLE:
            return NOTHING
        verdict = NOTHING
        for event in events if isinstance(events, list) else ():
            if isinstance(event, dict) and event.get("ev") == "status":
                said = self._said(str(event.get("status")), str(event.get("message") or ""))
                verdict = _joined(verdict, said)
        return verdict

    def _said(self, status: str, message: str) -> MessageVerdict:
        if status in ("connected", "auth_success"):
            return self._greeted() if status == "connected" else self._admitted()
        if status == "success":
            return MessageVerdict(accepted=frozenset(self._named(message)))
        said = f"{status}: {message}" if message else status
        if status in ENDINGS:
            return MessageVerdict(ended=said, complaint=said)
        return MessageVerdict(refused=dict.fromkeys(self._named(message), said), complaint=said)

    def _greeted(self) -> MessageVerdict:
        """Show the key, once."""
        key, again, self._shown = self.asked.credentials.get(KEY, ""), self._shown, True
        if not key:
            return MessageVerdict(ended=NO_KEY, complaint=NO_KEY)
        return NOTHING if again else MessageVerdict(send=(_command("auth", key),))

    def _admitted(self) -> MessageVerdict:
        """Subscribe, once."""
        if self._subscribed:
            return NOTHING
        self._subscribed = True
        missing = self.asked.streams - {*self._topics.values()}
        send = (_command("subscribe", ",".join(self._topics)),) if self._topics else ()
        return MessageVerdict(refused=dict.fromkeys(missing, NOT_THERE), send=send)

    def _named(self, message: str) -> list[Stream]:
        """Return the streams whose topics stand in a message."""
        found = (
            f"{word}.{_wire(self.asked.market, pair)}" for word, pair in _TOPIC.findall(message)
        )
        return [self._topics[topic] for topic in found if topic in self._topics]


def _joined(first: MessageVerdict, second: MessageVerdict) -> MessageVerdict:
    """Return what two statuses of one frame say together."""
    return MessageVerdict(
        accepted=first.accepted | second.accepted,
        refused={**first.refused, **second.refused},
        ended=first.ended or second.ended,
        complaint="; ".join(filter(None, (first.complaint, second.complaint))),
        send=(*first.send, *second.send),
    )


def _symbol(pair: str) -> str:
    return pair.replace("/", "-")


def _wire(market: str, symbol: str) -> str:
    return symbol.replace("-", "/") if market == FOREX else symbol


def _command(action: str, params: str) -> bytes:
    return json.dumps({"action": action, "params": params}, separators=(",", ":")).encode()
