"""What a parser makes of frames: columns as the venue wrote them, and what could not be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from forebay.domain.identity import IdentityClass

    Texts: TypeAlias = list[str] | pa.Array
    Numbers: TypeAlias = list[int] | npt.NDArray[np.int64]

Reason = Literal[
    "binary",
    "compressed",
    "not_json",
    "unknown_type",
    "missing_field",
    "wrong_type",
    "unknown_symbol",
    "bad_id",
    "bad_price",
    "bad_size",
    "bad_side",
    "bad_time",
    "implausible_time",
    "unknown_control",
    "unknown_venue",
]
"""Why something is a dead letter."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Something of a frame that can never become an event."""

    frame: int
    """Index of the frame in its batch."""
    item: int
    """Index of the event in its frame."""
    reason: Reason
    error: str


@dataclass(slots=True)
class RawTrades:
    """Trades in arrival order, a column each; texts are not yet checked.

    A parser that reads frame by frame gives lists; one that reads many at once gives
    :class:`~forebay.domain.columns.TradeArrays`.
    """

    identity: IdentityClass = "native"
    """As the venue's protocol declares it for this channel."""
    market_type: str = "spot"
    time_unit_ns: int = 1
    """Coarsest unit in which any path of this channel gives time: ``event_ts`` is floored to it."""
    frame: Numbers = field(default_factory=list)
    item: Numbers = field(default_factory=list)
    venue_symbol: Texts = field(default_factory=list)
    symbol: Texts = field(default_factory=list)
    trade_id: Numbers = field(default_factory=list)
    """The venue's numbers; empty in the classes ``content`` and ``observation``."""
    price: Texts = field(default_factory=list)
    size: Texts = field(default_factory=list)
    side: Texts = field(default_factory=list)
    time: Texts = field(default_factory=list)
    """RFC 3339 texts with a zone."""

    @property
    def numbered(self) -> bool:
        """Whether the venue numbers these trades."""
        return self.identity in ("native", "session")

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(slots=True)
class Parsed:
    """The account of a batch: every frame yields events, is control, or is dead."""

    trades: RawTrades = field(default_factory=RawTrades)
    control: int = 0
    """Frames that carry no event by design, those of unbuilt channels included."""
    unbuilt: Counter[str] = field(default_factory=Counter)
    """Frames of message types that are known but whose channels are not built yet."""
    dead: list[DeadLetter] = field(default_factory=list)
    latest: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By symbol, the least and the greatest id that the venue said was its latest (heartbeats)."""
