"""The page that explains resilience: its tables are compared with what the code does."""

from __future__ import annotations

import asyncio
import inspect
import random
import re
from typing import TYPE_CHECKING

import pytest

from forebay.app import capture_process, deliver_process
from forebay.app.config import Config, VenueConfig
from forebay.app.guarding import PRESETS, Guarding
from forebay.app.hourly import HourlyParquet
from forebay.clock import ManualClock
from forebay.errors import Permanent
from forebay.ops import api
from forebay.resilience import (
    BreakerConfig,
    CircuitBreaker,
    CircuitOpen,
    Classify,
    FailureRate,
    FailuresWithin,
    ServiceHealth,
    State,
    SystemState,
    Verdict,
    assess,
)
from forebay.services import filler
from forebay.services.guarded_delivery import GuardedDelivery
from forebay.sources.live import Wiring
from forebay.sources.rest import client
from forebay.sources.venue import Limits
from forebay.telemetry import ignore
from tests.support.pages import block, page, section, table, ticked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

PAGE = page("explanation/resilience")

# --------------------------------------------------------------------- verdicts


class Bench:
    """A breaker for which ten seconds are slow, and how the call that ended counted."""

    def __init__(
        self, result: Callable[[object], bool] | None = None, timeout: float | None = None
    ) -> None:
        config = BreakerConfig(
            slow_call_duration=10, timeout=timeout, classify=Classify(result=result)
        )
        self.clock = ManualClock()
        self.breaker = CircuitBreaker("b", config, clock=self.clock)

    def verdict(self) -> str:
        seen = self.breaker.snapshot()
        counts = {
            Verdict.OK: seen.ok,
            Verdict.FAILURE: seen.failed,
            Verdict.SLOW: seen.slow,
            Verdict.NEUTRAL: seen.neutral,
        }
        (found,) = [verdict for verdict, count in counts.items() if count]
        return found.value

    def ends(self, error: BaseException | None = None, after: float = 0.0) -> str:
        """One call that takes ``after`` seconds and returns, or raises ``error``."""

        def fn() -> None:
            self.clock.advance(after)
            if error is not None:
                raise error

        if error is None:
            self.breaker.call(fn)
        else:
            with pytest.raises(type(error)) as raised:
                self.breaker.call(fn)
            assert raised.value is error
        return self.verdict()

    def leaves(self) -> str:
        """A generator of which one item is taken, and then it is left."""

        @self.breaker
        def numbers() -> Generator[int, None, None]:
            yield from (1, 2, 3)

        given = numbers()
        next(given)
        given.close()
        return self.verdict()

    async def is_closed(self) -> str:
        """A coroutine that began, waits, and is given up by who holds it."""
        call = self.breaker.acall(asyncio.sleep, 60)
        call.send(None)
        call.close()
        return self.verdict()

    def outlasts(self) -> str:
        """An awaited call that takes longer than the time-out."""
        with pytest.raises(TimeoutError):
            asyncio.run(self.breaker.acall(asyncio.sleep, 60))
        return self.verdict()

    def is_dropped(self) -> str:
        """A permit that nobody keeps."""
        self.breaker.acquire()
        return self.verdict()


def test_each_end_of_a_call_has_the_verdict_that_the_page_says() -> None:
    said = [ticked(row[1])[0] for row in table(PAGE, "how the call ended", "verdict")]
    cancelled = asyncio.CancelledError
    assert said == [
        Bench().ends(),
        Bench(result=lambda _: True).ends(),
        Bench().ends(after=10),
        Bench().ends(ConnectionError()),
        Bench(timeout=0.001).outlasts(),
        Bench().ends(Permanent("no such row")),
        Bench().ends(CircuitOpen("other", None, "")),
        Bench().ends(cancelled()),
        Bench().ends(cancelled(), after=10),
        Bench().ends(KeyboardInterrupt()),
        Bench().leaves(),
        asyncio.run(Bench().is_closed()),
        Bench().is_dropped(),
    ]


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


