"""The same tables, each kept by several servers that agree through Keeper.

Where a replica keeps them is the server's matter: its macros and ``default_replica_path``. There is
one shard: the log of commits decides what happens by one table, so rows of it cannot be spread.
"""

from __future__ import annotations

import re
from typing import Final

from forebay.stores.clickhouse.lookups import quoted

_MADE: Final = re.compile(r"(CREATE (?:TABLE|VIEW|DATABASE) IF NOT EXISTS \S+)")
_ENGINE: Final = re.compile(r"\bENGINE = (?=(?:Replacing)?MergeTree\b)")
_WINDOW: Final = re.compile(r"\bnon_replicated_deduplication_window = (\d+)")
KNOWN_S: Final = 7 * 86_400
"""How long an insert is known again; the usual hour is less than a bridge may be away."""


def replicated(statement: str, cluster: str = "") -> str:
    """Return a statement of :mod:`~forebay.stores.clickhouse.ddl` for tables with replicas.

    With the name of a ``cluster`` it is run by each of its servers; without one, the database has
    to be a ``Replicated`` one, which does that itself.
    """
    if cluster:
        statement = _MADE.sub(rf"\1 ON CLUSTER {quoted(cluster)}", statement, count=1)
    statement = _WINDOW.sub(
        r"replicated_deduplication_window = \1, "
        f"replicated_deduplication_window_seconds = {KNOWN_S}",
        statement,
    )
    return _ENGINE.sub("ENGINE = Replicated", statement)
