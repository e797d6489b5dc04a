"""A line that carries only so much: a network namespace whose loopback has a token bucket."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
_CLONE_NEWNET: Final = 0x40000000  # sched.h
_HINT = "Run this drill as root, on Linux, with iproute2."


async def on_a_line(kbit: int, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what ``run`` returns in a thread whose network only it and its children see.

    Raises :class:`~forebay.errors.Unreachable` if this user may not have one.
    """
    with ThreadPoolExecutor(1, "forebay-line") as own:
        return await asyncio.get_running_loop().run_in_executor(own, _within, kbit, run)


def _within(kbit: int, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(_CLONE_NEWNET):
        why = os.strerror(ctypes.get_errno())
        raise Unreachable(f"There is no network namespace to be had: {why}.", hint=_HINT)
    _tool("ip", "link", "set", "lo", "up", "mtu", "1500")
    bucket = ("tbf", "rate", f"{kbit}kbit", "burst", "32kb", "latency", "300ms")
    _tool("tc", "qdisc", "add", "dev", "lo", "root", *bucket)
    return asyncio.run(run())


def carried() -> dict[str, int]:
    """Return how many ``bytes`` this thread's line has carried, and its ``backlog`` of them."""
    (told,) = json.loads(_tool("tc", "-s", "-j", "qdisc", "show", "dev", "lo"))
    return {name: int(told[name]) for name in ("bytes", "backlog")}


def _tool(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise Unreachable(f"`{' '.join(command)}` failed: {said}.", hint=_HINT) from error
    return done.stdout
