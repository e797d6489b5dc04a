"""The page about ClickHouse says what the code does."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import ROOT

pytest.importorskip("clickhouse_connect")

from forebay.stores.clickhouse.ddl import KEPT, VIEWS, rows_of
from forebay.stores.clickhouse.errors import ABSENT, DAMAGED, REFUSED, UNAVAILABLE
from forebay.stores.clickhouse.session import ALWAYS, ANSWER_S, CONNECT_S, INSERTING

PAGE = (ROOT / "docs" / "explanation" / "clickhouse.md").read_text(encoding="utf-8")
KINDS = {
    "Unreachable": ABSENT,
    "TableUnavailable": UNAVAILABLE,
    "RowsRefused": REFUSED,
    "Corrupt": DAMAGED,
}


def codes(cell: str) -> set[int]:
    """Return the codes of a cell; ``192`–`194`` are three."""
    found = {int(code) for code in re.findall(r"`(\d+)`", cell)}
    for low, high in re.findall(r"`(\d+)`–`(\d+)`", cell):
        found |= set(range(int(low), int(high) + 1))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_the_page(kind: str) -> None:
    (cell,) = re.findall(rf"^\| ([^|]*) \| `{kind}` \|", PAGE, re.MULTILINE)
    assert codes(cell) == KINDS[kind]


def test_settings_are_those_of_the_page() -> None:
    rest = {"max_query_size", "join_use_nulls", "final"}
    families = ("min_insert_block_size", "output_format", "input_format")
    spoken = {re.sub(r".*(_overflow_mode).*", r"*\1", name) for name in {*ALWAYS, *INSERTING}}
    for name in spoken - rest:
        assert f"`{name}" in PAGE or name.startswith(families), name
    for setting in KEPT.split(", "):
        assert setting.partition(" = ")[0] in PAGE
    assert f"{ANSWER_S} s, a connection {CONNECT_S} s" in PAGE


def test_every_table_of_rows_has_a_view_of_the_contract() -> None:
    assert {"trades", "dead_letters", "conflicts", "coverage", "gaps", "cursors"} <= set(VIEWS)
    assert all(f"`{rows_of(name)}`" in PAGE for name in ("trades", "quotes", "letter_states"))
