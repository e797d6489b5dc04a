"""A day of events audited from digests: how long it takes, and in how much memory."""

# ruff: noqa: S608 - statements that spoil a store of our own

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import msgspec
import pytest

from forebay.app.wiring.data_folder import DataFolder
from tests.support.audit_scale import BASE, Measured, make
from tests.tiers import count

if TYPE_CHECKING:
    from pathlib import Path

MINUTE_S = 60
MEMORY_MB = 500


def audited(root: Path, events: int) -> Measured:
    """Audit in a process of its own, whose memory is nobody else's."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.audit_scale", str(root)],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    said = msgspec.json.decode(done.stdout, type=Measured)
    print(
        f"\naudit of {events:,} events by the ledger: {said.seconds:.1f} s, "
        f"{said.cpu_s:.1f} s of processor time, {said.rss_mb} MB"
    )
    return said


def spoil(root: Path, statement: str) -> None:
    with duckdb.connect(str(DataFolder(root).database("duckdb"))) as connection:
        connection.execute(statement)


def examine(root: Path, events: int) -> Measured:
    make(root, events)

    said = audited(root, events)

    assert said.problems == []
    assert said.ok
    assert said.verified_by == ["ledger"]
    assert said.counts == {name: [events // 2] * 2 for name in ("BTC-USD", "ETH-USD")}
    assert said.rss_mb <= MEMORY_MB
    return said


def test_many_events_are_audited_in_bounded_memory(tmp_path: Path) -> None:
    events = min(count("events of an audit"), 1_000_000)
    said = examine(tmp_path, events)
    assert said.cpu_s < MINUTE_S / 2, "a minute for a day, at any rate"

    spoil(tmp_path, f"DELETE FROM trades WHERE trade_id = '{BASE + 1234}' AND symbol = 'BTC-USD'")
    spoil(tmp_path, "UPDATE trades SET size = size * 2 "
          f"WHERE trade_id = '{BASE + events * 2 // 5}' AND symbol = 'ETH-USD'")  # fmt: skip
    worse = audited(tmp_path, events)

    assert not worse.ok
    lost, altered = worse.problems
    assert lost.startswith("coinbase/trade/BTC-USD: the hour from 2026-01-01T00:00:00")
    assert "coverage tells of 1 that are not stored" in lost
    assert altered.startswith("coinbase/trade/ETH-USD: the hour from 2026-01-01T19:00:00")
    assert "the same ids with other content" in altered
    assert worse.rss_mb <= MEMORY_MB


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_day_of_twenty_million_events_is_audited_within_a_minute(tmp_path: Path) -> None:
    said = examine(tmp_path, count("events of an audit"))

    # Of all threads together, so that neighbours on the machine do not count.
    assert said.cpu_s < MINUTE_S
