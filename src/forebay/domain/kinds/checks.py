"""What a kind of event is, and how columns of raw events become exact values, or dead letters.

The fast way casts whole columns. A column that does not cast is halved until the culprits are
found, so one bad text costs its own row and never its ten thousand neighbours, and a row's
verdict does not depend on which rows stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.columns import Column, cells
from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import DeadLetter, Moments, RawEvents, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.calendars import Calendar

    Mask = npt.NDArray[np.bool_]
    Integers = npt.NDArray[np.int64]

_PLAIN_DECIMAL = r"[0-9]{1,20}(\.[0-9]{1,18})?$"
_WITH_EXPONENT = r"[0-9]{1,38}(\.[0-9]{1,38})?[eE][+-]?[0-9]{1,2}$"
_LEAP_SECOND = r"^(.{10}[T ][0-9]{2}:[0-9]{2}):60"
_TEXT = pa.string()
COMMON = ("venue", "market", "symbol", "event_ts")
"""The columns that the content of every kind begins with."""


OTHER_TOPIC = "market_archive"
"""Where events of kinds without a topic of their own are published."""


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
    topic: str = OTHER_TOPIC
    """Where events of this kind are published."""
    telling: tuple[str, ...] = ()
    """Which of its own columns are content; all of them if none is named."""
    fills_closed_hours: Callable[[pa.Table, Calendar], npt.NDArray[np.bool_]] | None = None
    """Returns which rows, shape (n,), say that nothing happened while their market was closed."""
    idempotent: bool = False
    """Whether an event that is received again changes nothing, as what something is now does and
    what was exchanged does not: then of equal ones that came at an edge, none can be missed."""
    holds: bool = False
    """Whether it says what holds until something else is said, however long ago that began: then
    it is never late."""
    begins: str = ""
    """Of what holds: the column that says when what it is about began, if one name may stand for
    one thing after another."""
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

    @property
    def states(self) -> str:
        """The view of from when to when what it says held; nothing if it does not hold."""
        return f"{self.channel}_states" if self.holds else ""

    @property
    def momentary(self) -> bool:
        """Whether its time is when it happened; one with times of its own is of a period."""
        return not self.holds and schema.TIME not in self.columns.types


class Checks:
    """Checks the ``n`` rows of one batch of raw events; rows without a reason are accepted.

    Each method reads a raw column, puts the checked one under the same name into
    :attr:`columns` and returns it. Cells of rejected rows are null or anything.
    """

    def __init__(self, raw: RawEvents) -> None:
        """``raw`` has arrays; see :func:`~forebay.domain.columns.as_arrays`."""
        self.raw = raw
        self.columns: dict[str, pa.Array] = {}
        self.dead: dict[int, DeadLetter] = {}
        """By row, the first reason against it."""
        self.flags: npt.NDArray[np.uint8] = np.zeros(len(raw), dtype=np.uint8)
        """Bits of :data:`~forebay.domain.flags.FLAGS`, shape (n,)."""

    def reject(self, rows: Sequence[int], reason: Reason, column: Column) -> None:
        """Give ``reason`` against some rows, with what their cell of ``column`` says."""
        if not rows:
            return
        raw, what = self.raw, reason.removeprefix("bad_")
        told = [cells(cell, rows) for cell in (raw.frame, raw.item, raw.symbol, column)]
        for row, frame, item, symbol, cell in zip(rows, *told, strict=True):
            error = f"{what} {cell!r:.200} of {symbol}"
            self.dead.setdefault(row, DeadLetter(frame, item, reason, error))

    def reject_where(self, mask: Mask, reason: Reason, column: Column) -> None:
        """Give ``reason`` against the rows for which ``mask``, of shape (n,), is true."""
        if mask.any():
            self.reject(np.flatnonzero(mask).tolist(), reason, column)

    def flag(self, mask: Mask, bit: int) -> None:
        """Mark the rows for which ``mask``, of shape (n,), is true."""
        self.flags |= mask * np.uint8(bit)

    def flag_crossed(self, bid: pa.Array, ask: pa.Array, bit: int) -> None:
        """Mark the rows whose bid is not below their ask; one that is null crosses nothing."""
        self.flag(true_where(pc.greater_equal(bid, ask)), bit)

    def positive(self, name: str, reason: Reason, *, optional: bool = False) -> pa.Array:
        """Read exact decimals above 0; ``optional`` ones may be null, others not."""
        return self._decimals(name, reason, pc.greater, optional=optional)

    def not_negative(self, name: str, reason: Reason, *, optional: bool = False) -> pa.Array:
        """Read exact decimals that are 0 or above; ``optional`` ones may be null, others not."""
        return self._decimals(name, reason, pc.greater_equal, optional=optional)

    def _decimals(
        self, name: str, reason: Reason, right: Callable[..., pa.Array], *, optional: bool
    ) -> pa.Array:
        texts = self._raw(name, _TEXT)
        values = decimals(texts)
        wrong = ~true_where(right(values, _ZERO))
        if optional:
            wrong &= true_where(pc.is_valid(texts))
        self.reject_where(wrong, reason, texts)
        self.columns[name] = values
        return values

    def levels(
        self, prices: str, sizes: str, *, differences: bool = False
    ) -> tuple[pa.Array, pa.Array]:
        """Read the lists of one side of a book: prices above 0, and as many sizes of 0 or above.

        Of ``differences`` a size may be negative, and is never 0.
        """
        raw = [self._raw(name, _LIST) for name in (prices, sizes)]
        counts = [pc.fill_null(pc.list_value_length(lists), -1).to_numpy() for lists in raw]
        rights: tuple[tuple[Callable[..., pa.Array], Reason, bool], ...] = (
            (pc.greater, "bad_price", False),
            (pc.not_equal if differences else pc.greater_equal, "bad_size", differences),
        )
        read = []
        for name, lists, (right, reason, signed) in zip((prices, sizes), raw, rights, strict=True):
            values = decimals(lists.flatten(), signed=signed)
            wrong = np.zeros(len(lists), dtype=np.bool_)
            parents = pc.list_parent_indices(lists).to_numpy()
            wrong[parents[~true_where(right(values, _ZERO))]] = True
            uneven = (counts[0] != counts[1]) | (counts[0] < 0)
            self.reject_where(wrong | uneven, reason, lists)
            lengths = np.maximum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), 0)
            offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
            self.columns[name] = pa.ListArray.from_arrays(pa.array(offsets), values)
            read.append(self.columns[name])
        return read[0], read[1]

    def integer(self, name: str, *, least: int = 0, optional: bool = False) -> pa.Array:
        """Read whole numbers from ``least`` on; ``optional`` ones may be null, others not."""
        column = self._raw(name, pa.int64())
        values, missing, wrong = whole_cells(column)
        wrong = wrong | ~missing & (values < least)
        self.reject_where(wrong if optional else wrong | missing, "bad_value", column)
        self.columns[name] = pa.array(values, mask=missing | wrong)
        return self.columns[name]

    def choice(self, name: str, values: Sequence[str], reason: Reason = "bad_value") -> pa.Array:
        """Read texts that are one of ``values``."""
        texts = self._raw(name, _TEXT)
        known = true_where(pc.is_in(texts, value_set=pa.array(values, _TEXT)))
        self.reject_where(~known, reason, texts)
        self.columns[name] = texts
        return texts

    def truth(self, name: str) -> pa.Array:
        """Read texts that are ``true`` or ``false``."""
        texts = self.choice(name, ("true", "false"))
        self.columns[name] = pc.equal(texts, "true")
        return self.columns[name]

    def native(self, name: str) -> pa.Array:
        """Put the venue's own ids as texts under ``name``; empty where it gives none."""
        ids = self.raw.native
        if ids is None:
            self.columns[name] = pa.repeat(pa.scalar("", _TEXT), len(self.raw))
        else:
            texts = ids if isinstance(ids, pa.Array) else pa.array(whole_numbers(ids)[0])
            self.columns[name] = texts.cast(_TEXT)
        return self.columns[name]

    def time(self, name: str) -> pa.Array:
        """Read times of the kind's own, UTC; none of them may be missing."""
        raw = self._raw(name, _TEXT)
        values, _, bad = times(raw)
        self.reject_where(bad, "bad_time", told(raw))
        self.columns[name] = values
        return values

    def _raw(self, name: str, kind: pa.DataType) -> Any:  # noqa: ANN401 - an array or Moments
        """Return a raw column; one that says nothing of any row is null everywhere."""
        column: Any = self.raw.columns.get(name)
        nothing = column is None or (isinstance(column, pa.Array) and pa.types.is_null(column.type))
        return pa.nulls(len(self.raw), kind) if nothing else column


