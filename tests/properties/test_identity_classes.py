"""The identity classes on the real path, against a brute-force model of their definitions."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.made_venue import CLASSES, T0_NS, Deal, Rig, rig
from tests.support.memory_store import MemoryStore
from tests.tiers import examples

if TYPE_CHECKING:
    from forebay.domain.identity import IdentityClass
    from tests.support.delivery import TableStore

Fact = tuple[object, ...]
"""What a row says: symbol, event_ts, number, price, size, side."""
Action = tuple[str, int, list[Deal]]

DEALS = st.builds(
    lambda micros, number, symbol, spelling: Deal(
        price=("7.5", "7.50")[spelling], micros=micros, number=number, symbol=symbol
    ),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["A-B", "A-C"]),
    st.integers(0, 1),
)
ACTIONS: st.SearchStrategy[list[Action]] = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "tell", "page", "step", "kill", "close"]),
        st.integers(0, 2),
        st.lists(DEALS, min_size=1, max_size=4),
    ),
    max_size=12,
)


def fact(identity: IdentityClass, deal: Deal) -> Fact:
    number = str(deal.number) if identity in ("native", "session") else ""
    told = (Decimal(deal.price), Decimal(deal.size), deal.side)
    return (deal.symbol, T0_NS + deal.micros * 1000, number, *told)


@dataclass
class Model:
    """Everything that was told, by who told it: a connection or one answer."""

    identity: IdentityClass
    told: dict[str, list[Deal]] = field(default_factory=dict)
    pages: list[list[Deal]] = field(default_factory=list)

    def rows(self) -> Counter[tuple[Fact, bool]]:
        """Answer how often each fact must be stored, flagged as ambiguous or not."""
        if self.identity == "content":
            return self._by_multiplicity()
        events: dict[tuple[object, ...], Fact] = {}
        everyone = [*self.told.items(), *((f"page {n}", p) for n, p in enumerate(self.pages))]
        for epoch, deals in everyone:
            for place, deal in enumerate(deals):
                key: tuple[object, ...] = (deal.symbol, deal.number)
                if self.identity == "session":
                    key = (*key, "fill" if epoch.startswith("page") else epoch)
                elif self.identity == "observation":
                    key = (epoch, place)
                events.setdefault(key, fact(self.identity, deal))
        return Counter((event, False) for event in events.values())

    def _by_multiplicity(self) -> Counter[tuple[Fact, bool]]:
        flagged: dict[tuple[Fact, int], bool] = {}
        for deals, is_page in [(d, False) for d in self.told.values()] + [
            (page, True) for page in self.pages
        ]:
            for symbol in {deal.symbol for deal in deals}:
                theirs = [deal for deal in deals if deal.symbol == symbol]
                edges = {theirs[0].micros}
                if is_page:
                    moments = [deal.micros for deal in theirs]
                    edges = {min(moments), max(moments)}
                seen: Counter[Fact] = Counter()
                for deal in theirs:
                    told = fact("content", deal)
                    which = (told, seen[told])
                    seen[told] += 1
                    flagged[which] = flagged.get(which, False) or deal.micros in edges
        return Counter((told, flag) for (told, _), flag in flagged.items())


def consistent(identity: IdentityClass, deal: Deal) -> Deal:
    """A venue that numbers its trades tells the same under the same number."""
    if identity in ("native", "session"):
        return Deal(micros=deal.number, number=deal.number, symbol=deal.symbol)
    return deal


def act(made: Rig, model: Model, actions: list[Action]) -> None:
    lives: Counter[int] = Counter()
    for verb, who, drawn in actions:
        deals = [consistent(model.identity, deal) for deal in drawn]
        epoch, collector = f"e{who}.{lives[who]}", f"c{who % 2}"
        if verb == "tell":
            made.tell(epoch, *deals, collector=collector)
            model.told.setdefault(epoch, []).extend(deals)
        elif verb == "page":
            made.page("fill", *deals)
            model.pages.append(deals)
        elif verb == "close":
            made.close(epoch, collector)
            lives[who] += 1
        elif verb == "kill":
            made.kill()
        else:
            made.step()
    made.drain()


def stored(made: Rig, store: TableStore | None = None) -> Counter[tuple[Fact, bool]]:
    names = ("symbol", "event_ts", "trade_id", "price", "size", "side")
    return Counter(
        (tuple(row[name] for name in names), "ambiguous" in str(row["flags"]).split(","))
        for row in made.rows(store)
    )


def check(identity: IdentityClass, actions: list[Action], memory: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        kept = MemoryStore()
        model = Model(identity)
        with rig(Path(name), identity, (lambda: kept) if memory else None) as made:
            act(made, model, actions)
            assert stored(made) == model.rows()
            rows = made.rows()
            assert len({row["event_id"] for row in rows}) == len(rows)
            assert len(made.store.table("conflicts")) == 0
            if identity in ("native", "content"):  # the others are events of their connection
                # Once more, by connections of other names: nobody saw more than is there.
                again = [(verb, who + 10, deals) for verb, who, deals in actions]
                act(made, Model(identity), again)
                assert [row["event_id"] for row in made.rows()] == [r["event_id"] for r in rows]
            assert stored(made, made.rebuilt(MemoryStore())) == stored(made)


@pytest.mark.parametrize("identity", CLASSES)
@settings(max_examples=examples(60), deadline=None)
@given(actions=ACTIONS)
def test_what_is_stored_is_what_the_class_says(
    identity: IdentityClass, actions: list[Action]
) -> None:
    check(identity, actions, memory=True)


@settings(max_examples=examples(15), deadline=None)
@given(actions=ACTIONS)
def test_content_in_duckdb_is_what_the_class_says(actions: list[Action]) -> None:
    check("content", actions, memory=False)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("identity", CLASSES)
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "duckdb"])
def test_many_more_of_the_same(identity: IdentityClass, memory: bool) -> None:
    @settings(max_examples=2000 if memory else 300, deadline=None)
    @given(actions=ACTIONS)
    def run(actions: list[Action]) -> None:
        check(identity, actions, memory=memory)

    run()
