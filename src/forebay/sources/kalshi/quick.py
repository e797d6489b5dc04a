"""Changes of books and trades, as the venue writes them, read many at once as columns.

What :class:`~forebay.domain.templates.Template` returns is what a JSON parser would find; what is
written otherwise, or means something to refuse, is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from forebay.domain.identity import NATIVE_ID_LIMIT
from forebay.domain.parsed import Moments, RawEvents
from forebay.domain.templates import Template
from forebay.sources.kalshi.messages import complement
from forebay.sources.kalshi.protocol import (
    BOOK_DELTAS,
    MARKET,
    MILLISECOND,
    SEQ_BITS,
    TRADES,
)
from forebay.sources.levels import by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from forebay.domain.channels import Channel
    from forebay.domain.parsed import Cells, Numbers, Texts
    from forebay.domain.templates import MatchedRows

    Integers = npt.NDArray[np.int64]
    Mask = npt.NDArray[np.bool_]

_DELTA = Template(
    '{"type":"orderbook_delta","sid":<sid>,"seq":<seq>,"msg":{"market_ticker":"<market_ticker>"'
    ',"market_id":"<market_id>","price_dollars":"<price>","delta_fp":"<delta>","side":"<side>"'
    ',"ts":"<ts>","ts_ms":<ts_ms>}}'
)
_TRADE = (
    '{"type":"trade","sid":<sid>,"seq":<seq>,"msg":{"trade_id":"<trade_id>"'
    ',"market_ticker":"<market_ticker>","yes_price_dollars":"<price>"'
    ',"no_price_dollars":"<no_price>","count_fp":"<count>","taker_side":"<taker_side>"'
    ',"taker_outcome_side":"<side>","taker_book_side":"<book_side>"'
)
_TEMPLATES = (
    Template(_TRADE + ',"ts":<ts>,"ts_ms":<ts_ms>}}'),
    Template(_TRADE + ',"is_block_trade":false,"ts":<ts>,"ts_ms":<ts_ms>}}'),
)


class QuickPart(NamedTuple):
    """Events that were read at once, and the numbers of their frames, of shape (n,)."""

    events: RawEvents
    sids: Integers
    seqs: Integers


_BEGIN, _BLOCK = b'{"type":"trade"', b'"is_block_trade"'
_SAMPLE = 512


def trade_templates(payloads: Sequence[bytes]) -> Sequence[Template]:
    """Return the forms of a trade, first the one that is likely: a connection uses one."""
    first = next((each for each in payloads[:_SAMPLE] if each.startswith(_BEGIN)), b"")
    return _TEMPLATES[::-1] if _BLOCK in first else _TEMPLATES


def read_deltas(
    payloads: Sequence[bytes], wanted: Callable[[set[str]], set[str]]
) -> Iterator[QuickPart]:
    """Return changes of those ``payloads`` that could be read, some thousands a part, in order.

    ``wanted`` returns those of some markets that are taken.
    """
    for sifted in _sifted(_DELTA, payloads, wanted):
        rows, yes = sifted.rows, sifted.yes
        prices, places = _on_one_axis(rows.texts("price"), yes), np.arange(len(rows))
        columns = by_side(yes, prices, rows.texts("delta"), places, len(rows))
        native = sifted.sids << SEQ_BITS | sifted.seqs
        yield sifted.part(BOOK_DELTAS, native, rows.texts("ts"), columns)


def _on_one_axis(prices: pa.Array, yes: Mask) -> pa.Array:
    """Return prices of YES; those of NO are turned round. There are few that differ."""
    told = prices.dictionary_encode()
    known: list[str] = told.dictionary.to_pylist()
    both = pa.array([*known, *map(complement, known)], pa.string())
    return both.take(pa.array(told.indices.to_numpy() + ~yes * len(known)))


def read_trades(
    payloads: Sequence[bytes], wanted: Callable[[set[str]], set[str]], template: Template
) -> Iterator[QuickPart]:
    """Return trades likewise."""
    takers = pa.array(["sell", "buy"], pa.string())
    for sifted in _sifted(template, payloads, wanted):
        rows = sifted.rows
        columns = {
            "price": rows.texts("price"),
            "size": rows.texts("count"),
            "side": takers.take(pa.array(sifted.yes.view(np.int8))),
        }
        times = Moments(rows.numbers("ts_ms"), MILLISECOND)
        yield sifted.part(TRADES, rows.texts("trade_id"), times, columns)


class SiftedRows(NamedTuple):
    """Rows of markets that are taken, on a side; what was read to know that, of shape (n,)."""

    rows: MatchedRows
    markets: pa.Array
    sids: Integers
    seqs: Integers
    yes: Mask
    """Whether they are on the side of YES."""

    def part(
        self,
        channel: Channel,
        native: Numbers | Texts,
        times: Cells | Moments,
        columns: dict[str, Cells],
    ) -> QuickPart:
        """Return them as events."""
        events = RawEvents(
            channel=channel,
            market=MARKET,
            frame=self.rows.index,
            item=np.zeros(len(self.rows), dtype=np.int64),
            venue_symbol=self.markets,
            symbol=self.markets,
            native=native,
            time=times,
            columns=columns,
        )
        return QuickPart(events, self.sids, self.seqs)


def _sifted(
    template: Template, payloads: Sequence[bytes], wanted: Callable[[set[str]], set[str]]
) -> Iterator[SiftedRows]:
    """Return rows of markets that are taken, on a side, with numbers that have room in an id."""
    for rows in template.read(payloads):
        if not len(rows):
            continue
        markets = rows.texts("market_ticker").dictionary_encode()
        names: list[str] = markets.dictionary.to_pylist()
        sids, seqs, yes = rows.numbers("sid"), rows.numbers("seq"), rows.says("side", b"yes")
        mask = (yes | rows.says("side", b"no")) & (sids < NATIVE_ID_LIMIT >> SEQ_BITS)
        mask &= seqs < 1 << SEQ_BITS
        if len(taken := wanted(set(names))) < len(names):
            mask &= np.array([name in taken for name in names])[markets.indices.to_numpy()]
        if mask.all():
            yield SiftedRows(rows, markets, sids, seqs, yes)
        elif mask.any():
            kept = markets.filter(pa.array(mask))
            yield SiftedRows(rows.only(mask), kept, sids[mask], seqs[mask], yes[mask])
