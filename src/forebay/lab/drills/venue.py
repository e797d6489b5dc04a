"""The simulated venue that drills capture, and what it is called by."""

from __future__ import annotations

from typing import Final

from forebay.lab.exchanges import NAMES

VENUE: Final = NAMES[0]
REST: Final = f"{VENUE}-rest"
"""The breaker around its REST."""
WEBSOCKET: Final = f"{VENUE}-websocket"
"""The breaker around its websocket."""
