"""A store fed once more: what it lacks is stored, what it has stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from forebay.app.offline.feeding_again import feed_again
from forebay.app.wiring import stores
from forebay.app.wiring.config import Config
from forebay.clock import ManualClock
from forebay.telemetry import ignore
from tests.unit.app.test_rebuild import captured, state

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(2))
def test_what_was_lost_is_stored_again_and_all_else_is_the_same(tmp_path: Path, seed: int) -> None:
    folder, config = captured(tmp_path / "data", seed), Config(data=str(tmp_path / "data"))
    before = state(folder)
    with duckdb.connect(str(folder.database("duckdb"))) as connection:
        gone = connection.execute("DELETE FROM trades WHERE venue_seq % 3 = 1").fetchall()[0][0]
    assert gone
    assert state(folder) != before
    place, clock = stores.stores_of(config)[0], ManualClock()
    account = feed_again(folder, config, place, clock=clock, observer=ignore)
    assert account["stored"]["trades"] == gone
    assert account["letters_and_conflicts"] == 0, "they are there"
    assert state(folder) == before
    again = feed_again(folder, config, place, clock=clock, observer=ignore)
    assert (again["stored"]["trades"], state(folder)) == (0, before)
