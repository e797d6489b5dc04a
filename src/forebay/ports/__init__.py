"""The sockets that adapters plug into: whence frames come, what carries events, where they rest."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

from forebay.domain.channels import SERIES, kind_of
from forebay.ports.audits import (
    AUDIT_COLUMNS,
    AUDIT_TEXTS,
    Audited,
    HourAccount,
    Minutes,
    Rows,
    Span,
    StoreAccount,
)
from forebay.ports.hours import HourFiles, HourNote
from forebay.ports.transports import (
    Extent,
    Membership,
    Received,
    SharedLanes,
    Subscription,
    Transport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from forebay.domain.calendars import Calendar
    from forebay.domain.channels import Channel
    from forebay.domain.coverage import Coverage, StreamKey
    from forebay.domain.frames import Context, Control, FrameBatch, FrameKind
    from forebay.domain.parsed import Parsed
    from forebay.journal import Position


__all__ = [
    "AUDIT_COLUMNS",
    "AUDIT_TEXTS",
    "Audited",
    "Commit",
    "Committed",
    "EpochSink",
    "Events",
    "Extent",
    "FrameSink",
    "HistoryRequest",
    "HourAccount",
    "HourFiles",
    "HourNote",
    "Instrument",
    "KnowsHours",
    "Membership",
    "Minutes",
    "Parser",
    "Readable",
    "ReadableStore",
    "Reader",
    "Received",
    "Refused",
    "Rows",
    "SetsAside",
    "SharedLanes",
    "Source",
    "Span",
    "Store",
    "StoreAccount",
    "StoreState",
    "Subscription",
    "Transport",
]


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

    def renew(self, context: Context) -> None:
        """Have what is given from here on carry ``context``, which is of the same epoch."""
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
class HistoryRequest:
    """A hole that the venue's history is asked for: ``first`` to ``last``, both included."""

    channel: str
    """The kind of event, or one series of it, such as ``bar:1m``."""
    symbol: str
    first: int
    last: int
    unit: Literal["id", "time"] = "id"
    """What the ends are: ids, or UTC nanoseconds: receipts, or of a series the market's time."""
    market: str = "spot"
    looked_ns: int = field(default=0, compare=False)
    """When history was last seen to lack it, UTC nanoseconds; 0: never yet."""
    wait_s: float = field(default=0.0, compare=False)
    """How long after that it need not be asked again."""
    bulk: bool = field(default=False, compare=False)
    """Whether it gives way to all else that the venue is asked."""

    @property
    def kind(self) -> str:
        """The kind of event."""
        return kind_of(self.channel)

    @property
    def series(self) -> str:
        """The series of the kind, such as ``1m``; empty if the kind is one stream."""
        return self.channel.partition(SERIES)[2]


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

    @property
    def channels(self) -> Mapping[str, Channel]:
        """What the venue declares, by kind of event."""
        ...

    def parse(self, batch: FrameBatch) -> Parsed:
        """Account for every frame of ``batch`` as events, control or dead letter."""
        ...


@runtime_checkable
class KnowsHours(Protocol):
    """A parser of a venue whose markets close."""

    @property
    def calendars(self) -> Mapping[str, Calendar]:
        """By market, when something is to be expected; of all others at any time."""
        ...


class Source(AbstractAsyncContextManager["Source"], Protocol):
    """A venue's live half; use ``async with``, which lets go of what it holds."""

    @property
    def connections(self) -> int:
        """How many connections it wants to have."""
        ...

    async def run(self, sink: FrameSink) -> None:
        """Capture until cancelled: connect, subscribe, reconnect; never gives up."""
        ...

    async def fill(self, request: HistoryRequest, sink: FrameSink) -> None:
        """Ask the venue's history for a hole and put the answers into ``sink``.

        Ends with a :class:`~forebay.domain.frames.HistoryFinished` once the whole range was
        asked for. Raises :class:`~forebay.errors.Transient` if that was not possible now.
        """
        ...

    async def instruments(self) -> Sequence[Instrument]:
        """What can be captured; raises :class:`~forebay.errors.Transient`."""
        ...

    async def probe(self) -> None:
        """Ask the venue's history for next to nothing, past the breaker.

        For a recovery that holds the breaker's permit itself. Raises
        :class:`~forebay.errors.ForebayError`.
        """
        ...


# ----------------------------------------------------------------- stores


