"""The whole from its services: every boundary, every attribution, and the hold."""

from __future__ import annotations

import dataclasses
import json

import pytest

from forebay.errors import ConfigError
from forebay.resilience import Hysteresis, ServiceHealth, SystemState, assess
from forebay.resilience.health import worst

HEALTHY, DEGRADED, CRITICAL, EMERGENCY = SystemState
S = 1_000_000_000


def many(up: int, down: int) -> list[ServiceHealth]:
    """Services that do not depend on each other, none critical."""
    good = [ServiceHealth(f"up{n}", up=True) for n in range(up)]
    return good + [ServiceHealth(f"down{n}", up=False) for n in range(down)]


def down(name: str, *needs: str, critical: bool = False, reason: str = "") -> ServiceHealth:
    return ServiceHealth(name, up=False, critical=critical, depends_on=needs, reason=reason)


def up(name: str, *needs: str, critical: bool = False, fallback: bool = False) -> ServiceHealth:
    return ServiceHealth(
        name, up=True, critical=critical, depends_on=needs, serving_fallback=fallback
    )


@pytest.mark.parametrize(
    ("ups", "downs", "state"),
    [
        (0, 0, HEALTHY),
        (1, 0, HEALTHY),
        (4, 1, HEALTHY),
        (8, 2, HEALTHY),
        (80, 20, HEALTHY),
        (79, 21, DEGRADED),
        (3, 1, DEGRADED),
        (1, 1, DEGRADED),
        (50, 50, DEGRADED),
        (49, 51, CRITICAL),
        (1, 2, CRITICAL),
        (0, 1, CRITICAL),
    ],
)
def test_shares_have_the_boundaries_of_the_specification(
    ups: int, downs: int, state: SystemState
) -> None:
    seen = assess(many(ups, downs))
    assert seen.state is state
    assert seen.share == (ups / (ups + downs) if ups + downs else 1.0)


def test_a_fallback_that_serves_degrades_and_no_more() -> None:
    seen = assess([*many(9, 0), up("redis", fallback=True)])
    assert (seen.state, seen.share, seen.roots) == (DEGRADED, 1.0, ())
    assert seen.reason == "substitutes are served for redis"
    both = assess([ServiceHealth("s", up=False, critical=True, serving_fallback=True)])
    assert both.state is CRITICAL


def test_one_critical_root_is_critical_and_two_an_emergency() -> None:
    assert assess([*many(30, 0), down("store", critical=True)]).state is CRITICAL
    two = [*many(30, 0), down("store", critical=True), down("journal", critical=True)]
    assert assess(two).state is EMERGENCY


def test_what_is_down_because_of_another_is_not_counted() -> None:
    seen = assess(
        [
            down("capture", critical=True, reason="exited"),
            down("journal", "capture", critical=True),
            down("websocket", "capture", critical=True),
            down("rest", "capture"),
            up("deliver", critical=True),
        ]
    )
    assert seen.state is CRITICAL
    assert seen.roots == ("capture",)
    assert seen.share == 0.8
    assert seen.attributed == dict.fromkeys(("capture", "journal", "websocket", "rest"), "capture")
    assert seen.reason == "capture is down (exited), and so journal, websocket, rest"


def test_a_root_is_critical_if_what_it_takes_down_is() -> None:
    quiet = [*many(30, 0), down("disk"), down("cache", "disk")]
    assert assess(quiet).state is HEALTHY
    loud = [*many(30, 0), down("disk"), down("store", "disk", critical=True)]
    assert assess(loud).state is CRITICAL
    fine = [*many(30, 0), down("disk"), up("store", "disk", critical=True)]
    assert assess(fine).state is HEALTHY


def test_a_root_is_found_through_what_is_up() -> None:
    seen = assess([down("disk"), up("cache", "disk"), down("api", "cache")])
    assert seen.attributed == {"disk": "disk", "api": "disk"}


def test_of_several_roots_it_is_the_first_to_start() -> None:
    services = [down("api", "b", "a"), down("a", "base"), down("b"), up("base")]
    # The order of start is b, base, a, api.
    assert assess(services).attributed == {"b": "b", "a": "a", "api": "b"}
    assert assess(services).roots == ("b", "a")