_ZERO = pa.scalar(0, schema.DECIMAL)
_LIST = pa.list_(pa.string())
_TOO_GREAT = 1 << 63


def decimals(texts: pa.Array, *, signed: bool = False) -> pa.Array:
    """Return exact decimals; what is none is null, and so is one below 0 unless ``signed``.

    Arrow is given plain digits only: what has more than 20 of them before the point, and some
    exponents, it casts to a wrong number without an error.
    """
    begin = "^-?" if signed else "^"
    plain = pc.match_substring_regex(texts, begin + _PLAIN_DECIMAL)
    if pc.all(plain).as_py():
        return texts.cast(schema.DECIMAL)
    with_exponent = pc.match_substring_regex(texts, begin + _WITH_EXPONENT)
    with_exponent = pc.fill_null(with_exponent, fill_value=False)
    if pc.any(with_exponent).as_py():
        written = pa.array(map(_plain, texts.filter(with_exponent).to_pylist()), _TEXT)
        texts = pc.replace_with_mask(texts, with_exponent, written)
        plain = pc.match_substring_regex(texts, begin + _PLAIN_DECIMAL)
    return pc.if_else(plain, texts, pa.scalar(None, _TEXT)).cast(schema.DECIMAL)


def _plain(text: str) -> str:
    """Return a number with an exponent as the same in digits, without needless zeros."""
    digits = format(Decimal(text), "f").lstrip("0")
    whole, _, places = digits.partition(".")
    places = places.rstrip("0")
    return f"{whole or '0'}.{places}" if places else whole or "0"


