"""The ledger from what is delivered says what frames say, wherever steps, cuts and kills fall."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.domain.ordinals import StreamOrdinals
from forebay.journal import Position
from forebay.services.ledger import open_ledger, read_ledger
from forebay.services.ledger_builder import Remembered
from tests.support.made_venue import PAIRS, Deal, MadeParser, Rig, rig
from tests.support.memory_store import MemoryStore
from tests.tiers import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.domain.channels import Unit
    from forebay.domain.identity import IdentityClass
    from forebay.domain.ledger import SegmentEntry
    from forebay.services.ledger import Ledger

Pair = tuple["IdentityClass", "Unit"]
Action = tuple[str, int, list[Deal]]

DEALS = st.builds(
    lambda number, symbol: Deal(micros=number, number=number, symbol=symbol),
    st.integers(1, 6),
    st.sampled_from(["A-B", "A-C"]),
)
ACTIONS: st.SearchStrategy[list[Action]] = st.lists(
    st.tuples(
        st.sampled_from(
            ["tell", "tell", "tell", "page", "poison", "close", "step", "step", "kill", "record"]
        ),
        st.integers(0, 2),
        st.lists(DEALS, min_size=1, max_size=3),
    ),
    max_size=14,
)


class Kept:
    """A journal that is delivered, and its ledger, which is opened anew after each kill."""

    def __init__(self, made: Rig, folder: Path) -> None:
        self.made = made
        self.folder = folder
        self.ledger = self._open()

    def _open(self) -> Ledger:
        made = self.made
        told = made.store.first_told
        return open_ledger(
            self.folder, made.parsers, ManualClock(), first_told=told, live=made.sums
        )

    def kill(self) -> None:
        self.ledger.close()
        self.made.kill()
        self.ledger = self._open()

    def record(self) -> None:
        """Account for all that is stored."""
        if (end := self.made.delivered) is not None:
            self.ledger.record(self.made.blocks(), end)

    def act(self, actions: list[Action]) -> None:
        made = self.made
        lives: Counter[int] = Counter()
        for verb, who, deals in actions:
            epoch, collector = f"e{who}.{lives[who]}", f"c{who % 2}"
            if verb == "tell":
                made.tell(epoch, *deals, collector=collector)
            elif verb == "page":
                made.page("fill", *deals)
            elif verb == "poison":
                made.tell(epoch, Deal(price="NaN"), *deals, collector=collector)
            elif verb == "close":
                made.close(epoch, collector)
                lives[who] += 1
            elif verb == "kill":
                self.kill()
            elif verb == "record":
                self.record()
            else:
                made.step()
        made.drain()
        self.record()

    def entries(self) -> list[SegmentEntry]:
        return read_ledger(self.folder, ManualClock())


@contextmanager
def kept(pair: Pair, *, duckdb: bool = False) -> Iterator[Kept]:
    with tempfile.TemporaryDirectory() as name:
        store = MemoryStore()
        opened = None if duckdb else lambda: store
        with rig(Path(name), pair[0], opened, MadeParser(*pair)) as made:
            made_of = Kept(made, Path(name) / "ledger")
            try:
                yield made_of
            finally:
                made_of.ledger.close()


def from_frames(journal: Kept, ends: list[Position]) -> list[SegmentEntry]:
    """Return the entries up to each of ``ends`` that frames alone tell."""
    folder = journal.folder.with_name("from-frames")
    parsers = journal.made.parsers
    with open_ledger(folder, parsers, ManualClock(), first_told=Remembered(parsers)) as ledger:
        for end in ends:
            ledger.record(journal.made.blocks(), end)
    return read_ledger(folder, ManualClock())


def check(pair: Pair, actions: list[Action], *, duckdb: bool) -> None:
    with kept(pair, duckdb=duckdb) as journal:
        journal.act(actions)
        entries = journal.entries()
        end = journal.made.delivered
        assert [entry.first for entry in entries] == [1, *(e.end for e in entries)][: len(entries)]
        assert (entries[-1].end if entries else None) == (end.seq if end else None)
        ends = [Position(entry.log_id, entry.end) for entry in entries]
        told = from_frames(journal, ends)
        assert list(map(plain, entries)) == list(map(plain, told))


def plain(entry: SegmentEntry) -> dict[str, object]:
    """Return an entry as it can be compared.

    Which connection spoke last, and how far one was known to have got, depends on where steps
    end: within one, frames of a connection are read together.
    """
    found: dict[str, Any] = msgspec.to_builtins(entry)
    for stream in found["streams"]:
        if (coverage := stream["coverage"]) is not None:
            coverage["rows"] = sorted(coverage["rows"])
            coverage["epochs"] = sorted(epoch for epoch, _ in coverage["epochs"])
        if (ordinals := stream["ordinals"]) is not None:
            stream["ordinals"] = StreamOrdinals.decode(bytes.fromhex(ordinals)).epochs
    return found


TWO_COLLECTORS: list[Action] = [
    ("tell", who, [Deal(number=number, micros=number)]) for who, number in ((0, 1), (1, 2), (0, 2))
]
"""The second tells first what the first, whose frames are read before, tells too."""
NUMBER_AGAIN: list[Action] = [
    *(("tell", 0, [Deal()]), ("step", 0, []), ("record", 0, [])),
    *(("tell", 0, [Deal(micros=6)]), ("step", 0, []), ("record", 0, [])),
]
"""A number that came before, of another event: numbers identify none of class ``content``."""


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(PAIRS), ACTIONS)
@example(("native", "id"), TWO_COLLECTORS)
@example(("content", "seq"), NUMBER_AGAIN)
def test_an_entry_cut_from_delivery_is_the_one_that_frames_tell(
    pair: Pair, actions: list[Action]
) -> None:
    check(pair, actions, duckdb=False)


@settings(max_examples=examples(15), deadline=None)
@given(st.sampled_from(PAIRS), ACTIONS)
@example(("native", "id"), TWO_COLLECTORS)
@example(("content", "seq"), NUMBER_AGAIN)
def test_so_it_is_with_a_store_on_disk(pair: Pair, actions: list[Action]) -> None:
    check(pair, actions, duckdb=True)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_many_more_of_the_same(pair: Pair) -> None:
    @settings(max_examples=300, deadline=None)
    @given(ACTIONS)
    def run(actions: list[Action]) -> None:
        check(pair, actions, duckdb=False)

    run()
