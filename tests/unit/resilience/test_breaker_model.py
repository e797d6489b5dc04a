"""Everything a breaker can do in a small scope, against a model; and mutants, which must differ."""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
import types

import pytest

from tests.support.breaker_model import Awaited, Disagree, Params, Real, explore

PARTS = ("states", "breaker")
SCOPES = [
    Params(1, 1, 1),
    Params(2, 2, 2),
    Params(3, 2, 1),
    Params(2, 1, 2, hangs=True),
    Params(1, 1, 1, operator=True),
]
AWAITED = [Params(1, 1, 1), Params(3, 2, 1)]
DEPTH = 12
"""The specification's; each scope is closed under twelve events in a second or two."""
_serial = itertools.count()


def modules(part: str = "", old: str = "", new: str = "") -> dict[str, types.ModuleType]:
    """The breaker's modules, made again from their source with one change."""
    package, made = f"mutant_{next(_serial)}", {}
    for name in PARTS:
        source = inspect.getsource(importlib.import_module(f"forebay.resilience.{name}"))
        if name == part:
            assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {name}"
            source = source.replace(old, new)
        for other in PARTS:
            source = source.replace(
                f"from forebay.resilience.{other} import", f"from {package}_{other} import"
            )
        module = types.ModuleType(f"{package}_{name}")
        sys.modules[module.__name__] = module
        exec(compile(source, module.__name__, "exec"), module.__dict__)  # noqa: S102
        made[name] = module
    return made


def walk(params: Params, form: type[Real]) -> None:
    *_, (states, edges) = itertools.islice(explore(modules(), params, form), DEPTH)
    assert states > 100
    assert edges > 1000


@pytest.mark.parametrize("params", SCOPES, ids=str)
def test_no_sequence_of_events_differs_from_the_model(params: Params) -> None:
    walk(params, Real)


@pytest.mark.parametrize("params", AWAITED, ids=str)
def test_no_sequence_of_awaited_calls_differs_from_the_model(params: Params) -> None:
    walk(params, Awaited)


@pytest.mark.soak
@pytest.mark.parametrize("params", [each for each in SCOPES if not each.hangs], ids=str)
def test_no_longer_sequence_of_awaited_calls_differs_from_the_model(params: Params) -> None:
    for _ in itertools.islice(explore(modules(), params, Awaited), DEPTH + 4):
        pass