def whole_numbers(column: Column) -> tuple[Integers, Mask]:
    """Return integers in [0, 2**62), 0 for those that are not, and which those are; shape (n,)."""
    values, missing, bad = whole_cells(column)
    bad = missing | bad | (values < 0) | (values >= NATIVE_ID_LIMIT)
    return np.where(bad, 0, values), bad


def times(column: Any) -> tuple[pa.Array, Integers, Mask]:  # noqa: ANN401 - texts or Moments
    """Return times as Arrow has them and as integers, and which of them are none; shape (n,).

    ``column`` has RFC 3339 texts or is :class:`~forebay.domain.parsed.Moments`; what is no time
    is null, and 0 among the integers. A leap second is the one behind it, as Unix time has it.
    """
    if isinstance(column, Moments):
        values, missing, bad = whole_cells(column.values)
        bad = missing | bad | (values < 0) | (values > np.iinfo(np.int64).max // column.unit_ns)
        ns = np.where(bad, 0, values) * column.unit_ns
        return pa.array(ns, mask=bad).cast(schema.TIME), ns, bad
    integers = _instants(column)
    bad = true_where(pc.is_null(integers))
    return integers.cast(schema.TIME), pc.fill_null(integers, 0).to_numpy(), bad


def _instants(texts: pa.Array) -> pa.Array:
    """Return UTC nanoseconds of RFC 3339 texts; what is no time is null."""
    kind = pa.timestamp("ns", "UTC")
    try:
        return texts.cast(kind).cast(pa.int64())
    except pa.ArrowInvalid:
        leap = pc.fill_null(pc.match_substring_regex(texts, _LEAP_SECOND), fill_value=False)
        usual = pc.replace_substring_regex(texts, _LEAP_SECOND, r"\1:59")
        second = pc.if_else(leap, 1_000_000_000, 0)
        return pc.add(_cast(usual, kind).cast(pa.int64()), second)


def told(column: Any) -> Column:  # noqa: ANN401 - any column of times
    """Return what a column of times says, for the dead letters of its rows."""
    cells: Column = column.values if isinstance(column, Moments) else column
    return cells


def true_where(mask: pa.Array) -> Mask:
    """Return a mask as numpy has it; null is false."""
    found: Mask = pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False)
    return found


def whole_cells(column: Column) -> tuple[Integers, Mask, Mask]:
    """Return integers, where there is none, and where it has more than 64 bits; shape (n,)."""
    nowhere = np.zeros(len(column), dtype=np.bool_)
    if isinstance(column, pa.Array):
        values = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        return values, true_where(pc.is_null(column)), nowhere
    if column.dtype != np.object_:
        return column.astype(np.int64, copy=False), nowhere, nowhere
    missing = np.array([cell is None for cell in column], dtype=np.bool_)
    fit = np.array([cell is not None and -_TOO_GREAT <= cell < _TOO_GREAT for cell in column])
    return np.where(fit, column, 0).astype(np.int64), missing, ~fit & ~missing


def _cast(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast texts; those that cannot be are null."""
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, kind)
    middle = len(texts) // 2
    return pa.concat_arrays([_cast(texts[:middle], kind), _cast(texts[middle:], kind)])
