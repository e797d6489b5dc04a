"""``forebay sql``: cells as people and programs read them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.cli.sql import Format, write
from forebay.domain.schema import DECIMALS

if TYPE_CHECKING:
    import pytest

PRICES = [[Decimal("1.5"), Decimal("0.000000000000000001")], [], None]
TABLE = pa.table({"symbol": ["A", "B", "C"], "bid_prices": pa.array(PRICES, DECIMALS)})


def test_levels_of_a_book_are_exact_texts_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(TABLE, Format.json)
    told = [row["bid_prices"] for row in json.loads(capsys.readouterr().out)]
    assert [told[0] and [Decimal(text) for text in told[0]], *told[1:]] == PRICES


def test_levels_of_a_book_are_one_cell_of_csv(capfd: pytest.CaptureFixture[str]) -> None:
    write(TABLE, Format.csv)
    header, first, *others = capfd.readouterr().out.splitlines()
    assert header == '"symbol","bid_prices"'
    (symbol, cell) = first.replace('"', "").split(",", 1)
    assert symbol == "A"
    assert [Decimal(text) for text in cell.split(",")] == PRICES[0]
    assert others == ['"B",""', '"C",']
