"""What a bridge does with what no store will ever take: it is counted, and told as letters."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pyarrow as pa

from forebay.domain.letters import refused_letters, unreadable_letter
from forebay.errors import ForebayError
from forebay.services.lane_bridge import LaneLetters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.clock import Clock
    from forebay.domain.letters import RecordPlace
    from forebay.errors import RowsRefused
    from forebay.journal import Position
    from forebay.ports import Events, Refused
    from forebay.services.letters import Attempts, LetterBox

NO_MESSAGE = "It is no message that is known here."


class BridgeLetters(LaneLetters):
    """Tells letters to the topic beside their own; counts outlive the process."""

    def __init__(self, attempts: Attempts, box: LetterBox, clock: Clock, tries: int) -> None:
        self._attempts = attempts
        self._box = box
        self._clock = clock
        self._tries = tries

    @property
    def kept(self) -> int:
        """How many letters wait here, since their topic does not take them."""
        return self._box.kept

    def failed(self, lane: str, begin: Position | None, error: RowsRefused) -> int:
        return self._attempts.failed(_key(lane, begin), error)

    def settled(self, lane: str, begin: Position | None) -> None:
        with contextlib.suppress(ForebayError):  # a count that stays is of a place that is past
            self._attempts.forget(_key(lane, begin))

    def refused(
        self, topic: str, place: RecordPlace, table: str, events: Events, refused: Sequence[Refused]
    ) -> None:
        said = {"place": str(place), "attempts": self._tries}
        self._box.put(topic, refused_letters(table, events.rows, refused, **said))  # type: ignore[arg-type]

    def unreadable(self, topic: str, records: Sequence[tuple[RecordPlace, bytes]]) -> None:
        now_ns = self._clock.wall_ns()
        letters = [
            unreadable_letter(place, raw, NO_MESSAGE, attempts=1, now_ns=now_ns)
            for place, raw in records
        ]
        self._box.put(topic, pa.concat_tables(letters))

    def tend(self) -> None:
        with contextlib.suppress(ForebayError):  # it is tried again
            self._box.deliver()


def _key(lane: str, begin: Position | None) -> str:
    return f"{lane}@{begin.log_id}:{begin.seq}" if begin else f"{lane}@"
