"""What the audit needs of a private database, in words of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from forebay.domain import schema

if TYPE_CHECKING:
    from collections.abc import Iterable


Query = Callable[[str], pa.Table]
"""Runs one read-only statement on the store and answers its rows."""


class Scratch(Protocol):
    """A private database that speaks the store's SQL and may use the disk."""

    def create(self, name: str, rows: pa.Table) -> None:
        """Make (or make anew) a table with the columns of ``rows``, and put them in."""
        ...

    def insert(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table."""
        ...

    def query(self, statement: str) -> pa.Table:
        """Answer the rows of one statement."""
        ...


OpenScratch = Callable[[], AbstractContextManager[Scratch]]

_TRADES = ("event_id", *schema.CONTENT["trades"], "received_ts")


def prepare(scratch: Scratch) -> None:
    """Make the journal's tables."""
    scratch.create("trades", columns_of(schema.TRADES.empty_table()))
    scratch.create("letters", schema.DEAD_LETTERS.empty_table().select(["letter_id"]))


def columns_of(rows: pa.Table) -> pa.Table:
    """The columns of trades that the audit looks at."""
    return rows.select(list(_TRADES))


def first_row(table: pa.Table) -> dict[str, object]:
    """The only row of a table of one."""
    row: dict[str, object] = table.slice(0, 1).to_pylist()[0]
    return row


def dictionaries(table: pa.Table) -> Iterable[dict[str, object]]:
    """Rows as dictionaries."""
    rows: list[dict[str, object]] = table.to_pylist()
    return rows
