"""The page that explains resilience: its tables are compared with what the code does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes import capture_process, deliver_process
from forebay.app.processes.maintenance import HourlyParquet
from forebay.app.processes.process_breakers import PRESETS, ProcessBreakers
from forebay.app.wiring.config import Config, VenueConfig
from forebay.clock import ManualClock
from forebay.ops import api
from forebay.resilience import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    ServiceHealth,
    State,
    SystemState,
    assess,
)
from forebay.services import backfiller
from forebay.services.guarded_delivery import GuardedDelivery
from forebay.sources.live import Wiring
from forebay.telemetry import ignore
from tests.support.pages import page, table, ticked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = page("explanation/resilience")

# ----------------------------------------------------------------------- states


def moves_of_a_breaker() -> set[tuple[str, str]]:
    """Every transition that calls, time and orders bring about."""
    clock, rng = ManualClock(), random.Random(7)
    config = BreakerConfig(failure_threshold=2, recovery_timeout=1, probe_lease=5)
    seen: set[tuple[str, str]] = set()
    breaker = CircuitBreaker(
        "b", config, clock=clock, rng=rng,
        listener=lambda moved: seen.add((moved.was, moved.now)),  # type: ignore[attr-defined]
    )  # fmt: skip

    def call() -> None:
        try:
            permit = breaker.acquire()
        except CircuitOpen:
            return
        rng.choice((permit.success, permit.release, lambda: permit.failure(OSError())))()

    orders: list[Callable[[str], object]] = [
        breaker.force_open, breaker.disable, breaker.reset, breaker.force_half_open,
    ]  # fmt: skip
    for _ in range(4000):
        act = rng.randrange(10)
        if act < 6:
            call()
        elif act < 8:
            clock.advance(1)
        elif act < 9:
            rng.choice(orders)("said")
    return seen


def test_the_states_and_their_transitions_are_those_of_the_code() -> None:
    assert [ticked(row[0])[0] for row in table(PAGE, "state", "a call")] == [*State]
    rows = table(PAGE, "from", "to", "when")
    said = [(ticked(row[0])[0], ticked(row[1])[0]) for row in rows]
    assert len(said) == len(set(said))
    assert set(said) == moves_of_a_breaker()


# ------------------------------------------------------------ the state of the whole


def guarding(process: str) -> ProcessBreakers:
    return ProcessBreakers(
        process, Config(), clock=ManualClock(), rng=random.Random(1), observer=ignore
    )


def wired() -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    """Service by name: its process, whether it is critical, and what it needs."""
    capture, deliver = guarding("capture"), guarding("deliver")
    venue = VenueConfig(name="coinbase", symbols=("BTC-USD",))
    wiring = Wiring("c", ManualClock(), random.Random(1), ignore)
    capture_process._guarded(venue, wiring, capture)
    found = {
        each.name: (role.process, each.critical, each.depends_on)
        for role in (capture, deliver)
        for each in role.manager.services()
    }
    found[capture_process.JOURNAL] = ("capture", True, ("capture",))
    found[deliver_process.STORE] = ("deliver", True, ("deliver",))
    return found


def test_the_services_are_those_that_are_wired() -> None:
    rows = table(PAGE, "service", "process", "critical", "needs", "down when")
    told = {
        ticked(name)[0]: (process, critical == "yes", tuple(ticked(needs)))
        for name, process, critical, needs, _ in rows
    }
    assert told == wired()
    down = [ServiceHealth(name, up=name != "coinbase-rest") for name in told]
    assert assess(down).state is SystemState.HEALTHY, "as the page says of REST alone"


def test_the_thresholds_are_those_of_the_presets() -> None:
    rows = table(
        PAGE, "breaker", "section", "failures in a row", "open for", "probes that close it",
        "time-out",
    )  # fmt: skip
    told = {ticked(row[1])[0].removeprefix("resilience."): row[2:] for row in rows}
    assert told == {
        section: [
            str(config.failure_threshold),
            f"{config.recovery_timeout:g} s",
            str(config.success_threshold),
            "–" if config.timeout is None else f"{config.timeout:g} s",
        ]
        for section, config in PRESETS.items()
    }
    rated = [section for section, config in PRESETS.items() if config.window is not None]
    assert rated == ["clickhouse"]


class Always:
    """A deliverer that always has something to store, and a store that takes it."""

    position = None
    begun = True
    waiting_since_ns = 0

    def prepare(self) -> bool:
        return True

    def store(self) -> int:
        return 1


@pytest.mark.parametrize("state", SystemState)
async def test_each_state_does_what_the_page_says(state: SystemState, tmp_path: Path) -> None:
    rows = table(PAGE, "state", "`/health`", "shed", "refused")
    assert [ticked(row[0])[0] for row in rows] == [*SystemState]
    told = {ticked(row[0])[0]: row[1:] for row in rows}
    health, shed, refused = told[state]
    assert int(health) == (503 if state in api._AILING else 200)

    role = guarding("deliver")
    role.manager.heed(state)
    assert bool(role.sheds()) is (shed != "–")
    assert told["critical"][1] == f"{backfiller._WORK}, {HourlyParquet.name}"
    assert told["emergency"][1] == "the same"

    delivery = GuardedDelivery(
        Always(), tmp_path, clock=ManualClock(), rng=random.Random(1),  # type: ignore[arg-type]
        system=lambda: state,
    )  # fmt: skip
    step = await delivery.step()
    assert step.taken is (refused == "–")
