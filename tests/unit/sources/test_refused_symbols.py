"""One symbol among several that the venue does not want costs itself alone, however it is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from forebay.domain.frames import EpochAccepted, EpochClosed
from forebay.sources.coinbase.connector import CoinbaseSession
from forebay.sources.venue import ConnectionPurpose
from forebay.telemetry import StreamRefused, VenueComplained
from forebay.visible import LONGEST_WORDS
from tests.support.choosy_venue import Choosy, capturing

GOOD = ("BTC-USD", "LTC-USD", "SOL-USD")
BAD = "ETH-USD"
HOWS = ("named", "unnamed", "left_out", "ignored", "dropped")


@pytest.mark.parametrize("how", HOWS)
async def test_the_others_are_captured_and_the_one_is_named(how: str) -> None:
    async with capturing(Choosy(how, BAD), "BTC-USD", BAD, "LTC-USD", "SOL-USD") as rig:
        await rig.until(lambda: rig.told() >= set(GOOD) and rig.refused() == {BAD})
        await rig.until(
            lambda: all(
                each.acknowledged_ns
                for place, each in rig.roster.standings.items()
                if place.symbol in GOOD
            )
        )
    refusals = [each for each in rig.heard(StreamRefused) if isinstance(each, StreamRefused)]
    assert {each.symbol for each in refusals} == {BAD}
    assert {symbol for each in rig.on_record() for _, symbol in each.streams} == {BAD}


@pytest.mark.parametrize("how", HOWS)
async def test_it_is_asked_for_again_and_captured_once_the_venue_gives_it(how: str) -> None:
    async with capturing(Choosy(how, BAD), "BTC-USD", BAD, "LTC-USD") as rig:
        await rig.until(lambda: rig.refused() == {BAD} and "BTC-USD" in rig.told())
        rig.venue.bad.clear()
        rig.venue.how = "named"
        await rig.until(lambda: BAD in rig.told() and not rig.refused())


async def test_a_symbol_that_is_refused_when_the_link_comes_back_costs_the_others_nothing() -> None:
    async with capturing(Choosy("named"), "BTC-USD", BAD) as rig:
        await rig.until(lambda: rig.told() == {"BTC-USD", BAD})
        rig.venue.bad.add(BAD)
        rig.venue.peers[0].abort()
        await rig.until(lambda: rig.refused() == {BAD} and ["BTC-USD"] in rig.venue.asked)
        await rig.until(lambda: rig.source.connections == 1)


async def test_the_acceptance_on_record_names_only_what_was_acknowledged() -> None:
    async with capturing(Choosy("left_out", BAD), "BTC-USD", BAD) as rig:
        await rig.until(lambda: rig.refused() == {BAD} and "BTC-USD" in rig.told())
    accepted = [each for each in rig.sink.epochs[0].controls if isinstance(each, EpochAccepted)]
    assert accepted == [EpochAccepted((("trade", "BTC-USD"),))]


async def test_an_empty_acknowledgement_is_told_and_what_comes_all_the_same_is_taken() -> None:
    async def empty(peer: object, channels: list[str], products: list[str]) -> None:
        await accept(peer, channels, [])  # type: ignore[arg-type]
        for product in products:
            await accept_data(peer, product)

    venue = Choosy("named")
    accept = venue.accept

    async def accept_data(peer: object, product: str) -> None:
        from tests.support.frames import match

        await peer.text(match(1, product))  # type: ignore[attr-defined]

    venue.accept = empty  # type: ignore[method-assign]
    async with capturing(venue, "BTC-USD", BAD) as rig:
        await rig.until(lambda: all(each.acknowledged_ns for each in rig.roster.standings.values()))
    assert "lists nothing" in str(rig.heard(VenueComplained)[0])


async def test_an_empty_acknowledgement_of_nothing_is_not_waited_for_in_silence() -> None:
    async with capturing(Choosy("left_out", BAD), BAD) as rig:
        await rig.until(lambda: len(rig.venue.asked) >= 2)
    assert rig.heard(VenueComplained)


def error(message: str, reason: str = "") -> bytes:
    return json.dumps({"type": "error", "message": message, "reason": reason}).encode()


async def test_an_error_on_a_running_feed_is_told_once_and_counted_each_time() -> None:
    async with capturing(Choosy("named"), "BTC-USD") as rig:
        await rig.until(lambda: rig.told() == {"BTC-USD"})
        for _ in range(5):
            await rig.venue.peers[0].text(error("Internal error", "try later"))
        await rig.until(lambda: rig.roster.complaints["coinbase"] == 5)
        assert [getattr(each, "complaint", "") for each in rig.heard(VenueComplained)] == [
            "Internal error: try later"
        ]
        assert len(rig.venue.asked) == 1, "it ended nothing"


async def test_a_flood_of_different_errors_is_counted_and_not_told_line_by_line() -> None:
    async with capturing(Choosy("named"), "BTC-USD") as rig:
        await rig.until(lambda: rig.told() == {"BTC-USD"})
        for number in range(300):
            await rig.venue.peers[0].text(error("Slow down", f"{number} {'x' * 5000}"))
        await rig.until(lambda: rig.roster.complaints["coinbase"] == 300)
    told = [str(each) for each in rig.heard(VenueComplained)]
    assert 0 < len(told) <= 20
    assert max(map(len, told)) < 1000


async def test_a_long_refusal_is_on_record_in_short() -> None:
    async with capturing(Choosy("named"), "BTC-USD", "LTC-USD") as rig:
        await rig.until(lambda: len(rig.told()) == 2)
        await rig.venue.peers[0].text(error("BTC-USD was renamed", "x" * 50_000))
        await rig.until(lambda: len(rig.venue.asked) >= 2)
    closed = [c for each in rig.sink.epochs for c in each.controls if isinstance(c, EpochClosed)]
    reasons = [each.reason for each in closed] + [each.reason for each in rig.on_record()]
    assert any("BTC-USD was renamed" in reason for reason in reasons)
    assert max(map(len, reasons)) <= LONGEST_WORDS


@pytest.mark.parametrize("name", [["matches"], {"matches": 1}, None, 7])
def test_an_acknowledgement_of_odd_names_is_one_of_nothing(name: object) -> None:
    session = CoinbaseSession(ConnectionPurpose(("BTC-USD",), ("trade",)))
    entry = {"name": name, "product_ids": ["BTC-USD"]}
    said = session.received(json.dumps({"type": "subscriptions", "channels": [entry]}).encode(), 0)
    assert "lists nothing" in said.complaint


@pytest.mark.parametrize("kind", ["status", "notice", "auction"])
async def test_a_message_of_another_type_that_carries_words_is_a_complaint(kind: str) -> None:
    async with capturing(Choosy("named"), "BTC-USD") as rig:
        await rig.until(lambda: rig.told() == {"BTC-USD"})
        words = {"type": kind, "message": "matches are paused"}
        await rig.venue.peers[0].text(json.dumps(words).encode())
        await rig.until(lambda: bool(rig.heard(VenueComplained)))
    assert "matches are paused" in str(rig.heard(VenueComplained)[0])


@pytest.mark.parametrize("reason", ["", "BTC-USD was renamed", "subscription has lapsed"])
async def test_an_error_about_the_subscription_renews_it(reason: str) -> None:
    async with capturing(Choosy("named"), "BTC-USD", "LTC-USD") as rig:
        await rig.until(lambda: len(rig.told()) == 2)
        await rig.venue.peers[0].text(error("Failed to subscribe", reason))
        await rig.until(lambda: len(rig.venue.asked) >= 2 and not rig.refused())
        await asyncio.sleep(0.01)
    assert rig.heard(VenueComplained)


async def test_what_is_wrong_with_one_channel_leaves_the_others() -> None:
    venue = Choosy("named")
    accept = venue.accept

    async def no_tickers(peer: object, channels: list[str], products: list[str]) -> None:
        if "ticker" in channels:
            await peer.text(error("Failed to subscribe", "ticker is not a valid channel"))  # type: ignore[attr-defined]
        else:
            await accept(peer, channels, products)  # type: ignore[arg-type]

    venue.accept = no_tickers  # type: ignore[method-assign]
    async with capturing(venue, "BTC-USD", "LTC-USD", channels=("trade", "ticker")) as rig:
        await rig.until(lambda: len(rig.told()) == 2)
        refused = {
            (p.channel, p.symbol) for p, each in rig.roster.standings.items() if each.refused
        }
    assert refused == {("ticker", "BTC-USD"), ("ticker", "LTC-USD")}