MUTANTS = {
    "a success does not heal": ("states", "self.streak = 0\n        if", "if"),
    "one failure more": (
        "states", "self.streak >= self._threshold", "self.streak > self._threshold",
    ),
    "open lasts longer": (
        "states", "now_ns - self.since_ns < self.wait_ns", "now_ns - self.since_ns <= self.wait_ns",
    ),
    "a clock that went back opens": (
        "states", "if now < era.since_ns:\n                era.anchor(now)",
        "if now < era.since_ns:\n                era.anchor(now - (era.wait_ns or 0))",
    ),
    "no anchor": ("states", "self.since_ns = now_ns", "pass"),
    "stale verdicts count": ("states", "era is not self.era or not live", "not live"),
    "any verdict is live in half-open": (
        "states", "era.end(token) if isinstance(era, HalfOpen) else True", "True",
    ),
    "one probe too many": (
        "states",
        "if self.era is not era or len(era.leases) >= permits",
        "if self.era is not era or len(era.leases) > permits",
    ),
    "one success too few": (
        "states", "era.won >= self.config.success_threshold",
        "era.won >= self.config.success_threshold - 1",
    ),
    "a failed probe is forgotten": (
        "states", "self._open(now, era.failed_rounds + 1, self.cause)", "pass",
    ),
    "no back-off": ("states", "era.failed_rounds + 1", "era.failed_rounds"),
    "neutral probes for ever": ("states", "not era.leases and era.neutral >= most", "False"),
    "neutral adds up over successes": ("states", "            era.neutral = 0\n", ""),
    "leases never end": ("states", "            self._expire(era, now)\n", "            pass\n"),
    "leases end early": ("states", "if now_ns >= ends", "if now_ns >= ends - NS"),
    "hung probes are neutral": (
        "states", "CallVerdict.FAILURE if hung else CallVerdict.NEUTRAL", "CallVerdict.NEUTRAL",
    ),
    "every order is an event": ("states", "if was.state is not era.state", "if True"),
    "reset does nothing when closed": ("states", "moves or isinstance(era, Closed)", "moves"),
    "force-recovery closes": (
        "states", "self._enter(HalfOpen(era.failed_rounds), reason)",
        "self._enter(self.config.closed(), reason)",
    ),
    "force-recovery of anything": ("states", "if not isinstance(era, Open):\n", "if False:\n"),
    "a new configuration forgets": ("states", "successor.carry(era)", "pass"),
    "a new configuration keeps tickets": (
        "states", 'self._enter(successor, "")', "era.carry(successor)",
    ),
    "the second word counts": ("breaker", "era, permit.era = permit.era, None", "era = permit.era"),
    "refusals are not counted": ("breaker", "machine.rejected += admitted is None", "pass"),
    "cancelled is a failure": (
        "breaker", "self._say(CallVerdict.NEUTRAL)", "self._say(CallVerdict.FAILURE)",
    ),
    "a transition is not counted": ("states", "self._transitions[era.state] += 1", "pass"),
    "reset does not end having opened": ("states", "elif era.state is State.CLOSED", "elif False"),
    "forced open is no opening": (
        "states", "{State.OPEN, State.FORCED_OPEN}", "{State.OPEN}",
    ),
    "open for an operator is forced": (
        "states", "if self.forced else", "if self.wait_ns is None else",
    ),
    "an operator's order waits": (
        "states", "isinstance(era, Open) and not era.forced", "isinstance(era, Open)",
    ),
    "open stays for an operator": (
        "states", "isinstance(era, Open) and not era.forced",
        "isinstance(era, Open) and era.wait_ns is not None",
    ),
    "without a timeout it recovers": (
        "breaker", "return None\n        most", "return 2 * NS\n        most",
    ),
    "neutral calls are timed": (
        "states", "began is not None and verdict is not CallVerdict.NEUTRAL", "began is not None",
    ),
    "an era that is over counts": ("states", "if era is self.era:", "if True:"),
    "a success beside a streak does not heal": (
        "states", "self._ok += 1\n            era.streak = 0", "self._ok += 1",
    ),
    "an awaited cancellation fails": (
        "breaker", "        verdict = self._breaker.config.classify.error(error)\n",
        "        verdict = CallVerdict.FAILURE\n",
    ),
    "an awaited success is not counted": ("states", "self._ok += 1", "pass"),
    "an awaited probe that succeeds is not counted": (
        "breaker", "            self.success(self.result)\n", "            self.release()\n",
    ),
}  # fmt: skip
SEEN_BY: dict[str, tuple[Params, type[Real]]] = {
    "hung probes are neutral": (SCOPES[3], Real),
    "open for an operator is forced": (SCOPES[4], Real),
    "open stays for an operator": (SCOPES[4], Real),
    "without a timeout it recovers": (SCOPES[4], Real),
    "an era that is over counts": (SCOPES[0], Awaited),
    "a success beside a streak does not heal": (SCOPES[2], Awaited),
    "an awaited cancellation fails": (SCOPES[2], Awaited),
    "an awaited success is not counted": (SCOPES[2], Awaited),
    "an awaited probe that succeeds is not counted": (SCOPES[2], Awaited),
}
"""The walk that meets a mutant; SCOPES[2] meets all others."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_differs(mutant: str) -> None:
    params, form = SEEN_BY.get(mutant, (SCOPES[2], Real))
    walk = explore(modules(*MUTANTS[mutant]), params, form)
    with pytest.raises((Disagree, AttributeError)):
        list(itertools.islice(walk, DEPTH))
