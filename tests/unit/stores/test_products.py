"""Products of stored decimals: what a query makes of them, whatever their size."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import Permanent
from forebay.stores.duckdb import DuckDBReader, DuckDBStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

LEAST, MOST = Decimal("1E-18"), Decimal("99999999999999999999.999999999999999999")
EXTREMES = [
    [(Decimal("60888.04"), Decimal("3370.61"))],
    [(MOST, MOST)],
    [(LEAST, LEAST)],
    [(MOST, LEAST), (LEAST, Decimal("1E18"))],
    [(Decimal("0.1"), Decimal("0.1")), (Decimal("0.00001234"), Decimal("123456789012.5"))],
]
Rows = list[tuple[Decimal, Decimal]]


@pytest.fixture(scope="module")
def session() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE trades (price DECIMAL(38, 18), size DECIMAL(38, 18), seq BIGINT, "
        "side VARCHAR, sizes DECIMAL(38, 18)[])"
    ).fetchall()
    yield connection
    connection.close()


def stored(session: duckdb.DuckDBPyConnection, rows: Sequence[tuple[Decimal, Decimal]]) -> None:
    session.execute("DELETE FROM trades").fetchall()
    for seq, (price, size) in enumerate(rows):
        values = [str(price), str(size), seq, "buy" if seq % 2 else "sell", str(size)]
        session.execute("INSERT INTO trades VALUES (?, ?, ?, ?, [?])", values).fetchall()


def ask(session: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    return DuckDBReader(session).query(query, timeout_s=60.0)


def value(session: duckdb.DuckDBPyConnection, query: str) -> object:
    found: object = ask(session, query)[0][0].as_py()
    return found


def near(found: object, exact: Fraction) -> bool:
    assert isinstance(found, float)
    return abs(Fraction(found) - exact) <= abs(exact) / 10**12


def vwap(rows: Rows) -> Fraction:
    traded = sum((Fraction(price) * Fraction(size) for price, size in rows), Fraction(0))
    return traded / sum(Fraction(size) for _, size in rows)


DECIMALS = st.integers(1, 10**36).map(lambda units: Decimal(units).scaleb(-18))


@pytest.mark.parametrize("rows", EXTREMES)
def test_a_mean_price_is_right_to_12_digits(session: duckdb.DuckDBPyConnection, rows: Rows) -> None:
    stored(session, rows)
    for product in ("price * size", "size * price", "trades.price * trades.size"):
        query = f"SELECT sum({product}) / sum(size) FROM trades"  # noqa: S608
        assert near(value(session, query), vwap(rows))


@given(rows=st.lists(st.tuples(DECIMALS, DECIMALS), min_size=1, max_size=20))
def test_a_mean_price_of_any_trades_is_right_to_12_digits(rows: Rows) -> None:
    connection = duckdb.connect()
    try:
        connection.execute("CREATE TABLE trades (price DECIMAL(38, 18), size DECIMAL(38, 18))")
        connection.executemany(
            "INSERT INTO trades VALUES (?, ?)", [(str(price), str(size)) for price, size in rows]
        )
        assert near(value(connection, "SELECT sum(price*size)/sum(size) FROM trades"), vwap(rows))
    finally:
        connection.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT max(price * size) FROM trades",
        "SELECT sum(price * size) OVER (ORDER BY seq) FROM trades LIMIT 1",
        "WITH w AS (SELECT price * size AS n FROM trades) SELECT sum(n) FROM w",
        "SELECT a.price * b.size FROM trades a JOIN trades b USING (seq)",
        "SELECT price * (SELECT max(size) FROM trades) FROM trades",
        "SELECT sum(price) * sum(size) FROM trades",
        "SELECT sum(price * size) FILTER (side = 'sell') FROM trades",
        "SELECT list_sum(list_transform(sizes, LAMBDA size: size * price)) FROM trades",
        "SELECT price * size FROM trades GROUP BY price * size HAVING price * size > 99",
        "SELECT n FROM (SELECT price * size AS n FROM trades) WHERE n > 99 ORDER BY n * 2",
        "SELECT abs(price) * round(size, 2) FROM trades",
        "SELECT sum(CASE side WHEN 'buy' THEN -price * size ELSE price * size END) FROM trades",
        "FROM trades SELECT price * size",
    ],
)
def test_a_product_is_a_number_wherever_it_stands(
    session: duckdb.DuckDBPyConnection, query: str
) -> None:
    stored(session, EXTREMES[0])
    assert near(value(session, query), Fraction("60888.04") * Fraction("3370.61"))


@pytest.mark.parametrize(
    ("expression", "kind", "exact"),
    [
        ("price", "decimal128(38, 18)", Decimal("60888.04")),
        ("price * 2", "decimal128(38, 18)", Decimal("121776.08")),
        ("2 * price", "decimal128(38, 18)", Decimal("121776.08")),
        ("price * 1.5", "decimal128(38, 19)", Decimal("91332.06")),
        ("price * seq", "decimal128(38, 18)", Decimal(0)),
        ("0.1 * 3", "decimal128(12, 1)", Decimal("0.3")),
        ("seq * seq", "int64", 0),
        ("2 * 3", "int32", 6),
        ("2::HUGEINT * 3", "decimal128(38, 0)", 6),
        ("2.5::DOUBLE * 3", "double", 7.5),
        ("(3 * INTERVAL '1 day')::VARCHAR", "string", "3 days"),
    ],
)
def test_what_is_no_product_of_two_stored_decimals_is_as_ever(
    session: duckdb.DuckDBPyConnection, expression: str, kind: str, exact: object
) -> None:
    stored(session, EXTREMES[0])
    column = ask(session, f"SELECT {expression} AS v FROM trades")["v"]  # noqa: S608
    assert (str(column.type), column[0].as_py()) == (kind, exact)


def test_filters_are_exact_and_reach_the_table(session: duckdb.DuckDBPyConnection) -> None:
    stored(session, EXTREMES[-1])
    assert value(session, "SELECT size FROM trades WHERE price = 0.1") == Decimal("0.1")
    assert value(session, "SELECT count(*) FROM trades WHERE price = 0.1 * 1") == 1
    plan = ask(session, "EXPLAIN SELECT sum(price * size) FROM trades WHERE price = 0.1 * 2")
    drawn = str(plan["explain_value"][0])
    assert "Filters: price = 0.2" in drawn
    assert "multiply(CAST(price AS DOUBLE), CAST(size AS DOUBLE))" in drawn
    assert "CASE" not in drawn


def test_long_products_are_bound_in_no_time_or_left_as_they_are(
    session: duckdb.DuckDBPyConnection,
) -> None:
    stored(session, [(Decimal(1), Decimal(1))])
    chain = " * ".join(["price"] * 9)
    assert value(session, f"SELECT {chain} FROM trades") == 1.0  # noqa: S608
    whole = " * ".join(["(seq + 1)"] * 60)
    assert value(session, f"SELECT {whole} FROM trades") == 1  # noqa: S608
    nested = "*(1+".join(["seq"] * 40) + ")" * 39
    assert value(session, f"SELECT {nested} FROM trades") == 0  # noqa: S608
    with pytest.raises(Permanent, match="scale"):
        value(session, f"SELECT {' * '.join(['price'] * 30)} FROM trades")  # noqa: S608
    assert value(session, "SELECT price * size FROM trades") == 1.0


def test_readers_of_a_file_and_of_a_store_that_is_open_have_it_too(tmp_path: Path) -> None:
    query = "SELECT 1::DECIMAL(38, 18) * 100::DECIMAL(38, 18) AS v"
    with (
        contextlib.closing(DuckDBStore(tmp_path / "a.duckdb")) as store,
        contextlib.closing(store.reader()) as reader,
    ):
        assert reader.query(query, timeout_s=60.0)["v"][0].as_py() == 100.0
    with contextlib.closing(DuckDBReader.of_file(tmp_path / "a.duckdb")) as reader:
        assert reader.query(query)["v"][0].as_py() == 100.0
