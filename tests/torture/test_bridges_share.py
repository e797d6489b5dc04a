"""Several bridges, killed, frozen and woken at any moment: the store is as that of one alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from forebay.telemetry import LossFound
from tests.support.crossing import content
from tests.support.delivery import PARSERS
from tests.support.fleet import TROUBLES, Fleet
from tests.support.rough_traffic import rough_chunks
from tests.tiers import seeds
from tests.torture.test_crossing_kills import require_equal

if TYPE_CHECKING:
    from pathlib import Path


def sail(folder: Path, seed: int, **options: Any) -> Fleet:  # noqa: ANN401
    fleet = Fleet(folder, PARSERS, random.Random(seed), **options)
    fleet.run(rough_chunks())
    fleet.check()
    return fleet


def test_bridges_share_the_work_and_store_what_one_would(tmp_path: Path) -> None:
    fleet = sail(tmp_path, 1, trouble=0.0)
    held = [len(bridge.lanes) for bridge in fleet._bridges if bridge is not None]
    assert len(held) == 3
    assert max(held) - min(held) <= 1
    require_equal(fleet)
    assert all(content(fleet.store)[name] for name in ("trades", "gaps", "dead_letters"))
    fleet.close()


@pytest.mark.parametrize("trouble", [*TROUBLES, "all"])
@pytest.mark.parametrize("seed", seeds("fleets of bridges"))
def test_whoever_is_killed_or_frozen_nothing_is_lost_or_doubled(
    tmp_path: Path, seed: int, trouble: str
) -> None:
    troubles = TROUBLES if trouble == "all" else [trouble]
    fleet = sail(tmp_path, seed, troubles=troubles, partitions=1 + seed % 2)
    assert fleet.happened.total() > 0
    assert not [event for event in fleet.told if isinstance(event, LossFound)]
    require_equal(fleet)
    fleet.close()
