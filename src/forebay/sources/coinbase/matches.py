"""Matches of the feed as columns: the quick way, for frames that are as the venue writes them.

What :class:`~forebay.domain.templates.Template` answers is what a JSON parser would find. A
match that is written otherwise (other keys or order, white space, an escape, a number too long)
or means something to refuse (another side, a product not asked for) is left to the careful way
in :mod:`forebay.sources.coinbase.protocol`, which alone gives verdicts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from forebay.domain.parsed import RawEvents
from forebay.domain.templates import Template

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forebay.domain.channels import Channel
    from forebay.domain.templates import MatchedRows

_MATCH = Template(
    '{"type":"match","trade_id":<trade_id>'
    ',"maker_order_id":"<maker_order_id>","taker_order_id":"<taker_order_id>"'
    ',"side":"<side>","size":"<size>","price":"<price>"'
    ',"product_id":"<product_id>","sequence":<sequence>,"time":"<time>"}'
)


def read_matches(
    payloads: Sequence[bytes], wanted: Callable[[set[str]], set[str]], channel: Channel
) -> list[RawEvents]:
    """Return trades of the ``payloads`` that could be read, some thousands a part, in order.

    ``wanted`` answers those of some products whose trades are taken.
    """
    parts = (_trades(rows, wanted, channel) for rows in _MATCH.read(payloads))
    return [part for part in parts if len(part)]


def _trades(
    rows: MatchedRows, wanted: Callable[[set[str]], set[str]], channel: Channel
) -> RawEvents:
    products = rows.texts("product_id").dictionary_encode()
    names: list[str] = products.dictionary.to_pylist()
    taken = wanted(set(names))
    buy = rows.says("side", b"buy")
    mask = buy | rows.says("side", b"sell")
    if len(taken) < len(names):
        mask &= np.array([name in taken for name in names])[products.indices.to_numpy()]
    if not mask.all():
        rows, products, buy = rows.only(mask), products.filter(pa.array(mask)), buy[mask]
    # The side of a match is the maker's.
    takers = pa.array(["buy", "sell"], pa.string())
    return RawEvents(
        channel=channel,
        frame=rows.index,
        item=np.zeros(len(rows), dtype=np.int64),
        venue_symbol=products,
        symbol=products,
        native=rows.numbers("trade_id"),
        time=rows.texts("time"),
        columns={
            "price": rows.texts("price"),
            "size": rows.texts("size"),
            "side": takers.take(pa.array(buy.view(np.int8))),
        },
    )
