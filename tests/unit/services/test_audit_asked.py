"""What is asked for and nobody hears is not complete, with frames or without, wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.domain.frames import Context, EpochAccepted, StreamsAsked, StreamsRefused
from tests.support.audit_bench import BTC, ETH, Bench, bench, event, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.domain.frames import Control
    from forebay.services.audit import AuditReport, Use

SOURCES: list[Use] = ["frames", "auto"]
GONE = "X-USD"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "journal", segment_bytes=5000) as whole:
        yield whole


def ask(told: Bench, *symbols: str, at: int = 0, collector: str = "c1") -> None:
    streams = tuple(("spot", "trade", symbol) for symbol in symbols)
    say(told, StreamsAsked(streams), at, collector)


def say(told: Bench, control: Control, at: int, collector: str = "c1", symbol: str = GONE) -> None:
    context = Context(
        venue="coinbase",
        source="ws",
        purpose="live",
        collector=collector,
        epoch="said",
        symbols=(symbol,),
        channels=("trade",),
    )
    told.control(control, event(at).event_ts, context)


def refuse(told: Bench, symbol: str, at: int) -> None:
    say(told, StreamsRefused((("trade", symbol),), "it is unknown"), at)


def wrong(report: AuditReport) -> list[tuple[str, str]]:
    assert report.ok is not bool(report.problems)
    return [(problem.kind, problem.stream) for problem in report.problems]


@pytest.mark.parametrize("source", SOURCES)
def test_a_symbol_that_is_asked_for_and_never_heard_is_not_complete(
    told: Bench, source: Use
) -> None:
    ask(told, BTC, ETH, GONE)
    record(told)
    told.deliver()
    told.keep_ledger()
    report = told.audit(source=source)
    assert wrong(report) == [("never_heard", f"coinbase/trade/{GONE}")]
    assert "asked for since" in report.problems[0].text
    streams = {stream.symbol: stream for stream in report.streams}
    assert streams[GONE].verified_from is None
    assert streams[BTC].verified_from is not None


@pytest.mark.parametrize("source", SOURCES)
def test_a_refusal_on_record_is_told_with_the_venues_words(told: Bench, source: Use) -> None:
    ask(told, BTC, ETH, GONE)
    refuse(told, GONE, 1)
    record(told)
    told.deliver()
    told.keep_ledger()
    report = told.audit(source=source)
    assert wrong(report) == [("not_given", f"coinbase/trade/{GONE}")]
    assert report.problems[0].text.endswith(
        ": it is unknown. If it is a mistake, start again without it."
    )


def test_without_frames_the_ledger_still_knows(told: Bench) -> None:
    ask(told, BTC, ETH, GONE)
    refuse(told, GONE, 1)
    record(told)
    told.deliver()
    told.keep_ledger()
    told.forget(told.ends()[-1].seq)
    assert ("not_given", f"coinbase/trade/{GONE}") in wrong(told.audit(source="ledger"))


def test_a_symbol_that_was_heard_and_is_refused_now_keeps_what_is_verified(told: Bench) -> None:
    ask(told, BTC, ETH)
    record(told)
    refuse(told, BTC, 399)
    told.deliver()
    report = told.audit()
    assert wrong(report) == [("not_given", f"coinbase/trade/{BTC}")]
    verified = {stream.symbol: stream.verified_to for stream in report.streams}
    assert verified[BTC] is not None


def test_an_acceptance_after_a_refusal_ends_it(told: Bench) -> None:
    ask(told, BTC, ETH)
    refuse(told, BTC, 0)
    say(told, EpochAccepted((("trade", BTC),)), 1)
    record(told)
    told.deliver()
    assert wrong(told.audit()) == []


def test_what_is_not_asked_for_any_more_is_owed_no_more(told: Bench) -> None:
    ask(told, BTC, ETH, GONE)
    refuse(told, GONE, 1)
    record(told)
    ask(told, BTC, ETH, at=399)
    told.deliver()
    assert wrong(told.audit()) == []


def test_each_collector_asks_for_itself(told: Bench) -> None:
    ask(told, BTC, ETH, GONE)
    record(told)
    ask(told, BTC, ETH, at=399, collector="c2")
    told.deliver()
    assert wrong(told.audit()) == [("never_heard", f"coinbase/trade/{GONE}")]


def test_a_symbol_that_was_asked_for_a_moment_ago_need_not_have_been_heard(told: Bench) -> None:
    record(told)
    ask(told, BTC, ETH, GONE, at=399)
    told.deliver()
    assert wrong(told.audit()) == []


@pytest.mark.parametrize(("waited_s", "missed"), [(60, False), (301, True)])
def test_a_polled_kind_has_time_until_its_first_answer(
    told: Bench, *, waited_s: int, missed: bool
) -> None:
    """The bar of a minute is told when the minute is over."""
    record(told)
    began_ns = event(399).event_ts
    context = Context(
        venue="coinbase",
        source="rest",
        purpose="live",
        collector="c1",
        epoch="said",
        symbols=(BTC,),
        channels=("bar",),
    )
    for after_s in (0, waited_s):
        asked = StreamsAsked((("spot", "trade", BTC), ("spot", "trade", ETH), ("spot", "bar", BTC)))
        told.control(asked if not after_s else EpochAccepted(), began_ns + after_s * 10**9, context)
    told.deliver()
    expected = [("never_heard", f"coinbase/bar/{BTC}")] if missed else []
    assert [each for each in wrong(told.audit()) if each[0] == "never_heard"] == expected
