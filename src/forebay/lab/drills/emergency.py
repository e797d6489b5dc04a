"""Two critical services down at once: nothing is written to the store, capture goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.lab.drills.store import folder_read_only
from forebay.lab.drills.venue import REST
from forebay.lab.troubles import REFUSE

if TYPE_CHECKING:
    from forebay.lab.drills.stage import Stage

REFUSED = "forebay_store_writes_refused_total"


async def emergency(stage: Stage) -> None:
    """REST, made critical by the configuration, and the store are down at once."""
    await stage.trouble(REFUSE)
    try:
        await stage.breaker(REST, "open")
        with folder_read_only(stage):
            await stage.breaker("store", "open")
            await stage.comes(lambda seen: seen.state == "emergency", "the system is in emergency")
            status, health = await stage.get("/health")
            said = (status, health["status"])
            stage.check(f"/health answers {said}", said == (503, "emergency"))
            await stage.captured(stage.drill.rate)
            await stage.last(stage.timing.fault_s)
            refused = await stage.metric(REFUSED)
            stage.check(f"{refused:g} writes were refused", refused > 0)
            stage.check("which was told", bool(stage.happened("store_write_refused")))
    finally:
        await stage.trouble(REFUSE, on=False)
    stage.fault_over(len(await stage.hits(REFUSE)))
