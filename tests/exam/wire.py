"""What the made-up venue sends: the same lines to every edition, in closed form."""

from __future__ import annotations

SYMBOLS = ("AAA-USD", "BBB-USD")
STREAMS = [(kind, symbol) for kind in ("quote", "ping") for symbol in SYMBOLS]
START_US = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z."""
STEP_US = 9_000_000
"""From one event of a stream to the next: 400 an hour."""
TWIN = 50
"""So many events of a stream, then one that says the same at the same moment."""


def line(kind: str, symbol: str, number: int) -> bytes:
    """Return event ``number``, from 1 on, of one stream."""
    at = number - 1 if number % TWIN == 0 else number
    moment = START_US + at * STEP_US
    if kind == "quote":
        values = f"{100 + at % 7}.{at % 10} {1 + at % 3} {101 + at % 7}.{at % 10} 0.{1 + at % 9}"
    else:
        values = f"{at * 37 % 5000} {'near' if at % 2 else 'far'}"
    return f"{kind} {symbol} {number} {moment} {values}".encode()


def lines(count: int) -> list[bytes]:
    """Return the first ``count`` events of all streams together, in turn."""
    return [
        line(*STREAMS[index % len(STREAMS)], index // len(STREAMS) + 1) for index in range(count)
    ]
