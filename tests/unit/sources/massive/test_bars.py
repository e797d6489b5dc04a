"""Aggregates of Massive: which pages are asked for, and what their rows are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from forebay.domain.calendars.grid import STEPS
from forebay.domain.kinds.bar import TIMEFRAMES
from forebay.errors import Unusable
from forebay.ports import HistoryRequest
from forebay.services.projection import Projection
from forebay.sources.massive import VENUE
from forebay.sources.massive.connector import bars_path, next_page
from forebay.sources.massive.protocol import SPANS, MassiveParser
from forebay.sources.venue import AnsweredPart
from tests.support.frames import SECOND, as_json, batch, context
from tests.unit.sources.coinbase.test_feed_kinds import rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.services.projection import Projected

BEGIN_MS = 1_483_311_600_000  # 2017-01-01T23:00:00Z
MINUTE_MS = 60_000
FIRST, LAST = BEGIN_MS * 1_000_000, (BEGIN_MS + 9 * MINUTE_MS) * 1_000_000
REQUEST = HistoryRequest("bar:1m", "EUR-USD", FIRST, LAST, "time", "forex")
PATH = f"/v2/aggs/ticker/C:EURUSD/range/1/minute/{BEGIN_MS}/{BEGIN_MS + 9 * MINUTE_MS}"
QUERY = "adjusted=false&sort=asc&limit=50000"


def row(minute: int = 0, /, **changed: object) -> dict[str, object]:
    """Build a row; ``changed`` replaces or adds fields, None takes one out."""
    begin_ms = BEGIN_MS + minute * MINUTE_MS
    whole = {"v": 118, "vw": 1.0521, "o": 1.0519, "c": 1.0523, "h": 1.0524, "l": 1.0518,
             "t": begin_ms, "n": 118} | changed  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def page(*told: dict[str, object], **changed: object) -> bytes:
    """Build an answer; ``changed`` replaces or adds fields, ``...`` takes one out."""
    whole = {"ticker": "C:EURUSD", "queryCount": len(told), "resultsCount": len(told),
             "adjusted": False, "results": list(told), "status": "OK", "request_id": "6a7e",
             "count": len(told)} | changed  # fmt: skip
    return as_json({name: value for name, value in whole.items() if value is not ...})


def project(
    *bodies: bytes,
    path: str = PATH,
    query: str = QUERY,
    at_ns: int | None = None,
    **asked: Any,  # noqa: ANN401
) -> Projected:
    request = f"GET {path}?{query}" if query else f"GET {path}"
    fields = {"venue": "massive", "market": "forex", "symbols": ("EUR-USD",),
              "channels": ("bar",), "request": request, **asked}  # fmt: skip
    at_ns = LAST + 86_400 * SECOND if at_ns is None else at_ns
    told = batch(bodies, context("rest", **fields), received_ns=[at_ns] * len(bodies))
    return Projection({"massive": MassiveParser()}, {}).project([told])


def bars(*bodies: bytes, **how: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return rows(project(*bodies, **how), "bars")


# ------------------------------------------------------------------------ which pages


def first_page(request: HistoryRequest = REQUEST) -> str:
    return bars_path(request, request.first, request.last + 1)


def test_the_first_page_states_everything_that_is_asked_for() -> None:
    assert first_page() == f"{PATH}?{QUERY}"
    adjusted = first_page(replace(REQUEST, channel="bar:1m,adjusted"))
    assert adjusted == f"{PATH}?{QUERY.replace('false', 'true')}"


def test_the_end_of_a_range_is_not_asked_for() -> None:
    end = FIRST + 600 * SECOND
    assert bars_path(REQUEST, FIRST + 1, end).split("?")[0].split("/")[-2:] == [
        str(BEGIN_MS + 1),
        str(BEGIN_MS + 10 * MINUTE_MS - 1),
    ]


def test_every_time_frame_can_be_asked_for_adjusted_or_not() -> None:
    series = VENUE.history["bar"].series  # type: ignore[attr-defined]  # it is of bars
    assert set(series) == {f"{each}{how}" for each in TIMEFRAMES for how in ("", ",adjusted")}
    for name, each in series.items():
        timeframe = name.partition(",")[0]
        assert each.step_s == STEPS[timeframe]
        assert each.adjusted is name.endswith(",adjusted")
        asked = first_page(replace(REQUEST, channel=f"bar:{name}"))
        multiplier, span = SPANS[timeframe]
        assert f"/range/{multiplier}/{span}/{BEGIN_MS}/" in asked
    pages = {name: each.page_s for name, each in series.items() if "," not in name}
    minutes = dict.fromkeys(("1m", "5m", "15m", "1h", "4h"), 3_000_000)
    days = dict.fromkeys(("1d", "1w"), 4_320_000_000)
    assert pages == {"1s": 50_000, **minutes, **days}


def test_a_cryptocurrency_has_another_ticker() -> None:
    asked = first_page(replace(REQUEST, symbol="BTC-USD", market="crypto"))
    assert asked.startswith("/v2/aggs/ticker/X:BTCUSD/range/1/minute/")


def following(minute: int, host: str = "https://api.massive.com", extra: str = "") -> str:
    path = PATH.replace(str(BEGIN_MS), str(BEGIN_MS + minute * MINUTE_MS), 1)
    return f"{host}{path}?cursor=bGltaXQ9NTAw{extra}"


@pytest.mark.parametrize(
    "host", ["https://api.massive.com", "https://evil.example:8443", "http://u:p@evil", ""]
)
def test_the_next_page_is_followed_by_path_and_query_and_never_by_host(host: str) -> None:
    target = following(1)[len("https://api.massive.com") :]
    assert next_page(page(row(), next_url=following(1, host))) == target


def test_a_key_in_the_next_page_is_left_out() -> None:
    for extra in ("&apiKey=secret", "&apiKey=secret&x=1"):
        target = next_page(page(row(), next_url=following(1, extra=extra)))
        assert "secret" not in target
        assert target.startswith(following(1)[len("https://api.massive.com") :])


def test_a_key_in_a_next_page_that_is_none_of_ours_is_not_told() -> None:
    for name in ("apiKey", "apikey"):
        told = page(next_url=f"https://api.massive.com/v1/account?{name}=secret&x=1")
        with pytest.raises(ValueError, match="it goes on at") as wrong:
            next_page(told)
        assert "secret" not in str(wrong.value)


@pytest.mark.parametrize("told", [..., None, ""])
def test_a_page_that_names_no_next_is_the_last(told: object) -> None:
    assert next_page(page(row(), next_url=told)) == ""


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Just a moment</body></html>",
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"results":{},"status":"OK"}',
        b'{"status":"ERROR","error":"Unknown API Key"}',
        b'{"status":"NOT_AUTHORIZED","message":"no"}',
        page(next_url="https://api.massive.com/v1/account"),
        page(next_url="nonsense"),
        page(next_url=following(1).replace("minute", "fortnight")),
        page(next_url=7),
    ],
)
def test_what_is_no_page_of_ours_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        next_page(body)


def paged(*bodies: bytes) -> tuple[list[str], object]:
    """Return the targets that a plan asks for and what it finds lacking; the last ends it."""
    plan, left = VENUE.history["bar"].plan(REQUEST), [*bodies]
    asked: list[str] = []
    lacking: tuple[tuple[int, int], ...] = ()
    target = next(plan)
    try:
        while True:
            if isinstance(target, AnsweredPart):
                lacking += target.lacking
                target = next(plan)
            else:
                asked.append(target)
                target = plan.send(left.pop(0))
    except StopIteration as done:
        assert not left
        return asked, (*lacking, *done.value)


def minutes(*each: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return ranges of whole minutes, the last one included, as a plan finds them lacking."""
    step = 60 * SECOND
    return tuple((FIRST + first * step, FIRST + (last + 1) * step - 1) for first, last in each)


