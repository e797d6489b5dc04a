"""The demonstration: what ``forebay demo`` and ``make demo`` run."""

from __future__ import annotations

from forebay.lab.drills.kill import KillPlan

SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD")
RATE = 3000
"""With one millisecond of venue time between two events of a symbol, the simulated market
then runs in real time."""
FAULTS = (
    "drop=0.0005,duplicate=0.001,reorder=0.001,corrupt=0.0002,late=0.0005,"
    "disconnect=0.00005,halfopen=0.00002,rate_limit=0.1"
)
KILLS = ((0.25, "capture"), (0.45, "deliver"), (0.65, "capture"))


def demo_plan(seconds: float, seed: int) -> KillPlan:
    """Return the plan of a demonstration whose market lasts ``seconds``."""
    return KillPlan(SYMBOLS, RATE, round(seconds * RATE), FAULTS, KILLS, seed)
