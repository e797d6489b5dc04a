"""A pump moves what a feed gives into a sink: in order, and once as far as the sink can tell.

Feeds are a journal, here, and a topic, in :mod:`forebay.services.bridge`; sinks are a store and a
transport. What fails on the way is decided here alone:

* What was read stays in hand until the sink has it; the same is offered again after a failure.
* Where to go on is the sink's to say, which keeps the cursor with what it was given.
* A sink that is elsewhere than it was left, after a failover or because an older copy was
  restored, is taken at its word: :class:`~forebay.errors.CursorMoved`.
* A cursor into a log that is gone begins again at the oldest frame there is; what the sink has
  already is recognised there.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from forebay.errors import CursorBeyondEnd, CursorMoved, ForebayError, Transient
from forebay.journal import OS_DISK, Block, CursorFile, Disk, JournalReader, Position
from forebay.telemetry import CursorNotSaved, LossFound, Observer, ignore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


BITE = 8 << 20
"""Bytes of a journal that are read at once."""


class Piece(Protocol):
    """What a feed gave at once."""

    @property
    def end(self) -> Position:
        """Where reading goes on behind it."""
        ...

    @property
    def oldest_ns(self) -> int:
        """Receipt of its first frame, wall clock; 0 if nobody knows."""
        ...


Given = TypeVar("Given", bound=Piece)
Given_co = TypeVar("Given_co", bound=Piece, covariant=True)
Plan = TypeVar("Plan")


class PositionedFeed(Protocol[Given_co]):
    """Something with positions that can be read from any of them. Blocking."""

    def seek(self, position: Position | None) -> None:
        """Go on at ``position``; None: at the oldest there is.

        Raises :class:`~forebay.errors.CursorBeyondEnd` if ``position`` is of a log that is gone;
        :meth:`read` may raise it too, if that is known only then.
        """
        ...

    def read(self) -> Given_co | None:
        """Return what follows, None if nothing does yet; raises :class:`~.errors.Transient`."""
        ...

    def hold(self) -> None:
        """The sink cannot take what was read: take nothing more, and stay who reads."""
        ...

    def done(self, position: Position) -> None:
        """The sink has all up to ``position``."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


@dataclass(slots=True)
class InHand(Generic[Given, Plan]):
    """Read and planned, not yet stored."""

    piece: Given
    plan: Plan
    tried: bool = False
    """Whether it was refused, or its answer was lost."""


