"""Parts whose bytes are not what was written: taken out of use, so that the rest can be used."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from forebay.domain.kinds import KINDS
from forebay.stores.clickhouse.ddl import rows_of
from forebay.stores.clickhouse.lookups import quoted

if TYPE_CHECKING:
    from forebay.stores.clickhouse.session import ClickHouseSession

_EACH_PART: Final = {"check_query_single_value_result": 0}
_NOISE: Final = re.compile(r"^Code: \d+\. DB::Exception: | \(\w+\) \(version [^)]*\)$")


def set_aside_damaged(session: ClickHouseSession) -> list[str]:
    """Detach every part of events that cannot be read whole; return a sentence of each.

    Nothing is deleted: the server keeps detached parts in a folder of the table. Reads all events.
    """
    told = []
    for table in map(rows_of, (kind.table for kind in KINDS.values())):
        name = session.name(table)
        answer = session.request(f"CHECK TABLE {name} FORMAT JSONEachRow", settings=_EACH_PART)
        for row in map(json.loads, answer.splitlines()):
            if row["is_passed"]:
                continue
            part, message = row["part_path"], _NOISE.sub("", row["message"]).rstrip(".")
            session.run(f"ALTER TABLE {name} DETACH PART {quoted(part)}")
            told.append(f"The part {part} of {name} was detached: {message}.")
    return told
