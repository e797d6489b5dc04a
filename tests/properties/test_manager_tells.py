"""What a manager tells, replayed, is what is so."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.resilience import (
    BreakerConfig,
    Hysteresis,
    ResilienceManager,
    State,
    SystemState,
    assess,
)
from forebay.telemetry import BreakerMoved, ServiceDown, ServiceUp, SystemMoved, TelemetryEvent

NAMES = ("rest", "websocket", "store")
HOLD = 20.0
Step = tuple[str, str, int]


class Replay:
    """The system as somebody knows it who only reads the log."""

    def __init__(self) -> None:
        self.down: dict[str, str] = {}
        self.state = SystemState.HEALTHY
        self.breakers = dict.fromkeys(NAMES, State.CLOSED)

    def hear(self, happening: TelemetryEvent) -> None:
        if isinstance(happening, ServiceDown):
            assert self.down.get(happening.service) != happening.root, "told twice"
            self.down[happening.service] = happening.root
        elif isinstance(happening, ServiceUp):
            del self.down[happening.service]
        elif isinstance(happening, SystemMoved):
            assert (happening.was, happening.was != happening.now) == (self.state, True)
            self.state = SystemState(happening.now)
        elif isinstance(happening, BreakerMoved):
            assert happening.was == self.breakers[happening.breaker]
            self.breakers[happening.breaker] = State(happening.now)


class Rig:
    """A manager with a watched process and three breakers that need it or each other."""

    def __init__(self) -> None:
        self.clock, self.replay, self.reason = ManualClock(), Replay(), ""
        self.manager = ResilienceManager(
            clock=self.clock, rng=random.Random(1), listener=self.replay.hear, recovery_hold=HOLD
        )
        self.manager.watch("process", lambda: self.reason, critical=True)
        config = BreakerConfig(failure_threshold=1, success_threshold=1)
        for name, needs in zip(NAMES, (("process",), ("rest",), ()), strict=True):
            self.manager.register(name, config, critical=name == "store", depends_on=needs)

    def do(self, what: str, name: str, seconds: int) -> None:
        breaker = self.manager.breakers[name]
        self.clock.advance(seconds)
        if what in {"call fails", "call succeeds"}:
            if breaker.state in {State.CLOSED, State.DISABLED} or breaker.retry_after() == 0:
                permit = breaker.acquire()
                permit.failure(OSError()) if what == "call fails" else permit.success()
        elif what == "process":
            self.reason = "" if self.reason else "exited"
        elif what == "recovery":
            self.manager.set_auto_recovery(not self.manager.auto_recovery)
        elif what == "force":
            self.manager.force_open(name, "ordered")
        elif what == "disable":
            breaker.disable("ordered")
        else:
            self.manager.reset(name, "ordered")


STEPS = st.tuples(
    st.sampled_from(
        ["call fails", "call succeeds", "process", "recovery", "force", "disable", "reset"]
    ),
    st.sampled_from(NAMES),
    st.integers(0, 15),
)


@settings(max_examples=80)
@given(st.lists(STEPS, max_size=30))
def test_the_log_tells_the_whole_story(steps: list[Step]) -> None:
    rig, oracle = Rig(), Hysteresis(HOLD)
    for step in steps:
        rig.do(*step)
        seen = rig.manager.health()
        bare = assess(rig.manager.services())
        assert seen.state is oracle.see(bare.state, rig.clock.monotonic_ns())
        assert rig.replay.state is rig.manager.state is seen.state
        assert rig.replay.down == seen.attributed == bare.attributed
        assert rig.replay.breakers == {
            name: breaker.state for name, breaker in rig.manager.breakers.items()
        }
        assert not rig.manager.auto_recovery or all(
            breaker.retry_after() is not None
            for breaker in rig.manager.breakers.values()
            if breaker.state is State.OPEN
        )
