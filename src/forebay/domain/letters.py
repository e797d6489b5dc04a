"""Dead letters as rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain import schema
from forebay.domain.identity import digest_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from forebay.domain.frames import FrameBatch
    from forebay.domain.parsed import DeadLetter


def letter_id(venue: str, received_ns: int, item: int, payload: bytes) -> UUID:
    """Answer the same id whenever the same frame of the same moment is projected again."""
    head = f"{venue}|{received_ns}|{item}|".encode()
    return digest_id(hashlib.sha256(head + payload).digest())


def letter_rows(batch: FrameBatch, letters: Iterable[DeadLetter], parser: str) -> pa.Table:
    """Answer rows of :data:`~forebay.domain.schema.DEAD_LETTERS` with the frames' bytes."""
    context = batch.context
    rows = []
    for letter in letters:
        payload, received = batch.payloads[letter.frame], int(batch.received_ns[letter.frame])
        rows.append(
            {
                "letter_id": letter_id(context.venue, received, letter.item, payload).bytes,
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
