"""Statements of a registry: what a venue says of something that goes on, until it says otherwise.

Nothing is refused for what it says: a cell that cannot be is null and named in ``impossible``, and
a value that nobody knows yet is kept and named in ``unknown``. So one market that cannot be costs
no other, and a venue that learns a new word costs none at all.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.kinds.checks import EventKind, decimals, times, true_where, whole_cells
from forebay.domain.parsed import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.kinds.checks import Checks

    Mask = npt.NDArray[np.bool_]
    Read = Callable[[Any], tuple[pa.Array, Mask]]

LISTED = "listed"
"""The ``change`` of a whole statement, as a list of the venue makes it; others state a part."""
_HEAD = pa.schema([("change", pa.string()), ("changed_ts", schema.TIME)])
_MARKS = pa.schema([("unknown", pa.string()), ("impossible", pa.string())])
OF_ONE = (*_HEAD.names, *_MARKS.names)
"""Columns that are about one statement, and say nothing of what holds."""
_NO_TIME = "0001-01-01T00:00:00"
"""The zero of a widespread language's times: how many servers write that there is none."""


def statement(
    channel: str,
    table: str,
    columns: Sequence[tuple[str, pa.DataType]],
    *rising: tuple[str, str],
    begins: str = "",
) -> EventKind:
    """Return a kind of statements with ``columns`` of its own, each of which may be null.

    Of each pair in ``rising`` the second cannot be below the first.
    """
    own = [*_HEAD, *pa.schema(columns)]
    return EventKind(
        channel=channel,
        table=table,
        columns=pa.schema([*own, *_MARKS]),
        check=partial(_check, own, rising),
        telling=tuple(field.name for field in own),
        idempotent=True,
        holds=True,
        begins=begins,
    )


def _check(own: Sequence[pa.Field], rising: Sequence[tuple[str, str]], checks: Checks) -> None:
    """Read every column by its type, and name those that cannot be."""
    count = len(checks.raw)
    impossible: dict[str, Mask] = {}
    for field in own:
        raw: Any = checks.raw.columns.get(field.name)
        if raw is None or (isinstance(raw, pa.Array) and pa.types.is_null(raw.type)):
            checks.columns[field.name] = pa.nulls(count, field.type)
        else:
            checks.columns[field.name], impossible[field.name] = _READ[field.type](raw)
    for first, second in rising:
        below = true_where(pc.less(checks.columns[second], checks.columns[first]))
        impossible[second] = impossible.get(second, np.zeros(count, dtype=np.bool_)) | below
    unknown: Any = checks.raw.columns.get("unknown")
    told = pa.nulls(count, pa.string()) if unknown is None else unknown.cast(pa.string())
    checks.columns["unknown"] = pc.fill_null(told, "")
    checks.columns["impossible"] = _named(impossible, count)


def _named(masks: dict[str, Mask], count: int) -> pa.Array:
    """Return of each row the names of the masks that it is in, joined by commas."""
    rows = [""] * count
    for name, mask in masks.items():
        for row in np.flatnonzero(mask).tolist():
            rows[row] += f",{name}" if rows[row] else name
    return pa.array(rows, pa.string())


def _text(raw: pa.Array) -> tuple[pa.Array, Mask]:
    texts = raw.cast(pa.string())
    nothing = pa.scalar(None, pa.string())
    return pc.if_else(pc.equal(texts, ""), nothing, texts), np.zeros(len(texts), dtype=np.bool_)


def _time(raw: Any) -> tuple[pa.Array, Mask]:  # noqa: ANN401 - texts or Moments
    if isinstance(raw, Moments):
        absent = whole_cells(raw.values)[0] == 0
    else:
        raw = _text(raw)[0]
        absent = ~true_where(pc.is_valid(raw)) | true_where(pc.starts_with(raw, _NO_TIME))
        raw = pc.if_else(pa.array(absent), pa.scalar(None, pa.string()), raw)
    values, _, bad = times(raw)
    values = pc.if_else(pa.array(bad | absent), pa.scalar(None, schema.TIME), values)
    return values, bad & ~absent


def _truth(raw: pa.Array) -> tuple[pa.Array, Mask]:
    texts = _text(raw)[0]
    known = pc.is_in(texts, value_set=pa.array(["true", "false"]))
    values = pc.if_else(known, pc.equal(texts, "true"), pa.scalar(None, pa.bool_()))
    return values, true_where(pc.is_valid(texts)) & ~true_where(known)


def _decimal(raw: pa.Array) -> tuple[pa.Array, Mask]:
    texts = _text(raw)[0]
    below = pc.starts_with(texts, "-")
    values = decimals(pc.if_else(below, pc.utf8_slice_codeunits(texts, 1), texts))
    return pc.if_else(below, pc.negate(values), values), true_where(
        pc.and_(pc.is_valid(texts), pc.is_null(values))
    )


def _integer(raw: Any) -> tuple[pa.Array, Mask]:  # noqa: ANN401 - any column of numbers
    values, missing, wrong = whole_cells(raw)
    return pa.array(values, mask=missing | wrong), wrong


_READ: dict[pa.DataType, Read] = {
    pa.string(): _text,
    schema.TIME: _time,
    pa.bool_(): _truth,
    schema.DECIMAL: _decimal,
    pa.int64(): _integer,
}
