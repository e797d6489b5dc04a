"""A journal in memory that a test can hold up, fill and break."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from forebay.domain.frames import FrameKind
from forebay.journal import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.journal import PendingBlock


class FakeJournal(JournalWriter):
    """Has what capture needs; ``commit`` runs in another thread."""

    def __init__(self) -> None:
        self.groups: list[list[PendingBlock]] = []
        self.next_seq = 1
        self.errors: list[Exception] = []
        """Raised by the next commits, first one first; nothing of those is kept."""
        self.tries = 0
        self.threads: set[int] = set()
        self.closed = False
        self.gate = threading.Event()
        """Commits wait while it is clear."""
        self.gate.set()

    def commit(self, drafts: Sequence[PendingBlock]) -> int:
        self.tries += 1
        self.threads.add(threading.get_ident())
        assert self.gate.wait(20), "the test forgot its gate"
        assert not self.closed, "committed after close"
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(list(drafts))
        self.next_seq += sum(len(draft.payloads) for draft in drafts)
        return self.next_seq

    def close(self) -> None:
        self.closed = True

    @property
    def drafts(self) -> list[PendingBlock]:
        return [draft for group in self.groups for draft in group]

    @property
    def payloads(self) -> list[bytes]:
        """Everything committed, in order, without our own records."""
        return [
            payload
            for draft in self.drafts
            if draft.kind != FrameKind.CONTROL
            for payload in draft.payloads
        ]
