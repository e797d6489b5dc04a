"""How large a journal is, how fast it grows, and how long its disk will hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.journal.disk import OS_DISK, translated
from forebay.journal.segments import list_segments
from forebay.journal.survey import GLANCE, Survey, survey, surveys
from forebay.journal.watermark import read_watermark

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.journal.disk import Disk

TELLING_NS = 600 * 10**9
"""Time that frames must span until the day that the disk is full is told by their growth."""
RECENT = 4
"""Segments from the end whose growth is taken for that of the whole."""
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class JournalOverview:
    """A journal at a glance; rates are those of its last :data:`RECENT` segments."""

    bytes: int
    segments: int
    sealed: int
    oldest_ns: int | None
    """Receipt of the oldest frame, UTC ns; None if there is none."""
    raw_per_day: int | None
    """Bytes a day as they are written; None if no time has passed between two frames."""
    disk_per_day: int | None
    """Bytes a day that stay when segments are sealed, as well as the recent ones were."""
    free_bytes: int
    measured_ns: int = TELLING_NS
    """Time that the rates are of."""

    @property
    def days_left(self) -> float | None:
        """Days until the disk is full if nothing is removed; None if nobody can tell yet."""
        if not self.disk_per_day or self.measured_ns < TELLING_NS:
            return None
        return self.free_bytes / self.disk_per_day


def overview(folder: Path, *, disk: Disk = OS_DISK) -> JournalOverview:
    """Look at the whole journal, and into its first and last segments.

    May run beside a writer and a housekeeper. Raises :class:`~forebay.errors.Transient` if the
    disk fails.
    """
    with translated(f"look at the journal {folder}"):
        try:
            return _overview(disk, folder)
        except FileNotFoundError:  # the oldest segment was removed just now: look again
            return _overview(disk, folder)


def _overview(disk: Disk, folder: Path) -> JournalOverview:
    firsts = list_segments(disk, folder)
    mark = read_watermark(disk, folder)
    older = [survey(disk, folder, first_seq, limit=GLANCE) for first_seq in firsts[:-RECENT]]
    recent = surveys(disk, folder, firsts[-RECENT:], mark, times=True)
    oldest = [survey(disk, folder, *firsts[:2], times=True)] if older else recent[:1]
    measured_ns = _measured(recent)
    raw_per_day = (
        sum(each.block_bytes for each in recent) * _DAY_NS // measured_ns if measured_ns else None
    )
    return JournalOverview(
        bytes=sum(each.bytes for each in [*older, *recent]),
        segments=len(firsts),
        sealed=sum(each.sealed for each in [*older, *recent]),
        oldest_ns=oldest[0].first_ns if oldest else None,
        raw_per_day=raw_per_day,
        disk_per_day=None if raw_per_day is None else round(raw_per_day * _kept(recent)),
        free_bytes=disk.free(folder),
        measured_ns=measured_ns,
    )


def _measured(recent: list[Survey]) -> int:
    firsts = [each.first_ns for each in recent if each.first_ns is not None]
    lasts = [each.last_ns for each in recent if each.last_ns is not None]
    return max(0, max(lasts, default=0) - min(firsts, default=0))


def _kept(recent: list[Survey]) -> float:
    """Return the part of the bytes that stays after sealing; 1 if no segment is sealed."""
    sealed = [each for each in recent if each.sealed and each.block_bytes]
    raw = sum(each.block_bytes for each in sealed)
    return sum(each.bytes for each in sealed) / raw if raw else 1.0
