"""A data folder whose store is ClickHouse, without any broker: read, audited, lost, rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import forebay
from forebay.app.checked_bars import FOUND
from tests.support import made_recording as made
from tests.support.clickhouse import running_clickhouse
from tests.support.commands import Answer, invoked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.app.reader import Data

ELSEWHERE = {"log_id"}
"""Columns that say in which journal a row's frame is."""


def replayed(folder: Path, file: Path, url: str = "") -> Data:
    """Replay a recording into a folder, whose store is a server's if there is a ``url``."""
    folder.mkdir()
    if url:
        said = f'[store]\nkind = "clickhouse"\nurl = "{url}"\n'
        (folder / "forebay.toml").write_text(said)
    done = invoked("replay", file, "--venue", "coinbase", "--data", folder, "--json")
    assert done.code == 0, done
    return forebay.open(folder)


def rows(table: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - an Arrow table
    return [{k: v for k, v in row.items() if k not in ELSEWHERE} for row in table.to_pylist()]


def followed(data: Data) -> list[str]:
    """Return the ids of all trades in the order in which they are told."""
    found: list[str] = []
    with data.follow("BTC-USD", start="2000-01-01", rows=50) as follow:
        for table in follow:
            found += table["event_id"].to_pylist()
            if len(found) == len(made.ids("BTC-USD")):
                return found
    raise AssertionError


def audited(data: Data) -> tuple[Any, ...]:
    told = data.audit_report()
    return told.missing, told.doubled, told.mutated, told.spurious, told.dead_letters


READINGS: dict[str, Callable[[Data], Any]] = {
    "symbols": lambda data: data.symbols(),
    "trades": lambda data: rows(data.trades(["BTC-USD", "ETH-USD"])),
    "part": lambda data: rows(
        data.trades(start="2023-11-14T22:14:00Z", end="2023-11-14T22:15:00.000123001Z", limit=70)
    ),
    "floats": lambda data: rows(data.trades("ETH-USD", floats=True, utc=True)),
    "quotes": lambda data: rows(data.quotes()),
    "tickers": lambda data: rows(data.tickers()),
    "bars": lambda data: rows(data.bars()),
    "gaps": lambda data: [
        [row[name] for name in ("symbol", "first", "last", "reason", "state")]
        for row in data.gaps().to_pylist()
    ],
    "letters": lambda data: rows(data.dead_letters()),
    "book": lambda data: data.book_at("coinbase", "BTC-USD", "2023-11-14T22:15:00Z"),
    "shown": lambda data: repr(data).partition(":")[2],
    "series": lambda data: rows(data.sql(FOUND)),
    "followed": followed,
    "audit": audited,
}


@pytest.mark.drill
def test_whatever_is_read_is_the_same_as_in_the_embedded_store(tmp_path: Path) -> None:
    file = tmp_path / "made.rec"
    file.write_bytes(made.rec())
    here = replayed(tmp_path / "embedded", file)
    with running_clickhouse(tmp_path / "server") as server:
        there = replayed(tmp_path / "served", file, server.url)
        for name, reading in READINGS.items():
            assert reading(there) == reading(here), name
        for command in ("gaps list", "dlq list", "status", "book coinbase BTC-USD"):
            found = [
                invoked(*command.split(), "--data", data.folder.root) for data in (here, there)
            ]
            assert found[0].code == found[1].code, found
            assert len(found[0].stdout.splitlines()) == len(found[1].stdout.splitlines())


def rebuilt(data: Data) -> Answer:
    return invoked("rebuild", "--data", data.folder.root, "--json")


@pytest.mark.drill
def test_what_clickhouse_lost_is_rebuilt_from_the_journal(tmp_path: Path) -> None:
    file = tmp_path / "made.rec"
    file.write_bytes(made.rec())
    with running_clickhouse(tmp_path / "server") as server:
        data = replayed(tmp_path / "served", file, server.url)
        sound, whole = audited(data), rows(data.trades())
        server.ask(
            "ALTER TABLE forebay.trades_rows DELETE WHERE venue_seq % 3 = 1 "
            "SETTINGS mutations_sync = 2"
        )
        lost = len(whole) - len(rows(data.trades()))
        assert audited(data)[0] == lost > 100
        assert rebuilt(data).json["stored"]["trades"] == lost
        mended = rows(data.trades())
        late = [row["flags"] for row in mended if "out_of_order" in row["flags"]]
        assert 100 < len(late) <= lost, "they come behind later ones, and say so"
        assert audited(data) == sound
        assert [row | {"flags": ""} for row in mended] == [row | {"flags": ""} for row in whole]

        server.ask("DROP DATABASE forebay SYNC")
        assert rebuilt(data).json["stored"]["trades"] == len(whole)
        assert (audited(data), rows(data.trades())) == (sound, whole)
        assert server.ask("SELECT count() = uniqExact(event_id) FROM forebay.trades_rows") == "1"
