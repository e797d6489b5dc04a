"""The launcher of ClickHouse, and the server of ours around its engine."""

from __future__ import annotations

import asyncio
import http.client
import threading
from typing import TYPE_CHECKING

import pytest

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab import clickhouse_server
from forebay.lab.clickhouse_front import Tampering
from tests.support.clickhouse import a_clickhouse, a_client, a_database, running_clickhouse
from tests.support.commands import wait_for

pytest.importorskip("clickhouse_connect")

from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clickhouse_connect.driver.client import Client

    from forebay.lab.clickhouse_server import ClickHouseServer

TABLE = "CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n SETTINGS "
LONG = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"
TABLE += "non_replicated_deduplication_window = 100"


@pytest.fixture
def server() -> ClickHouseServer:
    return a_clickhouse()


@pytest.fixture
def client(server: ClickHouseServer) -> Iterator[Client]:
    with a_database(server) as name, a_client(server, name) as client:
        client.command(TABLE)
        yield client


def counted(client: Client) -> object:
    return client.command("SELECT count() FROM t")


@pytest.mark.parametrize("compress", ["gzip", "lz4", "zstd", False])
def test_bodies_are_read_however_they_are_packed(
    server: ClickHouseServer, client: Client, compress: str | bool
) -> None:
    from clickhouse_connect import get_client

    with get_client(
        host="127.0.0.1", port=server.port, database=client.database, compress=compress
    ) as packing:
        packing.insert("t", [[number] for number in range(1000)], ["n"])
    assert counted(client) == 1000


def test_settings_end_with_their_request(client: Client) -> None:
    said = client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1})
    assert said.result_rows == [(1,)]
    assert client.query("SELECT getSetting('max_threads')").result_rows != [(1,)]


def test_the_same_token_twice_inserts_once(client: Client) -> None:
    for token in ("a", "a", "b"):
        client.insert("t", [[1]], ["n"], settings={"insert_deduplication_token": token})
    assert counted(client) == 2


def test_an_exception_has_its_code(client: Client) -> None:
    for sql, code in (
        ("SELECT * FROM absent", 60),
        ("SELECT 1; SELECT 2", 62),
        ("SELECT throwIf(1)", 395),
    ):
        with pytest.raises(DatabaseError) as refused:
            client.query(sql)
        assert refused.value.code == code


def test_a_row_that_violates_a_constraint_is_refused(client: Client) -> None:
    client.command("ALTER TABLE t ADD CONSTRAINT small CHECK n < 5")
    with pytest.raises(DatabaseError) as refused:
        client.insert("t", [[1], [9]], ["n"])
    assert refused.value.code == 469
    assert counted(client) == 0


def test_a_body_that_ends_early_is_not_run(server: ClickHouseServer, client: Client) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    statement = f"INSERT INTO {client.database}.t FORMAT TSV\n1\n".encode()
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(len(statement) + 2))
    connection.endheaders()
    connection.send(statement)
    assert connection.sock is not None
    connection.sock.shutdown(1)
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    connection.close()
    assert counted(client) == 0


def test_an_answer_is_held_back_after_the_engine_is_done(
    server: ClickHouseServer, client: Client
) -> None:
    """Twice, since the client sends an insert again by itself if its connection is closed."""
    server.tamper(Tampering(r"INSERT INTO \S*t\b", hold_s=60, end="close", times=2))
    ends: list[BaseException] = []

    def insert() -> None:
        try:
            client.insert("t", [[1]], ["n"], settings={"insert_deduplication_token": "a"})
        except OperationalError as error:
            ends.append(error)

    inserting = threading.Thread(target=insert)
    inserting.start()
    for _ in range(2):
        wait_for(lambda: server.held or None, "the answer to be held", 10)
        assert not ends
        server.release()
    inserting.join()
    assert len(ends) == 1
    assert counted(client) == 1


def test_a_statement_is_refused_without_being_run(server: ClickHouseServer, client: Client) -> None:
    server.tamper(Tampering("INSERT", at="before", code=252))
    with pytest.raises(DatabaseError) as refused:
        client.insert("t", [[1]], ["n"])
    assert refused.value.code == 252
    assert counted(client) == 0
    client.insert("t", [[1]], ["n"])


def test_a_query_is_killed_by_the_id_it_was_given(server: ClickHouseServer, client: Client) -> None:
    ends: list[DatabaseError] = []

    def ask() -> None:
        try:
            client.query(LONG, settings={"query_id": "mine"})
        except DatabaseError as error:
            ends.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    kill = "KILL QUERY WHERE query_id = 'mine' SYNC"
    wait_for(lambda: "finished" in server.ask(kill) or None, "the query to be killed", 10)
    asking.join()
    assert [error.code for error in ends] == [394]


def test_what_was_inserted_survives_a_kill() -> None:
    with running_clickhouse() as server:
        server.ask("CREATE TABLE t (n Int64) ENGINE = MergeTree ORDER BY n")
        server.ask("INSERT INTO t VALUES (1), (2)")
        first = server.pid
        server.kill()
        assert server.pid == 0
        asyncio.run(server.start())
        assert server.pid != first
        assert server.ask("SELECT sum(n) FROM t") == "3"


def test_one_that_is_frozen_does_not_answer_until_it_thaws(
    server: ClickHouseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_server, "_ASK_S", 0.2)
    server.freeze()
    with pytest.raises(TimeoutError):
        server.ask("SELECT 1")
    server.thaw()
    monkeypatch.undo()
    assert server.ask("SELECT 1") == "1"


def test_a_profile_and_a_login_are_of_everybody() -> None:
    with running_clickhouse(settings={"max_threads": "1"}, login="me:word") as server:
        assert server.ask("SELECT getSetting('max_threads')") == "1"
        server.login = "me:wrong"
        with pytest.raises(Unreachable, match="516"):
            server.ask("SELECT 1")


async def test_without_the_engine_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clickhouse_server, "_NEEDED", {"no_such_engine": "chdb"})
    with pytest.raises(Unreachable, match="no chdb") as refused:
        clickhouse_server.needs_engine()
    assert refused.value.hint == "Run: pip install chdb"


async def test_one_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(Unreachable, match="ended at its start"):
        async with clickhouse_server.clickhouse(tmp_path, clock=SystemClock()):
            pass
