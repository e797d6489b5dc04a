"""RuntimeSettings, cycles and names that there are not."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from forebay.errors import ConfigError
from forebay.resilience.dependencies import behind, lenient_order, near, start_order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Graph = dict[str, tuple[str, ...]]


def test_dependencies_come_first_and_else_the_first_given() -> None:
    graph: Graph = {
        "api": ("store",),
        "capture": (),
        "deliver": ("capture",),
        "store": ("deliver",),
    }
    assert start_order(graph) == ("capture", "deliver", "store", "api")
    assert start_order({"x": ("z",), "y": (), "z": ()}) == ("y", "z", "x")
    assert start_order({}) == ()


def is_ordered(order: Collection[str], graph: Mapping[str, Collection[str]]) -> bool:
    started: set[str] = set()
    for name in order:
        if not started.issuperset(graph[name]):
            return False
        started.add(name)
    return True


def test_it_is_the_first_of_all_orders_that_there_are() -> None:
    dice = random.Random(7)
    for _ in range(150):
        names = "abcdef"[: dice.randint(1, 6)]
        ranks = dice.sample(range(len(names)), len(names))
        graph: Graph = {
            name: tuple(
                other for other, its in zip(names, ranks, strict=True)
                if its < rank and dice.random() < 0.4
            )
            for name, rank in zip(names, ranks, strict=True)
        }  # fmt: skip
        possible = (each for each in itertools.permutations(names) if is_ordered(each, graph))
        assert start_order(graph) == next(possible)  # permutations come in the order given
        assert lenient_order(graph) == start_order(graph)


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({"a": ("b",), "b": ("a",)}, "a -> b -> a"),
        ({"a": ("a",)}, "a -> a"),
        ({"x": ("a",), "a": ("b",), "b": ("c",), "c": ("a",), "y": ()}, "a -> b -> c -> a"),
        ({"ok": (), "a": ("ok", "b"), "b": ("ok", "a")}, "a -> b -> a"),
    ],
)
def test_a_cycle_is_spelled_out(graph: Graph, cycle: str) -> None:
    with pytest.raises(ConfigError) as refused:
        start_order(graph)
    assert refused.value.message == f"Services depend on each other: {cycle}."
    assert refused.value.hint
    assert sorted(lenient_order(graph)) == sorted(graph)


def test_what_a_cycle_needs_and_what_needs_it_keep_their_places() -> None:
    graph: Graph = {"user": ("b",), "a": ("b", "base"), "b": ("a",), "base": ("gone",)}
    assert lenient_order(graph) == ("base", "b", "user", "a")


def test_an_unknown_name_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError) as refused:
        start_order({"capture": (), "store": ("captrue",)})
    assert refused.value.message == "store depends on captrue, and there is no such service."
    assert refused.value.hint == "Did you mean capture?"


def test_a_hint_names_what_there_is() -> None:
    assert near("stor", ["store", "rest"]) == "Did you mean store?"
    assert near("xyz", ["store", "rest"]) == "There are: store, rest."
    assert near("xyz", []) == "There are none."


def test_behind_a_service_is_all_that_it_needs_at_any_distance() -> None:
    graph: Graph = {"a": ("b", "c"), "b": ("d",), "c": ("gone",), "d": (), "e": ("a",)}
    assert behind("a", graph) == {"b", "c", "d", "gone"}
    assert behind("d", graph) == set()
    assert behind("nobody", graph) == set()
    assert behind("x", {"x": ("y",), "y": ("x",)}) == {"x", "y"}


def test_long_chains_need_no_stack() -> None:
    chain: Graph = {f"{n}": (f"{n + 1}",) for n in range(300)} | {"300": ()}
    assert start_order(chain) == tuple(str(n) for n in range(300, -1, -1))
    assert len(behind("0", chain)) == 300