class Pump(ABC, Generic[Given, Plan]):
    """Moves one feed into a sink, which subclasses are. Blocking: run it in a thread of its own.

    The sink takes what was read together with how far that is, or not at all.
    """

    def __init__(self, feed: PositionedFeed[Given], observer: Observer = ignore) -> None:
        """Go on where the sink has got to: it is asked at once, and if it is away by and by."""
        self._feed = feed
        self._observe = observer
        self._in_hand: InHand[Given, Plan] | None = None
        self._begun = False
        self.position: Position | None = None
        """Up to where the sink has all; None: it has nothing, or could not be asked yet."""
        with contextlib.suppress(Transient):  # to prepare asks again
            self.begin()

    # ------------------------------------------------------------------ the sink

    @abstractmethod
    def load(self) -> Position | None:
        """Learn what is stored, also if it was known before; return where to go on."""

    def begin_again(self) -> None:
        """What was read will be read once more, since the log that it was in is gone."""
        if self.position is not None:
            self._observe(LossFound(self.position.log_id, 1, self.position.seq - 1))

    @abstractmethod
    def plan(self, piece: Given) -> Plan:
        """Return what is to be stored of ``piece``; changes nothing."""

    @abstractmethod
    def commit(self, plan: Plan) -> int:
        """Store it and the cursor behind it; return the number of its frames.

        Raises :class:`~forebay.errors.Transient` if it may not be stored: the same is tried
        again, and what is stored already is recognised. Raises
        :class:`~forebay.errors.CursorMoved` if it was planned on another state than is stored.
        """

    @property
    def begun(self) -> bool:
        """Whether the sink has said where to go on."""
        return self._begun

    def begin(self) -> None:
        """Ask the sink where to go on, and go there. Raises as :meth:`prepare`."""
        self.position = self.load()
        try:
            self._feed.seek(self.position)
        except CursorBeyondEnd:
            self._begin_again()
        self._begun = True

    def _begin_again(self) -> None:
        self.begin_again()
        self._feed.seek(None)

    def _read(self) -> Given | None:
        try:
            return self._feed.read()
        except CursorBeyondEnd:  # known only now that somebody has recovered the journal
            self._begin_again()
            return self._feed.read()

    def step(self) -> int:
        """Prepare and store what there is; return the number of frames, 0 when there is none."""
        return self.store() if self.prepare() else 0

    def prepare(self) -> bool:
        """Have something in hand to store, if there is anything; return whether there is.

        Raises :class:`~forebay.errors.Transient` if the feed cannot be read now, or the sink not
        be asked where it is.
        """
        if not self._begun:
            self.begin()
        if self._in_hand is None:
            piece = self._read()
            if piece is not None:
                self._begun = False  # what cannot be planned is read again
                self._in_hand = InHand(piece, self.plan(piece))
                self._begun = True
        return self._in_hand is not None

    def store(self) -> int:
        """Commit what is in hand; return the number of its frames, at least 1, or 0 without.

        Raises :class:`~forebay.errors.Transient` if the sink could not take it: call again. After
        :class:`~forebay.errors.CursorMoved` nothing is in hand: prepare anew.
        """
        held = self._in_hand
        if held is None:
            return 0
        try:
            frames = self.commit(held.plan)
        except CursorMoved:
            self.begin_anew()
            with contextlib.suppress(ForebayError):  # the next call asks again
                self.begin()
            raise
        except ForebayError:
            held.tried = True
            self._feed.hold()
            raise
        self._in_hand = None
        self.position = held.piece.end
        self._feed.done(self.position)
        return max(frames, 1)

    def begin_anew(self) -> None:
        """Let go of what is in hand; the sink is asked again where to go on."""
        self._in_hand, self._begun = None, False

    def drain(self, progress: Callable[[int], None] = lambda _: None) -> int:
        """Step until everything there is has been moved; return the number of frames."""
        total = 0
        while frames := self.step():
            total += frames
            progress(total)
        return total

    def close(self) -> None:
        """Let go of the feed; what is in hand will be read again."""
        self._feed.close()

    @property
    def behind(self) -> bool:
        """Whether the sink could not take what is in hand."""
        return self._in_hand is not None and self._in_hand.tried

    @property
    def waiting_since_ns(self) -> int:
        """Receipt of the oldest frame in hand, wall clock; 0 if nothing is or nobody knows."""
        held = self._in_hand
        return 0 if held is None else held.piece.oldest_ns


@dataclass(frozen=True, slots=True)
class JournalPiece:
    """Consecutive blocks of a journal."""

    blocks: list[Block]
    begin: int
    """Everything from this sequence number on is in the blocks, or cannot be read."""
    end: Position

    @property
    def oldest_ns(self) -> int:
        received = (int(block.received_ns[0]) for block in self.blocks if len(block.received_ns))
        return next(filter(None, received), 0)


class JournalFeed:
    """What is durable in a journal; see :class:`PositionedFeed`."""

    def __init__(
        self,
        folder: Path,
        cursor: CursorFile | None = None,
        observer: Observer = ignore,
        disk: Disk = OS_DISK,
        bite: int = BITE,
    ) -> None:
        """``cursor`` tells the journal's maintenance how far the sink is; the sink's own counts.

        ``bite`` is how many bytes are read at once.
        """
        self._folder = folder
        self._cursor = cursor
        self._observe = observer
        self._disk = disk
        self._bite = bite
        self._reader: JournalReader | None = None

    def seek(self, position: Position | None) -> None:
        self.close()
        self._reader = JournalReader(self._folder, start=position, disk=self._disk)

    def read(self) -> JournalPiece | None:
        if self._reader is None:
            return None
        before = self._reader.position
        blocks = self._reader.read(max_bytes=self._bite)
        if not blocks:
            return None
        same_log = before.log_id == blocks[0].log_id
        begin = before.seq if same_log else blocks[0].first_seq
        return JournalPiece(blocks, begin, self._reader.position)

    def hold(self) -> None:
        """Nothing: the journal waits."""

    def done(self, position: Position) -> None:
        if self._cursor is None:
            return
        try:
            self._cursor.store(position)
        except ForebayError as error:
            self._observe(CursorNotSaved(str(error)))

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