def test_the_diagram_says_what_the_table_says() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+):", block(PAGE, "mermaid"), re.MULTILINE))
    rows = table(PAGE, "from", "to", "when")
    said = {(ticked(row[0])[0], ticked(row[1])[0]): row[2] for row in rows}
    assert drawn <= said.keys()
    left_out = {said[edge] for edge in said.keys() - drawn}
    assert left_out == {"`reset`", "`force_open`", "`disable`"}, "only an operator's orders"
    assert "[*] --> closed" in block(PAGE, "mermaid")
    assert CircuitBreaker("b").state is State.CLOSED


def test_a_success_does_to_each_way_to_trip_what_the_page_says() -> None:
    ways = {
        "failure_threshold": BreakerConfig(failure_threshold=3),
        "FailureRate": BreakerConfig(
            failure_threshold=None, window=FailureRate(0.7, 60, minimum_calls=3)
        ),
        "FailuresWithin": BreakerConfig(failure_threshold=None, window=FailuresWithin(3, 60)),
    }
    rows = table(PAGE, "trip", "counts", "a success", "fits")
    assert [ticked(row[0])[0] for row in rows] == [*ways]
    for row, config in zip(rows, ways.values(), strict=True):
        clock = ManualClock()
        breaker = CircuitBreaker("b", config, clock=clock)
        for error in (OSError(), OSError(), None, None, OSError()):
            permit = breaker.acquire()
            permit.success() if error is None else permit.failure(error)
        changes_nothing = row[2] == "changes nothing"
        assert (breaker.state is State.OPEN) is changes_nothing, row[0]


# ------------------------------------------------------------ the state of the whole


def of_ten(failed: int) -> SystemState:
    return assess([ServiceHealth(f"s{n}", up=n >= failed) for n in range(10)]).state


def test_the_shares_are_where_the_page_says() -> None:
    rows = table(PAGE, "failed", "share", "state")
    for failed, share, state in rows:
        assert float(share) == (10 - int(failed)) / 10
        assert of_ten(int(failed)) == ticked(state)[0], failed
    states = [ticked(row[0])[0] for row in table(PAGE, "state", "when")]
    assert states == [*SystemState][::-1]


def guarding(process: str) -> Guarding:
    return Guarding(process, Config(), clock=ManualClock(), rng=random.Random(1), observer=ignore)


def wired() -> dict[str, tuple[str, bool, tuple[str, ...]]]:
    """Service by name: its process, whether it is critical, and what it needs."""
    capture, deliver = guarding("capture"), guarding("deliver")
    venue = VenueConfig(name="coinbase", symbols=("BTC-USD",))
    wiring = Wiring("c", ManualClock(), random.Random(1), ignore)
    capture_process._source(venue, wiring, capture)
    found = {
        each.name: (role.process, each.critical, each.depends_on)
        for role in (capture, deliver)
        for each in role.manager.services()
    }
    source = inspect.getsource(capture_process.run)
    assert re.search(
        r"watch\(\s*JOURNAL, .*?, critical=True, depends_on=\(PROCESS,\)\s*\)", source, re.DOTALL
    )
    assert 'guarding.breaker(STORE, "store", critical=True)' in inspect.getsource(
        deliver_process.run
    )
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
    assert all(config.window is None for config in PRESETS.values())


class Always:
    """A deliverer that always has something to store, and a store that takes it."""

    position = None
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
    assert told["critical"][1] == f"{filler._WORK}, {HourlyParquet.name}"
    assert told["emergency"][1] == "the same"

    delivery = GuardedDelivery(
        Always(), tmp_path, clock=ManualClock(), rng=random.Random(1),  # type: ignore[arg-type]
        system=lambda: state,
    )  # fmt: skip
    step = await delivery.step()
    assert step.taken is (refused == "–")


def test_the_answers_that_count_against_the_venue() -> None:
    text = section(PAGE, "REST: pages of history")
    (told,) = re.findall(r"No answer, (.+?) and 5xx are failures", text)
    assert {int(status) for status in told.split(", ")} == client._RETRIED | Limits().silencing
