"""Streams that did not change are not told again, and thousands are told seldom."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from forebay.app.processes.stream_news import (
    MOST_TOLD,
    StreamCounts,
    StreamsKnown,
    StreamsTold,
    reports_of_heard,
)
from forebay.domain.coverage import StreamKey
from forebay.ops.view import ProcessReport, StreamReport

if TYPE_CHECKING:
    import pytest

SECOND = 1_000_000_000
BARE = ProcessReport("capture", 1, "")


class Process:
    """Says how its streams stand, and counts how often it had to."""

    def __init__(self, count: int) -> None:
        self.changes = self.told = 0
        self.streams = [
            StreamReport(venue="v", market="m", channel="trade", symbol=f"S{each}", asked_ns=5)
            for each in range(count)
        ]
        self.side = StreamsTold(lambda: self.changes, self._told)

    def _told(self) -> list[StreamReport]:
        self.told += 1
        return list(self.streams)

    def change(self) -> None:
        self.changes += 1
        self.streams[0] = replace(self.streams[0], refused=f"for the {self.changes}. time")


def looked(process: Process, known: StreamsKnown, now_ns: int) -> list[StreamReport]:
    """Return what the asker knows after a poll at a time."""
    answer = process.side.added(BARE, known.asked(now_ns))
    return list(known.added(answer, now_ns).streams)


def test_what_is_known_is_what_there_is_and_told_only_after_a_change() -> None:
    process, known = Process(3), StreamsKnown()
    for second in range(1, 6):
        assert looked(process, known, second * SECOND) == process.streams
    assert process.told == 1
    process.change()
    for second in range(6, 9):
        assert looked(process, known, second * SECOND) == process.streams
    assert process.told == 2


def test_thousands_that_change_all_the_time_are_told_seldom_and_never_lost() -> None:
    process, known = Process(3000), StreamsKnown()
    for second in range(1, 61):
        process.change()
        assert len(looked(process, known, second * SECOND)) == 3000
    assert process.told == 10, "in a minute, each six seconds"
    assert looked(process, known, 70 * SECOND) == process.streams


def test_a_process_that_was_started_again_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, known = Process(3), Process(1), StreamsKnown()
    looked(before, known, SECOND)
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert looked(after, known, 2 * SECOND) == after.streams


def test_who_does_not_say_what_it_knows_is_told_all() -> None:
    process = Process(2)
    assert list(process.side.added(BARE, {"op": "report"}).streams) == process.streams


def test_states_are_counted_anew_when_a_report_has_changed() -> None:
    process, known, counts = Process(2), StreamsKnown(), StreamCounts()

    def states(second: int) -> dict[str, float]:
        answer = process.side.added(BARE, known.asked(second * SECOND))
        told = counts.samples([known.added(answer, second * SECOND)])
        return {each.labels["state"]: each.value for each in told if each.value}

    assert states(1) == states(2) == {"asked": 2}
    process.change()
    assert states(3) == {"asked": 1, "refused": 1}


def test_of_more_streams_than_can_be_told_those_heard_last_are_told() -> None:
    heard = {StreamKey("v", "m", "trade", f"S{each}"): each for each in range(MOST_TOLD + 5)}
    told = reports_of_heard(heard)
    assert len(told) == MOST_TOLD
    assert min(each.heard_ns or 0 for each in told) == 5