def test_neither_short_nor_empty_pages_are_the_end() -> None:
    bodies = [
        page(row(0), row(1), next_url=following(2)),
        page(results=..., next_url=following(3)),
        page(results=None, next_url=following(4)),
        page(*(row(minute) for minute in range(4, 9))),
    ]
    asked, lacking = paged(*bodies)
    assert [target.split("/")[8].partition("?")[0] for target in asked] == [
        str(BEGIN_MS + minute * MINUTE_MS) for minute in (0, 2, 3, 4)
    ]
    end = (FIRST + 9 * 60 * SECOND, FIRST + 9 * 60 * SECOND)
    assert lacking == (*minutes((2, 3)), end)


def test_a_row_that_can_be_no_bar_is_lacking() -> None:
    told = [row(0), row(1, h=1), row(2, c=None), row(3, t=0), row(4), row(4, v=2), row(5, v=-1),
            row(6, o=0), row(7, l=0), row(8, v="NaN"), row(9)]  # fmt: skip
    _, lacking = paged(page(*told))
    assert lacking == minutes((1, 8))


@pytest.mark.parametrize("said", [True, None, ...])
def test_bars_that_are_not_adjusted_as_the_series_is_are_lacking(said: object) -> None:
    _, lacking = paged(page(*(row(minute) for minute in range(10)), adjusted=said))
    assert lacking == ((REQUEST.first, REQUEST.last),)


