"""What every process does that feeds a store: write behind one breaker, answer behind another."""

from __future__ import annotations

import asyncio
import contextlib
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from forebay.app.querying import MAX_QUERY_S, encode_arrow
from forebay.app.wiring import stores
from forebay.errors import Corrupt, Transient, Unreachable
from forebay.resilience import CircuitOpen
from forebay.services.deliver import REST_S
from forebay.services.guarded_delivery import GuardedDelivery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from forebay.app.processes.local_socket import Reply, Request
    from forebay.app.processes.process_breakers import ProcessBreakers, Section
    from forebay.app.wiring.stores import FolderStore
    from forebay.clock import Clock
    from forebay.journal import CursorFile, Position
    from forebay.ports import Readable, Reader
    from forebay.resilience import CircuitBreaker
    from forebay.services.deliver import Deliverer
    from forebay.telemetry import Observer

_QUERIES = ThreadPoolExecutor(4, thread_name_prefix="query")
"""Queries have threads of their own: however many are asked, delivery has one."""
INTERRUPT_S = 0.1
"""How long a query that nobody waits for has until it is interrupted again."""
EMBEDDED = "store"
"""The breaker of the first store, if it is in a file of the data folder."""


def guarded(
    deliverer: Deliverer,
    journal: Path,
    place: FolderStore,
    guarding: ProcessBreakers,
    *,
    clock: Clock,
    observer: Observer,
    cursor: CursorFile,
    critical: bool = True,
) -> GuardedDelivery:
    """Return the delivery into a store, behind the breaker of what is written to it."""
    embedded = stores.kind_of(place.config).embedded
    name = bridge_of(place.name)
    if embedded:
        name = EMBEDDED if critical else place.name
    section: Section = "store" if embedded else "clickhouse_bridge"
    return GuardedDelivery(
        deliverer,
        journal,
        clock=clock,
        rng=random.Random(),
        breaker=guarding.breaker(name, section, critical=critical),
        system=lambda: guarding.manager.state,
        observer=observer,
        rest_s=REST_S,
        known=_known(cursor),
    )


def bridge_of(name: str) -> str:
    """Return what the breaker of what is written to a server is called; its queries' has no end."""
    return f"{name}-bridge"


def _known(cursor: CursorFile) -> Position | None:
    try:
        return cursor.load()
    except (Corrupt, Transient):  # only the store can tell
        return None


class StoreAnswers:
    """Answers ``{"op": "sql", "query": …}``; a server that fails is left alone for a while."""

    def __init__(self, store: Readable, place: FolderStore, guarding: ProcessBreakers) -> None:
        kind = stores.kind_of(place.config)
        probe = kind.probe
        self._store = store
        self._guarding = guarding
        self._breaker: CircuitBreaker | None = None
        if probe is not None:

            async def probed() -> None:
                await asyncio.to_thread(probe, place.config)

            self._breaker = guarding.breaker(place.name, "clickhouse", probe=probed)

    async def sql(self, request: Request) -> Reply:
        """Answer, as an Arrow stream."""
        asked = request.get("timeout_s")
        query, limit = str(request["query"]), request.get("limit")
        timeout_s = min(float(asked or self._guarding.config.query.timeout_s), MAX_QUERY_S)
        if self._breaker is None:
            table = await queried(self._store.reader, query, timeout_s, limit)
        else:
            most_s = self._breaker.config.timeout
            if asked is None and most_s is not None:
                timeout_s = min(timeout_s, most_s)
            table = await self._guarded(self._breaker, query, timeout_s, limit)
        return {"rows": table.num_rows}, await asyncio.to_thread(encode_arrow, table)

    async def _guarded(
        self, breaker: CircuitBreaker, query: str, timeout_s: float, limit: int | None
    ) -> pa.Table:
        try:
            with breaker.guard() as permit:
                try:
                    return await queried(self._store.reader, query, timeout_s, limit)
                except Transient as error:
                    # What took longer than its caller would wait says little of the server.
                    most_s = breaker.config.timeout
                    if not isinstance(error, Unreachable) and most_s and timeout_s < most_s:
                        permit.release()
                    raise
        except CircuitOpen as refused:
            hint = "It is tried again by itself; see `forebay status -v`."
            raise Unreachable(str(refused), hint=hint) from refused


async def queried(
    open_reader: Callable[[], Reader], query: str, timeout_s: float, limit: int | None = None
) -> pa.Table:
    """Return a query; when cancelled, because nobody waits for it any more, stop it."""
    begun: list[Reader] = []

    def answer() -> pa.Table:
        with contextlib.closing(open_reader()) as reader:  # one of a server may have to connect
            begun.append(reader)
            return reader.query(query, timeout_s=timeout_s, limit=limit)

    answering = asyncio.get_running_loop().run_in_executor(_QUERIES, answer)
    try:
        return await asyncio.shield(answering)
    except asyncio.CancelledError:
        while not answering.done():  # what has not begun yet cannot be interrupted yet
            for reader in begun:
                reader.interrupt()
            await asyncio.wait({answering}, timeout=INTERRUPT_S)
        await asyncio.gather(answering, return_exceptions=True)
        raise