class Events(NamedTuple):
    """Event rows of one table, and what coverage says of each; ``n`` of them, in order."""

    rows: pa.Table
    seen_before: npt.NDArray[np.bool_]
    """Whether coverage already had the row's event, shape (n,). A store must find such a row
    wherever it is; any other can only have arrived at about the same time, so a range around its
    ``event_ts`` is enough."""
    vouched_new: npt.NDArray[np.bool_]
    """Whether coverage vouches that no row of an earlier commit has its id, shape (n,). Such a
    row needs no look, provided that the cursors move on: a commit that is repeated, because its
    answer was lost, has the coverage of before its first time."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that becomes STORED together, or not at all."""

    positions: Mapping[str, Position]
    """By consumer, where it goes on reading once this is stored; one or several of them. The first
    is whose commit it is: others of the same consumer come one after the other."""
    _: KW_ONLY
    expected: Mapping[str, Position | None] = field(default_factory=dict)
    """By consumer, where its cursor must be now; None if it must have none. The store reads and
    compares them in the transaction that moves them; one that is not named is not compared."""
    events: Mapping[str, Events] = field(default_factory=dict)
    """By table; at least once, so a store removes duplicates by ``event_id``."""
    dead_letters: pa.Table | None = None
    letter_states: pa.Table | None = None
    """What became of dead letters; a row is stored once."""
    coverage: Mapping[StreamKey, Coverage] = field(default_factory=dict)
    """Whole new coverage of each stream that changed; its gaps follow from it."""
    ordinals: Mapping[StreamKey, bytes] = field(default_factory=dict)
    """Whole new ordinals of each stream that changed, of the class ``content``; opaque here."""
    without_refused: bool = False
    """Whether rows that the store will not take are left out, and become dead letters, rather
    than refuse the commit; it is otherwise the same commit."""


class Refused(NamedTuple):
    """A row that a store will not take."""

    row: int
    """Which of the commit's."""
    error: str
    """What the store said of it."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did; the same however often it is repeated."""

    first: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """By table, whether the row is the first that told its event: the stored row came with the
    same frame. Shape (n,), as the rows of the commit."""
    conflicts: int = 0
    """Rows whose event is stored with another content."""
    letters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By venue and reason, how many dead letters the commit was the first to tell."""
    refused: Mapping[str, Sequence[Refused]] = field(default_factory=dict)
    """By table, the rows that were left out, see :attr:`Commit.without_refused`."""

    @property
    def inserted(self) -> int:
        """Rows that are stored."""
        return sum(int(first.sum()) for first in self.first.values())


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a consumer needs to go on where the last commit ended."""

    positions: Mapping[str, Position]
    coverage: Mapping[StreamKey, Coverage]
    ordinals: Mapping[StreamKey, bytes] = field(default_factory=dict)


class Store(Protocol):
    """A place where events rest. Blocking: call it from a thread.

    Every adapter passes ``tests/conformance/test_store.py``.
    """

    def load(self) -> StoreState:
        """Cursors, coverage and ordinals as of the last commit."""
        ...

    def commit(self, commit: Commit) -> Committed:
        """Store rows, coverage, gaps, dead letters and cursors in one transaction.

        If the cursors are not as expected, but are where the commit moves them, it has happened
        and its answer was lost: the answer is the same again, and cursors, coverage and letters
        stay as they are. Otherwise raises :class:`~forebay.errors.CursorMoved`, and nothing is
        stored.

        Idempotent by ``event_id``. Same id with other content goes to ``conflicts`` and
        the row stored first stays, but for one flag: it is ``ambiguous`` if any of them is.
        Raises :class:`~forebay.errors.Transient` when nothing was stored and the same commit
        may succeed later, :class:`~forebay.errors.TableUnavailable` if that is so for want of one
        table, and :class:`~forebay.errors.RowsRefused` for rows that will never be taken.
        """
        ...

    def first_told(self, table: str, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which of ``rows``, all committed before, are the first that told their event.

        Shape (n,); see :attr:`Committed.first`.
        """
        ...

    def close(self) -> None:
        """Release the store; nothing committed is lost."""
        ...


class Reader(Protocol):
    """A session that only reads; of one thread, but for :meth:`interrupt`."""

    def query(self, sql: str, *, timeout_s: float, limit: int | None = None) -> pa.Table:
        """Return the rows of one reading statement in the store's own SQL.

        With a ``limit`` these are the first rows, and the metadata ``rows`` says how many there
        are, with a ``+`` behind it if they were not counted to the end.

        Raises :class:`~forebay.errors.Permanent` for a query that is wrong and
        :class:`~forebay.errors.Transient` for one that takes too long or too much memory.
        """
        ...

    def interrupt(self) -> None:
        """Stop the query that another thread waits for; one that has not begun is not stopped."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class Readable(Protocol):
    """A store that answers questions beside commits."""

    def reader(self) -> Reader:
        """Begin a session of its own, for use in another thread."""
        ...

    def rarities(self) -> frozenset[tuple[str, str]]:
        """Return which dead letters and which conflicts there are, by id and what was told."""
        ...


class ReadableStore(Store, Readable, Protocol):
    """What delivery needs: it stores, and answers whoever asks meanwhile."""


@runtime_checkable
class SetsAside(Protocol):
    """A store of which a part may be damaged while the rest can be used."""

    def set_aside_damaged(self) -> Sequence[str]:
        """Take out of use what cannot be read, and tell each in a sentence; nothing is deleted.

        Reads all of the store. Raises as :meth:`Store.load`.
        """
        ...
