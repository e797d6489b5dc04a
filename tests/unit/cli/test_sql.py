"""``forebay sql``: cells as people and programs read them."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import threading
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from forebay.app.wiring.data_folder import DataFolder
from forebay.cli.sql import Format, sql, write
from forebay.domain.schema import DECIMALS
from forebay.errors import ConfigError
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.query import DuckDBReader
from tests.support.commands import invoked, refused


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, and nothing in them."""
    folder = DataFolder(tmp_path_factory.mktemp("empty")).create()
    DuckDBStore(folder.database("duckdb")).close()
    return folder.root


PRICES = [[Decimal("1.5"), Decimal("0.000000000000000001")], [], None]
TABLE = pa.table({"symbol": ["A", "B", "C"], "bid_prices": pa.array(PRICES, DECIMALS)})


def test_levels_of_a_book_are_exact_texts_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(TABLE, Format.json)
    told = [row["bid_prices"] for row in json.loads(capsys.readouterr().out)]
    assert [told[0] and [Decimal(text) for text in told[0]], *told[1:]] == PRICES


def test_levels_of_a_book_are_one_cell_of_csv(capfd: pytest.CaptureFixture[str]) -> None:
    write(TABLE, Format.csv)
    first, *others = csv.DictReader(capfd.readouterr().out.splitlines())
    assert first["symbol"] == "A"
    assert [Decimal(text) for text in json.loads(first["bid_prices"])] == PRICES[0]
    assert [row["bid_prices"] for row in others] == ["[]", ""]


def answers(query: str) -> pa.Table:
    connection = duckdb.connect()
    try:
        return DuckDBReader(connection).query(query, timeout_s=60.0)
    finally:
        connection.close()


KINDS = {
    "interval '1 year 2 days 3.5 seconds'": "1 year 2 days 00:00:03.5",
    "interval '-14 months -3 hours'": "-1 year -2 months -03:00:00",
    "interval 0 hour": "00:00:00",
    r"'\xAA\x00a\x5C'::BLOB": r"\xAA\x00a\x5C",
    "'10101'::BIT": "10101",
    "['1'::BIT]": "[1]",
    "'123456789012345678901234567890123456789012'::BIGNUM": "1234567890" * 4 + "12",
    "340282366920938463463374607431768211455::UHUGEINT": "340282366920938463463374607431768211455",
    "170141183460469231731687303715884105727::HUGEINT": "170141183460469231731687303715884105727",
    "'a'::ENUM('a', 'b')": "a",
    "'12345678-1234-5678-1234-567812345678'::UUID": "12345678-1234-5678-1234-567812345678",
    "TIME '12:34:56.789012'": "12:34:56.789012",
    "TIME '24:00:00'": "24:00:00",
    "'12:34:56+02:00'::TIMETZ": "12:34:56+02",
    "'2026-01-01 00:00:00.5+02'::TIMESTAMPTZ": "2025-12-31T22:00:00.500000Z",
    "'2026-01-01 00:00:00.123456789'::TIMESTAMP_NS": "2026-01-01T00:00:00.123456789Z",
    "'2026-01-01'::TIMESTAMP_S": "2026-01-01T00:00:00Z",
    "'infinity'::TIMESTAMP": "infinity",
    "'-infinity'::TIMESTAMPTZ": "-infinity",
    "'-infinity'::DATE": "-infinity",
    "'290000-01-01'::TIMESTAMP": "290000-01-01T00:00:00.000000Z",
    "'290000-01-01'::DATE": "290000-01-01",
    "'0044-03-15 (BC)'::DATE": "-0043-03-15",
    "[1.50::DECIMAL(38, 18), NULL]": ["1.5", None],
    "{'a': 1.50, 'b': [DATE '2026-01-01']}": {"a": "1.5", "b": ["2026-01-01"]},
    "MAP {'k': 0.00000001::DECIMAL(38, 18)}": {"k": "0.00000001"},
    "MAP {3: 'x'}": {"3": "x"},
    "UNION_VALUE(number := 2.50)": "2.5",
    "array_value(1.5, 2.5)": ["1.5", "2.5"],
    "{'t': 'infinity'::TIMESTAMP}": {"t": "infinity"},
    "['nan'::DOUBLE, '-inf'::DOUBLE]": ["NaN", "-Infinity"],
    "'inf'::FLOAT": "Infinity",
    "0.1::FLOAT": 0.1,
    "100.00": "100",
    "-0.500": "-0.5",
    "0::DECIMAL(38, 18)": "0",
    "99999999999999999999.999999999999999999": "99999999999999999999.999999999999999999",
    "true": True,
    "9223372036854775807": 9223372036854775807,
    "''": "",
    "'NULL'": "NULL",
    "NULL": None,
    "[]": [],
}


