"""Reading a data folder from Python, whether a capture is running or not."""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from forebay.app.arrow_stream import decode_arrow
from forebay.app.data_folder import DataFolder
from forebay.app.local_socket import ask
from forebay.app.times import to_ns
from forebay.app.venues import parsers
from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.stores.duckdb import DuckDBReader, open_scratch
from forebay.stores.duckdb.session import literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from forebay.clock import Clock
    from forebay.services.audit import AuditReport, Use

MAX_QUERY_S = 3600.0
"""No query takes longer, whatever is asked for."""
_AUDIT_MEMORY_MB = 256
"""For an audit's statements on a database file: they add up, and need no more for millions."""
_GRACE_S = 10.0
"""How much longer than the query itself its answer is waited for."""
_TRIES = 3
"""A capture that starts or stops between two tries moves the database from one to the other."""
_PATIENCE_S = 5.0
"""How long a running capture may be neither answering nor have let go of the database."""
_POLL_S = 0.2


class Data:
    """A data folder, open for reading; each answer is an Arrow table."""

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
        self._wait = wait or threading.Event().wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to let go of: between two answers nothing is held."""

    def sql(self, query: str, *, timeout_s: float | None = None) -> pa.Table:
        """Answer one reading SQL statement; see ``forebay sql --help`` for the tables.

        A running capture answers it, within its ``query.timeout_s`` unless ``timeout_s`` says
        otherwise; without one the database file is read. Raises
        :class:`~forebay.errors.Permanent` if the query is wrong,
        :class:`~forebay.errors.Transient` if it takes too long and
        :class:`~forebay.errors.Unreachable` if neither can be reached.
        """
        return self._query(query, timeout_s)

    def _query(
        self, query: str, timeout_s: float | None, memory_limit_mb: int | None = None
    ) -> pa.Table:
        deadline = self._clock.monotonic_ns() + round(_PATIENCE_S * 1e9)
        tries = 0
        while True:
            tries += 1
            with contextlib.suppress(Unreachable):
                return self._ask(query, timeout_s)
            try:
                return self._read(query, timeout_s, memory_limit_mb)
            except Unreachable:
                starting = self.folder.in_use()
                late = self._clock.monotonic_ns() >= deadline
                if late or (tries >= _TRIES and not starting):
                    raise
            if starting:
                self._wait(_POLL_S)

    def _ask(self, query: str, timeout_s: float | None) -> pa.Table:
        request: dict[str, object] = {"op": "sql", "query": query}
        if timeout_s is not None:
            request["timeout_s"] = timeout_s
        patience_s = (timeout_s or MAX_QUERY_S) + _GRACE_S
        _, body = ask(self.folder.deliver_socket, request, timeout_s=patience_s)
        return decode_arrow(body)

    def _read(self, query: str, timeout_s: float | None, memory_limit_mb: int | None) -> pa.Table:
        reader = DuckDBReader(self.folder.database, memory_limit_mb=memory_limit_mb)
        try:
            return reader.query(query, timeout_s=timeout_s or MAX_QUERY_S)
        finally:
            reader.close()

    def trades(
        self,
        symbol: str,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        venue: str | None = None,
    ) -> pa.Table:
        """Answer the trades of ``symbol`` with ``start <= event_ts < end``, in order of time.

        Times without a zone are UTC.
        """
        wanted = [f"symbol = {literal(symbol)}"]
        if venue is not None:
            wanted.append(f"venue = {literal(venue)}")
        if start is not None:
            wanted.append(f"event_ts >= {_time(start)}")
        if end is not None:
            wanted.append(f"event_ts < {_time(end)}")
        where = " AND ".join(wanted)
        return self.sql(f"SELECT * FROM trades WHERE {where} ORDER BY event_ts, event_id")  # noqa: S608 - quoted above

    def gaps(self) -> pa.Table:
        """Answer every gap, filled and permanent ones included."""
        return self.sql("SELECT * FROM gaps ORDER BY ALL")

    def dead_letters(self) -> pa.Table:
        """Answer every dead letter, with its bytes."""
        return self.sql("SELECT * FROM dead_letters ORDER BY received_ts, item")

    def audit_report(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        truth: str | None = None,
        source: Use = "auto",
        progress: Callable[[int, int], None] | None = None,
    ) -> AuditReport:
        """Compare journal and store; see :func:`forebay.services.audit.run_audit`."""
        from forebay.services.audit import run_audit  # noqa: PLC0415 - seldom needed

        return run_audit(
            functools.partial(self._query, timeout_s=MAX_QUERY_S, memory_limit_mb=_AUDIT_MEMORY_MB),
            self.folder.journal,
            parsers(),
            scratch=open_scratch,
            ledger_folder=self.folder.ledger,
            source=source,
            since_ns=None if since is None else to_ns(since),
            until_ns=None if until is None else to_ns(until),
            truth=truth,
            progress=progress,
        )

    def audit(self) -> pa.Table:
        """Answer the audit's account, one row a stream."""
        import pyarrow as pa  # noqa: PLC0415

        streams = msgspec.to_builtins(self.audit_report().streams)
        return pa.Table.from_pylist(streams)


def _time(moment: datetime | str) -> str:
    return f"make_timestamp_ns({to_ns(moment)})"


def open(folder: str | Path) -> Data:  # noqa: A001 - reads as forebay.open(...)
    """Open a data folder for reading, whether a capture is running or not."""
    return Data(folder)