def test_a_page_about_another_ticker_answers_nothing() -> None:
    with pytest.raises(Unusable, match="C:GBPUSD"):
        paged(page(row(0), ticker="C:GBPUSD"))


def test_a_source_that_does_not_advance_is_an_error() -> None:
    bodies = [page(row(minute), next_url=following(minute + 1)) for minute in (0, 1)]
    with pytest.raises(Unusable, match="names a page twice"):
        paged(*bodies, page(row(2), next_url=following(2, "https://other.host")))


# --------------------------------------------------------------------------- its rows


def test_a_row_is_a_bar() -> None:
    (bar,) = bars(page(row()))
    expected = {
        "venue": "massive", "market": "forex", "symbol": "EUR-USD", "venue_symbol": "C:EURUSD",
        "timeframe": "1m", "session": "UTC", "of": "quote", "adjusted": False,
        "open_ts": FIRST, "close_ts": FIRST + 60 * SECOND, "event_ts": FIRST, "exchange_ts": FIRST,
        "open": "1.0519", "high": "1.0524", "low": "1.0518", "close": "1.0523",
        "volume": "118", "vwap": "1.0521", "trades": 118,
        "origin": "backfill", "state": "final", "revision": 1, "flags": "backfill",
    }  # fmt: skip
    assert {name: bar[name] for name in expected} == expected


def test_bars_of_a_cryptocurrency_are_of_trades() -> None:
    (bar,) = bars(
        page(row(), ticker="X:BTCUSD"),
        path=PATH.replace("C:EURUSD", "X:BTCUSD"),
        market="crypto",
        symbols=("BTC-USD",),
    )
    assert (bar["of"], bar["market"], bar["symbol"]) == ("trade", "crypto", "BTC-USD")


def test_numbers_are_exact() -> None:
    told = page(row(o=1)).replace(b'"o":1,', b'"o":1.051900000000000003,')
    (bar,) = bars(told)
    assert bar["open"] == "1.051900000000000003"


def test_a_number_that_is_written_as_a_text_is_the_same() -> None:
    assert bars(page(row(o="1.0519")))[0]["open"] == "1.0519"


def test_what_may_be_absent_is_null_and_never_0() -> None:
    (bar,) = bars(page(row(vw=None, n=None)))
    assert (bar["vwap"], bar["trades"]) == (None, None)


@pytest.mark.parametrize("results", [..., None, []])
def test_an_answer_without_results_is_control(results: object) -> None:
    projected = project(page(results=results))
    assert projected.frames == Counter(control=1, yielding=0, dead=0)


