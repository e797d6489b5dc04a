"""A PostgreSQL of our own for one benchmark: a temporary folder, loopback, stopped by its pid."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.harness import NotRun

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE_S = 30.0
_POLL_S = 0.05
USER = "bench"


def _binary(name: str) -> str:
    """Where a server program is; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    where = shutil.which(name) or (str(found[-1]) if found else None)
    if where is None:
        raise NotRun("PostgreSQL is missing (Debian: apt install postgresql)")
    return where


def _owner() -> dict[str, Any]:
    """Whom to run it as: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        raise NotRun("PostgreSQL refuses to run as root, and there is no user postgres") from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server() -> Iterator[dict[str, Any]]:
    """Run a server with its default durability; gives how cryptofeed names what reaches it."""
    initdb, postgres, owner = _binary("initdb"), _binary("postgres"), _owner()
    with tempfile.TemporaryDirectory(prefix="forebay-bench-pg-") as folder:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        data = str(Path(folder, "data"))
        quiet = subprocess.DEVNULL
        options: dict[str, Any] = {"cwd": folder, "stdout": quiet, "stderr": quiet, **owner}
        command = [initdb, "-D", data, "-U", USER, "--auth=trust", "--encoding=UTF8"]
        subprocess.run(command, check=True, **options)
        port = _free_port()
        command = [postgres, "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        process = subprocess.Popen(command, **options)
        try:
            _wait_for(port, process)
            yield {"host": "127.0.0.1", "port": port, "user": USER, "db": "postgres"}
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown: it ends its sessions
            process.wait(_PATIENCE_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(_POLL_S)  # noqa: TID251 - a server says nothing when it is ready
    raise NotRun("PostgreSQL did not start")


def version() -> str:
    """What ``postgres --version`` says."""
    done = subprocess.run([_binary("postgres"), "--version"], capture_output=True, check=True)
    return done.stdout.decode().strip()
