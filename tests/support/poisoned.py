"""A data folder whose venue's parser has a mistake: good events, with dead letters among them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from forebay.app.offline.replay import offline
from forebay.app.reader import Data
from forebay.app.wiring import venues
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.domain.frames import Context, EpochAccepted, EpochClosed, FrameKind, encode_control
from forebay.journal import PendingBlock
from forebay.telemetry import ignore
from tests.support.commands import Answer, invoked
from tests.support.made_venue import SYMBOL, T0_NS, Deal, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.identity import IdentityClass
    from forebay.journal import JournalWriter

GOOD = [Deal(number=n, micros=n) for n in (1, 2, 3)]
LATER = [Deal(number=n, micros=n) for n in (4, 5)]
POISON = [Deal(number=n, micros=n, symbol="NEW-B") for n in (1, 2)]
MIXED = [Deal(number=6, micros=6), Deal(number=3, micros=6, symbol="NEW-B")]
"""Two events of one frame, of which one is poison."""
ROWS = (
    "SELECT event_id, symbol, venue_seq, event_ts, received_ts, trade_id, price, size, side, epoch"
)
"""Of each trade."""


class Place:
    """A data folder whose venue has a mistake in its parser."""

    def __init__(self, root: Path, identity: IdentityClass) -> None:
        self.root = root
        self.folder = DataFolder(root).create()
        self.venue = f"made-{identity}"
        plugin = f"tests.support.mending_venue:{identity.upper()}"
        self.folder.remember_plugins({self.venue: plugin})
        venues.install(self.folder)
        self.clock = ManualClock(T0_NS)

    def context(self, epoch: str = "e1") -> bytes:
        return Context(
            venue=self.venue,
            source="ws",
            purpose="live",
            collector="c1",
            epoch=epoch,
            symbols=(SYMBOL, "NEW-B"),
            channels=("trade",),
        ).encode()

    @contextlib.contextmanager
    def writer(self) -> Iterator[JournalWriter]:
        with offline(self.folder, Config(), self.clock, ignore) as (writer, deliverer):
            yield writer
            deliverer.drain()

    def capture(self) -> None:
        """Capture good events, and poison among them, as one connection tells them."""
        frames = [frame(deal) for deal in [*GOOD, *POISON, *LATER]] + [frame(*MIXED)]
        times = [T0_NS + 10**9 + n for n in range(len(frames))]
        context = self.context()
        accepted = encode_control(EpochAccepted())
        closed = encode_control(EpochClosed("done", silent_ns=0))
        with self.writer() as writer:
            for kind, payloads, at in (
                (FrameKind.CONTROL, [accepted], [times[0] - 1]),
                (FrameKind.TEXT, frames, times),
                (
                    FrameKind.CONTROL,
                    [closed],
                    [times[-1] + 1],
                ),
            ):
                writer.commit([PendingBlock(int(kind), context, payloads, at, (0, 0))])

    def sql(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = Data(self.root).sql(query).to_pylist()
        return rows

    def rows(self) -> list[dict[str, Any]]:
        return self.sql(f"{ROWS} FROM trades ORDER BY ALL")

    def dlq(self, command: str, *arguments: object) -> Answer:
        return invoked("dlq", command, *arguments, "--data", self.root)

    def listed(self, *arguments: object) -> list[dict[str, Any]]:
        answer = self.dlq("list", *arguments, "--json")
        assert answer.code == 0, answer
        found: list[dict[str, Any]] = answer.json
        return found

    def audit(self, source: str = "auto") -> dict[str, Any]:
        answer = invoked("audit", "--data", self.root, "--from", source, "--json")
        told: dict[str, Any] = answer.json
        assert told["problems"] == [], told["problems"]
        return told


def captured(root: Path, identity: IdentityClass = "native") -> Place:
    place = Place(root, identity)
    place.capture()
    return place