@pytest.mark.parametrize("field", ["t", "o", "h", "l", "c", "v"])
def test_a_field_that_is_missing_is_a_dead_letter_and_costs_only_its_row(field: str) -> None:
    projected = project(page(row(0), row(1, **{field: None}), row(2)))
    assert projected.reasons == Counter(missing_field=1)
    assert [bar["open_ts"] for bar in rows(projected, "bars")] == [FIRST, FIRST + 120 * SECOND]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"h": 1.05}, "bad_price"),  # below open
        ({"l": 1.0520}, "bad_price"),  # above open
        ({"c": 1.0525}, "bad_price"),
        ({"o": 0}, "bad_price"),
        ({"l": -1}, "bad_price"),
        ({"v": -1}, "bad_size"),
        ({"o": "x"}, "wrong_type"),
        ({"o": []}, "wrong_type"),
        ({"t": "1483311600000"}, "wrong_type"),
        ({"t": BEGIN_MS // 1000}, "bad_time"),  # seconds
        ({"t": BEGIN_MS * 1000}, "bad_time"),  # microseconds
        ({"t": BEGIN_MS * 1_000_000}, "bad_time"),  # nanoseconds
        ({"t": 5_815_518_660_000}, "bad_time"),  # in the year 2154
        ({"t": BEGIN_MS + 1}, "bad_time"),  # off the grid
        ({"t": BEGIN_MS - MINUTE_MS}, "bad_time"),  # outside of the window
        ({"t": BEGIN_MS + 10 * MINUTE_MS}, "bad_time"),
        ({"t": 0}, "bad_time"),
        ({"t": -MINUTE_MS}, "bad_time"),
    ],
)
def test_an_impossible_row_is_a_dead_letter_and_costs_only_itself(
    changed: dict[str, object], reason: str
) -> None:
    projected = project(page(row(0), row(1, **changed), row(2)))
    assert projected.reasons == Counter({reason: 1})
    assert [bar["open_ts"] for bar in rows(projected, "bars")] == [FIRST, FIRST + 120 * SECOND]


def starts(projected: Projected) -> Sequence[int]:
    return [(bar["open_ts"] - FIRST) // (60 * SECOND) for bar in rows(projected, "bars")]


def test_a_bar_that_is_told_twice_on_a_page_is_one() -> None:
    projected = project(page(row(0), row(0), row(1)))
    assert (starts(projected), projected.reasons) == ([0, 1], Counter(bad_value=1))


def test_of_bars_that_differ_and_have_one_start_none_is_believed() -> None:
    projected = project(page(row(0), row(1), row(1, v=9), row(1), row(2)))
    assert (starts(projected), projected.reasons) == ([0, 2], Counter(bad_value=3))


def test_a_page_that_begins_with_the_last_bar_of_the_one_before_adds_nothing() -> None:
    again = project(page(row(0), row(1)), page(row(1), row(2)))
    ids = [bar["event_id"] for bar in rows(again, "bars")]
    assert (len(ids), len(set(ids))) == (4, 3)


def test_a_page_whose_token_holds_the_rest_of_the_question_is_read_as_well() -> None:
    target = following(1)[len("https://api.massive.com") :]
    path, _, query = target.partition("?")
    (bar,) = bars(page(row(1), adjusted=True), path=path, query=query)
    assert bar["adjusted"] is True


def test_adjusted_is_part_of_what_a_bar_is() -> None:
    (plain,) = bars(page(row()))
    (adjusted,) = bars(page(row(), adjusted=True), query=QUERY.replace("false", "true"))
    assert plain["event_id"] != adjusted["event_id"]


@pytest.mark.parametrize(
    ("said", "reason"), [(..., "missing_field"), (None, "missing_field"), (True, "bad_value")]
)
def test_a_page_that_is_not_adjusted_as_it_was_asked_is_dead(said: object, reason: str) -> None:
    projected = project(page(row(0), row(1), adjusted=said))
    assert (starts(projected), projected.reasons) == ([], Counter({reason: 2}))


def test_a_page_about_another_ticker_is_dead() -> None:
    assert project(page(row(), ticker="C:GBPUSD")).reasons == Counter(unknown_symbol=1)
    assert project(page(row()), symbols=("GBP-USD",)).reasons == Counter(unknown_symbol=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html></html>", "not_json"),
        (b"", "not_json"),
        (b'{"results":[', "not_json"),
        (b"[]", "wrong_type"),
        (b'{"results":7}', "wrong_type"),
        (page(row(), status="ERROR"), "bad_value"),
    ],
)
def test_what_is_no_page_is_one_dead_letter(body: bytes, reason: str) -> None:
    projected = project(body)
    assert projected.reasons == Counter({reason: 1})
    assert projected.frames == Counter(control=0, yielding=0, dead=1)


