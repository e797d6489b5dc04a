"""A first snapshot of tens of megabytes: captured, stored, read and audited as any other."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

import pytest

import forebay as package
from forebay.app.offline.replay import replay
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import SystemClock
from forebay.sources.websocket import ConnectionPlan
from forebay.telemetry import ignore
from tests.support.frames import l2update, snapshot

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1 << 20
MOST_BYTES = signature(ConnectionPlan).parameters["max_message_bytes"].default
LEVELS = 22_000
"""On each side, for a mebibyte; the venue's own books have tens of thousands."""


@pytest.mark.parametrize("mebibytes", [8, pytest.param(30, marks=pytest.mark.soak)])
def test_a_large_snapshot_is_a_book(mebibytes: int, tmp_path: Path) -> None:
    levels = LEVELS * mebibytes
    bids, asks = (
        [(f"{(first + way * at) / 100:.2f}", f"{at + 1}.5") for at in range(levels)]
        for first, way in ((70_000_000, -1), (70_000_001, 1))
    )
    frames = [
        snapshot(bids, asks),
        l2update(("buy", bids[0][0], "0"), ("sell", asks[0][0], "7"), time="2023-11-14T22:13:20Z"),
    ]
    assert len(frames[0]) > mebibytes * MEBIBYTE
    assert len(frames[0]) <= MOST_BYTES
    file = tmp_path / "large.rec"
    with file.open("wb") as lines:
        lines.write(b"wss://feed.example <-> 1700000000.0\n")
        for frame in frames:
            lines.write(b"1700000000.1: " + frame + b"\n")
    folder = DataFolder(tmp_path / "data")
    account = replay([file], "coinbase", folder, Config(), clock=SystemClock(), observer=ignore)
    assert account["stored"] == {"book_snapshots": 1, "book_deltas": 1}
    assert account["dead_letters"] == 0
    with package.open(folder.root) as data:
        told = data.book_at("coinbase", "BTC-USD")
        assert (len(told["bids"]), len(told["asks"])) == (levels - 1, levels)
        assert told["bids"][:2] == [["699999.99", "2.5"], ["699999.98", "3.5"]]
        assert told["asks"][0] == ["700000.01", "7"]
        assert data.audit_report().ok
