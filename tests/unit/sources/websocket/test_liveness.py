"""When a connection should end, minute by minute and without waiting."""

from __future__ import annotations

import pytest

from forebay.sources.websocket.liveness import Patience, Vitals, settled, verdict

S = 1_000_000_000
PATIENCE = Patience(accept_s=5, stale_s=10, settle_s=20)


def test_an_accepted_connection_with_frames_goes_on_for_ever() -> None:
    for now in range(0, 100_000 * S, 1000 * S):
        vitals = Vitals(opened_ns=0, seen_ns=now - 10 * S, accepted_ns=1)
        assert verdict(vitals, PATIENCE, now) is None


@pytest.mark.parametrize(
    ("vitals", "now_s", "reason"),
    [
        (Vitals(0, 0), 5, None),
        (Vitals(0, 5 * S), 5.001, "not accepted"),
        (Vitals(0, 0, accepted_ns=0), 10, None),
        (Vitals(0, 0, accepted_ns=0), 10.001, "stale"),
        (Vitals(0, 0, accepted_ns=0, paused_ns=30 * S), 40, None),
        (Vitals(0, 0, accepted_ns=0, paused_ns=30 * S), 40.001, "paused"),
        (Vitals(0, 0, paused_ns=3 * S), 7, None),
    ],
)
def test_the_verdict_changes_exactly_at_the_limit(
    vitals: Vitals, now_s: float, reason: str | None
) -> None:
    said = verdict(vitals, PATIENCE, round(now_s * S))
    assert (said is None) if reason is None else (said or "").startswith(reason)


def test_our_own_pause_moves_every_deadline() -> None:
    vitals = Vitals(opened_ns=0, seen_ns=0)
    vitals.pause(4 * S)
    vitals.pause(6 * S)  # said twice, counted once
    vitals.resume(13 * S)
    vitals.resume(99 * S)
    assert verdict(vitals, PATIENCE, 14 * S) is None, "4 s + 1 s of 5 s"
    assert (verdict(vitals, PATIENCE, 14 * S + 1) or "").startswith("not accepted")
    assert vitals.seen_ns == 13 * S


def test_only_an_accepted_connection_settles() -> None:
    assert not settled(Vitals(0, 0), PATIENCE, 100 * S, data=True)
    accepted = Vitals(0, 0, accepted_ns=10 * S)
    assert settled(accepted, PATIENCE, 10 * S, data=True)
    assert not settled(accepted, PATIENCE, 30 * S - 1, data=False)
    assert settled(accepted, PATIENCE, 30 * S, data=False)


def test_a_connection_is_looked_at_well_within_each_limit() -> None:
    assert PATIENCE.tick_s * 2 <= min(PATIENCE.accept_s, PATIENCE.stale_s)
