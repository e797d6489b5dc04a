"""Real recordings, read without the code under test; tests of them skip where there are none."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest

DATA = Path(os.environ.get("RECORDINGS", Path(__file__).parents[3] / "shared" / "data"))
"""``FOREBAY_RECORDINGS`` names it, see ``tests/conftest.py``."""
COINBASE = DATA / "coinbase" / "COINBASE-20210417.ws.rec"


class Received(NamedTuple):
    """One frame of a recording."""

    received_ns: int
    payload: bytes


def recorded(path: Path) -> list[Received]:
    """Return the received frames of a ``.rec`` file; skips the test if it is not there."""
    if not path.exists():
        pytest.skip(f"the recording {path.name} is not beside this checkout")
    frames = []
    for line in path.read_bytes().splitlines():
        head, separator, payload = line.partition(b": ")
        if separator and head.replace(b".", b"").isdigit():
            frames.append(Received(int(Decimal(head.decode()) * 10**9), payload))
    return frames
