"""Opening the journal of a data folder for writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.app import venues
from forebay.errors import Corrupt
from forebay.journal import CursorFile, JournalWriter
from forebay.telemetry import CursorUnreadable, JournalRecovered

if TYPE_CHECKING:
    from forebay.app.config import Config
    from forebay.app.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.journal import Position
    from forebay.telemetry import Observer


def open_journal(
    folder: DataFolder, config: Config, clock: Clock, observer: Observer
) -> JournalWriter:
    """Create or recover the journal and tell what was found; blocking.

    If there is a store whose cursor cannot be had, a new log begins: the journal may be an older
    copy, and the store would pass over frames that got the numbers of those it has.

    The folder remembers where the venues come from whose frames it will hold. Raises as
    :meth:`forebay.journal.JournalWriter.open`.
    """
    floor = _floor(folder, observer)
    writer = JournalWriter.open(
        folder.journal,
        clock=clock,
        segment_bytes=config.journal.segment_mb << 20,
        floor=floor,
        new_log=not floor and bool(folder.databases()),
    )
    end, report = writer.position, writer.report
    observer(JournalRecovered(end.log_id, end.seq, report.truncated_bytes, len(report.losses)))
    venues.install(folder, config.venues)
    venues.remember(folder, config.venues)
    return writer


def _floor(folder: DataFolder, observer: Observer) -> list[Position]:
    """Answer the store's cursor, if it can be read.

    It only guards against a log that lost what was consumed; the store keeps its own, so a
    damaged file must not keep capture from starting.
    """
    try:
        position = CursorFile(folder.store_cursor).load()
    except Corrupt as error:
        observer(CursorUnreadable(str(error)))
        return []
    return [position] if position else []
