"""What holds for every test: seeds are fixed, and nothing leaves this host."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import sys

import pytest
from hypothesis import settings

from tests.tiers import DRILLS, EXAMPLES, NOT_QUICK, SEED, TIER

# Where recordings are is no matter of the commands under test, which refuse what they do not know.
if "FOREBAY_RECORDINGS" in os.environ:
    os.environ["RECORDINGS"] = os.environ.pop("FOREBAY_RECORDINGS")

settings.register_profile(
    "forebay", derandomize=True, deadline=None, print_blob=True, max_examples=EXAMPLES
)
settings.load_profile("forebay")

# A build that was started in the background has it ignored, and so would the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


class LeftTheHost(RuntimeError):
    """A test tried to reach an address that is not a loopback one."""


def is_local(host: object) -> bool:
    """Whether ``host``, as given to the socket module, is this host or none at all."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _stay_here(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):  # Unix sockets have a path
        host = args[1][0]
    else:
        return
    if not is_local(host):
        message = f"A test tried to reach {host!r}: tests and their load stay on loopback."
        raise LeftTheHost(message)


sys.addaudithook(_stay_here)


def pytest_report_header() -> str:
    """Say what is tested, and how to meet the same worlds, flips and histories again."""
    return f"tier: {TIER}, seeds follow TEST_SEED={SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what takes long to the drills, and out of the inner loop."""
    for item in items:
        if item.nodeid.startswith(DRILLS):
            item.add_marker(pytest.mark.drill)
    if TIER == "quick":
        left = [item for item in items if item.nodeid.startswith(NOT_QUICK)]
        items[:] = [item for item in items if not item.nodeid.startswith(NOT_QUICK)]
        config.hook.pytest_deselected(items=left)


def pytest_collection_finish() -> None:
    """Let the collector pass over what was imported and collected, which is a large heap."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give it back: some libraries look at the end for what was not collected."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests want to be known though they passed: ``record_property("summary", …)``."""
    for report in terminalreporter.getreports("passed"):
        for name, told in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(str(told))
