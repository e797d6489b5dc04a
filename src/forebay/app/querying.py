"""Asking a data folder in SQL, whether a capture is running or not."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.app.arrow_stream import decode_arrow
from forebay.app.asked import shaped
from forebay.app.processes.local_socket import ask
from forebay.app.wiring import stores
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from forebay.clock import Clock

MAX_QUERY_S = 3600.0
"""No query takes longer, whatever is asked for."""
_GRACE_S = 10.0
"""How much longer than the query itself its answer is waited for."""
_TRIES = 3
"""A capture that starts or stops between two tries moves the database from one to the other."""
_PATIENCE_S = 5.0
"""How long a running capture may be neither answering nor have let go of the database."""
_POLL_S = 0.2


class Queries:
    """A data folder that answers queries, each as an Arrow table."""

    def __init__(
        self,
        folder: str | Path,
        *,
        clock: Clock | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Raise :class:`~forebay.errors.ConfigError` if ``folder`` is no data folder.

        ``wait`` blocks for so many seconds of ``clock``; both are the machine's if not given.
        """
        self.folder = DataFolder(Path(folder)).existing()
        self._clock = clock or SystemClock()
        self._given_wait = wait
        self._wait = wait or threading.Event().wait

    def sql(
        self,
        query: str,
        *,
        timeout_s: float | None = None,
        limit: int | None = None,
        floats: bool = False,
        utc: bool = False,
    ) -> pa.Table:
        """Return the rows of one reading SQL statement; see ``forebay sql --help`` for the tables.

        With a ``limit`` these are the first rows, and the metadata ``rows`` says how many there
        are, ``1000100+`` if they were not counted to the end.

        With ``floats`` decimals are given as the nearest floating point numbers, and with ``utc``
        times say that they are UTC: pandas calculates with the one and compares the other.

        A running capture answers it, within its ``query.timeout_s`` unless ``timeout_s`` says
        otherwise; without one the database file is read. Raises
        :class:`~forebay.errors.Permanent` if the query is wrong,
        :class:`~forebay.errors.Transient` if it takes too long and
        :class:`~forebay.errors.Unreachable` if neither can be reached.
        """
        return shaped(self._query(query, timeout_s, limit=limit), floats=floats, utc=utc)

    def _query(
        self,
        query: str,
        timeout_s: float | None,
        memory_limit_mb: int | None = None,
        limit: int | None = None,
        patience_s: float = _PATIENCE_S,
    ) -> pa.Table:
        deadline = self._clock.monotonic_ns() + round(patience_s * 1e9)
        tries = 0
        while True:
            tries += 1
            with contextlib.suppress(Unreachable):
                return self._ask(query, timeout_s, limit)
            try:
                return self._read(query, timeout_s, memory_limit_mb, limit)
            except Unreachable:
                starting = self.folder.in_use()
                late = self._clock.monotonic_ns() >= deadline
                if late or (tries >= _TRIES and not starting):
                    raise
            if starting:
                self._wait(_POLL_S)

    def _ask(self, query: str, timeout_s: float | None, limit: int | None) -> pa.Table:
        request: dict[str, object] = {"op": "sql", "query": query, "limit": limit}
        if timeout_s is not None:
            request["timeout_s"] = timeout_s
        patience_s = (timeout_s or MAX_QUERY_S) + _GRACE_S
        _, body = ask(self.folder.deliver_socket, request, timeout_s=patience_s)
        return decode_arrow(body)

    def _read(
        self, query: str, timeout_s: float | None, memory_limit_mb: int | None, limit: int | None
    ) -> pa.Table:
        patience_s = timeout_s or MAX_QUERY_S
        return stores.query_file(
            self.folder, query, timeout_s=patience_s, memory_limit_mb=memory_limit_mb, limit=limit
        )
