"""Subjects of events, for transports that have them: ``trades.{venue}.{symbol}``.

Each token is printable ASCII: what else a name has, and what means something in a subject, is
percent-encoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from forebay.domain.kinds import KINDS
from forebay.domain.messages import EventsTold

if TYPE_CHECKING:
    from forebay.domain.kinds import EventKind
    from forebay.domain.messages import Message

_OTHER_NAMES = {"book_archive": "books"}
"""By topic, where several tables have one subject."""
_ESCAPED = re.compile(r"[^!-~]|[.*>%]")
_NOTHING = "%"
"""A token must not be empty, and no other name becomes this one."""


def subject_prefix(kind: EventKind) -> str:
    """Return the first token of the subjects of a kind."""
    return _OTHER_NAMES.get(kind.topic, kind.table)


def prefixes_of(topic: str) -> list[str]:
    """Return the first tokens of all events of a topic."""
    return sorted({subject_prefix(kind) for kind in KINDS.values() if kind.topic == topic})


def subjects(message: Message) -> list[str]:
    """Return the subject of each event of a message, in their order.

    It is ``{prefix}.{venue}.{symbol}``, and of a kind of periods also ``.{timeframe}``. Dead
    letters and control records have none.
    """
    told, rows = message.head.told, message.rows
    if not isinstance(told, EventsTold) or rows is None:
        return []
    names = [name for name in ("venue", "symbol", "timeframe") if name in rows.column_names]
    columns = (rows[name].to_pylist() for name in names)
    prefix = subject_prefix(KINDS[told.kind])
    known: dict[tuple[str | None, ...], str] = {}
    found = []
    for cells in zip(*columns, strict=True):
        if cells not in known:
            known[cells] = ".".join([prefix, *(token(cell or "") for cell in cells)])
        found.append(known[cells])
    return found


def token(name: str) -> str:
    """Return a name as it stands in a subject."""
    return _ESCAPED.sub(_encoded, name) or _NOTHING


def _encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
