"""What of the events that are stored the topics have: each by its id, in order."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest

from forebay.domain.frames import Context
from forebay.domain.messages import EventsTold, FrameOrigin, Head, Mark, Message, Step
from forebay.errors import ConfigError
from forebay.lab.drills.plan import TransportHeld
from forebay.lab.drills.read_back import TopicTally, _Lane, read_back
from forebay.ports import Received

if TYPE_CHECKING:
    from forebay.ports import Subscription

CONTEXT = Context(venue="x", source="file", purpose="recording", collector="", epoch="")
EVENTS = EventsTold(FrameOrigin(CONTEXT, {}), "trade", own_sequence=False)


def event_id(number: int) -> bytes:
    return uuid.UUID(int=number).bytes


def message(*events: tuple[int, str, int], epoch: str = "live") -> Message:
    """Rows that tell events, each by its id, its symbol and its frame."""
    numbers, symbols, seqs = zip(*events, strict=True)
    ids = pa.array([event_id(number) for number in numbers], pa.uuid())
    one = ["x"] * len(events)
    rows = pa.table(
        {"event_id": ids, "log_id": one, "epoch": [epoch] * len(events), "venue": one,
         "market": one, "symbol": symbols, "seq": pa.array(seqs, pa.int64())}
    )  # fmt: skip
    return Message(Head(Step("x", 1, 9), 0, EVENTS), rows)


def tallied(*messages: Message | None) -> TopicTally:
    tally = TopicTally()
    for place, each in enumerate(messages):
        tally.take(Received(place, each, place + 1))
    return tally


def held(stored: int, *messages: Message | None) -> TransportHeld:
    """Return what was counted beside events 1 to ``stored``."""
    ids = {event_id(number) for number in range(1, stored + 1)}
    return tallied(*messages).held("some", ids)


def good(**changes: int) -> TransportHeld:
    counts: dict[str, int] = {"events": 3, **changes}
    none = dict.fromkeys(("lost", "doubled", "again", "displaced", "unread"), 0)
    return TransportHeld(transport="some", **{**none, **counts})


ALL = message((1, "a", 5), (2, "b", 4), (3, "a", 5))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (held(3, ALL), good()),
        (held(4, ALL), good(lost=1)),
        (held(2, ALL), good(doubled=1)),
        (held(3, ALL, ALL), good(again=3)),
        (held(3, message((1, "a", 5), (2, "a", 4), (3, "a", 6))), good(displaced=1)),
        (held(3, message((1, "a", 5), (2, "a", 6)), ALL), good(again=2, displaced=1)),
        (held(3, message((1, "a", 5), (2, "a", 9)), message((3, "a", 7), epoch="past")), good()),
        (held(3, ALL, None), good(unread=1)),
    ],
    ids=["all", "lost", "doubled", "again", "displaced", "behind another", "filled", "unread"],
)
def test_events_are_counted_by_id_and_in_order(
    found: TransportHeld, expected: TransportHeld
) -> None:
    assert found == expected


def test_what_tells_no_events_counts_none() -> None:
    mark = Message(Head(Step("x", 1, 9), 0, Mark(0, {}, {})))
    assert held(0, mark) == good(events=0)


class Lane:
    """A subscription that gives what it has once."""

    def __init__(self, *came: Received) -> None:
        self.came = list(came)

    def read(self) -> list[Received]:
        came, self.came = self.came, []
        return came


@pytest.mark.parametrize(("offset", "end", "left"), [(7, 11, 0), (7, 14, 3)])
def test_records_of_a_message_that_was_left_unfinished_are_counted(
    offset: int, end: int, left: int
) -> None:
    played = cast("Subscription", Lane(Received(offset, ALL, end)))
    lane = _Lane(played, TopicTally())

    assert (lane.read(), lane.read()) == (True, False)
    assert lane.left_over == left


def test_an_empty_lane_has_nothing_left_over() -> None:
    lane = _Lane(cast("Subscription", Lane()), TopicTally())
    assert (lane.read(), lane.left_over) == (False, 0)


def test_a_table_that_is_none_is_refused() -> None:
    table: dict[str, Any] = {"kind": "kafka", "mode": "core"}
    with pytest.raises(ConfigError, match="no mode"):
        read_back(table, set())
