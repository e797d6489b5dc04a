"""What a kind of event is: its table, its columns, its content and its checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from forebay.domain.calendars import Calendar
    from forebay.domain.kinds.checks import Checks

COMMON = ("venue", "market", "symbol", "event_ts")
"""The columns that the content of every kind begins with."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event. Tables, digests, canonical rows and comparison follow from it."""

    channel: str
    """Forebay's word for it, as in streams and event ids."""
    table: str
    columns: pa.Schema
    """Its own, behind those of :data:`~forebay.domain.schema.ENVELOPE`."""
    check: Callable[[Checks], None]
    """Checks its own columns, and says which rows cannot be."""
    telling: tuple[str, ...] = ()
    """Which of its own columns are content; all of them if none is named."""
    fills_closed_hours: Callable[[pa.Table, Calendar], npt.NDArray[np.bool_]] | None = None
    """Returns which rows, shape (n,), say that nothing happened while their market was closed."""
    idempotent: bool = False
    """Whether an event that is received again changes nothing, as what something is now does and
    what was exchanged does not: then of equal ones that came at an edge, none can be missed."""
    schema: pa.Schema = field(init=False)
    """All columns of the table."""
    content: tuple[str, ...] = field(init=False)
    """What two events with one id must agree on, and what its canonical row is made of: not how
    precisely or by which way it was received."""

    def __post_init__(self) -> None:
        columns = [*schema.ENVELOPE, *self.columns, schema.FLAGS]
        object.__setattr__(self, "schema", pa.schema(columns))
        own = self.telling or tuple(self.columns.names)
        object.__setattr__(self, "content", (*COMMON, *own))
