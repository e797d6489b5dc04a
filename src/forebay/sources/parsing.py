"""What parsers of venues do alike: JSON row by row, exact numbers, and the columns of bars."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from forebay.domain.parsed import DeadLetter, Moments, RawEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from forebay.domain.channels import Channel
    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import Reason

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises over bytes: the last two are no DecodeError."""
SKEW_NS = 2_000_000_000
"""A clock of ours that is so far ahead of the venue's makes no bar final while it is open."""
_MOST_DIGITS = 40
"""A number with an exponent further from 0 has no place in any column."""

Placed: TypeAlias = "tuple[int, int, Any]"
"""Frame, item and row."""


class ReadPage(NamedTuple):
    """A page, and those of its rows that can be read."""

    page: Any
    rows: list[Placed]


def reason_of(error: Exception) -> Reason:
    """Sort a decoder's complaint into a reason."""
    if not isinstance(error, msgspec.ValidationError):
        return "not_json"
    return "missing_field" if "missing required field" in str(error) else "wrong_type"


def reason_by_type(payload: bytes, error: Exception, known: Collection[object]) -> Reason:
    """Return the reason where a message says what it is: ``known`` are the types."""
    try:
        message = msgspec.json.decode(payload)
    except UNDECODABLE:
        return "not_json"
    if not isinstance(message, dict):
        return "wrong_type"
    kind = message.get("type")
    if "type" in message and not (isinstance(kind, str) and kind in known):
        return "unknown_type"
    return reason_of(error)


class PageReader:
    """Decodes the rows of a page together, and one by one where that cannot be."""

    def __init__(
        self,
        row: Any,  # noqa: ANN401 - a type as msgspec takes it
        page: Callable[[Any], Any] = lambda row: list[row],  # type: ignore[valid-type]
        rows: Callable[[Any], Sequence[Any]] = lambda page: page,
        why: Callable[[Exception], Reason] = reason_of,
    ) -> None:
        """``page`` returns the type of a page from that of its rows, and ``rows`` those of one."""
        self._page = msgspec.json.Decoder(page(row)).decode
        self._raw = msgspec.json.Decoder(page(msgspec.Raw)).decode
        self._row = msgspec.json.Decoder(row).decode
        self._rows = rows
        self._why = why

    def read(self, frame: int, payload: bytes, dead: list[DeadLetter]) -> ReadPage | None:
        """Return a page, None if it is dead as a whole; what does not decode goes to ``dead``."""
        try:
            page = self._page(payload)
            return ReadPage(page, [(frame, item, row) for item, row in enumerate(self._rows(page))])
        except UNDECODABLE:
            pass
        try:
            page = self._raw(payload)
        except UNDECODABLE as error:
            dead.append(DeadLetter(frame, 0, self._why(error), str(error)))
            return None
        read = ReadPage(page, [])
        for item, raw in enumerate(self._rows(page)):
            try:
                read.rows.append((frame, item, self._row(raw)))
            except UNDECODABLE as error:
                dead.append(DeadLetter(frame, item, self._why(error), str(error)))
        return read


def plain(number: Decimal) -> str:
    """Return an exact number as plain digits; one that is out of all bounds as it is."""
    within = number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS
    return format(number, "f") if within else str(number)


def bars(
    batch: FrameBatch,
    channel: Channel,
    rows: Sequence[Placed],
    *,
    market: str,
    symbol: Sequence[str],
    venue_symbol: Sequence[str],
    timeframe: str,
    of: str,
    adjusted: bool,
    session: str = "UTC",
    begins: Sequence[int],
    ends: Sequence[int],
    skew_ns: int,
    columns: Mapping[str, Sequence[Any]],
) -> RawEvents:
    """Return bars of one time frame, whose days ``session`` names; the rest are ``columns``.

    Times are in the unit of the channel. A bar is final once it was over ``skew_ns`` before its
    receipt.
    """
    count, unit_ns = len(rows), channel.time_unit_ns
    seen_ns = (batch.received_ns[[frame for frame, _, _ in rows]] - skew_ns).tolist()
    opened = Moments(begins, unit_ns)
    numbers = {
        name: [plain(cell) if isinstance(cell, Decimal) else cell for cell in cells]
        for name, cells in columns.items()
    }
    return RawEvents(
        channel=channel,
        market=market,
        frame=[frame for frame, _, _ in rows],
        item=[item for _, item, _ in rows],
        venue_symbol=venue_symbol,
        symbol=symbol,
        time=opened,
        columns={
            **numbers,
            "timeframe": [timeframe] * count,
            "session": [session] * count,
            "of": [of] * count,
            "adjusted": [str(adjusted).lower()] * count,
            "open_ts": opened,
            "close_ts": Moments(ends, unit_ns),
            "origin": ["backfill" if batch.context.purpose == "history" else "venue"] * count,
            "state": [
                "final" if end * unit_ns <= seen else "provisional"
                for end, seen in zip(ends, seen_ns, strict=True)
            ],
            "revision": [1] * count,
        },
    )
