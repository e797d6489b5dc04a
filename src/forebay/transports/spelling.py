"""How a message is spelled as records of a lane, for transports that carry single events.

A message is one *control record*, ``{"head": …, "rows": n}``, and behind it ``n`` records of
events: JSON objects with the columns of their table, as in :mod:`~forebay.transports.json_rows`.
What tells no rows is the control record alone. Records of several publishers may be mixed in a
lane, so a reader puts rows together by their ``log_id``. The control record also has a digest of
its rows' ids, so that late rows of a publisher that was killed are never taken for others.
"""

from __future__ import annotations

import itertools
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import xxhash

from forebay.domain import schema
from forebay.domain.digest import bytes_of
from forebay.domain.kinds import KINDS
from forebay.domain.letters import BRIDGE
from forebay.domain.messages import EventsTold, Head, LettersTold, Message, Told
from forebay.ports import Received
from forebay.transports.json_read import read_rows
from forebay.transports.json_rows import (
    combinations,
    label,
    listed,
    row_ids,
    spell_rows,
    time_texts,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

EVENT_ID = "event-id"
"""The header of an event's record, with its id."""
CONTROL = "forebay"
"""The header of a control record, which is ``control``."""
LONGEST = 500
"""Characters of an error in a header; all of it is in the record."""


class Record(NamedTuple):
    """One record of a lane."""

    key: bytes
    """``venue|symbol``; of a control record empty, of a dead letter its venue."""
    value: bytes
    event_id: bytes
    """Empty for a control record."""
    about: Sequence[tuple[str, bytes]] = ()
    """Further headers: of a dead letter, what it is."""


class _Control(msgspec.Struct, frozen=True, omit_defaults=True):
    head: Head
    rows: int
    ids: str = ""
    """Digest of the ids of its rows, in their order."""


class _Origin(msgspec.Struct, frozen=True):
    log_id: str


_record = partial(tuple.__new__, Record)
_controls = msgspec.json.Decoder(_Control)
_origins = msgspec.json.Decoder(_Origin)


def records(message: Message) -> list[Record]:
    """Return the records of a message; see :func:`iter_records`."""
    return [*iter_records(message)]


def iter_records(message: Message) -> Iterator[Record]:
    """Return the control record of a message, then its rows in their order, made as they go.

    Raises ``ValueError`` if a row is not of the journal that the message is of.
    """
    head, rows = message
    if rows is None:
        return iter([Record(b"", msgspec.json.encode(_Control(head, 0)), b"")])
    if rows["log_id"].unique().to_pylist() != [head.step.log_id]:
        text = f"A message of the journal {head.step.log_id} has rows of another one."
        raise ValueError(text)
    control = msgspec.json.encode(_Control(head, len(rows), _digest(rows)))
    ids = row_ids(rows)
    told = head.told
    plain = repeat((), len(rows))
    about = letter_headers(told.topic, rows) if isinstance(told, LettersTold) else plain
    spelled = zip(_keys(rows), spell_rows(rows, ids), listed(ids), about, strict=True)
    return itertools.chain([Record(b"", control, b"")], map(_record, spelled))


def letter_headers(topic: str, letters: pa.Table) -> Iterator[list[tuple[str, bytes]]]:
    """Return the headers of each dead letter; ``topic`` is where its events would have been."""
    when = time_texts(whole(letters["received_ts"])).to_pylist()
    names = ("error", "attempts", "venue", "reason", "source", "epoch", "log_id", "seq", "item")
    for moment, *cells in zip(when, *(letters[name].to_pylist() for name in names), strict=True):
        error, attempts, venue, reason, source, epoch, log_id, seq, item = cells
        told = {
            "original_topic": topic,
            "error": (error or "")[:LONGEST],
            "timestamp": f"{moment}Z" if moment else "",
            "attempts": str(attempts or 0),
            "venue": venue or "",
            "reason": reason or "",
            "position": (epoch or "") if source == BRIDGE else f"{log_id}:{seq}:{item}",
        }
        yield [(name, text.encode()) for name, text in told.items()]


def _digest(rows: pa.Table) -> str:
    return xxhash.xxh3_128_hexdigest(bytes_of(whole(rows.column(0))))


def _keys(rows: pa.Table) -> list[bytes]:
    names = [name for name in ("venue", "symbol") if name in rows.column_names]
    codes, some_row = combinations([label(whole(rows[name])) for name in names])
    columns = (rows[name].take(some_row).to_pylist() for name in names)
    keys = ["|".join(cell or "" for cell in cells).encode() for cells in zip(*columns, strict=True)]
    found: list[bytes] = np.array(keys, dtype=np.object_)[codes].tolist()
    return found


class _Unfinished:
    """A message whose rows are still coming."""

    __slots__ = ("control", "log_id", "mark", "offset", "place", "rows")

    def __init__(self, offset: int, control: _Control) -> None:
        self.offset = offset
        self.control = control
        self.log_id = control.head.step.log_id
        self.rows: list[bytes] = []
        self.mark = b'"log_id":%b' % msgspec.json.encode(self.log_id)
        """What its rows have and no others: in a JSON text, no quote is unescaped."""
        self.place = 0
        """Where it was in the last row: most likely it is there in the next one."""


class MessageAssembler:
    """Puts the messages of one lane together from its records. Pure."""

    def __init__(self) -> None:
        self._unfinished: dict[str, _Unfinished] = {}
        """By journal."""
        self._last: _Unfinished | None = None
        """Of which the last event was: most likely the next one is, too."""

    def add(self, offset: int, value: bytes, *, is_event: bool) -> Received | None:
        """Take the next record of the lane; return the message that it completes.

        A journal that begins another message drops the one that is unfinished: its publisher
        was killed, and tells all of it again. Rows whose control record was not seen are passed
        over. What is no record of ours is given without a message.
        """
        if not is_event:
            return self._begin(offset, value)
        last = self._last
        if last is None or not value.startswith(last.mark, last.place):
            last = self._last = self._of(value)
            if last is None:
                ours = _log_of(value) is not None
                return None if ours else self._unreadable(offset, value)
        rows = last.rows
        rows.append(value)
        if len(rows) < last.control.rows:
            return None
        self._drop(last.log_id)
        message = _finished(last)
        received = self._received(last.offset, message, offset + 1)
        return received if message else received._replace(raw=_unreadable_rows(last))

    def _begin(self, offset: int, value: bytes) -> Received | None:
        try:
            control = _controls.decode(value)
        except msgspec.DecodeError:
            return self._unreadable(offset, value)
        self._drop(control.head.step.log_id)
        if control.rows > 0:
            unfinished = _Unfinished(offset, control)
            self._unfinished[unfinished.log_id] = unfinished
            return None
        if _schema_of(control.head.told):
            return self._unreadable(offset, value)
        return self._received(offset, Message(control.head), offset + 1)

    def _drop(self, log_id: str) -> None:
        self._unfinished.pop(log_id, None)
        self._last = None

    def _of(self, value: bytes) -> _Unfinished | None:
        """Return the message that an event belongs to."""
        for unfinished in self._unfinished.values():
            unfinished.place = max(value.find(unfinished.mark), 0)
            if unfinished.place:
                return unfinished
        return self._unfinished.get(_log_of(value) or "")

    def _unreadable(self, offset: int, raw: bytes) -> Received:
        return self._received(offset, None, offset + 1)._replace(raw=raw)

    def _received(self, offset: int, message: Message | None, end: int) -> Received:
        begun = (each.offset for each in self._unfinished.values())
        return Received(offset, message, min([end, *begun]))


def _log_of(value: bytes) -> str | None:
    """Return the journal that an event is of, however it is spelled; None if it is not ours."""
    try:
        return _origins.decode(value).log_id
    except msgspec.DecodeError:
        return None


def _schema_of(told: Told) -> pa.Schema | None:
    """Return of what its rows are, None if it has none; raises ``KeyError``."""
    if isinstance(told, EventsTold):
        return KINDS[told.kind].schema
    return schema.DEAD_LETTERS if isinstance(told, LettersTold) else None


def _unreadable_rows(unfinished: _Unfinished) -> bytes:
    """Return the lines of the rows that cannot be read, or all if it is not for one of them."""
    told = unfinished.control.head.told
    expected = _schema_of(told) if not isinstance(told, EventsTold) or told.kind in KINDS else None
    bad = [row for row in unfinished.rows if expected is None or not _is_row(row, expected)]
    return b"\n".join(bad or unfinished.rows)


def _is_row(row: bytes, expected: pa.Schema) -> bool:
    try:
        read_rows([row], expected)
    except ValueError:
        return False
    return True


def _finished(unfinished: _Unfinished) -> Message | None:
    control = unfinished.control
    try:
        expected = _schema_of(control.head.told)
        if expected is None:
            return None
        rows = read_rows(unfinished.rows, expected)
    except (KeyError, ValueError):
        return None
    return Message(control.head, rows) if _digest(rows) == control.ids else None
