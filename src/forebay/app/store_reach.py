"""How far the stores of a data folder are, as files beside them say; none of them is asked."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from forebay.app.wiring.data_folder import Consumer
from forebay.errors import ForebayError
from forebay.journal import OS_DISK, CursorFile, StateFile
from forebay.journal.watermark import WatermarkReader
from forebay.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.app.wiring.data_folder import DataFolder


def lacks(folder: DataFolder, consumer: str) -> Iterator[str]:
    """Return what a mirror may not have of what was captured."""
    behind = captured_after(folder, consumer)
    if behind is None:
        yield "it is not known how far it has got"
    else:
        yield (
            f"it lacks {counted(behind, 'frame')} of what is captured"
            if behind
            else ("it has all that is captured")
        )
    with contextlib.suppress(ForebayError):
        if since := begun_at(folder, consumer).load():
            yield f"nothing from before {since.decode()}"
    if Consumer(consumer, required=False) in folder.consumers():
        yield "it is not required, so it may lack more"


def begun_at(folder: DataFolder, role: str) -> StateFile:
    """Return the file that says of when the oldest frame was that a mirror could be fed."""
    return StateFile(folder.cursor(role).with_suffix(".since"))


def captured_after(folder: DataFolder, consumer: str) -> int | None:
    """Return how many frames are captured that a store has not, as far as its cursor tells.

    None if nobody knows.
    """
    try:
        position = CursorFile(folder.cursor(consumer)).load()
        mark = WatermarkReader(OS_DISK, folder.journal).read()
    except (ForebayError, OSError):
        return None
    if position is None or mark is None or position.log_id != mark.log_id.hex():
        return None
    return max(0, mark.next_seq - position.seq)


def log_id_of(folder: DataFolder) -> str:
    """Return which log the journal of a folder is; empty if it has none."""
    mark = WatermarkReader(OS_DISK, folder.journal).read()
    return mark.log_id.hex() if mark else ""
