r"""Arrow columns as plain values, of whatever type: what JSON can hold, exact, and nothing else.

Decimals, times, ids and bytes are texts: Python's own times have neither nanoseconds nor the year
290000, and JSON has no exact decimals. NaN and the infinities are texts too. Bytes are as DuckDB
writes them: printable ASCII as it is, everything else and the backslash as ``\xAB``.
"""

from __future__ import annotations

import json
import math
import string
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from decimal import Decimal

    import pyarrow as pa

_SECOND_NS = 10**9
_UNITS_NS = {"s": _SECOND_NS, "ms": 10**6, "us": 10**3, "ns": 1}
_PLAIN = f"{string.ascii_letters}{string.digits}{string.punctuation} ".replace("\\", "")
_BYTES = [chr(code) if chr(code) in _PLAIN else f"\\x{code:02X}" for code in range(256)]


def text(cell: object) -> str:
    """Return a plain value as one text: lists and structures as JSON has them."""
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)


def unique(names: Iterable[str]) -> list[str]:
    """Return names that are all different: of two that are equal the second is ``name_1``."""
    taken: dict[str, None] = {}
    for name in names:
        number, own = 0, name
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken[own] = None
    return list(taken)


def plain(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column, None where there is none."""
    return [cell for chunk in column.chunks for cell in _values(chunk)]


def _values(array: pa.Array) -> list[Any]:
    import pyarrow as pa

    kinds, kind = pa.types, array.type
    nested = (
        (kinds.is_map, _maps),
        (kinds.is_list, _lists),
        (kinds.is_large_list, _lists),
        (kinds.is_fixed_size_list, _fixed_lists),
        (kinds.is_struct, _structs),
        (kinds.is_union, _unions),
        (kinds.is_timestamp, lambda some: _moments(some, kind.unit, "Z")),
        (kinds.is_date32, lambda some: _moments(some, "D", "")),
        (kinds.is_float32, lambda some: _values(some.cast(pa.string()).cast(pa.float64()))),
        (kinds.is_dictionary, lambda some: _values(some.dictionary_decode())),
    )
    for holds, values in nested:
        if holds(kind):
            return values(array)
    as_text = _scalar(kind)
    if kinds.is_time(kind):
        array = array.view(pa.int64() if kinds.is_time64(kind) else pa.int32())
    found: list[Any] = array.to_pylist()
    return [None if cell is None else as_text(cell) for cell in found] if as_text else found


def _scalar(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """Return what makes one value plain, None where it is already."""
    import pyarrow.types as kinds

    if kinds.is_decimal(kind):
        return _decimal
    if kinds.is_floating(kind):
        return _number
    if kinds.is_time(kind):
        return lambda count: _clock(count * _UNITS_NS[kind.unit])
    if kinds.is_interval(kind):
        return _interval
    if kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind):
        return lambda blob: "".join(map(_BYTES.__getitem__, blob))
    whole = kinds.is_integer(kind) or kinds.is_boolean(kind) or kinds.is_null(kind)
    return None if whole or kinds.is_string(kind) or kinds.is_large_string(kind) else str


def _decimal(value: Decimal) -> str:
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _clock(moment_ns: int) -> str:
    seconds, fraction = divmod(moment_ns, _SECOND_NS)
    whole = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{whole}.{fraction:09}".rstrip("0") if fraction else whole


def _interval(value: tuple[int, int, int]) -> str:
    """Return an interval as SQL reads it: ``1 year 2 days 03:00:00``."""
    months, days, nanoseconds = value
    years = int(months / 12)
    sums = {"year": years, "month": months - 12 * years, "day": days}
    parts = [f"{many} {name}{'' if abs(many) == 1 else 's'}" for name, many in sums.items() if many]
    if nanoseconds or not parts:
        parts.append(("-" if nanoseconds < 0 else "") + _clock(abs(nanoseconds)))
    return " ".join(parts)


def _moments(array: pa.Array, unit: str, zone: str) -> list[str | None]:
    """Return moments as RFC 3339 texts with all their digits, whatever the year."""
    import numpy as np
    import pyarrow as pa

    counts = array.view(pa.int32() if unit == "D" else pa.int64())
    numbers = counts.fill_null(0).to_numpy(zero_copy_only=False)
    ends = {np.iinfo(numbers.dtype).max: "infinity", -np.iinfo(numbers.dtype).max: "-infinity"}
    texts = np.datetime_as_string(numbers.astype(f"datetime64[{unit}]")).tolist()
    return [
        None if number is None else ends.get(number) or _four_digits(shown) + zone
        for number, shown in zip(counts.to_pylist(), texts, strict=True)
    ]


def _four_digits(shown: str) -> str:
    """Return a moment before the year 0, too, with a year of at least four digits."""
    year, rest = shown[1:].split("-", 1) if shown.startswith("-") else ("", "")
    return f"-{year:0>4}-{rest}" if year else shown


def _lists(array: pa.Array) -> list[Any]:
    items, offsets = _values(array.values), array.offsets.to_pylist()
    return _unless_null(array, [items[begin:end] for begin, end in pairwise(offsets)])


def _fixed_lists(array: pa.Array) -> list[Any]:
    size = array.type.list_size
    items = _values(array.values.slice(array.offset * size, len(array) * size))
    return _unless_null(array, [items[n * size : (n + 1) * size] for n in range(len(array))])


def _maps(array: pa.Array) -> list[Any]:
    """Return maps as JSON has them, their keys as texts."""
    keys, items = map(text, _values(array.keys)), _values(array.items)
    pairs, offsets = list(zip(keys, items, strict=True)), array.offsets.to_pylist()
    return _unless_null(array, [dict(pairs[begin:end]) for begin, end in pairwise(offsets)])


def _structs(array: pa.Array) -> list[Any]:
    fields = [array.type.field(index) for index in range(array.type.num_fields)]
    names = unique(field.name for field in fields)
    columns = [_values(array.field(index)) for index in range(len(fields))]
    rows = zip(*columns, strict=True) if columns else ((),) * len(array)
    return _unless_null(array, [dict(zip(names, row, strict=True)) for row in rows])


def _unions(array: pa.Array) -> list[Any]:
    """Return of each value what it holds, not which of its members that is."""
    members = [_values(array.field(index)) for index in range(array.type.num_fields)]
    codes = {code: index for index, code in enumerate(array.type.type_codes)}
    return [members[codes[code]][row] for row, code in enumerate(array.type_codes.to_pylist())]


def _unless_null(array: pa.Array, cells: Sequence[object]) -> list[Any]:
    valid = cast("list[bool]", array.is_valid().to_pylist())
    return [cell if there else None for cell, there in zip(cells, valid, strict=True)]
