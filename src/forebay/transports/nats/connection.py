"""A connection to NATS: blocking outside, on an event loop in a thread of its own inside.

The client never reconnects by itself: what it still had in its buffer would follow at some time.
A connection that has ended, or that does not answer, is left, and the next call makes another.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio import FIRST_COMPLETED
from collections import deque
from concurrent.futures import CancelledError
from math import ceil
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from forebay.errors import Transient
from forebay.transports.nats.errors import DRIVER_ERRORS, Forbidden, ServerRefused, translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

    from nats.aio.msg import Msg

    from forebay.transports.nats.batches import Entry

CONNECT_S = 2
ANSWER_S = 5.0
"""A server that has not answered by then is taken for one that stands still."""
CLOSE_S = 1.0
HEADERS = 512
"""Bytes of headers, at most: a server counts them, its client does not."""
_CLOSED = "The transport is closed."
_ONCE: Any = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0}
"""It would try for two minutes otherwise, without a word."""

T = TypeVar("T")


class NatsConnection:
    """Runs coroutines that use one connection, each to its end; may be used by many threads."""

    def __init__(
        self, servers: Sequence[str], options: Mapping[str, Any], *, answer_s: float = ANSWER_S
    ) -> None:
        """``options`` are those of ``nats.connect``. Nobody is asked before the first call."""
        self._servers = deque(servers)
        self._where = ", ".join(each.rpartition("@")[2].rpartition("/")[2] for each in servers)
        self._options = options
        self.answer_s = answer_s
        self.number = 0
        """How many connections there have been."""
        self._client: Client | None = None
        self._ended = asyncio.Event()
        self._connecting = asyncio.Lock()
        self._complaint: Forbidden | None = None
        self._problem: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()
        self._closed = threading.Event()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` does; raises as :func:`~.errors.translated` says."""
        if self._closed.is_set():
            work.close()
            raise Transient(_CLOSED)
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except (CancelledError, *DRIVER_ERRORS) as error:
            if self._closed.is_set():
                raise Transient(_CLOSED) from error
            raise translated(error, self._where) from error

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside what is called, until it ends or the connection is closed."""
        asyncio.run_coroutine_threadsafe(work, self._running())

    def close(self) -> None:
        """Close it; calls are refused from here on, those that wait in other threads included."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                run = self._loop.run_forever
                self._thread = threading.Thread(target=run, name="nats", daemon=True)
                self._thread.start()
        return self._loop

    # --------------------------------------------------------------- on the event loop

    async def client(self) -> Client:
        """Return the connection, which is made if there is none."""
        async with self._connecting:
            if self._closed.is_set():
                raise Transient(_CLOSED)
            if self._client is None or not self._client.is_connected:
                await self._leave()
                self._client = await self._connect()
                self.number += 1
            return self._client

    async def largest(self) -> int:
        """Return how many bytes a message may have."""
        return (await self.client()).max_payload - HEADERS

    async def request(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> Msg:
        """Return the answer to a request."""
        return await self.use(
            lambda client: client.request(subject, payload, self.answer_s, headers=headers)
        )

    async def use(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Do something with the connection, which is left if it fails.

        The end of the connection is the end of it, too: the client itself would wait on.
        """
        client = await self.client()
        self._complaint = None
        task = asyncio.ensure_future(work(client))
        task.add_done_callback(_retrieved)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            # A server that stands still does not read, either.
            limit_s = 2 * self.answer_s
            await asyncio.wait((task, ended), timeout=limit_s, return_when=FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ConnectionClosedError if ended.done() else NatsTimeoutError
        except (NoRespondersError, ServerRefused, MaxPayloadError):
            raise  # it is well
        except DRIVER_ERRORS as error:
            complaint = self._heard()
            await self._leave()
            raise complaint or error from error
        finally:
            task.cancel()
            ended.cancel()

    async def ask(self, what: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return JetStream's answer to an API call; raises :class:`~.errors.ServerRefused`."""
        payload = b"" if document is None else msgspec.json.encode(document)
        return answered(await self.request(f"$JS.API.{what}", payload), what)

    async def collect(self, subject: str, payload: bytes, last: str) -> list[Msg]:
        """Return the answers to a request up to one with a status, which is ``last`` or 404."""

        async def gather(client: Client) -> list[Msg]:
            found: list[Msg] = []
            ended: asyncio.Future[dict[str, str]] = asyncio.Future()

            async def take(message: Msg) -> None:
                if "Status" not in (message.headers or {}):
                    found.append(message)
                elif not ended.done():
                    ended.set_result(message.headers or {})

            inbox = client.new_inbox()
            answers = await client.subscribe(inbox, cb=take)
            await client.publish(subject, payload, reply=inbox)
            headers = await asyncio.wait_for(ended, self.answer_s)
            await answers.unsubscribe()
            if headers["Status"] not in (last, "404"):
                said = headers.get("Description") or "nobody answers; is allow_direct on?"
                raise ServerRefused({"description": said}, subject)
            return found

        return await self.use(gather)

    async def send(self, entries: Iterable[Entry]) -> None:
        """Send what nobody acknowledges; return once the server has read it.

        What is larger than it takes is left out.
        """
        largest = await self.largest()

        async def sent(client: Client) -> None:
            for entry in (each for each in entries if each.size <= largest):
                await client.publish(entry.subject, entry.value, headers=entry.headers)
            await client.flush(ceil(self.answer_s))

        await self.use(sent)

    async def _connect(self) -> Client:
        problem: Exception = ConnectionClosedError()
        for _ in range(len(self._servers)):
            client, self._ended, self._problem = Client(), asyncio.Event(), None
            try:
                await client.connect(
                    self._servers[0],
                    **_ONCE,
                    connect_timeout=CONNECT_S,
                    error_cb=self._complain,
                    closed_cb=_setting(self._ended),
                    **self._options,
                )
            except DRIVER_ERRORS as error:
                # Why no server could be had it says beside.
                problem = self._reported() or error
                self._servers.rotate(-1)
                await _close(client)
            else:
                return client
        raise problem

    async def _end(self) -> None:
        await self._leave()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _complain(self, error: Exception) -> None:
        """Keep what is said beside answers, as of a subject that we may not use."""
        self._problem = error
        if "permissions violation" in str(error).lower():
            self._complaint = Forbidden(str(error))

    def _reported(self) -> Exception | None:
        return self._problem

    def _heard(self) -> Forbidden | None:
        return self._complaint

    async def _leave(self) -> None:
        """Let go of the connection; the next one is to another server, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            self._servers.rotate(-1)
            await _close(client)


def _retrieved(task: asyncio.Future[Any]) -> None:
    """Whoever left a task does not want to know how it ended."""
    if not task.cancelled():
        task.exception()


def _setting(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def closed() -> None:
        event.set()

    return closed


async def _close(client: Client) -> None:
    """Close a connection; a server that stands still does not take what is left in its buffer."""
    with contextlib.suppress(*DRIVER_ERRORS):
        await asyncio.wait_for(client.close(), CLOSE_S)


def answered(message: Msg, what: str) -> dict[str, Any]:
    """Return the JSON of an answer of JetStream; raises :class:`~.errors.ServerRefused`."""
    try:
        answer: dict[str, Any] = msgspec.json.decode(message.data, type=dict[str, Any])
    except msgspec.DecodeError:
        answer = {"error": {"description": f"it answers {message.data[:80]!r}"}}
    if "error" in answer:
        raise ServerRefused(answer["error"], what)
    return answer
