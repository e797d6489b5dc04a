"""Which lane of a transport what the frames amount to belongs to. Pure.

A topic has events of one kind or several; a lane of it, those of some symbols: so all of a stream
is in one lane. Which one is what Kafka's own clients say of the key ``venue|symbol``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
import pyarrow as pa

from forebay.domain.channels import kind_of
from forebay.domain.frames import (
    LETTERS,
    GapAccepted,
    HistoryFinished,
    NumbersMissed,
    RangeChecked,
    StreamsOwed,
)
from forebay.domain.kinds import KINDS
from forebay.domain.kinds.checks import OTHER_TOPIC
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    FrameOrigin,
    HighWater,
    KnownTold,
    LettersTold,
    Told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forebay.domain.events import EventColumns
    from forebay.domain.frames import Context, Control
    from forebay.services.normalise import Normalised
    from forebay.services.projection import Declared

    Lanes = Callable[[str], Sequence[str]]
    """Returns the lanes of a topic."""

DEAD = "_dlq"
"""Behind the name of a topic: where its dead letters go."""


class Part(NamedTuple):
    """A message to be, and the lane that it goes to."""

    lane: str
    told: Told
    rows: pa.Table | None = None


def all_topics() -> list[str]:
    """Return every topic that events of any kind are in, then those of their dead letters."""
    topics = sorted({OTHER_TOPIC, *(kind.topic for kind in KINDS.values())})
    return [*topics, *(topic + DEAD for topic in topics)]


def topic_of(channel: str) -> str:
    """Return where events of a channel are, which may name one series of a kind."""
    kind = KINDS.get(kind_of(channel))
    return kind.topic if kind else OTHER_TOPIC


def lane_of(lanes: Sequence[str], venue: str, symbol: str) -> str:
    """Return the lane of a topic that has the events of a symbol."""
    return lanes[crc32(f"{venue}|{symbol}".encode()) % len(lanes)]


def parts_of(item: Normalised, channels: Declared, lanes: Lanes) -> Iterator[Part]:
    """Return what is to be told of ``item``, in order; ids of its events must be whole."""
    # What was asked of a venue, and where, may hold a secret and matters to nobody behind.
    context = msgspec.structs.replace(item.context, url="", request="")
    origin = FrameOrigin(context, dict(channels.get(context.venue, {})))
    for columns in item.events:
        told = EventsTold(origin, columns.kind.channel, columns.own_sequence)
        for lane, rows in _by_lane(columns, context.venue, lanes(columns.kind.topic)):
            yield Part(lane, told, rows)
    known: dict[str, list[HighWater]] = defaultdict(list)
    for name, numbers in item.known.items():
        _, channel, symbol = name
        lane = lane_of(lanes(topic_of(channel)), context.venue, symbol)
        known[lane] += (HighWater(*name, *near) for near in numbers)
    for lane, streams in known.items():
        yield Part(lane, KnownTold(origin, *item.seqs, streams))
    for said in item.controls:
        for lane in _lanes_of_record(context, said.control, channels, lanes):
            yield Part(lane, ControlTold(origin, *said))
    if item.letters is not None:
        topic = _topic_of_letters(context, channels)
        told_of = LettersTold(topic, context.run if context.run.startswith(LETTERS) else "")
        yield Part(lanes(topic + DEAD)[0], told_of, item.letters)


def _by_lane(
    columns: EventColumns, venue: str, lanes: Sequence[str]
) -> Iterator[tuple[str, pa.Table]]:
    rows = columns.finish()
    of_symbol = [lanes.index(lane_of(lanes, venue, symbol)) for symbol in columns.symbols]
    places = np.array(of_symbol, dtype=np.int64)[columns.codes]
    for place in np.unique(places).tolist():
        mine = places == place
        yield lanes[place], rows if mine.all() else rows.filter(pa.array(mine))


def _lanes_of_record(
    context: Context, control: Control, channels: Declared, lanes: Lanes
) -> list[str]:
    """Return the lanes of the stream that a record names, or of all that it may be about."""
    if isinstance(control, HistoryFinished | GapAccepted | RangeChecked):
        return [lane_of(lanes(topic_of(control.channel)), context.venue, control.symbol)]
    if isinstance(control, StreamsOwed):
        theirs = {(topic_of(channel), symbol) for channel, symbol in control.streams}
        return sorted({lane_of(lanes(topic), context.venue, each) for topic, each in theirs})
    if isinstance(control, NumbersMissed):
        return [lane for topic in sorted({*map(topic_of, control.kinds)}) for lane in lanes(topic)]
    venues = channels.values() if not context.venue else [channels.get(context.venue, {})]
    topics = sorted({topic_of(name) for declared in venues for name in declared}) or [OTHER_TOPIC]
    return [lane for topic in topics for lane in lanes(topic)]


def _topic_of_letters(context: Context, channels: Declared) -> str:
    """Return whose dead letters they are: by the kinds that were asked for, if of one topic."""
    asked = context.channels or tuple(channels.get(context.venue, ()))
    topics = {topic_of(name) for name in asked}
    return topics.pop() if len(topics) == 1 else OTHER_TOPIC
