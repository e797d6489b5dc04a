"""Blocks of a journal as batches of one context and kind, to be normalised together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forebay.domain.frames import Context, FrameBatch, FrameKind
from forebay.errors import Corrupt
from forebay.payloads import Payloads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.journal import Block

OUR_OWN = (FrameKind.CONTROL, FrameKind.LOSS)
"""Kinds of frames that no venue sent."""
_NOWHERE = Context(venue="", source="file", purpose="recording", collector="journal", epoch="")
_KINDS = frozenset(FrameKind)
_ENDED = b'"streams_ended"'


def batches_of(blocks: Iterable[Block]) -> list[FrameBatch]:
    """Return blocks of one context and kind joined; control records come after what they follow.

    Nothing that came after streams of a connection ended is told before that: it may carry them
    anew, in a context that it had before.
    """
    batches: list[FrameBatch] = []
    some: list[Block] = []
    for block in blocks:
        some.append(block)
        if block.kind == FrameKind.CONTROL and any(_ENDED in each for each in block.payloads):
            batches += _joined(some)
            some = []
    return [*batches, *_joined(some)]


def _joined(blocks: Iterable[Block]) -> list[FrameBatch]:
    groups: dict[tuple[bytes, int, str], list[Block]] = {}
    for block in blocks:
        groups.setdefault((block.context, block.kind, block.log_id), []).append(block)
    batches = [
        FrameBatch(
            context=_context(context, kind),
            kind=FrameKind(kind) if kind in _KINDS else FrameKind.BINARY,
            payloads=Payloads.joined([block.payloads for block in group]),
            received_ns=np.concatenate([block.received_ns for block in group]),
            log_id=log_id,
            seqs=np.concatenate(
                [block.first_seq + np.arange(len(block.payloads)) for block in group]
            ),
        )
        for (context, kind, log_id), group in groups.items()
    ]
    return sorted(batches, key=lambda batch: batch.kind >= FrameKind.CONTROL)


def _context(raw: bytes, kind: int) -> Context:
    """Return whence frames are; one that cannot be read must not stop what comes behind it."""
    if kind == FrameKind.LOSS:
        return _NOWHERE
    try:
        return Context.decode(raw)
    except Corrupt:
        return _NOWHERE
