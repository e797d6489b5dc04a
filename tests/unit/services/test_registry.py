"""The market registry, pure: what is wanted, and what is owed of it from when to when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from forebay.domain.listing import ListedMarket
from forebay.services.registry import (
    MISSED,
    MOST_KNOWN,
    MarketOwing,
    Registry,
    RegistryMemory,
    RegistryTimes,
)

if TYPE_CHECKING:
    import pytest

    from forebay.domain.listing import MarketState

S = 10**9
NOW = 1_786_000_000 * S
MINUTE = 60 * S
TIMES = RegistryTimes(lead_ns=2 * MINUTE, linger_ns=30 * S, keep_ns=60 * MINUTE)
GOLD = "KXGOLD15M-*"


def market(
    symbol: str = "KXGOLD15M-A", state: MarketState = "open", open_ns: int | None = None, *ends: int
) -> ListedMarket:
    return ListedMarket(symbol=symbol, state=state, open_ns=open_ns, ends_ns=ends)


def registry(*asked: str, memory: RegistryMemory | None = None) -> Registry:
    return Registry(asked or (GOLD,), NOW, memory, TIMES)


# -------------------------------------------------------------------- what is wanted


def test_a_pattern_stands_for_what_is_open_and_what_opens_soon() -> None:
    made = registry("KXGOLD15M-*", "KX?-B")
    made.tell(
        [
            market("KXGOLD15M-A"),
            market("KXGOLD15M-SOON", "coming", NOW + 2 * MINUTE),
            market("KXGOLD15M-LATER", "coming", NOW + 2 * MINUTE + 1),
            market("KXGOLD15M-SOMEDAY", "coming"),
            market("KXGOLD15M-OVER", "ended", NOW - MINUTE, NOW - 1),
            market("KX1-B"),
            market("KX12-B"),
            market("kxgold15m-a"),
        ],
        NOW,
    )
    assert made.wanted(NOW) == ("KXGOLD15M-A", "KXGOLD15M-SOON", "KX1-B")
    assert "KXGOLD15M-LATER" in made.wanted(NOW + 1)


def test_a_pattern_means_its_other_characters_as_they_are() -> None:
    made = registry("KX.[A]-*")
    made.tell([market("KX.[A]-1"), market("KXZA-1"), market("KX.A-1")], NOW)
    assert made.wanted(NOW) == ("KX.[A]-1",)


def test_a_symbol_that_is_written_out_is_wanted_until_it_ended() -> None:
    made = registry("M", "N")
    assert made.wanted(NOW) == ("M", "N"), "whatever the venue says of them"
    made.tell([market("M", "coming", NOW + 90 * MINUTE), market("N", "ended", NOW - S, NOW)], NOW)
    assert made.wanted(NOW) == ("M",)


# ---------------------------------------------------------------------- what is owed


def test_what_opened_while_it_was_asked_for_is_owed_from_its_opening() -> None:
    made = registry()
    assert not made.tell([market("KXGOLD15M-A", "coming", NOW + MINUTE)], NOW).owing
    opened = made.tell([market("KXGOLD15M-A", "open", NOW + MINUTE)], NOW + 2 * MINUTE)
    assert opened.owing == [MarketOwing("KXGOLD15M-A", NOW + MINUTE)]
    met = made.tell([market("KXGOLD15M-B", "open", NOW + MINUTE)], NOW + 2 * MINUTE)
    assert met.owing == [MarketOwing("KXGOLD15M-B", NOW + MINUTE)], "nobody told of it before"
    ahead = made.tell([market("KXGOLD15M-C", "open", NOW + 3 * MINUTE)], NOW + 2 * MINUTE)
    assert ahead.owing == [MarketOwing("KXGOLD15M-C", NOW + 2 * MINUTE)], "by its schedule later"


def test_what_was_open_before_is_owed_from_its_acceptance() -> None:
    made = registry()
    told = [market("KXGOLD15M-A", "open", NOW - MINUTE)]
    assert made.tell(told, NOW).owing == [MarketOwing("KXGOLD15M-A", None)]
    assert not made.tell(told, NOW + MINUTE).owing, "that it is listed has been said"
    assert made.wanted(NOW) == ("KXGOLD15M-A",)


def test_an_early_settlement_ends_what_is_owed_at_its_actual_close() -> None:
    """KA04: the scheduled expiry stays in the list, a day ahead."""
    made, scheduled = registry(), NOW + 86_400 * S
    made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE, scheduled)], NOW)
    settled = market("KXGOLD15M-A", "ended", NOW - MINUTE, scheduled, NOW + MINUTE)
    assert made.tell([settled], NOW + 5 * MINUTE).owing == [
        MarketOwing("KXGOLD15M-A", None, NOW + MINUTE)
    ]
    later = NOW + 5 * MINUTE + TIMES.linger_ns
    assert made.wanted(later - 1) == ("KXGOLD15M-A",), "the last words are captured"
    assert made.wanted(later) == ()
    assert made.pass_time(later).owing == [MarketOwing("KXGOLD15M-A", None, NOW + MINUTE)]
    assert not made.pass_time(later + 1).owing, "and that is all"


def test_an_end_is_neither_before_the_opening_nor_to_come() -> None:
    made = registry()
    made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE)], NOW)
    wrong = market("KXGOLD15M-A", "ended", NOW - MINUTE, NOW - 2 * MINUTE, NOW + 9 * MINUTE)
    assert made.tell([wrong], NOW + MINUTE).owing == [
        MarketOwing("KXGOLD15M-A", None, NOW + MINUTE)
    ]


def test_what_opened_and_ended_between_two_looks_is_owed_whole() -> None:
    made = registry()
    over = market("KXGOLD15M-A", "ended", NOW + MINUTE, NOW + 2 * MINUTE)
    assert made.tell([over], NOW + 3 * MINUTE).owing == [
        MarketOwing("KXGOLD15M-A", NOW + MINUTE, NOW + 2 * MINUTE)
    ]
    assert made.wanted(NOW + 3 * MINUTE) == (), "there is nothing to capture any more"


def test_what_ended_before_it_was_asked_for_is_none_of_ours() -> None:
    made = registry()
    assert not made.tell([market("KXGOLD15M-A", "ended", NOW - MINUTE, NOW - 1)], NOW).owing
    assert not made.known


def test_a_market_that_opens_again_is_wanted_and_owed_again() -> None:
    made = registry()
    made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE)], NOW)
    made.tell([market("KXGOLD15M-A", "ended", NOW - MINUTE, NOW)], NOW + 1)
    again = made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE)], NOW + 90 * S)
    assert again.owing == [MarketOwing("KXGOLD15M-A", None, None)]
    assert made.wanted(NOW + 90 * S) == ("KXGOLD15M-A",)


def test_a_market_that_is_told_no_more_is_gone() -> None:
    """CN10: one that is removed ends, and what is left goes on."""
    made = registry()
    made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE), market("KXGOLD15M-B")], NOW)
    assert MISSED == 2
    for now, gone in ((NOW + MINUTE, []), (NOW + 2 * MINUTE, ["KXGOLD15M-A"])):
        made.tell([market("KXGOLD15M-B")], now)
        assert made.unseen(now) == ["KXGOLD15M-A"]
        news = made.untold(["KXGOLD15M-A"], now)
        assert news.gone == gone
        assert news.owing == [MarketOwing(symbol, None, NOW) for symbol in gone]
    now = NOW + 2 * MINUTE
    assert made.wanted(now) == ("KXGOLD15M-B",)
    made.tell([market("KXGOLD15M-A", "open", NOW - MINUTE)], now + 1)
    assert "KXGOLD15M-A" in made.wanted(now + 1), "it was a mistake of the venue's"
    assert not made.untold(["KXGOLD15M-A"], now + 2).gone, "looks in a row count"


# --------------------------------------------------------------------- what is asked


def test_a_look_asks_by_the_heads_of_patterns_and_for_the_rest_by_name() -> None:
    made = registry("KXGOLD15M-*", "KXGOLD15M-??", "KXMVE*", "M")
    made.looked(NOW)
    now = NOW + MINUTE
    asked = [(query.head, query.state) for query in made.queries(now)]
    states = ("coming", "open", "ended")
    assert asked == [(head, state) for head in ("KXGOLD15M-", "KXMVE") for state in states]
    ended = [query for query in made.queries(now) if query.state == "ended"]
    assert {(query.since_ns, query.until_ns) for query in ended} == {(NOW - TIMES.overlap_ns, now)}
    made.tell([market("KXGOLD15M-A")], NOW)
    made.tell([market("KXGOLD15M-B")], now)
    assert made.unseen(now) == ["KXGOLD15M-A", "M"]


def test_a_market_that_only_another_channel_tells_of_is_asked_for() -> None:
    """KA04: the markets of KXMVE are told of apart; the registry asks for whatever is named."""
    made = registry("KXMVE*")
    assert made.asked_of({"KXMVE-1", "KXOTHER-1"}) == ["KXMVE-1"]
    made.tell([market("KXMVE-1", "open", NOW + S)], NOW + 2 * S)
    assert made.wanted(NOW + 2 * S) == ("KXMVE-1",)


# ------------------------------------------------------------------- what is strange


def test_a_new_word_is_told_once_and_one_that_cannot_be_is_told_alone() -> None:
    made = registry("M*")
    word = ("price_level_structure", "never_seen")
    some = [ListedMarket(symbol=f"M{n}", state="open", unknown=(word,)) for n in range(999)]
    bad = ListedMarket(symbol="M-BAD", state="open", open_ns=NOW, impossible="close_ts")
    news = made.tell([*some, bad], NOW)
    assert news.unknown == [word]
    assert news.impossible == [("M-BAD", "close_ts")]
    assert len(made.wanted(NOW)) == 1000, "the others go on, and so does it"
    again = made.tell([*some, bad], NOW + MINUTE)
    assert not again.unknown
    assert not again.impossible


# ------------------------------------------------------------------- what is bounded


def test_what_ended_long_ago_is_forgotten() -> None:
    made, now = registry(), NOW
    for n in range(100):
        now = NOW + 15 * n * MINUTE
        made.tell([market(f"KXGOLD15M-{n}", "open", now)], now)
        made.tell([market(f"KXGOLD15M-{n - 1}", "ended", now - 15 * MINUTE, now)], now)
        made.pass_time(now + MINUTE)
        assert len(made.known) <= 7
    assert made.counts() == {"coming": 0, "open": 1, "ended": len(made.known) - 1}


def test_a_symbol_that_is_written_out_is_not_begun_again_long_after_its_end() -> None:
    made, later = registry("M"), NOW + TIMES.keep_ns + 2 * MINUTE
    made.tell([market("M", "open", NOW - MINUTE)], NOW)
    made.tell([market("M", "ended", NOW - MINUTE, NOW)], NOW + 1)
    for now in (NOW + MINUTE, later):
        made.pass_time(now)
        assert made.wanted(now) == ()


def test_more_markets_than_there_is_room_for_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.services.registry.MOST_KNOWN", 3)
    made = registry("M*")
    made.tell([market(f"M{n}") for n in range(5)], NOW)
    assert (len(made.known), made.left_out) == (3, 2)
    list(made.queries(NOW + 1))
    assert made.left_out == 0, "each look counts anew"
    assert MOST_KNOWN > 10_000


# ------------------------------------------------------------------ what is remembered


def test_after_a_restart_what_was_open_is_captured_and_what_ended_meanwhile_is_owed() -> None:
    first = registry()
    first.tell([market("KXGOLD15M-A", "open", NOW + S)], NOW + 2 * S)
    first.looked(NOW + 2 * S)
    back = NOW + 60 * MINUTE
    second = Registry((GOLD,), back, first.memory(), TIMES)
    assert second.wanted(back) == ("KXGOLD15M-A",), "before the list is had"
    opened, closed = NOW + 20 * MINUTE, NOW + 40 * MINUTE
    told = [
        market("KXGOLD15M-A", "ended", NOW + S, NOW + 10 * MINUTE),
        market("KXGOLD15M-B", "ended", opened, closed),
        market("KXGOLD15M-C", "open", closed),
    ]
    assert second.tell(told, back).owing == [
        MarketOwing("KXGOLD15M-A", NOW + S, NOW + 10 * MINUTE),
        MarketOwing("KXGOLD15M-B", opened, closed),
        MarketOwing("KXGOLD15M-C", closed),
    ]


def test_a_pattern_that_is_new_is_asked_for_from_now_on() -> None:
    memory = RegistryMemory({GOLD: NOW - 60 * MINUTE}, NOW - MINUTE, {"KXOLD-1": (None, None)})
    made = Registry((GOLD, "KXNEW-*"), NOW, memory, TIMES)
    assert made.wanted(NOW) == (), "nobody asks for what was open any more"
    opened = NOW - 30 * MINUTE
    owing = made.tell(
        [market("KXGOLD15M-A", "open", opened), market("KXNEW-1", "open", opened)], NOW
    )
    assert owing.owing == [MarketOwing("KXGOLD15M-A", opened), MarketOwing("KXNEW-1", None)]


STATES = st.sampled_from(["coming", "open", "ended"])


@given(
    st.lists(
        st.tuples(st.integers(0, 2), STATES, st.integers(0, 3), st.integers(1, 9)), max_size=30
    )
)
def test_whatever_is_told_an_end_is_behind_its_begin_and_holds_only_what_is_over(
    told: list[tuple[int, MarketState, int, int]],
) -> None:
    made, now = registry("M*"), NOW
    last: dict[str, MarketOwing] = {}
    for symbol, state, opens, waits in told:
        now += waits * MINUTE
        open_ns = NOW + opens * MINUTE
        news = made.tell([market(f"M{symbol}", state, open_ns, now - MINUTE)], now)
        for owing in (*news.owing, *made.pass_time(now).owing):
            last[owing.symbol] = owing
            assert owing.until_ns is None or owing.until_ns <= now
            assert None in owing[1:] or owing.since_ns <= owing.until_ns  # type: ignore[operator]
    for name, known in made.known.items():
        assert last.get(name, MarketOwing(name, None)) == known.owing, "what holds is on record"
        assert known.told.state != ("open" if known.until_ns is not None else "ended")
