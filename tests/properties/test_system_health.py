"""The assessment and the hold against what they mean, said slowly."""

from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.resilience import Hysteresis, ServiceHealth, SystemState, assess, start_order
from forebay.resilience.dependencies import behind

NAMES = "abcdefg"
STATES = list(SystemState)


@st.composite
def systems(draw: st.DrawFn) -> list[ServiceHealth]:
    """Any acyclic graph, in any order."""
    names = draw(st.permutations(NAMES[: draw(st.integers(0, len(NAMES)))]))
    services = []
    for number, name in enumerate(names):
        needs = draw(st.sets(st.sampled_from(names[:number]))) if number else set()
        flags = draw(st.tuples(*[st.integers(0, 3)] * 3))
        services.append(
            ServiceHealth(
                name, up=flags[0] > 0, critical=flags[1] == 0,
                depends_on=tuple(sorted(needs)), serving_fallback=flags[2] == 0,
            )
        )  # fmt: skip
    return draw(st.permutations(services))


def reachable(name: str, needs: dict[str, tuple[str, ...]]) -> set[str]:
    """Every name at the end of a path; by enumerating the paths."""
    return set(needs[name]).union(*(reachable(other, needs) for other in needs[name]))


@settings(max_examples=150)
@given(systems())
def test_the_assessment_is_what_it_says(services: list[ServiceHealth]) -> None:
    seen = assess(services)
    needs = {each.name: each.depends_on for each in services}
    down = {each.name for each in services if not each.up}
    roots = {name for name in down if not reachable(name, needs) & down}
    order = start_order(needs)
    assert set(seen.roots) == roots
    assert set(seen.attributed) == down
    for name in down - roots:
        its = [root for root in order if root in roots and root in reachable(name, needs)]
        assert seen.attributed[name] == its[0]
    critical = {
        root
        for root in roots
        if any(each.critical and seen.attributed.get(each.name) == root for each in services)
    }
    share = Fraction(len(services) - len(roots), len(services)) if services else Fraction(1)
    if len(critical) >= 2:
        expected = SystemState.EMERGENCY
    elif critical or share < Fraction(1, 2):
        expected = SystemState.CRITICAL
    elif share < Fraction(4, 5) or any(each.serving_fallback for each in services):
        expected = SystemState.DEGRADED
    else:
        expected = SystemState.HEALTHY
    assert seen.state is expected
    assert bool(seen.reason) == bool(down or any(each.serving_fallback for each in services))
    assert all(behind(name, needs) == reachable(name, needs) for name in needs)


@settings(max_examples=80)
@given(systems())
def test_a_service_that_fails_adds_one_root_at_most(services: list[ServiceHealth]) -> None:
    before = assess(services)
    for number, each in enumerate(services):
        if each.up:
            failed = ServiceHealth(
                each.name, up=False, critical=each.critical, depends_on=each.depends_on
            )
            after = assess([*services[:number], failed, *services[number + 1 :]])
            assert len(after.roots) <= len(before.roots) + 1
            assert each.name in after.attributed


Seen = list[tuple[int, SystemState]]


def worst_of_the_hold(seen: Seen, hold: int) -> SystemState:
    """Look at every moment of the hold that ends now; a state holds until the next is seen."""
    now = seen[-1][0]
    timeline: dict[int, SystemState] = {}
    for (at, state), (until, _) in itertools.pairwise(seen):
        for moment in range(at, until):
            timeline[moment] = state
    within = [state for moment, state in timeline.items() if moment >= now - hold]
    return max([*within, seen[-1][1]], key=STATES.index)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(STATES)), min_size=1, max_size=25),
    st.integers(0, 12),
)
def test_what_is_shown_is_the_worst_of_the_hold(steps: Seen, hold: int) -> None:
    hysteresis, now, seen = Hysteresis(hold), 0, [(0, SystemState.HEALTHY)]
    for wait, state in steps:
        now += wait
        seen.append((now, state))
        assert hysteresis.see(state, now * 1_000_000_000) is worst_of_the_hold(seen, hold)


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.sampled_from(STATES)), min_size=1, max_size=25),
    st.integers(0, 12),
)
def test_no_clock_makes_it_better_than_it_is_or_keeps_it_for_ever(steps: Seen, hold: int) -> None:
    hysteresis, now = Hysteresis(hold), 1000
    for wait, state in steps:
        now += wait
        assert hysteresis.see(state, now * 1_000_000_000).severity >= state.severity
    last = steps[-1][1]
    hysteresis.see(last, now * 1_000_000_000)
    assert hysteresis.see(last, (now + hold) * 1_000_000_000) is last
