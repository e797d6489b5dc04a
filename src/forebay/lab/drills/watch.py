"""Looks at a running ``forebay run`` again and again, and remembers what it has seen."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.app.processes.local_socket import ask
from forebay.app.processes.supervisor import statuses
from forebay.errors import ForebayError
from forebay.lab import commands

if TYPE_CHECKING:
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock

LOOK_S = 0.2
_DISK_EVERY = 5
"""Every so many looks the folder is measured."""
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Observation:
    """One look; a part that did not answer is empty or None."""

    at_ns: int
    """Monotonic."""
    url: str
    state: str
    """Of the whole system."""
    breakers: dict[str, str]
    down: dict[str, str]
    """Services that are down, each with the one whose failure that is."""
    capture: dict[str, Any] | None
    deliver: dict[str, Any] | None
    publishers: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """By transport."""

    @property
    def lag(self) -> int | None:
        """Frames that are captured and not stored, or not published; None if nobody can say."""
        if self.capture is None or self.deliver is None:
            return None
        behind = [int(self.capture["next_seq"]) - int(self.deliver["seq"])]
        for publisher in self.publishers.values():
            if publisher is None:
                return None
            behind.append(int(publisher["backlog"]))
        return max(0, *behind)

    def published(self, transport: str) -> int | None:
        """Events that a publisher told since it started, None if it does not answer."""
        told = self.publishers.get(transport)
        return None if told is None else int(told["published"])

    @property
    def connected(self) -> bool:
        """Whether a websocket is subscribed."""
        return self.capture is not None and self.capture["connected"] > 0

    @property
    def stored(self) -> int | None:
        """Rows that deliver stored since it started, None if it does not answer."""
        return None if self.deliver is None else int(self.deliver["rows"])

    @property
    def gaps_open(self) -> int | None:
        """Open gaps, None if deliver does not answer."""
        return None if self.deliver is None else int(self.deliver["gaps"]["open"])

    def pid(self, role: str) -> int | None:
        """Process id of capture, deliver or a transport's publisher, None if it does not answer."""
        told = {**self.publishers, "capture": self.capture, "deliver": self.deliver}[role]
        return None if told is None else int(told["pid"])


@dataclass(slots=True)
class Watch:
    """What was seen of one run."""

    folder: DataFolder
    clock: Clock
    supervisor: int = 0
    """Process id."""
    last: Observation | None = None
    states: list[str] = field(default_factory=list)
    rss: dict[int, int] = field(default_factory=dict)
    """Peak by process id, in bytes."""
    disk: int = 0
    """Peak of the data folder, in bytes."""
    transports: tuple[str, ...] = ()
    """What is published to."""
    most_lag: int = 0
    """The most that was seen, in frames."""
    _moves: dict[str, dict[tuple[str, str], None]] = field(default_factory=dict)
    """By breaker, when it went to which state, in the order in which that was seen."""

    @property
    def stored(self) -> int:
        """Rows that deliver had stored when it was looked last."""
        return (self.last.stored or 0) if self.last else 0

    async def run(self) -> None:
        """Look until cancelled."""
        looks = 0
        while True:
            if looks % _DISK_EVERY == 0:
                size = await asyncio.to_thread(disk_bytes, self.folder.root)
                self.disk = max(self.disk, size)
            self.last = await self.look()
            self.most_lag = max(self.most_lag, self.last.lag or 0)
            looks += 1
            await self.clock.sleep(LOOK_S)

    async def look(self) -> Observation:
        told = await asyncio.to_thread(statuses, self.folder, timeout_s=1.0)
        url, publishers = await asyncio.to_thread(self._of_supervisor)
        processes = [*told.values(), *publishers.values()]
        self.measure([self.supervisor, *(said["pid"] for said in processes if said)])
        health: dict[str, Any] = {}
        if url:
            with contextlib.suppress(ForebayError):
                status, found = await commands.ask(f"{url}/health/resilience")
                health = found if status == HTTPStatus.OK else {}
        self._remember(health)
        return Observation(
            at_ns=self.clock.monotonic_ns(),
            url=url,
            state=health.get("status", ""),
            breakers={each["name"]: each["state"] for each in health.get("breakers", ())},
            down={
                each["name"]: each["root"] for each in health.get("services", ()) if each["root"]
            },
            capture=told["capture"],
            deliver=told["deliver"],
            publishers=publishers,
        )

    def _of_supervisor(self) -> tuple[str, dict[str, dict[str, Any] | None]]:
        """Return where the run serves HTTP, empty while it does not, and what publishers say."""
        found: dict[str, dict[str, Any] | None] = dict.fromkeys(self.transports)
        try:
            told, _ = ask(self.folder.supervisor_socket, {"op": "report"}, timeout_s=1.0)
        except ForebayError:
            return "", found
        for process in told.get("report", {}).get("processes", ()):
            if (name := process["status"].get("transport")) in found:
                found[name] = {**process["status"], "pid": process["pid"]}
        return str(told.get("http", "")), found

    def _remember(self, health: dict[str, Any]) -> None:
        state = health.get("status")
        if state and self.states[-1:] != [state]:
            self.states.append(state)
        for breaker in health.get("breakers", ()):
            moves = self._moves.setdefault(breaker["name"], {})
            for moved in breaker["history"]:
                moves.setdefault((moved["at"], moved["now"]))

    def transitions(self) -> dict[str, list[str]]:
        """Return the states that each breaker went to, in order, the first one included.

        A process that was started again begins with a breaker that is CLOSED.
        """
        found = {}
        for name, moves in self._moves.items():
            ordered = sorted(moves, key=lambda move: move[0])
            found[name] = ["closed", *(now for _, now in ordered)]
        return found

    def peak_rss_mb(self) -> float:
        """Return the sum of the peaks of all processes, a killed one's successor not added."""
        return round(sum(self.rss.values()) / 1e6, 1)

    def measure(self, pids: list[int]) -> None:
        """Remember how much memory some processes had together, if that is the most so far."""
        alive = {pid: peak_rss_bytes(pid) for pid in pids}
        if sum(alive.values()) > sum(self.rss.values()):
            self.rss = alive


# ------------------------------------------------------------ what Linux tells of processes


def peak_rss_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the most memory that a process had resident, 0 if it is gone or nothing tells."""
    with contextlib.suppress(OSError):
        for line in (proc / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    return 0


def process_state(pid: int, proc: Path = Path("/proc")) -> str:
    """Return the letter of a process's state, see proc(5); empty if nothing tells."""
    with contextlib.suppress(OSError):
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def workers(supervisor: int, roles: set[str], proc: Path = Path("/proc")) -> list[int]:
    """Return the processes of some roles that a supervisor has started and that are not gone."""
    found = []
    with contextlib.suppress(OSError):
        tasks = (proc / str(supervisor) / "task").iterdir()
        pids = [pid for task in tasks for pid in (task / "children").read_text().split()]
        for pid in pids:
            words = (proc / pid / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "forebay.app.processes.worker" in words and roles & {*words}:
                found.append(int(pid))
    return found


def open_descriptors(pid: int, proc: Path = Path("/proc")) -> int:
    """Return how many descriptors a process has open, 0 if nothing tells."""
    with contextlib.suppress(OSError):
        return len(list((proc / str(pid) / "fd").iterdir()))
    return 0


def disk_bytes(folder: Path) -> int:
    """Return what the files below ``folder`` take, each once."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                total += (Path(place) / name).lstat().st_blocks * 512
    return total
