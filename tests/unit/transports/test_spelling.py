"""A message as records of a lane: all of it comes back exactly, and any consumer can read it."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.frames import Context, EpochOpened
from forebay.domain.kinds import KINDS
from forebay.domain.messages import (
    ControlTold,
    EventsTold,
    FrameOrigin,
    Head,
    LettersTold,
    Mark,
    Message,
    Step,
    Told,
)
from forebay.ports import Received
from forebay.times import to_text
from forebay.transports.spelling import MessageAssembler, Record, records
from tests.exam.ping import PING
from tests.support.frames import LOG

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Row = dict[str, Any]

OTHER_LOG = "b" * 32
ORIGIN = FrameOrigin(Context(venue="v", source="ws", purpose="live", collector="c", epoch="e"), {})
EARLIEST_NS = -9_223_372_036 * 10**9
"""What Arrow can read; the first part of a second that it can hold is before."""
DEEP = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])

# ------------------------------------------------------------------------ rows at random

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from('",\\/\0\x7f\u2028')
_UNITS = st.one_of(st.integers(1 - 10**38, 10**38 - 1), st.integers(-(10**13), 10**13), st.just(0))
_CELLS: dict[Any, st.SearchStrategy[Any]] = {
    schema.DECIMAL: _UNITS,
    schema.DECIMALS: st.lists(st.none() | _UNITS, max_size=3),
    schema.TIME: st.integers(EARLIEST_NS, 2**63 - 1) | st.integers(-(10**9), 10**9),
    schema.LABEL: _TEXTS,
    pa.string(): _TEXTS,
    pa.bool_(): st.booleans(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uuid(): st.binary(min_size=16, max_size=16),
    pa.binary(): st.binary(max_size=20),
}
"""Cells by type: decimals as whole 10**-18, times as nanoseconds."""


def rows_of(table: pa.Schema, *, least: int = 1, most: int = 6) -> st.SearchStrategy[list[Row]]:
    """Draw rows of one journal; all but their ids and the journal may be missing."""
    cells = {field.name: st.none() | _CELLS[field.type] for field in table}
    cells |= {table.names[0]: _CELLS[pa.uuid()], "log_id": st.just(LOG)}
    return st.lists(st.fixed_dictionaries(cells), min_size=least, max_size=most)


def table_of(rows: Sequence[Row], table: pa.Schema) -> pa.Table:
    columns = [_column([row[field.name] for row in rows], field.type) for field in table]
    return pa.Table.from_arrays(columns, schema=table)


def _column(cells: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == schema.LABEL:
        return pa.array(cells, pa.string()).dictionary_encode()
    if kind == pa.uuid():
        return pa.ExtensionArray.from_storage(kind, pa.array(cells, pa.binary(16)))
    if kind == schema.DECIMAL:
        cells = [None if units is None else _exact(units) for units in cells]
    elif kind == schema.DECIMALS:
        cells = [
            None if levels is None else [None if each is None else _exact(each) for each in levels]
            for levels in cells
        ]
    return pa.array(cells, kind)


def _exact(units: int) -> Decimal:
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -18))


def cells_of(rows: pa.Table) -> list[tuple[object, ...]]:
    """Return the cells by column, those with nanoseconds as integers."""
    return [
        tuple((column.cast(pa.int64()) if column.type == schema.TIME else column).to_pylist())
        for column in rows.columns
    ]


# ---------------------------------------------------------------- what a consumer reads


def as_consumers_read(row: Row, table: pa.Schema) -> Row:
    """Return the JSON of a row as its format is described, one cell after the other."""
    return {
        field.name: _plain(row[field.name], field.type)
        for field in table
        if row[field.name] is not None
    }


def _plain(cell: Any, kind: pa.DataType) -> Any:  # noqa: ANN401
    if cell is None:
        return None
    if kind == schema.DECIMAL:
        digits = f"{abs(cell) // 10**18}.{abs(cell) % 10**18:018d}"
        return ("-" if cell < 0 else "") + digits.rstrip("0").rstrip(".")
    if kind == schema.DECIMALS:
        return [_plain(each, schema.DECIMAL) for each in cell]
    if kind == schema.TIME:
        return to_text(cell, exact=True)
    if kind == pa.uuid():
        return str(UUID(bytes=cell))
    return base64.b64encode(cell).decode() if kind == pa.binary() else cell


# --------------------------------------------------------------------------- in and out


def told_of(kind: str) -> Told:
    return LettersTold() if kind == "letters" else EventsTold(ORIGIN, kind, own_sequence=False)


def schema_of(kind: str) -> pa.Schema:
    return schema.DEAD_LETTERS if kind == "letters" else KINDS[kind].schema


def with_rows(kind: str, rows: Sequence[Row], *, log_id: str = LOG, begin: int = 1) -> Message:
    own = [row | {"log_id": log_id} for row in rows]
    head = Head(Step(log_id, begin, begin + 9), 0, told_of(kind))
    return Message(head, table_of(own, schema_of(kind)))


def without_rows(log_id: str = LOG, begin: int = 1) -> Message:
    return Message(Head(Step(log_id, begin, begin + 9), 1, Mark(1, {"yielding": 1}, {})))


def trades(*numbers: int, log_id: str = LOG, begin: int = 1) -> Message:
    """Return a message with a trade for each number, which is in its id."""
    empty: Row = dict.fromkeys(KINDS["trade"].schema.names)
    rows = [empty | {"event_id": number.to_bytes(16, "big")} for number in numbers]
    return with_rows("trade", rows, log_id=log_id, begin=begin)


def assembled(told: Iterable[Record], assembler: MessageAssembler | None = None) -> list[Received]:
    """Return all that comes of records whose offsets count from 0."""
    assembler = assembler or MessageAssembler()
    each = (
        assembler.add(offset, record.value, is_event=bool(record.event_id))
        for offset, record in enumerate(told)
    )
    return [received for received in each if received is not None]


def said(received: Received) -> tuple[int, list[int] | None, int]:
    """Return a message with trades by the numbers in their ids; None if it cannot be read."""
    if received.message is None:
        return received.offset, None, received.resume
    rows = received.message.rows
    ids = [] if rows is None else [each.int for each in rows["event_id"].to_pylist()]
    return received.offset, ids, received.resume


def comes_back(kind: str, rows: list[Row]) -> None:
    message = with_rows(kind, rows)
    told = records(message)
    (received,) = assembled(told)
    assert (received.offset, received.resume) == (0, len(rows) + 1)
    assert received.message is not None
    assert received.message.head == message.head
    back = received.message.rows
    assert back is not None
    assert message.rows is not None
    assert back.schema == message.rows.schema
    assert cells_of(back) == cells_of(message.rows)
    assert [column.num_chunks for column in back.columns] == [1] * len(back.columns)


@pytest.mark.parametrize("kind", [*KINDS, "letters"])
@DEEP
@given(st.data())
def test_rows_of_every_table_come_back_exactly(kind: str, data: st.DataObject) -> None:
    comes_back(kind, data.draw(rows_of(schema_of(kind))))


@DEEP
@given(rows_of(PING.schema))
def test_rows_of_a_kind_that_was_added_come_back(rows: list[Row]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, PING.channel, PING)
        comes_back(PING.channel, rows)


@pytest.mark.parametrize("kind", [*KINDS, "letters"])
@DEEP
@given(st.data())
def test_a_value_is_what_its_format_says(kind: str, data: st.DataObject) -> None:
    rows = data.draw(rows_of(schema_of(kind)))
    _, *told = records(with_rows(kind, rows))
    table = schema_of(kind)
    for record, row in zip(told, rows, strict=True):
        read = json.loads(record.value)
        assert read == as_consumers_read(row, table)
        assert record.event_id.decode() == str(UUID(bytes=row[table.names[0]]))


def test_columns_stand_in_the_order_of_their_table() -> None:
    cells: Row = dict.fromkeys(KINDS["trade"].schema.names)
    cells |= {"event_id": bytes(16), "venue": "v", "seq": 7, "price": 10**18, "flags": ""}
    _, record = records(with_rows("trade", [cells]))
    assert record.value.decode() == (
        '{"event_id":"00000000-0000-0000-0000-000000000000","venue":"v",'
        f'"log_id":"{LOG}","seq":7,"price":"1","flags":""}}'
    )


def test_a_key_is_venue_and_symbol_and_a_control_record_has_none() -> None:
    cells: Row = dict.fromkeys(KINDS["trade"].schema.names) | {"event_id": bytes(16)}
    rows = [cells | {"venue": "v", "symbol": symbol} for symbol in ("A/B", "é", "A/B")]
    told = records(with_rows("trade", rows))
    assert [record.key.decode() for record in told] == ["", "v|A/B", "v|é", "v|A/B"]
    assert told[0].event_id == b""


def test_what_has_no_rows_is_one_record_that_says_so() -> None:
    message = Message(Head(Step(LOG, 1, 9), 2, ControlTold(ORIGIN, EpochOpened(), 7, 1)))
    (record,) = records(message)
    assert record.event_id == b""
    assert json.loads(record.value) == {"head": msgspec.to_builtins(message.head), "rows": 0}
    assert assembled([record]) == [Received(0, message, 1)]


def test_rows_of_another_journal_than_the_messages_are_refused() -> None:
    head, rows = trades(1)
    wrong = Message(msgspec.structs.replace(head, step=Step(OTHER_LOG, 1, 2)), rows)
    with pytest.raises(ValueError, match="another"):
        records(wrong)


def with_sides(*sides: str) -> Message:
    """Return a message of trades with rising prices below 1e-6, each with a text of its own."""
    empty: Row = dict.fromkeys(KINDS["trade"].schema.names)
    rows = [
        empty | {"event_id": number.to_bytes(16, "big"), "price": number, "side": side}
        for number, side in enumerate(sides)
    ]
    return with_rows("trade", rows)


@pytest.mark.parametrize("first", [0, 2, 4])
def test_a_slice_of_a_table_is_spelled_as_what_it_is(first: int) -> None:
    head, rows = with_sides(*"abcd", *'"\\\n"')
    assert rows is not None
    part = rows.slice(first, 4)
    (received,) = assembled(records(Message(head, part)))
    assert received.message is not None
    assert received.message.rows is not None
    assert cells_of(received.message.rows) == cells_of(part)


def test_a_table_in_several_chunks_is_spelled_as_a_whole() -> None:
    head, rows = with_sides(*"abcd")
    assert rows is not None
    chunked = pa.concat_tables([rows.slice(0, 1), rows.slice(1, 2), rows.slice(3)])
    assert records(Message(head, chunked)) == records(Message(head, rows))


def test_more_rows_than_are_put_together_at_once_come_in_their_order() -> None:
    numbers = [*range(10_000)]
    (received,) = assembled(records(trades(*numbers)))
    assert said(received) == (0, numbers, 10_001)


# ------------------------------------------------------------------- records of a lane


def test_messages_of_one_publisher_come_one_after_the_other() -> None:
    told = [*records(trades(1, 2)), *records(without_rows()), *records(trades(3, begin=10))]
    assert [said(each) for each in assembled(told)] == [(0, [1, 2], 3), (3, [], 4), (4, [3], 6)]


@given(st.data())
def test_messages_of_publishers_whose_records_are_mixed_come_whole(data: st.DataObject) -> None:
    logs = [letter * 32 for letter in "abc"]
    queues = {
        log: [
            record
            for number in range(data.draw(st.integers(1, 3)))
            for record in records(trades(*range(number + 1), log_id=log, begin=number * 10 + 1))
        ]
        for log in logs
    }
    mixed = []
    while any(queues.values()):
        log = data.draw(st.sampled_from([log for log in logs if queues[log]]))
        mixed.append((log, queues[log].pop(0)))
    came = assembled([record for _, record in mixed])
    for log in logs:
        own = [each for each in came if each.message and each.message.head.step.log_id == log]
        assert [said(each)[1] for each in own] == [[*range(n + 1)] for n in range(len(own))]
    assert came[-1].resume == len(mixed)


def test_what_another_has_begun_to_tell_is_behind_the_place_to_resume() -> None:
    one, other = records(trades(1, 2)), records(trades(3, 4, log_id=OTHER_LOG))
    told = [one[0], other[0], other[1], one[1], one[2], other[2]]
    assert [said(each) for each in assembled(told)] == [(0, [1, 2], 1), (1, [3, 4], 6)]


def test_from_the_place_to_resume_on_all_comes_that_had_not() -> None:
    one, other = records(trades(1, 2)), records(trades(3, 4, log_id=OTHER_LOG))
    told = [one[0], other[0], other[1], one[1], one[2], other[2]]
    assert [said(each) for each in assembled(told[1:])] == [(0, [3, 4], 5)]


def test_a_message_that_is_told_again_replaces_the_unfinished_one() -> None:
    told = [*records(trades(1, 2, 3))[:3], *records(trades(1, 2, 3))]
    assert [said(each) for each in assembled(told)] == [(3, [1, 2, 3], 7)]


def test_a_message_without_rows_drops_the_unfinished_one_of_its_journal_alone() -> None:
    other = records(trades(9, log_id=OTHER_LOG))
    told = [other[0], *records(trades(1, 2))[:2], *records(without_rows()), other[1]]
    assert [said(each) for each in assembled(told)] == [(3, [], 0), (0, [9], 5)]


def test_an_unfinished_message_is_not_given_and_holds_the_place_to_resume() -> None:
    told = [*records(trades(1, 2))[:2], *records(trades(3, log_id=OTHER_LOG))]
    assert [said(each) for each in assembled(told)] == [(2, [3], 0)]


def test_rows_that_a_killed_publisher_had_on_the_way_are_not_taken_for_others() -> None:
    late = records(trades(7, 8))[2]
    head, first, second = records(trades(1, 2, begin=10))
    came = assembled([head, late, first, second, *records(trades(3, begin=20))])
    assert [said(each) for each in came] == [(0, None, 3), (4, [3], 6)]


def test_rows_whose_control_record_was_not_seen_are_passed_over() -> None:
    told = [*records(trades(1, 2))[1:], *records(trades(3, begin=10))]
    assert [said(each) for each in assembled(told)] == [(2, [3], 4)]


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b"null", b"\xff", b"hello", b'{"log_id":7}'])
@pytest.mark.parametrize("event_id", [b"", b"x"])
def test_a_foreign_record_is_given_without_a_message(value: bytes, event_id: bytes) -> None:
    foreign = Record(b"", value, event_id)
    head, *rows = records(trades(1))
    came = assembled([head, foreign, *rows, foreign])
    assert [said(each) for each in came] == [(1, None, 0), (0, [1], 3), (3, None, 4)]


FOREIGN = b'{"log_id":"%b"}' % LOG.encode()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value[:-1],
        lambda value: value + b"x",
        lambda value: value + b"\n" + value,
        lambda value: value.replace(b"0001", b"00g1"),
        lambda value: value.replace(b"0001", b"0002"),
        lambda value: value.replace(b"0001", b"001"),
        lambda value: value.replace(b"event_id", b"event-id"),
        lambda value: value.replace(b'"log_id"', b'"seq":"x","log_id"'),
        lambda value: value.replace(b'"log_id"', b'"price":"1e3","log_id"'),
        lambda value: value.replace(b'"log_id"', b'"price":"%b","log_id"' % (b"9" * 25)),
        lambda value: value.replace(b'"log_id"', b'"event_ts":"now","log_id"'),
        lambda value: value.replace(b'"log_id"', b'"side":"\xff","log_id"'),
        lambda _: FOREIGN,
    ],
)
def test_a_message_with_a_row_that_is_none_cannot_be_read(spoil: Any) -> None:  # noqa: ANN401
    head, one, two = records(trades(1, 2))
    spoilt = one._replace(value=spoil(one.value))
    assert spoilt != one
    came = assembled([head, spoilt, two, *records(trades(3, begin=10))])
    assert [said(each) for each in came] == [(0, None, 3), (3, [3], 5)]


def test_json_that_another_tool_has_spelled_anew_is_read_all_the_same() -> None:
    head, *rows = records(trades(1, 2))
    told = [record._replace(value=json.dumps(json.loads(record.value)).encode()) for record in rows]
    assert [said(each) for each in assembled([head, *told])] == [(0, [1, 2], 3)]


def test_columns_that_are_not_ours_are_passed_over() -> None:
    head, one = records(trades(1))
    more = one._replace(value=one.value.replace(b'"log_id"', b'"new":{"a":[1]},"log_id"'))
    assert [said(each) for each in assembled([head, more])] == [(0, [1], 2)]


def test_a_payload_that_is_no_base64_cannot_be_read() -> None:
    cells: Row = dict.fromkeys(schema.DEAD_LETTERS.names)
    told = records(with_rows("letters", [cells | {"letter_id": bytes(16), "payload": b"\0\xff"}]))
    spoilt = told[1]._replace(value=told[1].value.replace(b"AP8=", b"A*8="))
    assert [said(each)[1] for each in assembled([told[0], spoilt])] == [None]


def test_rows_of_a_kind_that_this_reader_does_not_know_are_read_past() -> None:
    control, *rows = records(trades(1, 2))
    unknown = control._replace(value=control.value.replace(b'"trade"', b'"smell"'))
    came = assembled([unknown, *rows, *records(trades(3, begin=10))])
    assert [said(each) for each in came] == [(0, None, 3), (3, [3], 5)]


@pytest.mark.parametrize("rows", [b"0", b"-1", b"2"])
def test_a_control_record_with_another_number_of_rows_loses_its_message(rows: bytes) -> None:
    control, row = records(trades(1))
    wrong = control._replace(value=control.value.replace(b'"rows":1', b'"rows":' + rows))
    came = assembled([wrong, row, *records(trades(3, begin=10))])
    assert [1] not in [said(each)[1] for each in came]
    assert said(came[-1]) == (2, [3], 4)


def test_events_without_a_row_are_no_message_of_ours() -> None:
    mark, (control, _) = records(without_rows())[0], records(trades(1))
    assert assembled([mark])[0].message is not None
    none = control._replace(value=control.value.replace(b'"rows":1', b'"rows":0'))
    assert [said(each) for each in assembled([none])] == [(0, None, 1)]
