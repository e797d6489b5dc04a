"""DuckDB's folder made read-only and writable again."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.lab.drills.stage import Stage

_READ_ONLY = stat.S_IRUSR | stat.S_IXUSR | stat.S_IRGRP | stat.S_IXGRP


@contextlib.contextmanager
def folder_read_only(stage: Stage) -> Iterator[None]:
    """Take the right to make and remove files beside the database, and give it back.

    What is open stays writable, so nothing fails until DuckDB moves its log into the table,
    which makes and removes files. That commit's answer is lost, though it happened; and no
    other one can begin before the database is opened again, which the folder does not allow.
    """
    folder = stage.data.root
    mode = stat.S_IMODE(folder.stat().st_mode)
    folder.chmod(_READ_ONLY)
    stage.say("the database's folder is read-only")
    try:
        yield
    finally:
        folder.chmod(mode)
        stage.fault_over(len(stage.happened("store_unavailable")))


async def read_only(stage: Stage) -> None:
    """The store takes no commit: its breaker trips, capture goes on, the journal keeps all."""
    with folder_read_only(stage):
        tripped = await stage.breaker("store", "open")
        await stage.comes(lambda seen: seen.state == "critical", "the system is critical")
        await stage.captured(stage.drill.rate)
        await stage.last(stage.timing.fault_s)
        later = await stage.seen()
        stage.check("nothing is stored during the fault", later.stored == tripped.stored)
