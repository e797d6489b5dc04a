"""What Kalshi says of its series, events and markets: whole by REST, changes by the websocket.

Nothing is judged here: a cell is copied as it is written, and the kind says what cannot be. Of
what moves all the time, prices and volumes, there is no column.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from forebay.domain.events import EARLIEST_NS, LATEST_AHEAD_NS
from forebay.domain.kinds.statement import LISTED
from forebay.domain.parsed import Moments, RawEvents
from forebay.errors import ConfigError
from forebay.sources.kalshi.protocol import EVENTS, MARKET, MARKETS, SECOND, SERIES
from forebay.sources.kalshi.words import CHANGES, unknown_words
from forebay.sources.parsing import UNDECODABLE, plain
from forebay.times import to_ns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.domain.channels import Channel
    from forebay.domain.parsed import Cells

    Row = Mapping[str, msgspec.Raw]
    Cell = str | None


@dataclass(frozen=True, slots=True)
class Form:
    """How statements of one kind are written by REST."""

    channel: Channel
    name: str
    """What its symbol is called."""
    texts: Mapping[str, str]
    """By column, what its cell is called."""
    times: Mapping[str, str]
    changed: str
    """What the time of its last change is called."""
    since: tuple[str, ...] = ()
    """What tells when it was last otherwise, if that is not said."""
    extra: tuple[str, ...] = ()
    """What has no column of its own and does not move."""


_ALIKE = (
    *("market_type", "title", "subtitle", "status", "result", "can_close_early"),
    *("early_close_condition", "price_level_structure", "price_ranges", "strike_type"),
    *("floor_strike", "cap_strike", "custom_strike", "expiration_value"),
    *("rules_primary", "rules_secondary"),
)
_OF_MARKETS = Form(
    MARKETS,
    "ticker",
    {
        **dict(zip(_ALIKE, _ALIKE, strict=True)),
        "event_symbol": "event_ticker",
        "yes_title": "yes_sub_title",
        "no_title": "no_sub_title",
    },
    {
        "created_ts": "created_time",
        "open_ts": "open_time",
        "close_ts": "close_time",
        "expected_expiration_ts": "expected_expiration_time",
        "latest_expiration_ts": "latest_expiration_time",
        "settled_ts": "settlement_ts",
    },
    "updated_time",
    ("created_time", "open_time"),
    ("exchange_index", "mve_collection_ticker", "mve_selected_legs", "occurrence_datetime"),
)
_OF_EVENTS = Form(
    EVENTS,
    "event_ticker",
    {
        "series_symbol": "series_ticker",
        "subtitle": "sub_title",
        **{
            name: name
            for name in ("title", "category", "status", "mutually_exclusive",
                         "collateral_return_type", "strike_period", "settlement_sources")
        },
    },
    {"strike_ts": "strike_date"},
    "last_updated_ts",
    extra=("exchange_index", "product_metadata"),
)  # fmt: skip
_OF_SERIES = Form(
    SERIES,
    "ticker",
    {
        "terms_url": "contract_terms_url",
        **{
            name: name
            for name in ("title", "category", "tags", "frequency", "fee_type", "fee_multiplier",
                         "settlement_sources")
        },
    },
    {},
    "last_updated_ts",
    extra=("additional_prohibitions", "contract_url", "product_metadata"),
)  # fmt: skip
FORMS: Mapping[str, Form] = {"markets": _OF_MARKETS, "events": _OF_EVENTS, "series": _OF_SERIES}
"""By what pages call their rows."""
_ONE = {"market": "markets", "event": "events", "series": "series"}
"""What an answer on one calls it, by what it calls several."""

_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_rows = msgspec.json.Decoder(list[msgspec.Raw] | None).decode
_any = msgspec.json.decode


class Statement(NamedTuple):
    """A row, and where it stands."""

    frame: int
    item: int
    row: Row


def cell(raw: msgspec.Raw | None) -> Cell:
    """Return a JSON value as a text: a number in its digits, an object in one order of names."""
    if raw is None:
        return None
    text = bytes(raw).strip()
    if text[:1] in (b"{", b"["):
        return msgspec.json.encode(_any(text), order="sorted").decode()
    if text[:1] == b'"':
        found: str = _any(text)
        return found
    return None if text == b"null" else text.decode()


def read_statements(frame: int, payload: bytes) -> dict[str, list[Statement]]:
    """Return what an answer lists, by what pages call it; markets may be in their events.

    Raises what decoding raises if it is none.
    """
    page = _row(payload)
    found: dict[str, list[Statement]] = {name: [] for name in FORMS}
    items = count()

    def add(name: str, raw: bytes) -> None:
        row = _row(raw)
        found[name].append(Statement(frame, next(items), row))
        if name == "events" and "markets" in row:
            for each in _rows(row["markets"]) or ():
                add("markets", bytes(each))

    for key, raw in page.items():
        several = key if key in FORMS and bytes(raw).lstrip()[:1] != b"{" else ""
        if several:
            for each in _rows(raw) or ():
                add(several, bytes(each))
        elif key in _ONE:
            add(_ONE[key], bytes(raw))
    return found


def listed(name: str, told: Sequence[Statement], received_ns: Mapping[int, int]) -> list[RawEvents]:
    """Return statements of one kind as events; ``received_ns`` is by frame."""
    form = FORMS[name]
    parts: dict[bool, list[tuple[Statement, Cell]]] = {True: [], False: []}
    for each in told:
        moment = _moment(form, each.row, received_ns[each.frame])
        parts[moment is not None].append((each, moment))
    return [
        _events(form.channel, [each for each, _ in part], form.name, _columns(form, part),
                [moment for _, moment in part] if timed else None)
        for timed, part in parts.items()
        if part
    ]  # fmt: skip


def _events(
    channel: Channel,
    told: Sequence[Statement],
    name: str,
    columns: Mapping[str, Cells | Moments],
    time: Cells | Moments | None,
) -> RawEvents:
    symbols = [cell(each.row.get(name)) or "" for each in told]
    return RawEvents(
        channel=channel,
        market=MARKET,
        frame=[each.frame for each in told],
        item=[each.item for each in told],
        venue_symbol=symbols,
        symbol=symbols,
        time=time,
        columns=columns,
    )


def _moment(form: Form, row: Row, received_ns: int) -> Cell:
    """Return the first of the times of a change that can be one; None if there is none."""
    for name in (form.changed, *form.since):
        text = cell(row.get(name)) or ""
        try:
            moment_ns = to_ns(text)
        except (ConfigError, ValueError, OverflowError):
            continue
        if EARLIEST_NS <= moment_ns <= received_ns + LATEST_AHEAD_NS:
            return text
    return None


def _columns(form: Form, part: Sequence[tuple[Statement, Cell]]) -> dict[str, Cells | Moments]:
    rows = [each.row for each, _ in part]
    columns: dict[str, Any] = {
        column: [cell(row.get(name)) for row in rows]
        for column, name in [*form.texts.items(), *form.times.items()]
    }
    columns["change"] = [LISTED] * len(rows)
    columns["changed_ts"] = [cell(row.get(form.changed)) for row in rows]
    columns["extra"] = [_extra(row, form.extra) for row in rows]
    if form is _OF_MARKETS:
        columns |= _market_columns(rows)
        columns["series_symbol"] = [
            (event or "").partition("-")[0] for event in columns["event_symbol"]
        ]
    said = [name for name in form.texts if name != "change"]
    columns["unknown"] = [
        ",".join(name for name, _ in unknown_words({name: columns[name][at] for name in said}))
        for at in range(len(rows))
    ]
    return columns


def _market_columns(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "tick_size": [_tick(row) for row in rows],
        "notional_value": [_money(row, "notional_value") for row in rows],
        "settlement_value": [_money(row, "settlement_value") for row in rows],
        "settlement_delay_s": [_whole(row.get("settlement_timer_seconds")) for row in rows],
    }


def _money(row: Row, name: str) -> Cell:
    """Return dollars; where there are none, from cents."""
    dollars, cents = cell(row.get(f"{name}_dollars")), _whole(row.get(name))
    return dollars if dollars is not None or cents is None else plain(Decimal(cents).scaleb(-2))


def _tick(row: Row) -> Cell:
    """Return the smallest step of the prices that there are."""
    try:
        ranges = _any(row.get("price_ranges", b"[]")) or ()
        steps = [Decimal(each["step"]) for each in ranges]
    except (*UNDECODABLE, KeyError, TypeError, ArithmeticError):
        return None
    cents = _whole(row.get("tick_size"))
    if steps:
        return plain(min(steps))
    return None if cents is None else plain(Decimal(cents).scaleb(-2))


def _whole(raw: msgspec.Raw | None) -> int | None:
    text = bytes(raw or b"").strip()
    return int(text) if text.removeprefix(b"-").isdigit() and len(text) < 19 else None  # noqa: PLR2004 - 64 bits


def _extra(row: Row, names: Sequence[str]) -> Cell:
    """Return what has no column of its own, as one JSON text; nothing if there is none of it."""
    there = {name: _any(row[name]) for name in names if name in row}
    told = {name: value for name, value in there.items() if value not in (None, "")}
    return msgspec.json.encode(told, order="sorted").decode() if told else None


# -------------------------------------------------------------------------- lifecycles

_CHANGED_TEXTS = {
    **dict(zip(_ALIKE, _ALIKE, strict=True)),
    "event_symbol": "event_ticker",
    "yes_title": "yes_sub_title",
    "no_title": "no_sub_title",
    "settlement_value": "settlement_value",
    "change": "event_type",
}
_CHANGED_TIMES = {
    "open_ts": "open_ts",
    "close_ts": "close_ts",
    "expected_expiration_ts": "expected_expiration_ts",
    "determined_ts": "determination_ts",
    "settled_ts": "settled_ts",
}
_MOMENTS = ("settled_ts", "determination_ts")
_OF_A_CHANGE = ("exchange_index", "is_deactivated", "name")


def changes(told: Sequence[Statement]) -> list[RawEvents]:
    """Return what the websocket says of markets; what it does not say of them is null."""
    rows = [{**_more(each.row), **each.row} for each in told]
    parts: dict[bool, list[tuple[Statement, int]]] = {True: [], False: []}
    for each, row in zip(told, rows, strict=True):
        moment = next(filter(None, (_whole(row.get(name)) for name in _MOMENTS)), 0)
        parts[bool(moment)].append((each._replace(row=row), moment))
    return [
        _events(MARKETS, [each for each, _ in part], "market_ticker", _changed(part),
                Moments([moment for _, moment in part], SECOND) if timed else None)
        for timed, part in parts.items()
        if part
    ]  # fmt: skip


def _more(row: Row) -> Row:
    """Return what a market is described by when it is new."""
    raw = row.get("additional_metadata")
    try:
        return _row(raw) if raw is not None else {}
    except UNDECODABLE:
        return {}


def _changed(part: Sequence[tuple[Statement, int]]) -> dict[str, Cells | Moments]:
    rows = [each.row for each, _ in part]
    columns: dict[str, Any] = {
        column: [cell(row.get(name)) for row in rows] for column, name in _CHANGED_TEXTS.items()
    }
    for column, name in _CHANGED_TIMES.items():
        columns[column] = Moments([_whole(row.get(name)) or 0 for row in rows], SECOND)
    columns["changed_ts"] = Moments([moment for _, moment in part], SECOND)
    columns["extra"] = [_extra(row, _OF_A_CHANGE) for row in rows]
    columns["tick_size"] = [_tick(row) for row in rows]
    columns["series_symbol"] = [
        event.partition("-")[0] if event else None for event in columns["event_symbol"]
    ]
    columns["unknown"] = [
        ",".join(name for name, _ in unknown_words({name: columns[name][at] for name in columns
                                                    if isinstance(columns[name], list)}))
        for at in range(len(rows))
    ]  # fmt: skip
    for at, change in enumerate(columns["change"]):
        if change not in CHANGES:
            columns["unknown"][at] = ",".join(filter(None, ["change", columns["unknown"][at]]))
    return columns


def event_changes(told: Sequence[Statement]) -> list[RawEvents]:
    """Return what the websocket says of events that are new."""
    rows = [each.row for each in told]
    columns: dict[str, Any] = {
        "change": ["created"] * len(rows),
        "series_symbol": [cell(row.get("series_ticker")) for row in rows],
        "extra": [_extra(row, ("exchange_index",)) for row in rows],
        **{
            name: [cell(row.get(name)) for row in rows]
            for name in ("title", "subtitle", "collateral_return_type")
        },
    }
    return [_events(EVENTS, told, "event_ticker", columns, None)] if told else []
