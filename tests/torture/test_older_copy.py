"""A journal restored from an older copy, under a store that is further than it.

The frames captured from then on get numbers that the store has seen. Passing over them in silence
was possible before :func:`forebay.app.wiring.journaling.open_journal` began a new log (record 12).
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.journaling import open_journal
from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.errors import ConfigError
from forebay.journal import CursorFile, JournalWriter, PendingBlock, Position, fsck
from forebay.services.deliver import Deliverer
from forebay.stores.duckdb import DuckDBStore
from forebay.telemetry import CursorUnreadable, LossFound
from tests.support.delivery import PARSERS
from tests.support.frames import context, match
from tests.unit.journal.helpers import FOLDER, draft, losses_of, open_writer, read_all, sim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.telemetry import TelemetryEvent


class House:
    """A data folder with both processes in one, opened and closed as often as needed."""

    def __init__(self, root: Path) -> None:
        self.folder = DataFolder(root).create()
        self.told: list[TelemetryEvent] = []

    def capture(self, first: int, last: int) -> Position:
        with open_journal(self.folder, Config(), ManualClock(), self.told.append) as writer:
            for trade in range(first, last + 1):
                payloads = [match(trade)]
                writer.commit([PendingBlock(FrameKind.TEXT, context().encode(), payloads, [trade])])
            return writer.position

    def deliver(self) -> set[int]:
        """Deliver everything; answer the trades that the store then holds."""
        store = DuckDBStore(self.folder.database("duckdb"))
        cursor = CursorFile(self.folder.cursor("store"))
        try:
            Deliverer(
                self.folder.journal, store, PARSERS, cursor=cursor, observer=self.told.append
            ).drain()
            with store.connection() as reader:
                rows = reader.execute("SELECT trade_id FROM trades").fetchall()
            assert len(rows) == len(set(rows)), "a trade is there twice"
            return {int(row[0]) for row in rows}
        finally:
            cursor.close()
            store.close()


def older_copy(tmp_path: Path) -> House:
    """A store that has trades 1 to 9, over a journal that was copied after trade 3."""
    house = House(tmp_path / "d")
    house.capture(1, 3)
    shutil.copytree(house.folder.journal, tmp_path / "copy")
    house.capture(4, 9)
    assert house.deliver() == set(range(1, 10))
    shutil.rmtree(house.folder.journal)
    shutil.copytree(tmp_path / "copy", house.folder.journal)
    return house


def lose_cursor(house: House) -> None:
    house.folder.cursor("store").unlink()


def damage_cursor(house: House) -> None:
    house.folder.cursor("store").write_bytes(b"\xff" * 4352)


def keep_cursor(house: House) -> None:
    assert house.folder.cursor("store").exists()


@pytest.mark.parametrize("cursor", [lose_cursor, damage_cursor, keep_cursor])
@pytest.mark.parametrize("captured", [1, 20])
def test_no_frame_is_passed_over(
    tmp_path: Path, cursor: Callable[[House], None], captured: int
) -> None:
    house = older_copy(tmp_path)
    cursor(house)
    house.capture(101, 100 + captured)
    assert house.deliver() == {*range(1, 10), *range(101, 101 + captured)}
    assert [type(each) for each in house.told if isinstance(each, LossFound)]
    unreadable = [each for each in house.told if isinstance(each, CursorUnreadable)]
    assert bool(unreadable) == (cursor is damage_cursor)


def test_a_restart_with_its_cursor_goes_on_in_the_same_log(tmp_path: Path) -> None:
    house = House(tmp_path / "d")
    first = house.capture(1, 3)
    house.deliver()
    second = house.capture(4, 5)
    assert second == Position(first.log_id, first.seq + 2)
    assert house.deliver() == {1, 2, 3, 4, 5}
    assert not [each for each in house.told if isinstance(each, LossFound)]


def test_without_a_store_nobody_can_be_ahead_and_the_log_goes_on(tmp_path: Path) -> None:
    house = House(tmp_path / "d")
    assert house.capture(1, 3).log_id == house.capture(4, 5).log_id


def test_a_store_that_has_nothing_yet_loses_nothing_by_a_new_log(tmp_path: Path) -> None:
    house = House(tmp_path / "d")
    before = house.capture(1, 3)
    DuckDBStore(house.folder.database("duckdb")).close()
    after = house.capture(4, 5)
    assert after.log_id != before.log_id
    assert after.seq == before.seq + 2
    assert house.deliver() == {1, 2, 3, 4, 5}
    assert not [each for each in house.told if isinstance(each, LossFound)]
    assert fsck(house.folder.journal, cursors=[house.folder.cursor("store")]).ok


def test_a_new_log_is_begun_behind_what_is_there_and_declares_nothing_lost() -> None:
    disk = sim()
    with open_writer(disk) as writer:
        writer.commit([draft(b"a", b"b")])
        old = writer.position
    with JournalWriter.open(
        FOLDER, clock=ManualClock(), disk=disk, ballast_bytes=0, new_log=True
    ) as writer:
        assert writer.report.new_log
        assert writer.report.losses == ()
        assert (writer.position.log_id != old.log_id, writer.position.seq) == (True, old.seq)
        writer.commit([draft(b"c")])
        assert losses_of(read_all(disk, start=old)) == []
        assert [block.payloads for block in read_all(disk)] == [[b"a", b"b"], [b"c"]]
        assert [block.payloads for block in read_all(disk, start=old)] == [[b"c"]]
        with pytest.raises(ConfigError):
            open_writer(disk)


def test_a_journal_that_never_held_a_frame_is_not_begun_anew() -> None:
    disk = sim()
    open_writer(disk).close()
    with JournalWriter.open(
        FOLDER, clock=ManualClock(), disk=disk, ballast_bytes=0, new_log=True
    ) as writer:
        assert not writer.report.new_log
