"""The ledger in a simulated world: taken from delivery's sums now and then, judged at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forebay.domain.digest import Digest, digests_by_hour
from forebay.domain.kinds import KINDS
from forebay.domain.ledger import record_of
from forebay.errors import ForebayError
from forebay.journal import Position, iter_blocks
from forebay.services.ledger import open_ledger, read_ledger
from forebay.services.ledger_builder import LiveSums

if TYPE_CHECKING:
    from forebay.domain.digest import StreamHour
    from forebay.domain.ledger import LedgerState
    from forebay.ports import Parser, Store
    from forebay.services.deliver import Deliverer
    from forebay.services.ledger import Ledger
    from tests.simulation.machine import Life
    from tests.simulation.world import World
    from tests.support.memory_store import MemoryStore

LEDGER = Path("ledger")


class Accounts:
    """One deliver process's hold of the ledger, opened when its turn comes."""

    def __init__(self, world: World, life: Life, store: Store) -> None:
        self.sums = LiveSums()
        self._world = world
        self._life = life
        self._store = store
        self._ledger: Ledger | None = None

    def record(self, deliverer: Deliverer, journal: Path, parsers: dict[str, Parser]) -> None:
        """LedgerState what is stored; what the disk or the journal refuses is left for later."""
        end = deliverer.position
        if end is None:
            return
        try:
            ledger = self._ledger = self._ledger or self._open(parsers)
            reached = ledger.reached()
            start = Position(end.log_id, reached.seq if reached else 1)
            ledger.record(iter_blocks(journal, start, disk=self._life.disk), end)
        except ForebayError as error:
            self._world.trace.note("not_recorded", str(error))
        else:
            self._world.trace.note("recorded", str(end))

    def _open(self, parsers: dict[str, Parser]) -> Ledger:
        world = self._world
        return open_ledger(
            LEDGER,
            parsers,
            world.clock,
            first_told=self._store.first_told,
            live=self.sums,
            disk=self._life.disk,
            random_id=world.random_id,
        )


def judge_accounts(world: World) -> None:
    """Hold the ledger against the store: of what it has accounted for, it says the same."""
    record = record_of(read_ledger(LEDGER, world.clock, disk=world.disk))
    stored = world.store.load()
    (position,) = stored.positions.values()
    if (record.log_id, record.end) != (position.log_id, position.seq):
        world.fail(f"recorded up to {record.log_id}:{record.end}, stored up to {position}")
    for key, coverage in stored.coverage.items():
        if key not in record.coverage or {*record.coverage[key].rows()} != {*coverage.rows()}:
            world.fail(f"the ledger has another coverage of {key} than the store")
    for where, digest in _differences(record, _of_store(world.store)).items():
        world.fail(f"the ledger has another digest of {where} than the store, {digest}")


def _of_store(store: MemoryStore) -> dict[StreamHour, Digest]:
    found: dict[StreamHour, Digest] = {}
    for kind in KINDS.values():
        rows = store.table(kind.table)
        if len(rows):
            found |= digests_by_hour(rows, kind)
    return found


def _differences(record: LedgerState, stored: dict[StreamHour, Digest]) -> dict[StreamHour, Digest]:
    recorded = {
        (key, hour): digest for key, hours in record.hours.items() for hour, digest in hours.items()
    }
    return {
        where: recorded.get(where, Digest())
        for where in recorded.keys() | stored.keys()
        if recorded.get(where) != stored.get(where)
    }
