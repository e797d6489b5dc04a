"""Each fault's one decision, and the closed form of where they strike."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from forebay.errors import ConfigError
from forebay.lab.faults import (
    NAMES,
    STRIKES,
    Emission,
    Ending,
    Faults,
    Scene,
    parse_faults,
    retry_after,
)

EMISSION = Emission("BTC-USD", 7, b'{"type":"match","trade_id":7}')


@dataclass(eq=False)
class FakeLine:
    did: list[object] = field(default_factory=list)

    def send(self, emission: Emission) -> None:
        self.did.append("send")

    def send_torn(self, emission: Emission, length: int) -> None:
        self.did.append(("torn", length))

    def swap(self, emission: Emission) -> None:
        self.did.append("swap")

    def hold(self, emission: Emission, until_ns: int) -> None:
        self.did.append(("hold", until_ns))

    def mute(self, now_ns: int) -> None:
        self.did.append("mute")

    def end(self, ending: Ending, emission: Emission) -> None:
        self.did.append(ending)


def strike(name: str, roll: int = 0, listeners: int = 2, now_ns: int = 0) -> list[list[object]]:
    """What every line was told: the listeners, and last one that does not listen."""
    lines: Any = [FakeLine() for _ in range(listeners + 1)]
    STRIKES[name](Scene([(line, EMISSION) for line in lines[:-1]], lines, roll, now_ns))
    return [line.did for line in lines]


def test_drop_sends_nothing() -> None:
    assert strike("drop") == [[], [], []]


def test_duplicate_sends_twice_to_listeners() -> None:
    assert strike("duplicate") == [["send", "send"], ["send", "send"], []]


def test_reorder_swaps_on_every_listener() -> None:
    assert strike("reorder") == [["swap"], ["swap"], []]


def test_disconnect_ends_everybody_in_all_four_ways() -> None:
    seen = [strike("disconnect", roll) for roll in range(4)]
    assert seen == [[[ending]] * 3 for ending in Ending]
    assert {ending.value for ending in Ending} == {1001, 1006, 1011, 1012}


def test_half_open_mutes_one_and_the_others_get_the_event() -> None:
    assert strike("halfopen", 0) == [["mute"], ["send"], []]
    assert strike("halfopen", 3) == [["send"], ["mute"], []]


@pytest.mark.parametrize("roll", [0, 1, 27, 28, 10**18])
def test_corrupt_sends_a_proper_prefix_that_is_no_json(roll: int) -> None:
    [(told,), *_] = strike("corrupt", roll)
    assert isinstance(told, tuple)
    length = told[1]
    assert 1 <= length < len(EMISSION.frame)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(EMISSION.frame[:length])


def test_late_holds_from_50_to_500_ms() -> None:
    held = [strike("late", roll, now_ns=10)[0][0] for roll in range(451)]
    milliseconds = [(h[1] - 10) / 1_000_000 for h in held if isinstance(h, tuple)]
    assert (min(milliseconds), max(milliseconds), len(milliseconds)) == (50, 500, 451)


def test_rate_limit_says_how_long_every_other_time() -> None:
    assert [retry_after(roll) for roll in range(4)] == [0, 1, 0, 1]


def test_where_faults_strike_does_not_depend_on_who_asked_before() -> None:
    probabilities = dict.fromkeys(STRIKES, 0.05)
    forward = [Faults(1, probabilities).of_event("BTC-USD", i) for i in range(500)]
    asked = Faults(1, probabilities)
    backward = [asked.of_event("BTC-USD", i) for i in reversed(range(500))]
    assert forward == backward[::-1]
    assert {fault for fault, _ in filter(None, forward)} == set(STRIKES)


def test_another_seed_or_symbol_is_struck_elsewhere() -> None:
    def struck(seed: int, symbol: str) -> list[int]:
        faults = Faults(seed, {"drop": 0.05})
        return [i for i in range(1_000) if faults.of_event(symbol, i)]

    assert struck(1, "BTC-USD") != struck(2, "BTC-USD")
    assert struck(1, "BTC-USD") != struck(1, "ETH-USD")


@pytest.mark.parametrize("name", list(STRIKES))
def test_a_fault_strikes_as_often_as_it_was_told(name: str) -> None:
    faults = Faults(3, {name: 0.1})
    struck = [faults.of_event("BTC-USD", i) for i in range(5_000)]
    assert 400 < sum(s is not None for s in struck) < 600
    assert {s[0] for s in struck if s} == {name}


def test_the_probability_of_one_fault_does_not_move_another() -> None:
    alone = Faults(3, {"drop": 0.1})
    both = Faults(3, {"drop": 0.1, "duplicate": 0.5})
    for index in range(500):
        struck = alone.of_event("BTC-USD", index)
        if struck:
            assert both.of_event("BTC-USD", index) == struck


def test_a_certain_fault_always_strikes_and_none_never() -> None:
    assert all(Faults(1, {"drop": 1.0}).of_event("A-B", i) for i in range(100))
    assert not any(Faults(1, {"drop": 0.0}).of_event("A-B", i) for i in range(100))
    assert Faults(1, {"rate_limit": 1.0}).of_event("A-B", 1) is None


def test_requests_are_refused_by_number() -> None:
    faults = Faults(1, {"rate_limit": 0.3})
    refused = [n for n in range(1_000) if faults.of_request(n) is not None]
    assert 200 < len(refused) < 400
    assert Faults(1, {"drop": 1.0}).of_request(1) is None


def test_faults_are_read_from_text() -> None:
    assert parse_faults("") == {}
    assert parse_faults("drop=0.001, rate_limit=1") == {"drop": 0.001, "rate_limit": 1.0}
    assert parse_faults(",".join(f"{name}=0.5" for name in NAMES)) == dict.fromkeys(NAMES, 0.5)


def test_an_unknown_fault_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"'half-open' is not a fault\. Did you mean 'halfopen'"):
        parse_faults("half-open=0.1")
    with pytest.raises(ConfigError, match="There are disconnect, halfopen, drop"):
        parse_faults("zzz=0.1")


@pytest.mark.parametrize("value", ["", "lots", "1.5", "-0.1", "nan", "inf"])
def test_what_is_no_probability_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="is not a probability of the fault drop"):
        parse_faults(f"drop={value}")
