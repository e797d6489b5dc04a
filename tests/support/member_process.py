"""A member of a group in a process of its own, which a test kills and freezes.

Commands come as lines of JSON, ``[name, argument, …]``; so do answers: ``{"is": …}``, or
``{"error": …}`` with the class of the error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from forebay import errors
from forebay.app.wiring.transports import kind_of
from forebay.errors import ForebayError
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig
from tests.support.commands import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.journal import Position
    from forebay.ports import Membership, Subscription

ROOT = Path(__file__).parents[2]


class MemberProcess:
    """A :class:`~forebay.ports.Membership` elsewhere, and its subscriptions."""

    def __init__(self, config: TransportConfig, topics: Sequence[str], group: str) -> None:
        told = msgspec.json.encode([config, [*topics], group]).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.name = str(self._answer())

    def lanes(self) -> frozenset[str]:
        """Return those that it has."""
        return frozenset(self._ask("lanes"))

    def read(self, lane: str, count: int) -> list[int]:
        """Return the numbers of the next messages of a lane, which it subscribes to at first."""
        return [*self._ask("read", lane, count)]

    def commit(self, lane: str) -> None:
        """Commit what it has read."""
        self._ask("commit", lane)

    def freeze(self) -> None:
        """Stop it where it is."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, *command: str | int) -> Any:  # noqa: ANN401
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:  # noqa: ANN401
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise getattr(errors, answer["error"], ForebayError)(answer["text"])
        return answer["is"]


class _Member:
    """What it does when it is asked."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._subscriptions: dict[str, Subscription] = {}
        self._places: dict[str, Position] = {}

    def lanes(self) -> list[str]:
        return sorted(self._membership.lanes())

    def read(self, lane: str, count: int) -> list[int]:
        if lane not in self._subscriptions:
            self._subscriptions[lane] = self._membership.subscribe(lane)
        subscription = self._subscriptions[lane]
        numbers: list[int] = []

        def look() -> bool | None:
            for each in subscription.read(max_messages=count - len(numbers)):
                assert each.message is not None
                numbers.append(each.message.head.part)
                self._places[lane] = subscription.position_at(each.resume)
            return len(numbers) >= count or None

        wait_for(look, f"{count} messages")
        return numbers

    def commit(self, lane: str) -> None:
        self._subscriptions[lane].commit(self._places[lane])


def main(told: str) -> None:
    """Answer commands until there are no more."""
    config, topics, group = msgspec.json.decode(told, type=tuple[TransportConfig, list[str], str])
    membership = kind_of(config).open(config, ignore).join(topics, group)
    member = _Member(membership)
    _say({"is": getattr(membership, "member", "")})
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            _say({"is": getattr(member, name)(*arguments)})
        except ForebayError as error:
            _say({"error": type(error).__name__, "text": error.message})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
