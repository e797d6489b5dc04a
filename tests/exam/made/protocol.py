"""A venue made up for the exam, pure: what its lines mean in each of its editions.

Every edition sends the same lines and declares another pair of identity and unit for both of its
channels. A line is ``KIND SYMBOL NUMBER MICROSECONDS VALUE VALUE ...``: the number rises by one
within a stream and begins anew with each connection unless the edition says that it is the
venue's own. Other lines are of the conversation and no events. A third channel comes by REST,
where an answer has many lines; it is the same in every edition.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from forebay.domain.channels import UNITS_OF, Channel
from forebay.domain.parsed import DeadLetter, Moments, Parsed, RawEvents

if TYPE_CHECKING:
    from forebay.domain.channels import Unit
    from forebay.domain.frames import FrameBatch
    from forebay.domain.identity import IdentityClass

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TALK = frozenset({"ok", "no", "pong", "complain", "next"})
BANNED = "banned until"
POLLED = "trade"
COLUMNS = {
    "quote": ("bid_price", "bid_size", "ask_price", "ask_size"),
    "ping": ("took_us", "way"),
}
VALUES = {**COLUMNS, POLLED: ("price", "size", "side")}
FIXED = 4
"""Fields before the values."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One pair of identity class and unit, and whether the venue's ids are texts."""

    identity: IdentityClass
    unit: Unit
    texts: bool = False

    @property
    def venue(self) -> str:
        """The name of the venue that has this edition."""
        return f"made-{self.identity}{'-text' if self.texts else ''}-{self.unit}"

    @property
    def history(self) -> Literal["", "id", "time", "token"]:
        """What its history is asked by; most editions have none."""
        if self.identity != "native" or self.unit not in ("id", "time"):
            return ""
        return "id" if self.unit == "id" else "token" if self.texts else "time"


EDITIONS = [
    *(Edition(identity, unit) for identity, units in UNITS_OF.items() for unit in units),
    *(Edition("native", unit, texts=True) for unit in UNITS_OF["native"] if unit != "id"),
]
"""Every pair that a channel may declare; ids of the unit ``id`` are integers."""


class MadeParser:
    """Reads the lines of one edition."""

    def __init__(self, edition: Edition) -> None:
        self.name = f"{edition.venue}/1"
        self.edition = edition
        self.channels = {
            kind: Channel(
                kind,
                edition.identity,
                edition.unit,
                time_unit_ns=1000,
                history=bool(edition.history),
            )
            for kind in COLUMNS
        } | {POLLED: Channel(POLLED, "content", "none", time_unit_ns=1000)}

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch``; see :class:`~forebay.ports.Parser`."""
        parsed, lines = Parsed(), defaultdict(list)
        for index, payload in enumerate(batch.payloads):
            told = False
            for item, line in enumerate(filter(None, payload.decode().split("\n"))):
                kind, *fields = line.split(" ")
                if len(fields) + 1 == FIXED + len(VALUES.get(kind, ())) and kind in VALUES:
                    lines[kind].append((index, item, fields))
                    told = True
                elif kind not in TALK:
                    dead = DeadLetter(index, item, "unknown_type", f"no line: {line!r}")
                    parsed.dead.append(dead)
                    told = True
            parsed.control += not told
        parsed.events = [self._events(kind, found) for kind, found in lines.items()]
        return parsed

    def _events(self, kind: str, lines: list[tuple[int, int, list[str]]]) -> RawEvents:
        symbols, texts, micros, *values = zip(*(fields for *_, fields in lines), strict=True)
        numbers = [int(text) for text in texts]
        native: list[int] | list[str] | None = None
        if kind != POLLED and self.edition.identity in ("native", "session"):
            native = [f"id-{text}" for text in texts] if self.edition.texts else numbers
        columns = dict(zip(VALUES[kind], map(list, values), strict=True))
        return RawEvents(
            channel=self.channels[kind],
            frame=[index for index, _, _ in lines],
            item=[item for _, item, _ in lines],
            symbol=list(symbols),
            venue_symbol=[symbol.lower() for symbol in symbols],
            native=native,
            sequence=numbers if self.channels[kind].unit == "seq" else None,
            time=self._times(kind, [int(text) for text in micros]),
            columns={**columns, "took_us": _whole(columns)} if kind == "ping" else columns,
        )

    def _times(self, kind: str, micros: list[int]) -> Moments | list[str] | None:
        """Quotes are timed by numbers, others by texts, and what is only observed not at all."""
        if self.channels[kind].identity == "observation":
            return None
        if kind == "quote":
            return Moments(micros, 1000)
        return [(EPOCH + timedelta(microseconds=each)).isoformat() for each in micros]


def _whole(columns: dict[str, list[str]]) -> list[int]:
    return [int(text) for text in columns["took_us"]]