@pytest.mark.parametrize("expression", KINDS)
def test_a_value_of_any_type_is_exact_in_json_and_csv_and_parquet_holds_it(
    expression: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    expected = KINDS[expression]
    query = f"SELECT v, 7 AS n FROM (VALUES (NULL), ({expression}), (NULL)) AS t(v)"  # noqa: S608
    table = answers(query)
    write(table, Format.json)
    told = capfd.readouterr().out
    cells = [row["v"] for row in json.loads(told, parse_constant=pytest.fail)]
    assert cells == [None, expected, None]
    write(table, Format.csv)
    cell = "" if expected is None else expected
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == lines[3] == ",7"
    assert [row[0] for row in csv.reader(lines)][2] == (
        cell if isinstance(cell, str) else json.dumps(cell)
    )
    write(table, Format.parquet, tmp_path / "v.parquet")
    assert parquet.read_table(tmp_path / "v.parquet").num_rows == 3


def test_null_and_an_empty_text_are_told_apart(capfd: pytest.CaptureFixture[str]) -> None:
    table = answers("SELECT NULL AS a, '' AS b")
    write(table, Format.csv)
    assert capfd.readouterr().out == 'a,b\n,""\n'
    write(table, Format.table)
    assert capfd.readouterr().out.splitlines()[-1].split() == ["NULL"]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ("1 AS a, 2 AS a", ["a", "a_1"]),
        ("1 AS a, 2 AS a, 3 AS a_1", ["a", "a_1", "a_1_1"]),
        ("1 AS a, 2 AS a, 3 AS a", ["a", "a_1", "a_2"]),
        ("'1'::BIT AS a, 2 AS a", ["a", "a_1"]),
    ],
)
def test_both_of_two_equal_column_names_are_kept_in_every_form(
    columns: str, names: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = answers(f"SELECT {columns}")
    write(table, Format.json)
    assert list(json.loads(capfd.readouterr().out)[0]) == names
    write(table, Format.csv)
    assert capfd.readouterr().out.splitlines()[0] == ",".join(names)
    write(table, Format.table)
    assert capfd.readouterr().out.split()[: len(names)] == names
    write(table, Format.parquet, tmp_path / "a.parquet")
    assert parquet.read_table(tmp_path / "a.parquet").column_names == names


def test_a_table_is_capped_with_a_word_about_the_rest(data: Path) -> None:
    query = "SELECT range AS n FROM range(45000)"
    shown = invoked("sql", query, "--data", data).stdout.splitlines()
    assert [line.strip() for line in shown[2:-1]] == [str(n) for n in range(100)]
    assert shown[-1] == "… 44,900 more rows; --limit N shows more, --format csv all."
    shown = invoked("sql", query, "--data", data, "--limit", 45_000).stdout.splitlines()
    assert shown[-1].strip() == "44999"
    assert len(shown) == 45_002


def test_a_limit_holds_in_every_form_and_what_is_left_out_is_said(data: Path) -> None:
    query = "SELECT range AS n FROM range(5)"
    for form in ("json", "csv"):
        answer = invoked("sql", query, "--data", data, "--limit", 2, "--format", form)
        assert re.findall(r"\d+", answer.stdout) == ["0", "1"]
        assert answer.stderr == "There are 3 more rows.\n"


def test_the_rest_of_an_answer_that_is_too_long_is_not_counted_to_its_end(data: Path) -> None:
    answer = invoked("sql", "SELECT 1 FROM range(3000000)", "--data", data, "--limit", 1)
    assert answer.stdout.splitlines()[-1].startswith("… more than 1,000,000 more rows")


def test_a_file_is_written_whole_or_not_at_all(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "answer.csv"
    file.write_text("earlier")
    far = "SELECT 'infinity'::TIMESTAMP_S"  # more milliseconds than Parquet can count
    bad = invoked("sql", far, "--data", data, "--output", file, "--format", "parquet")
    refused(bad, 1, "Parquet cannot hold this answer")
    assert file.read_text() == "earlier"
    assert invoked("sql", "SELECT 1.50 AS a", "--data", data, "--output", file).code == 0
    assert file.read_text() == "a\n1.5\n"
    assert invoked("sql", "SELECT 1 AS a", "--data", data, "--output", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()
    missing = invoked("sql", "SELECT 1", "--data", data, "--output", tmp_path / "no" / "a.csv")
    assert missing.code == 1
    assert "No such file or directory" in missing.sentence
    assert sorted(path.name for path in tmp_path.glob("*.csv*")) == ["answer.csv"]
    assert not list(tmp_path.glob(".*"))


def test_parquet_is_not_for_a_terminal(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.cli.sql.sys.stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(ConfigError, match="not for a terminal"):
        sql("SELECT 1", data=data, style=Format.parquet)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT FORM trades FROM",
        "SELECT foo FROM trades",
        "SELECT 'a[1]\x1b[2J\n'::INT",
        "SELECT 99999999999999999999::DECIMAL(38, 18) * 10",
        "SELECT error('[/x]')",
        "SELECT * FROM '/no/such/file.parquet'",
        "SELECT 1; SELECT 2",
        "SELECT 1 + 'x'",
        "",
    ],
)
def test_whatever_a_query_does_wrong_is_one_sentence(query: str, data: Path) -> None:
    refused(invoked("sql", query, "--data", data), 1, "error: The query ")
    refused(invoked("sql", query, "--data", data, "--json"), 1, "error: The query ")


def test_a_query_that_is_over_leaves_no_thread_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """One would hold the connection, and DuckDB complains on standard error at Python's end."""
    over = threading.Timer.cancel

    def late(timer: threading.Timer) -> None:
        threading.Timer(0.05, over, [timer]).start()

    with duckdb.connect() as connection:
        before = {*threading.enumerate()}
        monkeypatch.setattr(threading.Timer, "cancel", late)
        DuckDBReader(connection).query("SELECT 1", timeout_s=5.0)
        left = [each for each in {*threading.enumerate()} - before if each.daemon]
    assert not left


def test_a_plan_is_drawn_as_lines(data: Path) -> None:
    shown = invoked("sql", "EXPLAIN SELECT range FROM range(9)", "--data", data).stdout
    assert all(line[0] in "╭│╰" for line in shown.splitlines() if line)
    assert "Function: RANGE" in shown


def test_a_file_that_does_not_say_its_form_is_not_written(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data").create().root
    file = tmp_path / "trades.feather"
    done = invoked("sql", "SELECT 1", "--data", data, "--output", file)
    assert (done.code, "--format" in done.stderr) == (2, True)
    assert not file.exists()
