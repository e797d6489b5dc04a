"""Changes of books as columns: lists of levels by side, a list a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]


def by_side(
    buy: Mask, prices: pa.Array, sizes: pa.Array, message: Integers, messages: int
) -> dict[str, pa.Array]:
    """Return changes as lists by side; of each, its message by index, rising."""
    columns = {}
    for name, mask in (("bid", buy), ("ask", ~buy)):
        offsets = offsets_of(np.bincount(message[mask], minlength=messages))
        for what, values in (("prices", prices), ("sizes", sizes)):
            lists = pa.ListArray.from_arrays(offsets, values.filter(pa.array(mask)))
            columns[f"{name}_{what}"] = lists
    return columns


def offsets_of(counts: Integers) -> pa.Array:
    """Return where lists of such lengths begin and end, one behind the other."""
    return pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
