"""Whoever dies between a journal and a store behind a transport, the store is as the first one."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING

import msgspec
import pytest

from forebay.errors import CursorMoved
from forebay.services.audit import run_audit
from forebay.services.deliver import Deliverer
from forebay.services.lane_bridge import journal_cursor
from forebay.services.lanes import all_topics
from tests.support.crossing import Crossing, Fuse, content, fused
from tests.support.delivery import PARSERS
from tests.support.memory_store import MemoryAudited, MemoryStore
from tests.support.rough_traffic import rough_chunks
from tests.tiers import SEED, TIER, seeds

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.ports import Audited
    from forebay.services.audit import AuditReport

PARTS = 8
"""So many tests share the steps."""


def direct(crossing: Crossing) -> MemoryStore:
    """Return a store that has the whole journal without a transport."""
    store = MemoryStore()
    Deliverer(crossing.folder, store, crossing.parsers).drain()
    return store


def crossed(folder: Path, *kills: int, partitions: int = 2) -> Crossing:
    fuse = Fuse(*kills)
    store = fused(MemoryStore(), fuse)
    crossing = Crossing(folder, PARSERS, store, fuse, partitions=partitions)
    crossing.run(rough_chunks())
    return crossing


def audited(store: Audited, crossing: Crossing) -> AuditReport:
    report = run_audit(store, crossing.folder, crossing.parsers)
    return msgspec.structs.replace(report, took_ms=0)


def require_equal(crossing: Crossing) -> None:
    first = direct(crossing)
    assert isinstance(crossing.store, MemoryStore)
    assert content(crossing.store) == content(first)
    cursor = journal_cursor(crossing.writer.position.log_id)
    assert crossing.store.load().positions[cursor] == first.load().positions["store"]
    second = audited(MemoryAudited(crossing.store, cursor), crossing)
    assert second == audited(MemoryAudited(first), crossing)


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_crosses_a_transport_is_stored_as_what_does_not(
    tmp_path: Path, partitions: int
) -> None:
    crossing = crossed(tmp_path, partitions=partitions)
    require_equal(crossing)
    stored = content(crossing.store)
    assert all(stored[name] for name in ("trades", "gaps", "dead_letters", "conflicts"))
    crossing.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_at_every_step_changes_nothing(tmp_path: Path, part: int) -> None:
    plain = crossed(tmp_path / "plain")
    expected, steps = content(plain.store), plain.fuse.count
    plain.close()
    assert steps > 100
    stride = PARTS * {"quick": 24, "test": 4, "soak": 1}[TIER]
    for at in range(1 + part + PARTS * SEED % stride, steps + 1, stride):
        crossing = crossed(tmp_path / str(at), at)
        assert crossing.kills == 1
        assert content(crossing.store) == expected, f"killed at operation {at}"
        crossing.close()


@pytest.mark.parametrize("seed", seeds("kills of a crossing"))
def test_many_kills_change_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    crossing = crossed(tmp_path, *(dice.randrange(1, 400) for _ in range(30)))
    assert crossing.kills > 1
    require_equal(crossing)
    crossing.close()


def test_an_older_copy_of_the_store_is_filled_again(tmp_path: Path) -> None:
    """What the transport still has is read once more; the store says from where."""
    crossing = Crossing(tmp_path, PARSERS, MemoryStore())
    chunks = rough_chunks()
    for topic in all_topics():
        (lane,) = crossing.transport.lanes(topic)
        crossing.transport.subscribe(lane, "somebody slow")
    crossing.run(chunks[:4])
    older = copy.deepcopy(vars(crossing.store))
    crossing.run(chunks[4:8])
    vars(crossing.store).update(older)
    crossing.writer.commit(chunks[8])
    crossing.publish()
    assert crossing.store_step()
    crossing.run(chunks[9:])
    require_equal(crossing)
    assert not crossing.told or all("Loss" not in type(each).__name__ for each in crossing.told)
    crossing.close()


def test_topics_that_are_made_anew_get_what_the_journal_has_again(tmp_path: Path) -> None:
    """Also those that nobody had read; the others are told nothing twice."""
    crossing = Crossing(tmp_path, PARSERS, MemoryStore(), partitions=2)
    chunks = rough_chunks()
    for chunk in chunks[:6]:
        crossing.writer.commit(chunk)
        crossing.publish()
    crossing.broker.delete("trade_archive")
    crossing.restart()
    crossing.writer.commit(chunks[6])
    with pytest.raises(CursorMoved):
        crossing.publish()
    for chunk in chunks[7:]:
        crossing.writer.commit(chunk)
    crossing.drain()
    require_equal(crossing)
    assert not crossing.told or all("Loss" not in type(each).__name__ for each in crossing.told)
    crossing.close()
