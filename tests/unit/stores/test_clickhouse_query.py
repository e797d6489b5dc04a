"""Queries of ClickHouse: they only read, they end, and their answers look like those of DuckDB."""

from __future__ import annotations

import contextlib
import threading
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from forebay.errors import Permanent, Transient, Unreachable
from tests.support.clickhouse import a_clickhouse, a_client, a_database
from tests.support.commands import wait_for

pytest.importorskip("clickhouse_connect", exc_type=ImportError)

from clickhouse_connect.driver.exceptions import OperationalError

from forebay.lab.clickhouse_front import Tampering
from forebay.stores.clickhouse import query as query_module
from forebay.stores.clickhouse.errors import translate
from forebay.stores.clickhouse.query import ClickHouseReader
from forebay.stores.clickhouse.session import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.clickhouse_server import ClickHouseServer

ID = "00112233-4455-6677-8899-aabbccddeeff"
LONG = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"
FIRST, LAST = -(2**63) + 1, 2**63 - 1


@pytest.fixture(scope="module")
def server() -> ClickHouseServer:
    return a_clickhouse()


@pytest.fixture(scope="module")
def database(server: ClickHouseServer) -> Iterator[str]:
    with a_database(server) as name, a_client(server, name) as client:
        client.command(
            "CREATE TABLE t (id UUID, venue LowCardinality(String), ts DateTime64(9, 'UTC'), "
            "price Decimal(38, 18), size Nullable(Decimal(38, 18)), "
            "prices Array(Decimal(38, 18)), n Int64, payload String) "
            "ENGINE = MergeTree ORDER BY n"
        )
        for number, ns in enumerate((FIRST, LAST)):
            client.command(
                f"INSERT INTO t SELECT '{ID}', 'x', fromUnixTimestamp64Nano(toInt64({ns}), 'UTC'), "
                f"'-0.000000000000000001', NULL, ['1.5'], {number}, unhex('ff')"
            )
        yield name


@pytest.fixture(scope="module")
def reader(server: ClickHouseServer, database: str) -> Iterator[ClickHouseReader]:
    with contextlib.closing(ClickHouseReader(Target(server.url, database))) as reader:
        yield reader


def test_columns_have_the_types_that_duckdb_gives(reader: ClickHouseReader) -> None:
    table = reader.query("SELECT * FROM t ORDER BY n")
    assert dict(zip(table.column_names, table.schema.types, strict=True)) == {
        "id": pa.string(),
        "venue": pa.string(),
        "ts": pa.timestamp("ns"),
        "price": pa.decimal128(38, 18),
        "size": pa.decimal128(38, 18),
        "prices": pa.list_(pa.field("item", pa.decimal128(38, 18), nullable=False)),
        "n": pa.int64(),
        "payload": pa.binary(),
    }
    assert table["id"].to_pylist() == [ID, ID]
    assert table["ts"].cast(pa.int64()).to_pylist() == [FIRST, LAST]
    assert table["price"][0].as_py() == Decimal("-1e-18")
    assert table["size"][0].as_py() is None
    assert table["payload"][0].as_py() == b"\xff"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("toUInt128(5)", "5"),
        ("toInt256('-7')", "-7"),
        ("toIPv4('1.2.3.4')", "1.2.3.4"),
        ("CAST('a', 'Enum8(''a'' = 1)')", "a"),
        ("toUUID('" + ID + "')", ID),
        ("CAST('{\"a\":1}', 'JSON')", '{"a":1}'),
        ("[toUInt128(5)]", "[5]"),
    ],
)
def test_what_arrow_has_not_is_told_as_text(reader: ClickHouseReader, sql: str, told: str) -> None:
    assert reader.query(f"SELECT {sql} AS it").to_pylist() == [{"it": told}]


def test_seconds_are_times_too(reader: ClickHouseReader) -> None:
    table = reader.query("SELECT toDateTime(5, 'UTC') AS at")
    assert table.schema.field("at").type == pa.timestamp("s")


def test_no_rows_have_columns(reader: ClickHouseReader) -> None:
    table = reader.query("SELECT id, n FROM t WHERE n > 9; ")
    assert (len(table), table.column_names) == (0, ["id", "n"])


@pytest.mark.parametrize(
    ("limit", "rows", "told"), [(1, 1, "2"), (2, 2, "2"), (5, 2, "2"), (0, 0, "2")]
)
def test_a_limit_says_how_many_rows_there_are(
    reader: ClickHouseReader, limit: int, rows: int, told: str
) -> None:
    table = reader.query("SELECT n FROM t ORDER BY n DESC", limit=limit)
    assert table["n"].to_pylist() == [1, 0][:rows]
    assert table.schema.metadata == {b"rows": told.encode()}


