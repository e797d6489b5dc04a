"""How long to wait before the next try, decided without waiting.

A loop that never gives up has full jitter (:class:`Backoff`), so that many collectors do not return
together; a call that somebody waits for a small one (:func:`retry_delay`), so that its total time
is known.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from forebay.resilience.numbers import grown, require_number

if TYPE_CHECKING:
    import random


class Backoff:
    """Full jitter: the n-th delay is uniform in ``[0, min(cap, base * 2**n)]`` seconds."""

    def __init__(self, rng: random.Random, *, base: float = 0.5, cap: float = 30.0) -> None:
        require_number("cap", cap, above=True)
        require_number("base", base, above=True, most=cap)
        self._rng = rng
        self._base = base
        self._cap = cap
        self.attempt = 0
        """Delays given since the last :meth:`reset`."""

    def next(self) -> float:
        """Seconds to wait before the next try; each call doubles the ceiling up to the cap."""
        ceiling = grown(self._base, 2.0, self.attempt, self._cap)
        self.attempt += 1
        return self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        """A try has lasted: begin again at ``base``."""
        self.attempt = 0


def retry_delay(
    attempt: int,
    rng: random.Random,
    *,
    base: float = 2.0,
    factor: float = 2.0,
    cap: float = 30.0,
    jitter: float = 0.1,
) -> float:
    """Seconds before try ``attempt + 1`` (``attempt`` from 1), within ``jitter`` of the nominal.

    The nominal delay is ``base * factor**(attempt - 1)``; the result never exceeds ``cap``.
    """
    nominal = grown(base, factor, attempt - 1, cap)
    return min(cap, nominal * rng.uniform(1.0 - jitter, 1.0 + jitter))


_SECONDS = re.compile(r"([0-9]{1,12})[0-9]*(\.[0-9]{0,9})?[0-9]*", re.ASCII)


def parse_retry_after(value: str | None, wall_ns: int, sent: str | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header (RFC 9110, 10.2.3) asks for, or None.

    The header holds seconds, by some servers with a fraction, or an HTTP date. That is compared
    with the date at which the answer was ``sent``, by the same clock, or with ``wall_ns``. A date
    in the past is 0; what cannot be read is None, since a bad header must not stop a retry.
    """
    text = (value or "").strip()
    if seconds := _SECONDS.fullmatch(text):
        return float(seconds[1] + (seconds[2] or ""))
    until = _timestamp(text)
    if until is None:
        return None
    base = _timestamp((sent or "").strip())
    return max(0.0, until - (wall_ns / 1e9 if base is None else base))


def _timestamp(text: str) -> float | None:
    """Return an HTTP date as seconds since the Unix epoch; None if it is none."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
