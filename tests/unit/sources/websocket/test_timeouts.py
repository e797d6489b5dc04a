"""When a connection should end, minute by minute and without waiting."""

from __future__ import annotations

import pytest

from forebay.sources.websocket.timeouts import ConnectionTimes, Timeouts, settled, verdict

S = 1_000_000_000
PATIENCE = Timeouts(accept_s=5, stale_s=10, settle_s=20)


def test_an_accepted_connection_with_frames_goes_on_for_ever() -> None:
    for now in range(0, 100_000 * S, 1000 * S):
        times = ConnectionTimes(opened_ns=0, seen_ns=now - 10 * S, accepted_ns=1)
        assert verdict(times, PATIENCE, now) is None


@pytest.mark.parametrize(
    ("times", "now_s", "reason"),
    [
        (ConnectionTimes(0, 0), 5, None),
        (ConnectionTimes(0, 5 * S), 5.001, "not accepted"),
        (ConnectionTimes(0, 0, accepted_ns=0), 10, None),
        (ConnectionTimes(0, 0, accepted_ns=0), 10.001, "stale"),
        (ConnectionTimes(0, 0, accepted_ns=0, paused_ns=30 * S), 40, None),
        (ConnectionTimes(0, 0, accepted_ns=0, paused_ns=30 * S), 40.001, "paused"),
        (ConnectionTimes(0, 0, paused_ns=3 * S), 7, None),
    ],
)
def test_the_verdict_changes_exactly_at_the_limit(
    times: ConnectionTimes, now_s: float, reason: str | None
) -> None:
    said = verdict(times, PATIENCE, round(now_s * S))
    assert (said is None) if reason is None else (said or "").startswith(reason)


def test_our_own_pause_moves_every_deadline() -> None:
    times = ConnectionTimes(opened_ns=0, seen_ns=0)
    times.pause(4 * S)
    times.pause(6 * S)  # said twice, counted once
    times.resume(13 * S)
    times.resume(99 * S)
    assert verdict(times, PATIENCE, 14 * S) is None, "4 s + 1 s of 5 s"
    assert (verdict(times, PATIENCE, 14 * S + 1) or "").startswith("not accepted")
    assert times.seen_ns == 13 * S


def test_only_an_accepted_connection_settles() -> None:
    assert not settled(ConnectionTimes(0, 0), PATIENCE, 100 * S, data=True)
    accepted = ConnectionTimes(0, 0, accepted_ns=10 * S)
    assert settled(accepted, PATIENCE, 10 * S, data=True)
    assert not settled(accepted, PATIENCE, 30 * S - 1, data=False)
    assert settled(accepted, PATIENCE, 30 * S, data=False)


def test_a_connection_is_looked_at_well_within_each_limit() -> None:
    assert PATIENCE.tick_s * 2 <= min(PATIENCE.accept_s, PATIENCE.stale_s)
