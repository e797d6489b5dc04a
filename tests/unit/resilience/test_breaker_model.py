"""Everything a breaker can do in a small scope, against a model; and mutants, which must differ."""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
import types

import pytest

from tests.support.breaker_model import Awaited, Disagree, Params, Real, explore

PARTS = ("eras", "breaker_config", "machine", "permit", "breaker")
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
    "a success does not heal": ("eras", "self.streak = 0\n        if", "if"),
    "one failure more": ("eras", "self.streak >= self._threshold", "self.streak > self._threshold"),
    "open lasts longer": (
        "breaker", "0 <= passed < wait", "0 <= passed <= wait",
    ),
    "a clock that went back opens": (
        "breaker", "0 <= passed < wait", "passed < wait",
    ),
    "no anchor": ("eras", "self.since_ns = now_ns", "pass"),
    "stale verdicts count": ("machine", "era is not self.era or not live", "not live"),
    "any verdict is live in half-open": (
        "machine", "era.end(token) if isinstance(era, HalfOpen) else True", "True",
    ),
    "one probe too many": (
        "machine",
        "if self.era is not era or len(era.leases) >= permits",
        "if self.era is not era or len(era.leases) > permits",
    ),
    "one success too few": (
        "machine", "era.won >= self.config.success_threshold",
        "era.won >= self.config.success_threshold - 1",
    ),
    "a failed probe is forgotten": (
        "machine", "self._open(now, era.failed_rounds + 1, self.cause)", "pass",
    ),
    "no back-off": ("machine", "era.failed_rounds + 1", "era.failed_rounds"),
    "neutral probes for ever": ("machine", "not era.leases and era.neutral >= most", "False"),
    "neutral adds up over successes": ("machine", "            era.neutral = 0\n", ""),
    "leases never end": ("machine", "            self._expire(era, now)\n", "            pass\n"),
    "leases end early": ("eras", "if now_ns >= ends", "if now_ns >= ends - NS"),
    "hung probes are neutral": (
        "machine", "Verdict.FAILURE if hung else Verdict.NEUTRAL", "Verdict.NEUTRAL",
    ),
    "every order is an event": ("machine", "if was.state is not era.state", "if True"),
    "reset does nothing when closed": ("machine", "moves or isinstance(era, Closed)", "moves"),
    "force-recovery closes": (
        "machine", "self._enter(HalfOpen(era.failed_rounds), reason)",
        "self._enter(self.config.closed(), reason)",
    ),
    "force-recovery of anything": ("machine", "if not isinstance(era, Open):\n", "if False:\n"),
    "a new configuration forgets": ("machine", "successor.carry(era)", "pass"),
    "a new configuration keeps tickets": (
        "machine", 'self._enter(successor, "")', "self.quick = None",
    ),
    "the second word counts": ("breaker", "era, permit.era = permit.era, None", "era = permit.era"),
    "refusals are not counted": ("breaker", "machine.rejected += admitted is None", "pass"),
    "cancelled is a failure": ("permit", "self._breaker.settle(self, Verdict.NEUTRAL)",
                               "self._breaker.settle(self, Verdict.FAILURE)"),
    "a transition is not counted": ("machine", "self._transitions[era.state] += 1", "pass"),
    "reset does not end having opened": ("machine", "if moved.now == State.CLOSED", "if False"),
    "forced open is no opening": (
        "machine", "{State.OPEN, State.FORCED_OPEN}", "{State.OPEN}",
    ),
    "open for an operator is forced": (
        "eras", "if self.forced else", "if self.wait_ns is None else",
    ),
    "an operator's order waits": (
        "machine", "isinstance(era, Open) and not era.forced", "isinstance(era, Open)",
    ),
    "open stays for an operator": (
        "machine", "isinstance(era, Open) and not era.forced",
        "isinstance(era, Open) and era.wait_ns is not None",
    ),
    "without a timeout it recovers": (
        "breaker_config", "return None\n        most", "return 2 * NS\n        most",
    ),
    "neutral calls are timed": (
        "machine", "began is not None and verdict is not Verdict.NEUTRAL", "began is not None",
    ),
    "an era that is over counts": ("machine", "            was.fine = ()\n", "            pass\n"),
    "a success beside a streak does not heal": (
        "eras", "self.streak += 1\n        self.fine = ()", "self.streak += 1",
    ),
    "a streak carried over is not healed": (
        "machine", "isinstance(era, Closed) and not era.streak", "isinstance(era, Closed)",
    ),
    "an awaited cancellation fails": (
        "breaker", "self._settle_era(era, self.config.classify.error(error), error)",
        "self._settle_era(era, Verdict.FAILURE, error)",
    ),
    "an awaited success is not counted": ("machine", "_MANY - length_hint(self._ticks)", "0"),
}  # fmt: skip
SEEN_BY: dict[str, tuple[Params, type[Real]]] = {
    "hung probes are neutral": (SCOPES[3], Real),
    "open for an operator is forced": (SCOPES[4], Real),
    "open stays for an operator": (SCOPES[4], Real),
    "without a timeout it recovers": (SCOPES[4], Real),
    "an era that is over counts": (SCOPES[0], Awaited),
    "a success beside a streak does not heal": (SCOPES[2], Awaited),
    "a streak carried over is not healed": (SCOPES[2], Awaited),
    "an awaited cancellation fails": (SCOPES[2], Awaited),
    "an awaited success is not counted": (SCOPES[2], Awaited),
}
"""The walk that meets a mutant; SCOPES[2] meets all others."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_differs(mutant: str) -> None:
    params, form = SEEN_BY.get(mutant, (SCOPES[2], Real))
    walk = explore(modules(*MUTANTS[mutant]), params, form)
    with pytest.raises((Disagree, AttributeError)):
        list(itertools.islice(walk, DEPTH))
