"""Whether a connection should go on, decided from what is known about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a connection is waited for, in seconds."""

    connect_s: float = 10.0
    """From the first packet to the answered upgrade, name look-up and TLS included."""
    accept_s: float = 5.0
    """From the upgrade, or the last part of the subscription, to the venue's acceptance."""
    stale_s: float = 10.0
    """Without any frame, a ping included, the connection counts as half-open."""
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 30.0
    settle_s: float = 10.0
    """An accepted connection that lived so long, or gave data, ends the row of failures."""
    retry_after_cap_s: float = 300.0
    """A venue that asks for a longer wait is asked again after this one."""
    refused_base_s: float = 15.0
    """What the venue refuses while it serves others is asked for again after so long, then after
    twice as long, and so on; what it leaves out of a subscription, first after four times that."""
    refused_cap_s: float = 1800.0

    @property
    def tick_s(self) -> float:
        """How often a connection is looked at."""
        return min(self.accept_s, self.stale_s) / 4


@dataclass(slots=True)
class ConnectionTimes:
    """What is known about a connection; times are monotonic nanoseconds."""

    opened_ns: int
    seen_ns: int
    """When the last frame of any kind was noticed, to a tick."""
    accepted_ns: int | None = None
    """When the first of what was asked for was accepted."""
    asked_ns: int | None = None
    """When the session was last seen asking; None: all was asked when it opened."""
    paused_ns: int | None = None
    """Since when we do not read; a silence of our own making is not the peer's."""

    def pause(self, now_ns: int) -> None:
        """We stopped reading."""
        if self.paused_ns is None:
            self.paused_ns = now_ns

    def resume(self, now_ns: int) -> None:
        """We read again: every deadline moves by the time that we did not."""
        if self.paused_ns is not None:
            self.opened_ns += now_ns - self.paused_ns
            if self.asked_ns is not None:
                self.asked_ns += now_ns - self.paused_ns
            self.seen_ns = now_ns
            self.paused_ns = None


def verdict(times: ConnectionTimes, timeouts: Timeouts, now_ns: int) -> str | None:
    """Why the connection must end now, or None if it may go on."""

    def longer_than(seconds: float, since_ns: int) -> bool:
        return now_ns - since_ns > seconds * 1e9

    if times.paused_ns is not None:
        if longer_than(timeouts.stale_s, times.paused_ns):
            return f"paused: the journal took no frames for {timeouts.stale_s:g} s"
        return None
    if times.accepted_ns is None and unanswered(times, timeouts, now_ns):
        return f"not accepted: no answer to the subscription in {timeouts.accept_s:g} s"
    if longer_than(timeouts.stale_s, times.seen_ns):
        return f"stale: no frame for {timeouts.stale_s:g} s"
    return None


def unanswered(times: ConnectionTimes, timeouts: Timeouts, now_ns: int) -> bool:
    """Whether an answer to the subscription is overdue."""
    since_ns = times.opened_ns if times.asked_ns is None else times.asked_ns
    return now_ns - since_ns > timeouts.accept_s * 1e9


def settled(times: ConnectionTimes, timeouts: Timeouts, now_ns: int, *, data: bool) -> bool:
    """Whether a connection that ends now was a success, so that back-off begins anew."""
    if times.accepted_ns is None:
        return False
    return data or now_ns - times.accepted_ns >= timeouts.settle_s * 1e9
