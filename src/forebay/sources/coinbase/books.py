"""Order books: the snapshot at the beginning, and what changes from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.parsed import DeadLetter, RawEvents
from forebay.domain.templates import Template
from forebay.sources.coinbase.channels import BOOK_DELTAS, BOOK_SNAPSHOTS, MARKET
from forebay.sources.coinbase.times import apart, plausible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.templates import MatchedRows

    Integers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

_ONE_CHANGE = Template(
    '{"type":"l2update","product_id":"<product_id>"'
    ',"changes":[["<side>","<price>","<size>"]],"time":"<time>"}'
)
"""What nearly all updates of the channel ``level2`` look like; batches have more changes."""


_SIDES = {"buy", "sell"}
"""``buy`` is the side of the bids."""


class BookSnapshot(msgspec.Struct, tag="snapshot"):
    """A whole book; the venue writes a side without levels as an empty list or as null."""

    product_id: str
    bids: list[tuple[str, str]] | None
    asks: list[tuple[str, str]] | None
    time: str | None = None


class Update(msgspec.Struct, tag="l2update"):
    """The sizes that levels have from now on: side, price, size; 0 takes a level away."""

    product_id: str
    changes: list[tuple[str, str, str]]
    time: str | None = None


def snapshots(told: Sequence[tuple[int, BookSnapshot]], received_ns: Integers) -> list[RawEvents]:
    """Return the snapshots that messages tell."""
    found = []
    for part in apart(told, received_ns):
        columns: dict[str, pa.Array] = {}
        for name in ("bid", "ask"):
            sides = [getattr(message, f"{name}s") or () for _, message in part]
            levels = [level for side in sides for level in side]
            offsets = _offsets(np.array([len(side) for side in sides]))
            for at, what in enumerate(("prices", "sizes")):
                texts = pa.array([level[at] for level in levels], pa.string())
                columns[f"{name}_{what}"] = pa.ListArray.from_arrays(offsets, texts)
        found.append(_events(BOOK_SNAPSHOTS, part, columns))
    return found


def updates(
    told: Sequence[tuple[int, Update]], received_ns: Integers, dead: list[DeadLetter]
) -> list[RawEvents]:
    """Return the changes that messages tell; those on a side that is none go to ``dead``."""
    found = []
    for part in apart(_two_sided(told, dead), received_ns):
        changes = [change for _, message in part for change in message.changes]
        counts = [len(message.changes) for _, message in part]
        buy = np.array([side == "buy" for side, _, _ in changes], dtype=np.bool_)
        prices = pa.array([price for _, price, _ in changes], pa.string())
        sizes = pa.array([size for _, _, size in changes], pa.string())
        message = np.repeat(np.arange(len(part)), counts)
        columns = _by_side(buy, prices, sizes, message, len(part))
        found.append(_events(BOOK_DELTAS, part, columns))
    return found


def _two_sided(
    told: Sequence[tuple[int, Update]], dead: list[DeadLetter]
) -> Sequence[tuple[int, Update]]:
    """Return the messages whose changes are all on a side."""
    sides = {side for _, message in told for side, _, _ in message.changes} - _SIDES
    if not sides:
        return told
    right = []
    for entry in told:
        wrong = [side for side, _, _ in entry[1].changes if side in sides]
        if wrong:
            error = f"side {wrong[0]!r:.200} of {entry[1].product_id}"
            dead.append(DeadLetter(entry[0], 0, "bad_side", error))
        else:
            right.append(entry)
    return right


def _events(
    channel: Channel, told: Sequence[tuple[int, Any]], columns: dict[str, pa.Array]
) -> RawEvents:
    products = [message.product_id for _, message in told]
    return RawEvents(
        channel=channel,
        market=MARKET,
        frame=[index for index, _ in told],
        item=[0] * len(told),
        venue_symbol=products,
        symbol=products,
        time=[message.time for _, message in told] if told[0][1].time else None,
        columns=columns,
    )


# ------------------------------------------------------------------------ many at once


def read_updates(
    payloads: Sequence[bytes],
    *,
    wanted: Callable[[set[str]], set[str]],
    received_ns: Integers,
) -> list[RawEvents]:
    """Return updates of one change each that could be read, some thousands a part, in order.

    ``wanted`` answers those of some products whose books are taken.
    """
    parts = (_changes(rows, wanted, received_ns) for rows in _ONE_CHANGE.read(payloads))
    return [part for part in parts if len(part)]


def _changes(
    rows: MatchedRows, wanted: Callable[[set[str]], set[str]], received_ns: Integers
) -> RawEvents:
    products = rows.texts("product_id").dictionary_encode()
    names: list[str] = products.dictionary.to_pylist()
    taken = wanted(set(names))
    buy, times = rows.says("side", b"buy"), rows.texts("time")
    mask = (buy | rows.says("side", b"sell")) & plausible(times, received_ns)
    if len(taken) < len(names):
        mask &= np.array([name in taken for name in names])[products.indices.to_numpy()]
    if not mask.all():
        rows, buy, kept = rows.only(mask), buy[mask], pa.array(mask)
        products, times = products.filter(kept), times.filter(kept)
    prices, sizes, count = rows.texts("price"), rows.texts("size"), len(rows)
    return RawEvents(
        channel=BOOK_DELTAS,
        market=MARKET,
        frame=rows.index,
        item=np.zeros(count, dtype=np.int64),
        venue_symbol=products,
        symbol=products,
        time=times,
        columns=_by_side(buy, prices, sizes, np.arange(count), count),
    )


def _by_side(
    buy: Mask, prices: pa.Array, sizes: pa.Array, message: Integers, messages: int
) -> dict[str, pa.Array]:
    """Return changes as lists by side; of each, its message by index, rising."""
    columns = {}
    for name, mask in (("bid", buy), ("ask", ~buy)):
        offsets = _offsets(np.bincount(message[mask], minlength=messages))
        for what, values in (("prices", prices), ("sizes", sizes)):
            lists = pa.ListArray.from_arrays(offsets, values.filter(pa.array(mask)))
            columns[f"{name}_{what}"] = lists
    return columns


def _offsets(counts: Integers) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
