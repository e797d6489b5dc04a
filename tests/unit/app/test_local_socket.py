"""Requests between processes over a Unix socket."""

from __future__ import annotations

import asyncio
import socket
import stat
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.app.processes.local_socket import (
    Handler,
    LocalServer,
    Reply,
    Request,
    ask,
    asked,
)
from forebay.app.querying import decode_arrow, encode_arrow
from forebay.errors import ConfigError, Permanent, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

TABLE = pa.table({"a": [1, 2], "b": ["x", None]})


async def _table(request: Request) -> Reply:
    return {"asked": request["query"]}, encode_arrow(TABLE)


async def _echo(request: Request) -> Request:
    return request


async def _refuse(request: Request) -> Reply:
    raise ConfigError("That cannot be.", hint="Ask for less.")


async def _broken(request: Request) -> Reply:
    raise OSError("no disk")


HANDLERS: dict[str, Handler] = {
    "table": _table,
    "refuse": _refuse,
    "broken": _broken,
    "echo": _echo,
}


async def test_a_reply_has_a_head_and_a_body(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        head, body = await asyncio.to_thread(ask, path, {"op": "table", "query": "q"})

    assert head == {"asked": "q"}
    assert decode_arrow(body).equals(TABLE)
    assert not path.exists()


async def test_an_error_arrives_as_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        with pytest.raises(ConfigError, match="That cannot be") as raised:
            await asyncio.to_thread(ask, path, {"op": "refuse"})
        with pytest.raises(Permanent, match="no request 'nonsense'"):
            await asyncio.to_thread(ask, path, {"op": "nonsense"})
    assert raised.value.hint == "Ask for less."


async def test_what_other_threads_make_meanwhile_keeps_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("a umask is the whole process's"))

    async with LocalServer(tmp_path / "s.sock", HANDLERS).serving():
        assert (tmp_path / "s.sock").is_socket()


async def test_only_this_user_may_ask_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Unreachable):
        ask(path, {"op": "echo"})

    async with LocalServer(path, HANDLERS).serving():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        head, _ = await asyncio.to_thread(ask, path, {"op": "echo", "n": 1})
    assert head == {"op": "echo", "n": 1}


async def test_many_ask_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        asking = [asyncio.to_thread(ask, path, {"op": "echo", "n": n}) for n in range(30)]
        answers = await asyncio.gather(*asking)

    assert [head["n"] for head, _ in answers] == list(range(30))


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2{]"])
async def test_a_client_that_talks_nonsense_is_left_and_others_are_served(
    tmp_path: Path, said: bytes
) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        head, _ = await asyncio.to_thread(ask, path, {"op": "echo"})
    assert head == {"op": "echo"}


def test_nobody_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="Nothing answers"):
        ask(tmp_path / "none.sock", {"op": "echo"})


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"op": "table"}, ["'table'", "KeyError", "query"]),
        ({"op": "broken"}, ["'broken'", "OSError", "no disk"]),
        ({"op": []}, ["TypeError"]),
    ],
)
async def test_a_handler_that_fails_is_told_to_the_one_who_asked(
    tmp_path: Path, request_: Request, parts: list[str]
) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        with pytest.raises(Permanent) as raised:
            await asyncio.to_thread(ask, path, request_)
    assert all(part in raised.value.message for part in parts)
    assert raised.value.hint


# ------------------------------------------------------------------------ what may take long


async def test_what_is_awaited_is_answered_as_what_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with LocalServer(path, HANDLERS).serving():
        head, body = await asked(path, {"op": "table", "query": "q"}, timeout_s=10)
        with pytest.raises(ConfigError, match="That cannot be") as raised:
            await asked(path, {"op": "refuse"}, timeout_s=10)
    assert (head, decode_arrow(body)) == ({"asked": "q"}, TABLE)
    assert raised.value.hint == "Ask for less."
    with pytest.raises(Unreachable):
        await asked(path, {"op": "echo"}, timeout_s=10)


async def test_who_does_not_wait_any_more_hangs_up(tmp_path: Path) -> None:
    path, begun, over = tmp_path / "s.sock", asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Request:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()
        return {}

    async with LocalServer(path, {"slow": slow}).serving():
        asking = asyncio.create_task(asked(path, {"op": "slow"}, timeout_s=10))
        await asyncio.wait_for(begun.wait(), 10)
        asking.cancel()
        await asyncio.wait_for(over.wait(), 10)
        with pytest.raises(Unreachable, match="TimeoutError"):
            await asked(path, {"op": "slow"}, timeout_s=0.01)