def test_two_critical_that_share_a_root_are_one() -> None:
    services = [*many(9, 0), down("disk"), down("x", "disk", critical=True)]
    shared = assess([*services, down("y", "disk", critical=True)])
    assert shared.state is CRITICAL
    own = assess([*services, down("y", critical=True)])
    assert own.state is EMERGENCY


def test_an_unknown_dependency_is_ignored_and_a_cycle_has_one_root() -> None:
    assert assess([down("store", "elsewhere")]).roots == ("store",)
    seen = assess([down("a", "b"), down("b", "a"), down("c", "b")])
    assert seen.roots == ("a",)
    assert set(seen.attributed) == {"a", "b", "c"}


def test_it_keeps_the_services_as_given_and_can_be_encoded() -> None:
    services = [down("store", "deliver", critical=True), up("deliver")]
    seen = assess(services)
    assert seen.services == tuple(services)
    read = json.loads(json.dumps(dataclasses.asdict(seen)))
    assert (read["state"], read["attributed"]) == ("critical", {"store": "store"})


# ------------------------------------------------------------------------ hold


def shown(hysteresis: Hysteresis, *seen: tuple[float, SystemState]) -> list[SystemState]:
    return [hysteresis.see(state, round(at * S)) for at, state in seen]


def test_it_worsens_at_once_and_improves_after_the_hold() -> None:
    states = shown(
        Hysteresis(30),
        (0, HEALTHY), (1, CRITICAL), (2, EMERGENCY), (3, HEALTHY), (32.999, HEALTHY), (33, HEALTHY),
    )  # fmt: skip
    assert states == [HEALTHY, CRITICAL, EMERGENCY, EMERGENCY, EMERGENCY, HEALTHY]


def test_it_improves_to_the_worst_of_the_hold() -> None:
    states = shown(
        Hysteresis(30),
        (0, EMERGENCY), (10, DEGRADED), (20, CRITICAL), (25, HEALTHY), (39, HEALTHY), (40, HEALTHY),
        (54, HEALTHY), (55, HEALTHY),
    )  # fmt: skip
    assert states == [EMERGENCY] * 5 + [CRITICAL] * 2 + [HEALTHY]


def test_a_relapse_begins_the_hold_again() -> None:
    states = shown(
        Hysteresis(30), (0, CRITICAL), (1, HEALTHY), (30, CRITICAL), (31, HEALTHY), (60, HEALTHY),
        (61, HEALTHY),
    )  # fmt: skip
    assert states == [CRITICAL] * 5 + [HEALTHY]


def test_a_state_holds_until_another_is_seen() -> None:
    states = shown(Hysteresis(30), (0, CRITICAL), (1000, HEALTHY), (1029, HEALTHY))
    assert states == [CRITICAL] * 3


def test_a_clock_that_went_back_makes_it_hold_once_more() -> None:
    states = shown(
        Hysteresis(30), (1000, CRITICAL), (1001, HEALTHY), (5, HEALTHY), (34, HEALTHY),
        (35, HEALTHY),
    )  # fmt: skip
    assert states == [CRITICAL] * 4 + [HEALTHY]


def test_the_hold_can_be_changed_and_none_is_no_hold() -> None:
    hysteresis = Hysteresis(30)
    assert shown(hysteresis, (0, CRITICAL), (1, HEALTHY)) == [CRITICAL] * 2
    hysteresis.hold_s = 5
    assert shown(hysteresis, (5.9, HEALTHY), (6, HEALTHY)) == [CRITICAL, HEALTHY]
    hysteresis.hold_s = 0
    assert shown(hysteresis, (7, EMERGENCY), (7, DEGRADED)) == [EMERGENCY, DEGRADED]
    assert hysteresis.hold_s == 0


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_hold_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError):
        Hysteresis(seconds)


def test_severity_is_no_matter_of_the_alphabet() -> None:
    assert [state.severity for state in SystemState] == [0, 1, 2, 3]
    assert worst(HEALTHY, DEGRADED) is DEGRADED
    assert worst(EMERGENCY, CRITICAL, HEALTHY) is EMERGENCY
