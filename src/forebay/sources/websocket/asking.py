"""What one connection asks for, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from forebay.sources.venue import MessageVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.sources.venue import ConnectionPurpose, Stream


class StreamsHeard(NamedTuple):
    """What is new by a message."""

    accepted: frozenset[Stream]
    refused: Mapping[Stream, str]
    """While others are given."""
    rejection: MessageVerdict | None = None
    """Why nothing is; then the others are empty."""


class Asking:
    """The streams of one connection."""

    def __init__(self, purpose: ConnectionPurpose) -> None:
        self.purpose = self.wanted = purpose
        """What was asked for, and what is to be asked for instead as soon as that is answered."""
        self.streams = self.pending = purpose.streams
        """All of what was asked for, and what of it is neither accepted nor refused yet."""
        self.accepted: frozenset[Stream] = frozenset()
        self.leaving: tuple[str, ...] = ()
        """Symbols that are not asked for any more, and may flow until the venue confirms that."""
        self.overdue = False
        """Whether what is not answered was waited for long enough."""
        self._refused: dict[Stream, str] = {}

    @property
    def awaits(self) -> bool:
        """Whether an answer may come."""
        return bool(self.pending or self.leaving)

    @property
    def carried(self) -> ConnectionPurpose:
        """What may flow."""
        return replace(self.purpose, symbols=(*self.purpose.symbols, *self.leaving))

    def hear(self, said: MessageVerdict) -> StreamsHeard:
        """Take what a message says of streams."""
        if revoked := {each: why for each, why in said.refused.items() if each in self.accepted}:
            # What is covered by time can be taken back only by an end.
            return self._rejected(revoked)
        fresh = (said.accepted & self.streams) - self.accepted
        self.accepted |= fresh
        waited = self.pending - fresh
        refused = {each: why for each, why in said.refused.items() if each in waited}
        self.pending = waited - refused.keys()
        self._refused |= refused
        if refused and not (self.pending or self.accepted):
            return self._rejected(self._refused)
        return StreamsHeard(fresh, refused)

    def change(self) -> tuple[list[str], list[str]] | None:
        """Return which symbols to add and to remove now, if any; that counts as done."""
        before, wanted = self.purpose, self.wanted
        if wanted is before or (self.awaits and not self.overdue):
            return None
        earlier, later = set(before.symbols), set(wanted.symbols)
        added = [each for each in wanted.symbols if each not in earlier]
        removed = [each for each in before.symbols if each not in later]
        asked = wanted.streams
        fresh, gone = asked - self.streams, self.streams - asked
        self.purpose, self.streams = wanted, asked
        # Who is overdue is asked for elsewhere, so only those that are new are waited for.
        self.pending = fresh or self.pending - gone
        self._refused = {each: why for each, why in self._refused.items() if each not in gone}
        self.leaving, self.overdue = tuple(removed), False
        return added, removed

    def release(self, symbols: Iterable[str]) -> frozenset[Stream] | None:
        """Return which streams end with the symbols that leave; None if none of them does.

        Also those that were never accepted: they may have flowed all the same.
        """
        gone = set(self.leaving).intersection(symbols)
        if not gone:
            return None
        self.leaving = tuple(each for each in self.leaving if each not in gone)
        ended = replace(self.purpose, symbols=tuple(gone)).streams
        self.accepted -= ended
        return ended

    def _rejected(self, refused: Mapping[Stream, str]) -> StreamsHeard:
        reason = next(iter(refused.values()))
        return StreamsHeard(_NONE, {}, MessageVerdict(refused=refused, refusal=reason))


_NONE: frozenset[Stream] = frozenset()
