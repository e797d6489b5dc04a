"""What is known of each process from asking it, and what follows for the whole. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.ops.view import Check
from forebay.resilience import ServiceHealth, SystemState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from forebay.ops.view import ProcessReport

AWAY_AFTER = 5
"""A process that misses more polls than this in a row is down; one that is started again
after a kill misses fewer."""
STARTING = 30
"""Polls that one may miss before its first answer: it may wait for locks of a predecessor."""
COUNTED = {"capture": ("captured", "frames_per_s"), "deliver": ("rows", "events_per_s")}
"""By role, a counter of its status, and under which name its status says how fast it rises."""
LOOKS = 11
"""Looks at a counter that its rate is of."""


@dataclass(slots=True)
class Rising:
    """A counter that begins at 0 again with its process, how far it got, and how fast."""

    total: int = 0
    _last: int = 0
    _looks: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=LOOKS))

    def look(self, at_ns: int, count: int) -> float | None:
        """Note where it stands, and answer its rate a second; None if it cannot be told yet."""
        self.total += count if count < self._last else count - self._last
        self._last = count
        self._looks.append((at_ns, self.total))
        began_ns, first = self._looks[0]
        passed_ns = at_ns - began_ns
        return (self.total - first) * 1e9 / passed_ns if passed_ns > 0 else None


@dataclass(slots=True)
class PolledProcess:
    """One process: its last answer, and how often it has not answered since."""

    role: str
    socket: Path
    report: ProcessReport | None = None
    failures: int = 0
    """Polls in a row without an answer."""
    checked_ns: int = 0
    took_ns: int = 0
    obeys: tuple[int, object] | None = None
    """The process id that acknowledged orders, and which."""
    down: Counter[str] = field(default_factory=Counter)
    """How many answers in a row said of a service that it is down."""
    rising: Rising = field(default_factory=Rising)
    """What it has done since the beginning, also before it was started again."""

    @property
    def fresh(self) -> bool:
        """Whether the last poll was answered."""
        return self.report is not None and not self.failures

    @property
    def away(self) -> bool:
        """Whether it counts as down."""
        return self.failures > (STARTING if self.report is None else AWAY_AFTER)

    @property
    def pid(self) -> int | None:
        """Its process id, as it said last."""
        return None if self.report is None else self.report.pid

    def answered(self, report: ProcessReport, wall_ns: int, took_ns: int) -> None:
        """It said how it is."""
        self.report, self.failures = self._with_rate(report, wall_ns), 0
        self.checked_ns, self.took_ns = wall_ns, took_ns
        self.down = Counter(
            {each.name: self.down[each.name] + 1 for each in report.services if not each.up}
        )

    def _with_rate(self, report: ProcessReport, wall_ns: int) -> ProcessReport:
        counter, name = COUNTED.get(self.role, ("", ""))
        count = report.status.get(counter)
        if not isinstance(count, int):
            return report
        rate = self.rising.look(wall_ns, count)
        told = None if rate is None else round(rate, 1)
        return dataclasses.replace(report, status={**report.status, name: told})

    def missed(self, wall_ns: int, took_ns: int) -> None:
        """It did not answer."""
        self.failures += 1
        self.checked_ns, self.took_ns = wall_ns, took_ns


def services(seen: Sequence[PolledProcess], critical: Collection[str]) -> list[ServiceHealth]:
    """Return every service; those of a process that is away are down with it.

    A process that has not answered yet is starting, and in nobody's count.
    """
    found: list[ServiceHealth] = []
    for each in seen:
        told = () if each.report is None else each.report.services
        if not each.away:
            found += told
            continue
        found.append(ServiceHealth(each.role, up=False, critical=True, reason="does not answer"))
        reason = f"{each.role} does not answer"
        found += [
            dataclasses.replace(service, up=False, reason=service.reason or reason)
            for service in told
            if service.name != each.role
        ]
    return [
        dataclasses.replace(service, critical=service.critical or service.name in critical)
        for service in found
    ]


def not_ready(seen: Sequence[PolledProcess], state: SystemState) -> str:
    """Return why the system cannot do its job now; nothing if it can."""
    reasons = [f"{each.role} does not answer" for each in seen if not each.fresh]
    reasons += [
        each.report.not_ready
        for each in seen
        if each.fresh and each.report is not None and each.report.not_ready
    ]
    if state is SystemState.EMERGENCY:
        reasons.append("the system is in EMERGENCY")
    return "; ".join(reasons)


def checks(seen: Sequence[PolledProcess]) -> list[Check]:
    """Return what was looked at: each process, and each service as its process sees it."""
    found: list[Check] = []
    for each in seen:
        took_s = each.took_ns / 1e9
        detail = "answers" if each.fresh else "does not answer"
        found.append(Check(each.role, each.fresh, detail, each.checked_ns, took_s, each.failures))
        found += [
            Check(
                service.name,
                service.up,
                service.reason or "up",
                each.checked_ns,
                took_s,
                each.down[service.name],
            )
            for service in ([] if each.report is None or not each.fresh else each.report.services)
            if service.name != each.role
        ]
    return found


def fallbacks(seen: Sequence[PolledProcess]) -> list[str]:
    """Return the services whose callers get substitutes."""
    return [name for each in seen if each.report is not None for name in each.report.fallbacks]
