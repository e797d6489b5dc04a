"""Entries made of frames: every event counted once, as the version that came first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from forebay.domain.digest import Digest, digests_by_hour
from forebay.domain.kinds.trade import TRADE
from forebay.domain.ledger import record_of
from forebay.journal import Block
from forebay.payloads import Payloads
from forebay.services.ledger_builder import LedgerBuilder
from tests.support.delivery import PARSERS
from tests.support.frames import LOG, SECOND, T0, context, match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.services.projection import Projected


def block(seq: int, payloads: Sequence[bytes], epoch: str) -> Block:
    received = T0 + SECOND + np.arange(seq, seq + len(payloads))
    return Block(LOG, seq, 1, context(epoch=epoch).encode(), received, Payloads.of(payloads))


def nobody(table: str, rows: object) -> NoReturn:
    """Nobody is asked which events were told before: coverage knows by their ids."""
    raise AssertionError(table)


def test_an_event_that_two_connections_told_is_new_once_as_the_earlier_told_it() -> None:
    """Frames are projected by connection, so coverage meets the later telling first."""
    later, earlier = match(2, price="7"), match(2, price="6")
    blocks = [block(1, [match(1)], "e1"), block(2, [earlier], "e2"), block(3, [later], "e1")]

    entry = LedgerBuilder(PARSERS, record_of([]), nobody).account(blocks)

    (stream,) = entry.streams
    alone: list[Projected] = []
    LedgerBuilder(PARSERS, record_of([]), nobody).account(blocks[:2], keep=alone.append)
    rows = alone[0].events[TRADE.table].rows
    assert len(rows) == 2
    of_rows = sum(digests_by_hour(rows, TRADE).values(), Digest())
    assert sum((hour.digest for hour in stream.hours), Digest()) == of_rows
