"""What became of dead letters, from what the journal says: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from forebay.domain import schema
from forebay.domain.frames import LETTERS, LettersSettled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.services.normalise import Normalised, Said

REPLAYED, FAILED, DISCARDED = "replayed", "failed", "discarded"


def states_of(item: Normalised) -> Iterator[pa.Table]:
    """Return rows of :data:`~forebay.domain.schema.LETTER_STATES` that ``item`` amounts to."""
    for said in item.controls:
        if isinstance(said.control, LettersSettled):
            yield _settled(said, said.control)
    run = item.context.run
    if item.letters is not None and run.startswith(LETTERS):
        count = len(item.letters)
        columns = {
            "letter_id": item.letters["letter_id"],
            "state": pa.repeat(FAILED, count),
            "run": pa.repeat(run, count),
            "told_ts": item.letters["received_ts"],
            "by": pa.repeat("", count),
            "reason": pc.fill_null(item.letters["error"], ""),
        }
        yield pa.table(columns, schema=schema.LETTER_STATES)


def _settled(said: Said, control: LettersSettled) -> pa.Table:
    about = {
        "state": control.state,
        "run": control.run,
        "told_ts": said.received_ns,
        "by": control.by,
        "reason": control.reason,
    }
    rows = [{"letter_id": bytes_of(letter), **about} for letter in control.letters]
    return pa.Table.from_pylist(rows, schema=schema.LETTER_STATES)


def bytes_of(letter: str) -> bytes:
    """Return the bytes of a letter's id."""
    return UUID(letter).bytes
