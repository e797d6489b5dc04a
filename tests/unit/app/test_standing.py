"""How streams stand: as JSON a plain object each, and one line for all."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from forebay.cli.status import summary
from forebay.ops.view import ProcessReport, StreamReport, merged
from tests.support.fake_report import STREAMS

HEARD, REFUSED = STREAMS


def test_a_stream_is_an_object_with_moments_as_texts() -> None:
    heard, refused = msgspec.to_builtins(STREAMS)
    assert heard["state"] == "heard"
    assert heard["last_heard"] == heard["asked"] == "2026-01-01T00:00:00.500Z"
    assert (refused["state"], refused["refused"]) == ("refused", "it is unknown")
    assert refused["last_heard"] is refused["acknowledged"] is None


def test_one_line_says_how_many_are_heard_and_which_are_not() -> None:
    assert summary([]) == ""
    assert summary([HEARD]) == "1 of 1 heard"
    told = summary(STREAMS)
    assert told == "1 of 2 heard; coinbase/trade/ETH-USD refused (it is unknown)"
    many = [replace(REFUSED, symbol=f"S{number}") for number in range(9)]
    assert summary(many).endswith("; 6 more")


def test_what_was_asked_for_and_never_heard_is_silent_once_somebody_listens() -> None:
    known = StreamReport(venue="v", market="spot", channel="trade", symbol="A")
    capture = ProcessReport("capture", 1, "", streams=[replace(known, asked_ns=5)])
    (stream,) = merged([capture])
    assert stream.state == "asked", "nobody listens, so nobody knows"
    deliver = ProcessReport("deliver", 2, "", hears=True)
    (stream,) = merged([capture, deliver])
    assert stream.state == "silent"
    before = replace(deliver, streams=[known])
    (stream,) = merged([capture, before])
    assert (stream.state, stream.heard_ns) == ("heard", None), "before the process began"


def test_what_is_asked_for_of_every_symbol_is_heard_with_any() -> None:
    asked = StreamReport(venue="v", market="spot", channel="trade", symbol="*", asked_ns=5)
    told = [
        replace(asked, symbol=symbol, asked_ns=None, heard_ns=ns)
        for symbol, ns in (("A", 8), ("B", 9), ("C", None))
    ]
    other = replace(told[0], channel="quote")
    for heard, state, ns in (([other], "silent", None), ([other, *told], "heard", 9)):
        deliver = ProcessReport("deliver", 2, "", streams=heard, hears=True)
        (stream,) = merged([ProcessReport("capture", 1, "", streams=[asked]), deliver])
        assert (stream.state, stream.heard_ns) == (state, ns)
