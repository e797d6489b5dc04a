"""Dead letters as rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.frames import Context, FrameBatch, FrameKind
from forebay.domain.identity import digest_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from forebay.domain.parsed import DeadLetter


_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


def letter_id(venue: str, received_ns: int, item: int, payload: bytes) -> UUID:
    """Return the same id whenever the same frame of the same moment is projected again."""
    head = f"{venue}|{received_ns}|{item}|".encode()
    return digest_id(hashlib.sha256(head + payload).digest())


def row_id(context: Context, item: int, page: bytes) -> UUID:
    """Return the same id whenever the same row of an answer is told, on whatever page and when.

    History is asked for again and again, and so are polls that overlap. Where a page has no such
    rows it is the page that cannot be read.
    """
    about = context.venue, context.market, *context.channels, *context.symbols
    try:
        row = bytes(_rows(page)[item])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        row = page
    head = "|".join(about).encode() + b"|row|"
    return digest_id(hashlib.sha256(head + row).digest())


def letter_rows(batch: FrameBatch, letters: Iterable[DeadLetter], parser: str) -> pa.Table:
    """Return rows of :data:`~forebay.domain.schema.DEAD_LETTERS` with the frames' bytes."""
    context = batch.context
    rows = []
    for letter in letters:
        payload, received = batch.payloads[letter.frame], int(batch.received_ns[letter.frame])
        if batch.kind is FrameKind.REST:
            identity = row_id(context, letter.item, payload)
        else:
            identity = letter_id(context.venue, received, letter.item, payload)
        rows.append(
            {
                "letter_id": identity.bytes,
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
