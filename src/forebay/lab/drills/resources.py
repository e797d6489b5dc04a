"""What processes and folders take, as Linux tells."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_KIB = 1024


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
