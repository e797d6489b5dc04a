"""Dead letters as rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.identity import digest_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import DeadLetter


def letter_id(venue: str, received_ns: int, item: int, payload: bytes, twin: int = 0) -> UUID:
    """Answer the same id whenever the same frame of the same moment is projected again.

    Frames that were read together share their moment: ``twin`` tells equal ones apart, by how many
    came before.
    """
    head = f"{venue}|{received_ns}|{item}|{f'{twin}|' if twin else ''}".encode()
    return digest_id(hashlib.sha256(head + payload).digest())


def letter_rows(batch: FrameBatch, letters: Iterable[DeadLetter], parser: str) -> pa.Table:
    """Answer rows of :data:`~forebay.domain.schema.DEAD_LETTERS` with the frames' bytes."""
    context = batch.context
    rows = []
    twins: Counter[tuple[int, int, bytes]] = Counter()
    for letter in letters:
        payload, received = batch.payloads[letter.frame], int(batch.received_ns[letter.frame])
        same = (received, letter.item, payload)
        named = letter_id(context.venue, received, letter.item, payload, twins[same])
        twins[same] += 1
        rows.append(
            {
                "letter_id": named.bytes,
                "venue": context.venue,
                "source": context.source,
                "epoch": context.epoch,
                "log_id": batch.log_id,
                "seq": int(batch.seqs[letter.frame]),
                "item": letter.item,
                "received_ts": received,
                "reason": letter.reason,
                "error": letter.error,
                "parser": parser,
                "attempts": 1,
                "payload": payload,
            }
        )
    return pa.Table.from_pylist(rows, schema=schema.DEAD_LETTERS)
