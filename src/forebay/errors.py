"""Every error Forebay raises, as one tree; the branch decides what happens next.

::

    ForebayError              carries a hint: what the reader of the message can do
    ├── Transient             the same call may succeed later: retried, nothing is dropped
    │   ├── Unreachable       a peer or a server did not answer
    │   ├── Unusable          it did, and nothing follows from what it said
    │   │   └── Stuck         its pages lead nowhere, however often they are asked for
    │   ├── CursorMoved       a store is elsewhere than its caller thought: load it again
    │   ├── LaneLost          another member of the group reads it now
    │   ├── TableUnavailable  a store lacks a table, or may not write it; its others go on
    │   └── JournalFull       no space to capture into
    ├── Permanent             repeating it cannot help: dead letter or refusal
    │   ├── RowsRefused       a store will not take some rows of a commit
    │   └── ConfigError       the user asked for something that cannot be
    └── Corrupt               bytes at rest are not what was written: quarantine, never delete
        └── CursorBeyondEnd   a cursor points past the end of its log

A driver's error is translated into one of these at the border where the driver is
called; nothing above that border knows a driver's exception.
"""

from __future__ import annotations


class ForebayError(Exception):
    """Base of all errors; ``hint`` says what to do about it, in one sentence."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class Transient(ForebayError):
    """The same call may succeed later; it is retried for ever and nothing is dropped."""

    exit_code = 3


class Unreachable(Transient):
    """A needed part did not answer."""


class Unusable(Transient):
    """A peer answered, and nothing follows from what it said: to ask again soon helps seldom."""


class Stuck(Unusable):
    """A source's pages do not advance, or do not end: asking on would go on for ever."""


class CursorMoved(Transient):
    """A store's cursor is not where a commit expects it: nothing was stored.

    The same commit would be refused again: its caller loads the store's state and goes on from
    there.
    """


class LaneLost(Transient):
    """Another member of the group reads the lane now: what was read of it is that one's."""


class TableUnavailable(Transient):
    """A store lacks a table or may not write it: what others get is not touched by that."""


class JournalFull(Transient):
    """The journal's disk has no space; capture stops until there is some again."""


class Permanent(ForebayError):
    """Repeating the call cannot help."""


class RowsRefused(Permanent):
    """A store will not take some rows of a commit, and nothing of it is stored as yet.

    The caller counts how often; with :attr:`forebay.ports.Commit.without_refused` the rest is
    stored, and those rows become dead letters.
    """


class ConfigError(Permanent):
    """The configuration or the command line cannot be carried out."""

    exit_code = 2


class Corrupt(ForebayError):
    """Bytes at rest are damaged: they are quarantined with their position, never deleted."""


class CursorBeyondEnd(Corrupt):
    """A cursor points past the end of its log: the log lost what the cursor had consumed."""
