"""Holes in the numbers of a subscription to books: which are asked for, when and how often."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from forebay.sources.kalshi.awaited import WITHIN_NS
from forebay.sources.kalshi.connector import UNANSWERED, KalshiSession
from forebay.sources.venue import ConnectionPurpose
from forebay.sources.websocket.refetch import TRIES
from tests.support.frames import SECOND, T0

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.sources.venue import MessageVerdict

TICKERS = ("KXA-1", "KXA-2", "KXB-1")
BOOKS = ("book_snapshot", "book_delta")
SID = 2


def book(
    seq: int, ticker: str = TICKERS[0], kind: str = "snapshot", *, spaced: bool = False
) -> bytes:
    message = {
        "type": f"orderbook_{kind}",
        "sid": SID,
        "seq": seq,
        "msg": {"market_ticker": ticker},
    }
    return json.dumps(message, separators=None if spaced else (",", ":")).encode()


class Conversation:
    """A session that is subscribed to books of some markets, second by second."""

    def __init__(self) -> None:
        self.session = KalshiSession(ConnectionPurpose(TICKERS, ("trade", *BOOKS)))
        self.session.opened(T0)
        for channel, sid in (("trade", 1), ("orderbook_delta", SID)):
            self.reply({"id": 1, "type": "subscribed", "msg": {"channel": channel, "sid": sid}})

    def reply(self, message: dict[str, Any], second: float = 0) -> MessageVerdict:
        return self.hear(json.dumps(message, separators=(",", ":")).encode(), second)

    def hear(self, payload: bytes, second: float = 0) -> MessageVerdict:
        return self.session.received(payload, T0 + round(second * SECOND))

    def begun(self) -> Conversation:
        for seq, ticker in enumerate(TICKERS, 1):
            assert not self.hear(book(seq, ticker)).send
        return self

    def tick(self, second: float) -> list[dict[str, Any]]:
        return commands(self.session.tick(T0 + round(second * SECOND)))


def commands(sent: Sequence[bytes]) -> list[dict[str, Any]]:
    return [json.loads(each) for each in sent]


def asked(*tickers: str) -> dict[str, Any]:
    return {"sids": [SID], "action": "get_snapshot", "market_tickers": [*tickers]}


def test_a_hole_asks_at_once_for_all_books_of_its_subscription_and_once() -> None:
    told = Conversation().begun()
    assert not told.hear(book(4, kind="delta")).send
    (command,) = commands(told.hear(book(6, kind="delta"), 1).send)
    assert (command["cmd"], command["params"]) == ("update_subscription", asked(*TICKERS))
    assert not told.hear(book(9, kind="delta"), 1).send
    assert not told.hear(book(10, kind="delta"), 1).send
    assert told.tick(2) == []


def test_books_that_came_are_not_asked_for_again() -> None:
    told = Conversation().begun()
    told.hear(book(5, kind="delta"), 1)
    for seq, ticker in enumerate(TICKERS[1:], 6):
        told.hear(book(seq, ticker), 2)
    (command,) = told.tick(3)
    assert command["params"] == asked(TICKERS[0])
    told.hear(book(8), 3)
    assert told.tick(1000) == []


def test_replies_have_numbers_and_trades_have_their_own() -> None:
    told = Conversation().begun()
    trade = b'{"type":"trade","sid":1,"seq":77,"msg":{}}'
    assert not told.hear(trade).send
    ok = {"id": 9, "sid": SID, "seq": 4, "type": "ok", "msg": {"market_tickers": [*TICKERS]}}
    told.reply(ok)
    assert not told.hear(book(5, kind="delta")).send
    told.reply(ok | {"seq": 7})
    (command,) = told.tick(1)
    assert command["params"] == asked(*TICKERS)


def test_a_message_that_is_written_otherwise_counts() -> None:
    told = Conversation().begun()
    assert not told.hear(book(4, kind="delta", spaced=True)).send
    assert told.hear(book(6, kind="delta")).send
    for seq, ticker in enumerate(TICKERS, 7):
        told.hear(book(seq, ticker, spaced=True), 1)
    assert told.tick(60) == []
    turned = {"type": "orderbook_delta", "seq": 10, "sid": SID, "msg": {"market_ticker": "KXA-1"}}
    told.reply(turned)
    assert not told.hear(book(11, kind="delta")).send


def test_a_book_that_comes_with_a_hole_before_it_is_whole() -> None:
    told = Conversation().begun()
    told.hear(book(5, TICKERS[0]), 1)
    assert [c["params"]["market_tickers"] for c in told.tick(5)] == [[*TICKERS[1:]]]


def test_a_message_that_comes_twice_or_late_asks_for_nothing() -> None:
    told = Conversation().begun()
    for seq in (4, 4, 2, 5):
        assert not told.hear(book(seq, kind="delta")).send


def test_a_book_that_does_not_come_with_its_subscription_is_asked_for() -> None:
    told = Conversation()
    told.hear(book(2, TICKERS[1]))
    told.hear(book(3, TICKERS[2]))
    assert told.tick(WITHIN_NS / SECOND - 1) == []
    (command,) = told.tick(WITHIN_NS / SECOND)
    assert command["params"] == asked(TICKERS[0])


def test_one_book_that_never_comes_is_asked_for_ten_times_and_then_ends_the_connection() -> None:
    told = Conversation().begun()
    told.hear(book(5, kind="delta"))
    told.hear(book(6, TICKERS[1]))
    told.hear(book(7, TICKERS[2]))
    times = [second for second in range(3600) if told.tick(second)]
    assert len(times) == TRIES - 1, "the first one was sent at once"
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert times[-1] > 600
    said = told.hear(book(8, kind="delta"), 3600)
    assert said.ended == f"the book of {TICKERS[0]} could not be had again"


def test_a_book_that_never_was_ends_nothing() -> None:
    told = Conversation()
    told.hear(book(1, TICKERS[1]))
    told.hear(book(2, TICKERS[2]))
    assert sum(len(told.tick(second)) for second in range(7200)) == TRIES
    assert not told.hear(book(3, TICKERS[1], kind="delta"), 7200).ended


def test_an_error_in_answer_is_a_complaint_and_the_pause_goes_on() -> None:
    told = Conversation().begun()
    (command,) = commands(told.hear(book(9)).send)
    error = {"id": command["id"], "type": "error", "msg": {"code": 27, "msg": "Too many requests"}}
    said = told.reply(error)
    assert (said.complaint, said.ended, said.send) == ("error 27: Too many requests", "", ())
    assert [bool(told.tick(second)) for second in (1, 2)] == [False, True]
    (command,) = commands(told.hear(book(20), 900).send)
    failed = {"id": command["id"], "type": "error", "msg": {"code": 10, "msg": "Channel failed"}}
    assert told.reply(failed, 900).ended == "error 10: Channel failed"


def test_markets_that_left_are_not_asked_for_and_new_ones_are_expected() -> None:
    told = Conversation().begun()
    added = commands(told.session.change(["KXC-1"], TICKERS[:1], T0))
    add = next(c["id"] for c in added if c["params"]["action"] == "add_markets"
               and c["params"]["sids"] == [SID])  # fmt: skip
    told.reply({"id": add, "sid": SID, "seq": 4, "type": "ok", "msg": {}}, 1)
    (command,) = commands(told.hear(book(6, TICKERS[1], "delta"), 2).send)
    assert command["params"] == asked(*TICKERS[1:])
    for seq, ticker in enumerate(TICKERS[1:], 7):
        told.hear(book(seq, ticker), 3)
    (command,) = told.tick(1 + WITHIN_NS / SECOND)
    assert command["params"] == asked("KXC-1")


def test_commands_that_nobody_answers_do_not_add_up() -> None:
    told = Conversation().begun()
    for number in range(1, 1000):
        told.hear(book(number * 10), number * 1000)
        told.tick(number * 1000 + 1)
    assert len(told.session._sent) <= UNANSWERED + 2


def test_a_torn_message_has_not_come() -> None:
    told = Conversation().begun()
    for whole in (book(4, kind="delta"), book(4)):
        assert not told.hear(whole[:-1]).send
    (command,) = commands(told.hear(book(5, kind="delta"), 1).send)
    assert command["params"] == asked(*TICKERS)
    torn = book(6, TICKERS[0])[:-2]
    assert not told.hear(torn, 1).send
    for seq, ticker in enumerate(TICKERS[1:], 7):
        told.hear(book(seq, ticker), 1)
    assert [each["params"] for each in told.tick(3)] == [asked(TICKERS[0])]


def test_a_book_that_comes_late_or_twice_is_asked_for_again() -> None:
    told = Conversation().begun()
    told.hear(book(4, kind="delta"))
    (command,) = commands(told.hear(book(3, TICKERS[2]), 1).send)
    assert command["params"] == asked(TICKERS[2])
    told.hear(book(5, TICKERS[2]), 1)
    assert told.tick(9) == []
    assert not told.hear(book(6, kind="delta"), 9).send


def test_a_number_that_was_none_hides_no_hole_for_long() -> None:
    told = Conversation().begun()
    assert told.hear(book(4_000_000, kind="delta")).send
    for seq in (5, 6, 7):
        assert not told.hear(book(seq, kind="delta")).send
    for seq, ticker in enumerate(TICKERS, 8):
        assert not told.hear(book(seq, ticker), 1).send
    assert not told.hear(book(11, kind="delta"), 9).send
    assert told.hear(book(13, kind="delta"), 9).send
