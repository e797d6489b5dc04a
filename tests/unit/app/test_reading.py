"""Reading while a capture starts, stops or is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from forebay.app.reader import Data
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.errors import Unreachable

if TYPE_CHECKING:
    from pathlib import Path


class Waits:
    """Moves a clock by what is waited for; the database is there after ``ready_s``."""

    def __init__(self, folder: DataFolder, ready_s: float = float("inf")) -> None:
        self.clock = ManualClock()
        self.folder = folder
        self.ready_s = ready_s

    @property
    def waited_s(self) -> float:
        return self.clock.monotonic_ns() / 1e9

    def __call__(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self.waited_s >= self.ready_s:
            with duckdb.connect(str(self.folder.database("duckdb"))) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS trades (price INTEGER)")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data").create()


def test_a_capture_that_starts_is_waited_for(folder: DataFolder) -> None:
    waits = Waits(folder, ready_s=3.0)
    with folder.owned():
        table = Data(folder.root, clock=waits.clock, wait=waits).sql("SELECT 1 AS one")

    assert table.to_pylist() == [{"one": 1}]
    assert 3.0 <= waits.waited_s < 3.5


def test_a_capture_that_never_answers_is_not_waited_for_for_ever(folder: DataFolder) -> None:
    waits = Waits(folder)
    with folder.owned(), pytest.raises(Unreachable):
        Data(folder.root, clock=waits.clock, wait=waits).sql("SELECT 1")

    assert 5.0 <= waits.waited_s < 5.5


def test_without_a_capture_nothing_is_waited_for(folder: DataFolder) -> None:
    with folder.owned():
        assert folder.in_use()
    assert not folder.in_use()
    waits = Waits(folder)

    with pytest.raises(Unreachable, match="no database"):
        Data(folder.root, clock=waits.clock, wait=waits).sql("SELECT 1")

    assert waits.waited_s == 0
