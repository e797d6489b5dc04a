"""Messages of the feed as columns: the quick way, for frames that are as the venue writes them.

What :class:`~forebay.domain.templates.Template` returns is what a JSON parser would find. A
message that is written otherwise (other keys or order, white space, an escape, a number too long)
or means something to refuse (another side, a product not asked for) is left to the careful way
in :mod:`forebay.sources.coinbase.feed`, which alone gives verdicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.parsed import RawEvents
from forebay.domain.templates import Template
from forebay.sources.coinbase.messages import by_side, plausible
from forebay.sources.coinbase.protocol import BOOK_DELTAS, TRADES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.parsed import Cells
    from forebay.domain.templates import MatchedRows

    Mask = npt.NDArray[np.bool_]
    Wanted = Callable[[set[str]], set[str]]
    Own = Callable[[MatchedRows, Mask], dict[str, Cells]]

_MATCH = Template(
    '{"type":"match","trade_id":<trade_id>'
    ',"maker_order_id":"<maker_order_id>","taker_order_id":"<taker_order_id>"'
    ',"side":"<side>","size":"<size>","price":"<price>"'
    ',"product_id":"<product_id>","sequence":<sequence>,"time":"<time>"}'
)
_ONE_CHANGE = Template(
    '{"type":"l2update","product_id":"<product_id>"'
    ',"changes":[["<side>","<price>","<size>"]],"time":"<time>"}'
)
"""What nearly all updates of the channel ``level2`` look like; batches have more changes."""


def read_matches(payloads: Sequence[bytes], wanted: Wanted) -> list[RawEvents]:
    """Return trades of the ``payloads`` that could be read, some thousands a part, in order.

    ``wanted`` returns those of some products whose trades are taken.
    """
    return list(_read(_MATCH, TRADES, payloads, wanted, _trade))


def read_updates(
    payloads: Sequence[bytes], wanted: Wanted, received_ns: npt.NDArray[np.int64]
) -> list[RawEvents]:
    """Return likewise the updates of one change each whose times are plausible."""
    return list(_read(_ONE_CHANGE, BOOK_DELTAS, payloads, wanted, _change, received_ns=received_ns))


def _read(
    template: Template,
    channel: Channel,
    payloads: Sequence[bytes],
    wanted: Wanted,
    own: Own,
    *,
    received_ns: npt.NDArray[np.int64] | None = None,
) -> Iterator[RawEvents]:
    for rows in template.read(payloads):
        products, times = rows.texts("product_id").dictionary_encode(), rows.texts("time")
        names: list[str] = products.dictionary.to_pylist()
        taken, buy = wanted(set(names)), rows.says("side", b"buy")
        mask = buy | rows.says("side", b"sell")
        if received_ns is not None:
            mask &= plausible(times, received_ns)
        if len(taken) < len(names):
            mask &= np.array([name in taken for name in names])[products.indices.to_numpy()]
        if not mask.all():
            rows, buy, kept = rows.only(mask), buy[mask], pa.array(mask)  # noqa: PLW2901
            products, times = products.filter(kept), times.filter(kept)
        if len(rows):
            yield RawEvents(
                channel=channel,
                frame=rows.index,
                item=np.zeros(len(rows), dtype=np.int64),
                venue_symbol=products,
                symbol=products,
                native=rows.numbers("trade_id") if channel is TRADES else None,
                time=times,
                columns=own(rows, buy),
            )


def _trade(rows: MatchedRows, buy: Mask) -> dict[str, Cells]:
    takers = pa.array(["buy", "sell"], pa.string())  # the side of a match is the maker's
    side = takers.take(pa.array(buy.view(np.int8)))
    return {"price": rows.texts("price"), "size": rows.texts("size"), "side": side}


def _change(rows: MatchedRows, buy: Mask) -> dict[str, Cells]:
    places = np.arange(len(rows))
    return by_side(buy, rows.texts("price"), rows.texts("size"), places, len(rows))
