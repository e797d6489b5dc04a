"""A member of a group in a process of its own, which a test kills and freezes."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from forebay import errors
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.transports.kind import TransportConfig

ROOT = Path(__file__).parents[2]


class MemberProcess:
    """A :class:`~forebay.ports.Membership` elsewhere, and its subscriptions."""

    def __init__(self, config: TransportConfig, topics: Sequence[str], group: str) -> None:
        told = msgspec.json.encode([config, [*topics], group]).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.member_program", told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    @functools.cached_property
    def name(self) -> str:
        """What the group calls it, if a transport says so; known once it has joined."""
        return str(self._answer())

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
        assert isinstance(self.name, str)
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
