"""Who gets which lane."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from forebay.transports.sharing import share_out

LANES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(("lanes", "members"), [*product(range(6), range(1, 7))])
def test_each_lane_is_one_members_and_all_have_as_many(lanes: int, members: int) -> None:
    readers = {f"m{number}": LANES[:lanes] for number in range(members)}
    shared = share_out(readers, {})
    assert sorted(shared) == LANES[:lanes]
    load = [Counter(shared.values())[each] for each in readers]
    assert max(load) - min(load) <= 1
    assert share_out(readers, shared) == shared, "nothing changes hands for nothing"


def test_who_comes_gets_a_share_and_who_goes_leaves_its_own() -> None:
    alone = share_out({"m": LANES}, {})
    both = share_out({"m": LANES, "n": LANES}, alone)
    assert Counter(both.values()) == {"m": 3, "n": 2}
    three = share_out(dict.fromkeys("mno", LANES), both)
    assert Counter(three.values()) == {"m": 2, "n": 2, "o": 1}
    assert sum(both[lane] != three[lane] for lane in LANES) == 1
    rest = share_out(dict.fromkeys("no", LANES), three)
    assert Counter(rest.values()) == {"n": 3, "o": 2}
    assert all(rest[lane] == three[lane] for lane in LANES if three[lane] != "m")


def test_nobody_gets_what_it_would_not_read() -> None:
    assert share_out({"m": ["a"], "n": ["b"]}, {"a": "n", "b": "m", "c": "m"}) == {
        "a": "m",
        "b": "n",
    }
    assert not share_out({}, {"a": "m"})
