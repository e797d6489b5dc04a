"""What a check of a journal may find, in words; decides from facts and reads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebay.journal.segments import segment_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.journal.model import Position
    from forebay.journal.scan import Damage
    from forebay.journal.survey import Survey
    from forebay.journal.two_slot_file import SlotCheck
    from forebay.journal.watermark import Watermark

UNFINISHED = "unfinished write at the end"
_DECLARED = "Readers declare the loss and go on; fill it from a sibling or the venue."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a file of the journal that is not as it was written."""

    segment: str
    """File name."""
    offset: int
    what: str
    first_seq: int | None
    """First sequence number that is lost; None if none is."""
    last_seq: int | None
    hint: str
    harmless: bool = False
    """Whether nothing that was acknowledged is damaged, so that it is no reason to worry."""

    @property
    def sentence(self) -> str:
        """All of it for a person: where, what, which frames, and what to do."""
        lost = "" if self.first_seq is None else f"; {frames(self.first_seq, self.last_seq)} lost"
        return f"{self.segment} at byte {self.offset}: {self.what}{lost}. {self.hint}"


def frames(first: int, last: int | None) -> str:
    """Return ``frame 5 is`` or ``frames 5 to 7 are``."""
    return f"frame {first} is" if last == first else f"frames {first} to {last} are"


def judge_segment(survey: Survey, end: int, *, last: bool) -> list[Finding]:
    """Return what is wrong with one segment.

    It must reach ``end``: the next segment's first number, or what is proved of the last one.
    """
    found = []
    if not survey.header_sound:
        hint = "No frame is lost by it: its blocks are found and read all the same."
        found.append(Finding(survey.name, 0, "damaged segment header", None, None, hint))
    found += [_of_hole(survey.name, hole, end, last=last) for hole in survey.holes]
    open_end = any(hole.next is None for hole in survey.holes)
    if survey.next_seq < end and not open_end:
        what = "the file ends before all of its frames"
        if not last:
            what += ", or a segment between it and the next one is missing"
        lost = survey.next_seq, end - 1
        found.append(Finding(survey.name, survey.bytes, what, *lost, _DECLARED))
    return found


def _of_hole(name: str, hole: Damage, end: int, *, last: bool) -> Finding:
    following = end if hole.next is None else hole.next
    if following > hole.first:
        what = f"{hole.end - hole.offset} unreadable bytes"
        return Finding(name, hole.offset, what, hole.first, following - 1, _DECLARED)
    if hole.next is None and last:
        hint = "It was never acknowledged; the next start of the writer cuts it off."
        return Finding(name, hole.offset, UNFINISHED, None, None, hint, harmless=True)
    what, hint = "bytes that are no block", "No frame is missing here."
    return Finding(name, hole.offset, what, None, None, hint)


def judge_ends(firsts: Sequence[int], mark: Watermark | None) -> list[Finding]:
    """Return what first numbers and the watermark say of segments that are gone."""
    if not firsts:
        if mark is None or mark.next_seq <= 1:
            return []
        hint = "Restore the segments from a copy, or fill the loss from a sibling or the venue."
        return [Finding("watermark", 0, "every segment is missing", 1, mark.next_seq - 1, hint)]
    if firsts[0] <= 1:
        return []
    what = f"the journal begins with frame {firsts[0]}; {frames(1, firsts[0] - 1)} not in it"
    hint = "Retention removes the oldest segments; if it is not that, restore what is missing."
    return [Finding(segment_name(firsts[0]), 0, what, None, None, hint, harmless=True)]


_WATERMARK_HINT = "No frame is lost by it: the next start of the writer mends it."
_CURSOR_HINT = "The cursor may be one store old: frames given twice are recognised by their ids."


def judge_slots(name: str, check: SlotCheck, *, cursor: bool) -> list[Finding]:
    """Return what is wrong with a two-slot file as such."""
    kind = "cursor" if cursor else "watermark"
    if not check.valid:
        what = f"neither slot of the {kind} is sound"
        hint = _WATERMARK_HINT
        if cursor:
            hint = "Move the file away: its consumer reads again from the oldest frame."
        return [Finding(name, 0, what, None, None, hint)]
    found = []
    for side in check.damaged:
        what = f"one of the two slots of the {kind} is damaged or was torn by a crash"
        hint = _CURSOR_HINT if cursor else _WATERMARK_HINT
        found.append(Finding(name, check.offset_of(side), what, None, None, hint))
    if check.stray is not None:
        what, hint = f"bytes of the {kind} that must be zero are not", "Nothing depends on them."
        found.append(Finding(name, check.stray, what, None, None, hint, harmless=True))
    return found


def judge_cursor(name: str, position: Position, logs: dict[str, tuple[int, int]]) -> list[Finding]:
    """Return what is wrong with where a cursor points.

    ``logs`` holds, by log id, the first sequence number that is there and the end.
    """
    if position.log_id not in logs:
        what = f"the cursor is of the log {position.log_id}, which is not in this journal"
        hint = "Its consumer reads again from the oldest frame. Was the journal replaced?"
        return [Finding(name, 0, what, None, None, hint)]
    first, end = logs[position.log_id]
    if position.seq > end:
        what = f"the cursor is beyond the end of the journal, which is {end}"
        hint = (
            "The journal is an older copy, or its disk lied; the writer's start begins a new log."
        )
        return [Finding(name, 0, what, end, position.seq - 1, hint)]
    if position.seq < first:
        what = f"the cursor is before the oldest frame of the journal, {first}"
        hint = f"A segment is missing, or retention was shorter than the backlog. {_DECLARED}"
        return [Finding(name, 0, what, position.seq, first - 1, hint)]
    return []
