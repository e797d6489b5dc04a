"""Letters of a bridge: rows that a store will not take, and records that cannot be read. Pure.

Their ids are of what they are about, so a letter that is told twice is the same one.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec
import pyarrow as pa

from forebay.domain import schema
from forebay.domain.identity import digest_id
from forebay.times import to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REFUSED = "refused_by_store"
UNREADABLE = "unreadable_record"
BRIDGE = "bridge"
"""The ``source`` of these letters; their ``epoch`` says where in a topic they were."""


class RecordPlace(NamedTuple):
    """Where in a topic a record is."""

    lane: str
    identity: str
    """Of the lane: another one when it was made anew."""
    offset: int

    def __str__(self) -> str:
        return f"{self.lane}@{self.offset}"


def unreadable_letter(
    place: RecordPlace, raw: bytes, error: str, *, attempts: int, now_ns: int
) -> pa.Table:
    """Return the letter of a record that cannot be read; one row of ``DEAD_LETTERS``."""
    head = f"{UNREADABLE}|{place.lane}|{place.identity}|{place.offset}|".encode()
    about = {
        "letter_id": digest_id(hashlib.sha256(head + raw).digest()).bytes,
        "venue": "",
        "seq": place.offset,
        "item": 0,
        "received_ts": now_ns,
        "reason": UNREADABLE,
        "error": error,
        "attempts": attempts,
        "payload": raw,
    }
    return _rows([about], str(place))


def refused_letters(
    table: str, rows: pa.Table, refused: Iterable[tuple[int, str]], *, place: str, attempts: int
) -> pa.Table:
    """Return letters of rows that a store refused, each with what it said of it.

    ``refused`` are rows of ``rows`` by number; their letters' payload is the row as JSON.
    """
    letters = []
    for number, error in refused:
        text = row_text(rows.slice(number, 1))
        row = msgspec.json.decode(text)
        letters.append(
            {
                "letter_id": digest_id(
                    hashlib.sha256(f"{REFUSED}|{table}|{row['event_id']}".encode()).digest()
                ).bytes,
                "venue": row.get("venue", ""),
                "log_id": row["log_id"],
                "seq": row["seq"],
                "item": 0,
                "received_ts": rows["received_ts"].cast(pa.int64())[number].as_py(),
                "reason": REFUSED,
                "error": f"{table}: {error}",
                "attempts": attempts,
                "payload": text,
            }
        )
    return _rows(letters, place)


def _rows(letters: list[dict[str, object]], place: str) -> pa.Table:
    same = {"source": BRIDGE, "epoch": place, "log_id": "", "parser": BRIDGE}
    whole = [{**same, **letter} for letter in letters]
    return pa.Table.from_pylist(whole, schema=schema.DEAD_LETTERS)


def row_text(row: pa.Table) -> bytes:
    """Return one row as a JSON object, in the spelling of the topics; what is null is left out."""
    return msgspec.json.encode(dict(_cells(row)))


def _cells(row: pa.Table) -> Iterator[tuple[str, object]]:
    for field in row.schema:
        column = row[field.name]
        is_time = field.type == schema.TIME
        value = (column.cast(pa.int64()) if is_time else column)[0].as_py()
        if value is not None:
            yield field.name, to_text(value, exact=True) if is_time else _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, UUID) else value
