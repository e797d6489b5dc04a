"""The sockets that adapters plug into: where frames come from and where events rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from forebay.domain.coverage import Gap, StreamCoverage, StreamKey
    from forebay.domain.frames import Context, Control, FrameBatch, FrameKind
    from forebay.domain.parsed import Parsed
    from forebay.journal import Position


# ---------------------------------------------------------------- sources


class EpochSink(Protocol):
    """Where one connection puts what it receives. Nothing here blocks or awaits."""

    def frame(self, kind: FrameKind, payload: bytes) -> None:
        """Take one frame as RECEIVED now; it becomes CAPTURED within the linger time."""
        ...

    def batch(self, kind: FrameKind, payloads: Sequence[bytes]) -> None:
        """Take frames that were read together, in their order, all as RECEIVED now."""
        ...

    def control(self, control: Control) -> None:
        """Record something about the connection itself, in order with its frames."""
        ...


class FrameSink(Protocol):
    """The journal as a source sees it."""

    def open(self, context: Context) -> EpochSink:
        """Begin an epoch; every frame given to the answer carries ``context``."""
        ...

    def on_pressure(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``callback(True)`` when sources must pause and ``callback(False)`` to go on.

        Returns a function that ends the subscription.
        """
        ...

    async def flushed(self) -> int:
        """Wait until everything taken so far is CAPTURED; the answer is the journal's next seq."""
        ...


@dataclass(frozen=True, slots=True)
class FillRequest:
    """A hole that the venue's history is asked for: ids ``first`` to ``last``, both included."""

    channel: str
    symbol: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Instrument:
    """Something that can be captured."""

    symbol: str
    venue_symbol: str
    base: str
    quote: str
    status: str


class Parser(Protocol):
    """A venue's pure half: from frames to events, with no I/O, clock or dice."""

    name: str
    """Name and version, kept with every dead letter."""

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch`` as events, control or dead letter."""
        ...


class Source(Protocol):
    """A venue's live half."""

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled: connect, subscribe, reconnect; never gives up."""
        ...

    async def fill(self, request: FillRequest, sink: FrameSink) -> None:
        """Ask the venue's history for a hole and put the answers into ``sink``.

        Ends with a :class:`~forebay.domain.frames.FillFinished` once the whole range was
        asked for. Raises :class:`~forebay.errors.Transient` if that was not possible now.
        """
        ...

    async def instruments(self) -> Sequence[Instrument]:
        """What can be captured; raises :class:`~forebay.errors.Transient`."""
        ...


# ----------------------------------------------------------------- stores


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that becomes STORED together, or not at all."""

    consumer: str
    position: Position
    """Where ``consumer`` goes on reading once this is stored."""
    rows: Mapping[str, pa.Table] = field(default_factory=dict)
    """Event rows by table name; at least once, so a store removes duplicates by ``event_id``."""
    covered: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """By table, which of ``rows`` coverage had before: a store looks those up wherever they
    are, and may look for the others only around their own time. Where ``coverage`` keeps the ids
    of their stream and ``position`` moves on, it may take the others for new without a look."""
    dead_letters: pa.Table | None = None
    coverage: Mapping[StreamKey, StreamCoverage] = field(default_factory=dict)
    """Whole new coverage of each stream that changed; its gaps follow from it."""
    ordinals: Mapping[StreamKey, bytes] = field(default_factory=dict)
    """Whole new ordinals of each stream that changed, of the class ``content``; opaque here."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did."""

    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0

    def __add__(self, other: Committed) -> Committed:
        return Committed(
            self.inserted + other.inserted,
            self.duplicates + other.duplicates,
            self.conflicts + other.conflicts,
        )


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a consumer needs to go on where the last commit ended."""

    positions: Mapping[str, Position]
    coverage: Mapping[StreamKey, StreamCoverage]
    ordinals: Mapping[StreamKey, bytes] = field(default_factory=dict)


class Store(Protocol):
    """A place where events rest. Blocking: call it from a thread.

    Every adapter passes ``tests/conformance/test_store.py``.
    """

    def load(self) -> StoreState:
        """Cursors, coverage and ordinals as of the last commit."""
        ...

    def commit(self, commit: Commit) -> Committed:
        """Store rows, coverage, gaps, dead letters and cursor in one transaction.

        Idempotent by ``event_id``. Same id with other content goes to ``conflicts`` and
        the row stored first stays, but for one flag: it is ``ambiguous`` if any of them is.
        Raises :class:`~forebay.errors.Transient` when nothing was stored and the same commit
        may succeed later.
        """
        ...

    def table(self, name: str) -> pa.Table:
        """All rows of a table, for tests and small tables; big ones are queried instead."""
        ...

    def gaps(self) -> Sequence[Gap]:
        """All gaps as of the last commit."""
        ...

    def close(self) -> None:
        """Release the store; nothing committed is lost."""
        ...
