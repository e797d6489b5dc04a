"""Messages as bytes: all that was told comes back, and what is no message is said to be none."""

from __future__ import annotations

import pytest

from forebay.domain.channels import Channel
from forebay.domain.events import EventColumns
from forebay.domain.frames import (
    EpochAccepted,
    EpochClosed,
    EpochOpened,
    HistoryFinished,
    Loss,
)
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    FrameOrigin,
    Head,
    HighWater,
    KnownTold,
    LettersTold,
    Mark,
    Message,
    Step,
    decode_message,
    encode_message,
)
from forebay.domain.parsed import DeadLetter
from forebay.errors import Corrupt
from forebay.services.normalise import letter_rows, normalise
from forebay.sources.coinbase.protocol import CoinbaseParser
from tests.support.frames import LOG, SECOND, T0, batch, context, match

STEP = Step(LOG, 1, 9)
CHANNELS = {
    "trade": Channel("trade", "native", "id", time_unit_ns=1000, history=True),
    "quote": Channel("quote", "content", "time"),
}
ORIGIN = FrameOrigin(context(symbols=("BTC-USD",), channels=("trade",), partial=True), CHANNELS)


@pytest.mark.parametrize(
    "told",
    [
        ControlTold(ORIGIN, EpochOpened(), 7, 1),
        ControlTold(ORIGIN, EpochAccepted((("trade", "BTC-USD"),)), 7, 1),
        ControlTold(ORIGIN, EpochClosed("done", silent_ns=3), 7, 2),
        ControlTold(ORIGIN, HistoryFinished("trade", "BTC-USD", 1, 9, absent=((2, 3),)), 7, 3),
        ControlTold(ORIGIN, Loss(1, 9), 0, 1),
        KnownTold(ORIGIN, 1, 5, [HighWater("spot", "trade", "BTC-USD", 3, 1 << 62)]),
        Mark(3, {"yielding": 2, "control": 1, "dead": 0}, {"l2update": 1}),
    ],
    ids=lambda told: type(told).__name__,
)
def test_what_has_no_rows_comes_back(told: ControlTold | KnownTold | Mark) -> None:
    message = Message(Head(STEP, 2, told))
    assert decode_message(encode_message(message)) == message


def test_events_come_back_as_they_were_built() -> None:
    late = [T0 + 100 * SECOND, T0 + SECOND, T0 + SECOND]
    origin = batch([match(1), match(2, "ETH-USD"), match(3)], received_ns=late)
    (columns,) = normalise(origin, {"coinbase": CoinbaseParser()}).events
    message = Message(Head(STEP, 0, EventsTold(ORIGIN, "trade", False)), columns.finish())
    back = decode_message(encode_message(message))
    assert back.head == message.head
    assert back.rows is not None
    assert back.rows.equals(message.rows)
    again = EventColumns.of_rows(columns.channel, back.rows, own_sequence=False)
    assert (again.kind, again.market, again.symbols) == (columns.kind, "spot", columns.symbols)
    for name in ("codes", "numbers", "received_ns", "flags"):
        assert (getattr(again, name) == getattr(columns, name)).all(), name
    assert columns.flags.tolist() == [2, 0, 0]
    assert again.finish().equals(message.rows)


def test_dead_letters_come_back_with_their_bytes() -> None:
    rows = letter_rows(batch([b"\0\xff"]), [DeadLetter(0, 0, "not_json", "what?")], "p/1")
    back = decode_message(encode_message(Message(Head(STEP, 0, LettersTold()), rows)))
    assert back.rows is not None
    assert back.rows.equals(rows)


def test_bytes_that_are_no_message_are_refused() -> None:
    letters = letter_rows(batch([b"x"]), [DeadLetter(0, 0, "not_json", "what?")], "p/1")
    whole = encode_message(Message(Head(STEP, 0, LettersTold()), letters))
    events = Message(Head(STEP, 0, EventsTold(ORIGIN, "trade", False)), letters)
    unknown = Message(Head(STEP, 0, EventsTold(ORIGIN, "none", False)), letters)
    wrong = [b"", b"\1", b"\1\0\0\0\2{}", whole[:-200], whole[:30], b"\2" + whole[1:]]
    for raw in [*wrong, encode_message(events), encode_message(unknown)]:
        with pytest.raises(Corrupt):
            decode_message(raw)
