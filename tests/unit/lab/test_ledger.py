"""What the ledger says was withheld, and how sure it is."""

from __future__ import annotations

from forebay.lab.ledger import SETTLE_NS, DeliveryLedger, Withheld

MS = 1_000_000
BTC = "BTC-USD"


def report(ledger: DeliveryLedger, last: int = 9, held: tuple[int, ...] = ()) -> Withheld:
    return ledger.report(BTC, 0, last, held)


def test_nothing_sent_is_certainly_withheld() -> None:
    ledger = DeliveryLedger()
    for index in range(10):
        ledger.note(BTC, index, "outage")
    assert report(ledger)["certain"] == [(0, 9, "outage")]
    assert report(ledger)["in_doubt"] == []


def test_what_was_sent_is_in_doubt_until_confirmed() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    for index in range(10):
        account.wrote(BTC, index)
    assert report(ledger)["in_doubt"] == [(0, 9, "unconfirmed")]
    assert not ledger.settled()
    account.pong(account.ping(0), 0)
    assert report(ledger)["in_doubt"] == [(0, 9, "unconfirmed")]
    account.pong(account.ping(SETTLE_NS), SETTLE_NS)
    assert report(ledger)["in_doubt"] == []
    assert report(ledger)["certain"] == []
    assert ledger.settled()


def test_a_pong_confirms_only_what_was_answered_long_enough_before_its_ping() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 0)
    first = account.ping(0)
    account.wrote(BTC, 1)
    second = account.ping(100 * MS)
    account.pong(first, 100 * MS)  # both answered at once, after a pause of the peer
    account.pong(second, 100 * MS)
    too_soon = account.ping(100 * MS + SETTLE_NS - 1)
    account.pong(too_soon, 100 * MS + SETTLE_NS)
    assert report(ledger, 1)["in_doubt"] == [(0, 1, "unconfirmed")]
    account.wrote(BTC, 2)
    account.pong(account.ping(101 * MS + SETTLE_NS), 102 * MS + SETTLE_NS)
    assert report(ledger, 2)["in_doubt"] == [(2, 2, "unconfirmed")]


def test_a_ping_that_is_not_answered_confirms_nothing() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 0)
    for at in range(20):
        account.ping(at * 100 * MS)
    assert report(ledger, 0)["in_doubt"] == [(0, 0, "unconfirmed")]


def test_one_answer_stands_for_earlier_pings_too() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 0)
    account.ping(0)
    account.pong(account.ping(100 * MS), 100 * MS)  # RFC 6455: only the latest needs an answer
    account.ping(110 * MS + SETTLE_NS)
    account.pong(account.ping(120 * MS + SETTLE_NS), 130 * MS + SETTLE_NS)
    assert report(ledger, 0)["in_doubt"] == []


def test_a_pong_that_nobody_asked_for_confirms_nothing() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 0)
    account.ping(0)
    account.pong(1, 0)
    account.ping(SETTLE_NS)  # the answer to this one would confirm
    for number in (99, 0, 99):
        account.pong(number, SETTLE_NS * 9)
    assert report(ledger, 0)["in_doubt"] == [(0, 0, "unconfirmed")]


def test_what_a_closed_connection_did_not_confirm_stays_in_doubt() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 3)
    ledger.close_account(account, "closed by peer")
    ledger.close_account(account, "twice is once")
    assert report(ledger)["in_doubt"] == [(3, 3, "closed by peer")]
    assert [i[:2] for i in report(ledger)["certain"]] == [(0, 2), (4, 9)]
    assert ledger.settled()


def test_in_doubt_on_one_connection_and_confirmed_on_another_is_delivered() -> None:
    ledger = DeliveryLedger()
    lost, kept = ledger.open_account(), ledger.open_account()
    for index in range(10):
        lost.wrote(BTC, index)
        if index != 4:
            kept.wrote(BTC, index)
    ledger.close_account(lost, "disconnect")
    kept.pong(kept.ping(0), 0)
    kept.pong(kept.ping(SETTLE_NS), SETTLE_NS)
    assert report(ledger)["in_doubt"] == [(4, 4, "disconnect")]
    assert report(ledger)["certain"] == []


def test_an_interval_names_all_its_reasons() -> None:
    ledger = DeliveryLedger()
    ledger.note(BTC, 2, "drop")
    ledger.note(BTC, 3, "outage")
    ledger.note(BTC, 4, "drop")
    ledger.note(BTC, 7, "corrupt")
    account = ledger.open_account()
    for index in (0, 1, 5, 6, 8, 9):
        account.wrote(BTC, index)
    assert report(ledger)["certain"] == [(2, 4, "drop+outage"), (7, 7, "corrupt")]


def test_a_reason_noted_for_what_was_sent_after_all_is_not_shown() -> None:
    ledger = DeliveryLedger()
    ledger.note(BTC, 5, "late")
    account = ledger.open_account()
    account.wrote(BTC, 5)
    assert "late" not in str(report(ledger)["certain"])


def test_what_is_held_back_is_in_doubt_not_withheld() -> None:
    ledger = DeliveryLedger()
    assert report(ledger, 0, held=(0,))["in_doubt"] == [(0, 0, "held")]
    assert report(ledger, 0, held=(0,))["certain"] == []


def test_poison_is_withheld_and_listed_by_how_sure_its_arrival_is() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 2, torn=True)
    account.pong(account.ping(0), 0)
    account.pong(account.ping(SETTLE_NS), SETTLE_NS)
    account.wrote(BTC, 6, torn=True)
    said = report(ledger)
    assert (said["poison"], said["poison_in_doubt"]) == ([2], [6])
    assert [i[:2] for i in said["certain"]] == [(0, 9)]
    ledger.close_account(account, "disconnect")
    assert report(ledger)["poison_in_doubt"] == [6]


def test_nothing_outside_the_bounds_is_said() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote(BTC, 99)
    account.wrote(BTC, 98, torn=True)
    ledger.note(BTC, 97, "drop")
    said = ledger.report(BTC, 100, 99)
    assert (said["certain"], said["in_doubt"], said["poison_in_doubt"]) == ([], [], [])


def test_symbols_do_not_mix() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    account.wrote("ETH-USD", 0)
    ledger.note("ETH-USD", 1, "drop")
    ledger.count("ETH-USD", "late")
    assert report(ledger, 1)["certain"] == [(0, 1, "")]
    assert report(ledger, 1)["late_or_duplicate"]["late"] == 0
    assert ledger.report("ETH-USD", 0, 1)["late_or_duplicate"]["late"] == 1


def test_memory_is_bounded_by_holes_even_if_the_peer_never_answers() -> None:
    ledger = DeliveryLedger()
    account = ledger.open_account()
    for at in range(5_000):
        account.wrote(BTC, at)
        account.ping(at * 100 * MS)
    assert len(account._windows) <= 601
    assert len(account._pings) <= 600
    assert report(ledger, 4_999)["in_doubt"] == [(0, 4_999, "unconfirmed")]
