"""The ledger against peers that are killed: what it calls certain is, and no doubt is missed.

A peer reads what reaches it after a delay, answers pings as it reads them, and keeps what
it has read some time later (its group commit). A kill loses what is read and not kept.
Whatever the delays, faults and moments of the kills:

    what is certainly withheld, no peer kept;
    what no peer kept is certainly withheld or in doubt.
"""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from forebay.lab.ledger import SETTLE_NS
from tests.unit.lab.fakes import BTC, SECOND, TICK, FakeWire, build, command

if TYPE_CHECKING:
    from forebay.lab.exchanges.exchange import Exchange
    from forebay.lab.exchanges.line import Line

FAULTS = {
    "drop": 0.01,
    "duplicate": 0.01,
    "reorder": 0.01,
    "corrupt": 0.01,
    "late": 0.01,
    "disconnect": 0.001,
    "halfopen": 0.0005,
}


@dataclass(eq=False)
class Peer:
    """A collector that may be killed at any moment."""

    exchange: Exchange
    dice: random.Random
    kept: set[int]
    poisoned: set[bytes]
    wire: FakeWire = field(default_factory=FakeWire)
    unread: deque[tuple[int, str, bytes]] = field(default_factory=deque)
    unkept: deque[tuple[int, bytes]] = field(default_factory=deque)
    line: Line | None = None
    stalled_until: int = 0

    def join(self, now_ns: int) -> None:
        self.line = self.exchange.connected(self.wire, now_ns)
        self.exchange.received(self.line, command(), now_ns)

    def live(self, now_ns: int) -> None:
        """Read, answer and keep what is due by now."""
        for kind, payload in self.wire.did:
            if isinstance(payload, bytes):
                self.unread.append((now_ns, kind, payload))
        self.wire.did.clear()
        if self.dice.random() < 0.01:  # a pause, after which much is read at once
            self.stalled_until = now_ns + self.dice.randrange(SECOND // 2)
        while self.unread and now_ns >= self.stalled_until:
            _, kind, payload = self.unread.popleft()
            if kind == "ping" and self.line is not None:
                self.line.ponged(payload, now_ns)
            elif kind == "text":
                delay = self.dice.randrange(SETTLE_NS - TICK)
                self.unkept.append((now_ns + delay, payload))
        while self.unkept and self.unkept[0][0] <= now_ns:
            self._keep(self.unkept.popleft()[1])

    def _keep(self, payload: bytes) -> None:
        try:
            message = json.loads(payload)
        except ValueError:
            self.poisoned.add(payload)
            return
        if message["type"] in ("match", "last_match"):
            origin = self.exchange.market.trades[BTC].first_trade_id
            self.kept.add(int(message["trade_id"]) - origin)

    def kill(self) -> None:
        if self.line is not None:
            self.exchange.disconnected(self.line)


def run(seed: int, peers: int) -> tuple[Exchange, set[int], set[bytes]]:
    dice = random.Random(seed)
    exchange = build(FAULTS, seed=seed, rate=1_000, events=4_000)
    kept: set[int] = set()
    poisoned: set[bytes] = set()
    alive: list[Peer] = []
    now = 0
    while not exchange.status()["finished"] and now < 30 * SECOND:
        if len(alive) < peers and dice.random() < 0.05:
            peer = Peer(exchange, dice, kept, poisoned)
            peer.join(now)
            alive.append(peer)
        for peer in list(alive):
            peer.live(now)
            gone = peer.line is not None and peer.line.ended
            if gone or dice.random() < 0.004:
                peer.kill()
                alive.remove(peer)
        now += TICK
        exchange.tick(now)
    for peer in alive:
        peer.kill()
    return exchange, kept, poisoned


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("peers", [1, 2])
def test_certain_is_not_kept_and_not_kept_is_certain_or_in_doubt(seed: int, peers: int) -> None:
    exchange, kept, _ = run(seed, peers)
    bounds = exchange.status()["symbols"][BTC]
    assert bounds["first"] is not None
    owed = set(range(bounds["first"], bounds["last"] + 1))
    said = exchange.withheld()[BTC]
    certain = {i for first, last, _ in said["certain"] for i in range(first, last + 1)}
    in_doubt = {i for first, last, _ in said["in_doubt"] for i in range(first, last + 1)}
    lost = owed - kept
    assert lost
    assert certain
    assert certain <= lost
    assert lost <= certain | in_doubt
    assert not certain & in_doubt
    assert all(why for _, _, why in said["certain"] + said["in_doubt"])


def test_poison_that_is_certain_was_kept_and_none_is_unaccounted_for() -> None:
    sure = 0
    for seed in range(6):
        exchange, _, poisoned = run(seed, 1)
        said = exchange.withheld()[BTC]
        assert len(said["poison"]) <= len(poisoned)
        assert len(poisoned) <= len(said["poison"]) + len(said["poison_in_doubt"])
        sure += len(said["poison"])
    assert sure > 20


def test_the_doubt_that_a_kill_leaves_is_short() -> None:
    exchange = build(seed=1, rate=1_000)
    peer = Peer(exchange, random.Random(1), set(), set())
    peer.join(0)
    for now in range(TICK, 3 * SECOND, TICK):
        exchange.tick(now)
        peer.stalled_until = 0
        peer.live(now)
    peer.kill()
    [(first, last, _)] = exchange.withheld()[BTC]["in_doubt"]
    assert last - first < 600  # events of 1 ms: settling, and two pings