def test_not_all_rows_are_counted(
    reader: ClickHouseReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "COUNTED", 100)
    for count, told in ((104, b"104"), (105, b"105"), (106, b"105+"), (1000, b"105+")):
        table = reader.query(f"SELECT * FROM numbers({count})", limit=5)  # noqa: S608
        assert (len(table), table.schema.metadata[b"rows"]) == (5, told)


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW TABLES",
        "DESCRIBE t",
        "EXPLAIN SELECT 1",
        "EXISTS TABLE t",
        "WITH 1 AS a SELECT a",
        "(SELECT 1)",
        "-- why\nSELECT 1 -- so",
        "/* why */ SELECT 1 UNION ALL SELECT 2 ;",
        "FROM t SELECT n",
    ],
)
def test_what_reads_is_answered(reader: ClickHouseReader, sql: str) -> None:
    assert len(reader.query(sql)) > 0
    assert b"rows" in reader.query(sql, limit=1).schema.metadata


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP TABLE t", "Only queries that read are answered, not DROP"),
        ("SET readonly = 0", "not SET"),
        ("", "not none"),
        ("INSERT INTO t SELECT * FROM t", "not INSERT"),
        ("SELECT 1; DROP TABLE t", "cannot be parsed"),
        ("SELECT 1) ; DROP TABLE t -- (", "cannot be parsed"),
        ("SELECT n FROM", "cannot be parsed"),
        ("SELECT 1 FORMAT JSON", "cannot be parsed"),
        ("SELECT nope FROM t", "Unknown expression identifier `nope`"),
        ("SELECT 1 FROM absent", "'absent'"),
        ("SELECT * FROM file('x', 'CSV', 'a String')", "refused"),
        ("SELECT 1 SETTINGS max_execution_time = 0", "refused"),
        ("WITH 1 AS a INSERT INTO t SELECT * FROM t", "cannot be parsed"),
    ],
)
def test_what_does_not_read_or_is_wrong_is_refused(
    reader: ClickHouseReader, sql: str, said: str
) -> None:
    with pytest.raises(Permanent, match=said) as refused:
        reader.query(sql)
    for noise in ("FORMAT ArrowStream", "http://", "Expected one of", "(version", "In scope"):
        assert noise not in refused.value.message
    assert reader.query("SELECT count() AS n FROM t").to_pylist() == [{"n": 2}]


def test_one_that_takes_too_long_is_stopped(reader: ClickHouseReader) -> None:
    with pytest.raises(Transient, match=r"longer than 0\.2 s"):
        reader.query(LONG, timeout_s=0.2)


def test_one_that_takes_too_much_memory_is_stopped(server: ClickHouseServer, database: str) -> None:
    with (
        contextlib.closing(
            ClickHouseReader(Target(server.url, database), memory_limit_mb=10)
        ) as reader,
        pytest.raises(Transient, match="more memory") as stopped,
    ):
        reader.query("SELECT groupArray(number) FROM numbers(100000000)")
    assert "store.memory_limit_mb" in stopped.value.hint


def test_one_that_nobody_waits_for_is_stopped(
    server: ClickHouseServer, reader: ClickHouseReader
) -> None:
    ends: list[Transient] = []

    def ask() -> None:
        try:
            reader.query(LONG)
        except Transient as error:
            ends.append(error)

    asking = threading.Thread(target=ask)
    asking.start()

    def ended() -> bool | None:
        reader.interrupt()
        return bool(ends) or None

    wait_for(ended, "the query to be stopped", 10)
    asking.join()
    assert "stopped" in ends[0].message
    assert reader.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]


def test_one_that_is_busy_may_answer_later(
    server: ClickHouseServer, reader: ClickHouseReader
) -> None:
    server.tamper(Tampering("SELECT 12345", at="before", code=202))
    with pytest.raises(Transient, match="202"):
        reader.query("SELECT 12345")
    assert len(reader.query("SELECT 12345")) == 1


def test_nobody_there_is_said(database: str) -> None:
    with pytest.raises(Unreachable):
        ClickHouseReader(Target("http://127.0.0.1:1", database)).query("SELECT 1")


def test_a_database_that_is_not_there_is_said(server: ClickHouseServer) -> None:
    name = f"absent_{uuid.uuid4().hex}"
    with pytest.raises(Unreachable, match=name):
        ClickHouseReader(Target(server.url, name)).query("SELECT 1")


def test_who_cannot_be_reached_is_said_in_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unreachable) as caught:
        ClickHouseReader(Target("http://127.0.0.1:1")).query("SELECT 1")
    told = "ClickHouse does not answer: 127.0.0.1:1: Connection refused."
    assert str(caught.value).startswith(told)
    assert capfd.readouterr().err == "", "the client says nothing beside it"


def test_a_host_without_an_address_is_said_in_a_line() -> None:
    pool = "HTTPConnectionPool(host='ch', port=8123)"
    why = "Failed to resolve 'ch' ([Errno -2] Name or service not known)"
    error = OperationalError(f"Error {pool}: Max retries exceeded with url: / (Caused by {why})")
    told = "ClickHouse does not answer: ch:8123: Name or service not known."
    assert str(translate(error)).startswith(told)


def test_decimals_that_are_too_long_say_how_they_are_widened(reader: ClickHouseReader) -> None:
    long = "materialize(toDecimal128('61880.08', 18))"
    with pytest.raises(Permanent, match=r"toDecimal256\(price, 18\)"):
        reader.query(f"SELECT sum({long} * {long}) / sum({long})")
    wide = f"sum(toDecimal256({long}, 18) * {long}) / sum({long})"
    answer = reader.query(f"SELECT toString({wide}) AS it").to_pylist()
    assert answer == [{"it": "61880.08"}]
