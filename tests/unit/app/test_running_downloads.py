"""A download beside a capture waits for whatever is more urgent."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay.app.processes import downloads
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forebay.services.group_commit import GroupCommit


@dataclass
class Site:
    """A capture whose journal, store and state are as a test says."""

    pressure: bool = False
    full: bool = False
    state: str = ""
    stored: int | None = 0
    """Up to where deliver has read the journal; None while it is away."""

    def ask(self, path: Path, request: dict[str, Any], **_: float) -> tuple[dict[str, Any], bytes]:
        del path, request
        if self.stored is None:
            raise Unreachable("Nobody.")
        return {"seq": self.stored}, b""


async def waits(
    site: Site, mend: Callable[[], None], tmp_path: Path, captured: deque[int] | None = None
) -> bool:
    """Return whether a page waits until something is mended."""
    clock = ManualClock()
    pacing = downloads.Pacing(
        DataFolder(tmp_path),
        cast("GroupCommit", site),
        clock,
        lambda: site.state,
        captured or deque(),
    )
    task = asyncio.create_task(pacing.ready())

    async def let_go() -> None:
        for _ in range(5):
            await asyncio.sleep(0.01)
            clock.advance(downloads.PAUSE_S)

    await let_go()
    waited = not task.done()
    mend()
    await let_go()
    assert task.done()
    return waited


@pytest.mark.parametrize(
    ("site", "attribute", "mended"),
    [
        (Site(pressure=True), "pressure", False),
        (Site(full=True), "full", False),
        (Site(state="critical"), "state", ""),
    ],
)
async def test_a_page_waits_while_the_capture_has_other_troubles(
    tmp_path: Path, site: Site, attribute: str, mended: object
) -> None:
    assert await waits(site, lambda: setattr(site, attribute, mended), tmp_path)


async def test_without_trouble_no_page_waits(tmp_path: Path) -> None:
    assert not await waits(Site(), lambda: None, tmp_path)


@pytest.mark.parametrize("stored", [None, 0, 5])
async def test_a_page_waits_while_the_store_is_behind_or_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: int | None
) -> None:
    site = Site(stored=stored)
    monkeypatch.setattr(downloads, "ask", site.ask)
    captured = deque(range(10, 10 + downloads.PAGES_AHEAD))
    assert await waits(site, lambda: setattr(site, "stored", 11), tmp_path, captured)