@pytest.mark.parametrize(
    ("after_end_s", "state"),
    [(-30, "provisional"), (0, "provisional"), (1.999, "provisional"), (2, "final"), (60, "final")],
)
def test_a_bar_is_final_once_it_is_over_by_either_clock(after_end_s: float, state: str) -> None:
    at_ns = FIRST + 60 * SECOND + round(after_end_s * SECOND)
    (bar,) = bars(page(row()), at_ns=at_ns)
    assert bar["state"] == state


@pytest.mark.parametrize(
    ("timeframe", "begin_ms", "right"),
    [
        ("1d", 1_483_228_800_000, True),  # 2017-01-01T00:00:00Z, a Sunday
        ("1d", 1_483_228_800_000 + 3_600_000, False),
        ("1w", 1_483_228_800_000, True),
        ("1w", 1_483_228_800_000 + 86_400_000, True),
        ("1w", 1_483_228_800_000 + 2 * 86_400_000, False),
        ("1w", 1_483_228_800_000 - 86_400_000, False),
        ("4h", 1_483_228_800_000 + 4 * 3_600_000, True),
        ("4h", 1_483_228_800_000 + 3_600_000, False),
        ("1s", BEGIN_MS + 1000, True),
        ("1s", BEGIN_MS + 1, False),
    ],
)
def test_a_bar_begins_on_the_grid_of_its_length(
    timeframe: str,
    begin_ms: int,
    right: bool,
) -> None:
    multiplier, span = SPANS[timeframe]
    path = f"/v2/aggs/ticker/C:EURUSD/range/{multiplier}/{span}/{begin_ms}/{begin_ms}"
    at_ns = (begin_ms + 10 * 86_400_000) * 1_000_000
    projected = project(page(row(t=begin_ms)), path=path, at_ns=at_ns)
    told = [(bar["timeframe"], bar["close_ts"] - bar["open_ts"]) for bar in rows(projected, "bars")]
    assert told == ([(timeframe, STEPS[timeframe] * SECOND)] if right else [])
    assert projected.reasons == Counter({} if right else {"bad_time": 1})


@pytest.mark.parametrize(
    "path", ["/v3/reference/tickers", PATH.replace("minute", "month"), "/v2/aggs/ticker/X/prev"]
)
def test_answers_to_other_questions_are_counted_by_what_was_asked(path: str) -> None:
    projected = project(page(row()), path=path)
    assert projected.frames == Counter(control=1, yielding=0, dead=0)
    assert projected.unbuilt == Counter({f"GET {path}": 1})


def test_what_follows_the_market_is_of_the_venue_and_what_was_not_asked_for_is_control() -> None:
    (bar,) = bars(page(row()), purpose="live")
    assert (bar["origin"], bar["flags"]) == ("venue", "late")
    unwanted = project(page(row()), channels=("quote",))
    assert (unwanted.frames["control"], unwanted.unbuilt) == (1, Counter())


def test_the_answer_is_as_large_as_a_client_takes() -> None:
    assert len(page(*[row()] * 50_000)) < 16 << 20
    assert json.loads(page(row()))["results"][0]["t"] == BEGIN_MS
