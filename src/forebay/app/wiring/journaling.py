"""Opening the journal of a data folder for writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.app.wiring import venues
from forebay.app.wiring.data_folder import STORE
from forebay.errors import Corrupt
from forebay.journal import CursorFile, JournalWriter
from forebay.telemetry import CursorUnreadable, JournalRecovered

if TYPE_CHECKING:
    from forebay.app.wiring.config import Config
    from forebay.app.wiring.data_folder import DataFolder
    from forebay.clock import Clock
    from forebay.journal import Position
    from forebay.telemetry import Observer


def open_journal(
    folder: DataFolder, config: Config, clock: Clock, observer: Observer
) -> JournalWriter:
    """Create or recover the journal and tell what was found; blocking.

    If a required consumer's cursor cannot be had, a new log begins: the journal may be an older
    copy, and the consumer would pass over frames that got the numbers of those it has.

    The folder remembers where the venues come from whose frames it will hold. Raises as
    :meth:`forebay.journal.JournalWriter.open`.
    """
    floor, unknown = _floor(folder, observer)
    writer = JournalWriter.open(
        folder.journal,
        clock=clock,
        segment_bytes=config.journal.segment_mb << 20,
        floor=floor,
        new_log=unknown,
    )
    end, report = writer.position, writer.report
    observer(JournalRecovered(end.log_id, end.seq, report.truncated_bytes, len(report.losses)))
    venues.install(folder, config.venues)
    venues.remember(folder, config.venues)
    return writer


def _floor(folder: DataFolder, observer: Observer) -> tuple[list[Position], bool]:
    """Return the cursors that can be read, and whether that of a required consumer is not known.

    They only guard against a log that lost what was consumed: a damaged file must not keep capture
    from starting. The store has consumed something if there is a database; of any other consumer
    only its file tells.
    """
    found, unknown = [], False
    for consumer in folder.consumers():
        consumed = consumer == STORE and bool(folder.databases())
        try:
            position = CursorFile(folder.cursor(consumer.name)).load()
        except Corrupt as error:
            observer(CursorUnreadable(str(error)))
            position, consumed = None, consumed or consumer != STORE
        if position is not None:
            found.append(position)
        unknown |= consumer.required and consumed and position is None
    return found, unknown
