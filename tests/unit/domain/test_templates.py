"""Templates: what fits is what a JSON parser would say, and everything else is left alone."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.domain import templates
from forebay.domain.templates import MOST_BYTES, MOST_DIGITS, MatchedRows, Template
from forebay.payloads import Payloads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHAPE = Template('{"kind":"trade","id":<id>,"price":"<price>","n":<n>,"who":"<who>"}')
GOOD = b'{"kind":"trade","id":70,"price":"1.5","n":0,"who":"me"}'


def told(payloads: Sequence[bytes], template: Template = SHAPE) -> list[tuple[object, ...]]:
    """Index and values of each payload that fits."""
    return [row for rows in template.read(payloads) for row in values(rows)]


def values(rows: MatchedRows) -> list[tuple[object, ...]]:
    columns = [rows.index.tolist(), rows.numbers("id").tolist(), rows.texts("price").to_pylist()]
    columns += [rows.numbers("n").tolist(), rows.texts("who").to_pylist()]
    return list(zip(*columns, strict=True))


def test_values_are_what_stands_at_their_places() -> None:
    other = b'{"kind":"trade","id":123456789012345678,"price":"","n":9,"who":"\x7f {}:,[]"}'
    assert told([GOOD, other]) == [
        (0, 70, "1.5", 0, "me"),
        (1, 123456789012345678, "", 9, "\x7f {}:,[]"),
    ]
    (rows,) = SHAPE.read([GOOD, other])
    assert rows.texts("id").to_pylist() == ["70", "123456789012345678"]
    assert rows.says("who", b"me").tolist() == [True, False]
    assert rows.says("who", b"m").tolist() == [False, False]
    assert rows.says("price", b'1.5"').tolist() == [False, False]


DEVIATING = [
    b"",
    b"{}",
    b"junk",
    GOOD[:-1],
    GOOD + b" ",
    GOOD + b"}",
    b" " + GOOD,
    GOOD.replace(b'"kind":"trade"', b'"kind":"other"'),
    GOOD.replace(b":70", b": 70"),
    GOOD.replace(b":70", b":"),
    GOOD.replace(b":70", b":070"),
    GOOD.replace(b":70", b":00"),
    GOOD.replace(b":70", b":-70"),
    GOOD.replace(b":70", b":+70"),
    GOOD.replace(b":70", b":7.0"),
    GOOD.replace(b":70", b":7e1"),
    GOOD.replace(b":70", b":7/0"),
    GOOD.replace(b":70", b":7:0"),
    GOOD.replace(b":70", b':"70"'),
    GOOD.replace(b":70", b":null"),
    GOOD.replace(b":70", b":" + b"1" * (MOST_DIGITS + 1)),
    GOOD.replace(b":70", b":" + b"1" * 5000),
    GOOD.replace(b'"n":0', b'"n":00'),
    GOOD.replace(b'"1.5"', b"1.5"),
    GOOD.replace(b'"1.5"', b"null"),
    GOOD.replace(b'"1.5"', b'"1.5'),
    GOOD.replace(b'"1.5"', b'1.5"'),
    GOOD.replace(b"1.5", b"1" * (MOST_BYTES + 1)),
    GOOD.replace(b"1.5", b"1" * 5000),
    GOOD.replace(b'"n"', b'"x":1,"n"'),
    GOOD.replace(b'"who":"me"}', b'"who":"me","id":71}'),
    GOOD.replace(b'"who":"me"}', b'"who":"me" }'),
    GOOD.replace(b"me", b"m\\u0065"),
    GOOD.replace(b"me", b'm\\"e'),
    GOOD.replace(b"me", b"me\\"),
    GOOD.replace(b"me", b"m\x00"),
    GOOD.replace(b"me", b"me\x00\x00"),
    GOOD.replace(b"me", b"m\ne"),
    GOOD.replace(b"me", b"m\x1fe"),
    GOOD.replace(b"me", "mé".encode()),
    GOOD.replace(b"me", b"m\x80"),
    GOOD.replace(b"me", b"m\xff"),
    GOOD.replace(b'"}', b'"\x00'),
    GOOD.replace(b"{", b"\x00", 1),
]


@pytest.mark.parametrize("payload", DEVIATING, ids=lambda value: repr(value)[-50:])
def test_what_deviates_does_not_fit_and_its_neighbours_do(payload: bytes) -> None:
    row = (70, "1.5", 0, "me")
    assert told([GOOD, payload, GOOD]) == [(0, *row), (2, *row)]
    assert told([payload, payload, GOOD, payload]) == [(2, *row)]
    assert told([payload]) == []


def test_bounds_are_included() -> None:
    longest = GOOD.replace(b"70", b"9" * MOST_DIGITS).replace(b"me", b"m" * MOST_BYTES)
    assert told([longest]) == [(0, 10**MOST_DIGITS - 1, "1.5", 0, "m" * MOST_BYTES)]


def test_nothing_and_only_empty_payloads_are_read() -> None:
    assert told([]) == []
    assert told([b"", b"", b""]) == []
    assert told([b"", GOOD, b""]) == [(1, 70, "1.5", 0, "me")]


def test_one_payload_cannot_end_in_the_next() -> None:
    for cut in range(1, len(GOOD)):
        assert told([GOOD[:cut], GOOD[cut:], GOOD]) == [(2, 70, "1.5", 0, "me")], cut


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_how_many_are_read_at_once_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    payloads = [GOOD.replace(b"70", b"%d" % index) for index in range(10)]
    payloads[4] = b"junk \\ \xff"
    whole = told(payloads)
    monkeypatch.setattr(templates, "AT_ONCE", at_once)
    assert told(payloads) == whole
    assert [row[0] for row in whole] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_rows_can_be_thinned_out() -> None:
    (rows,) = SHAPE.read([GOOD.replace(b"70", b"%d" % index) for index in range(4)])
    some = rows.only(np.array([False, True, False, True]))
    assert [row[:2] for row in values(some)] == [(1, 1), (3, 3)]
    assert rows.only(np.ones(4, dtype=np.bool_)) is rows
    assert values(rows.only(np.zeros(4, dtype=np.bool_))) == []


def test_memory_depends_on_how_many_are_read_and_not_on_what_they_say() -> None:
    worst = GOOD[:-4] + b'"' * 1000
    sizes = []
    for payloads in (Payloads.of([worst] * 8000), Payloads.of([GOOD] * 8000)):
        tracemalloc.start()
        list(SHAPE.read(payloads))
        sizes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert sizes[0] < 2 * len(worst) * 8000
    assert sizes[1] < 16 * len(GOOD) * 8000


def no_object_a_frame(payloads: Payloads) -> Iterator[bytes]:
    raise AssertionError(payloads)


def test_payloads_in_one_buffer_are_read_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "AT_ONCE", 4)
    payloads = [GOOD.replace(b"70", b"%d" % index) for index in range(20)]
    payloads[6] = b""
    payloads[7] = b"junk"
    whole = Payloads.of([b"before", *payloads, b"after"])
    part = whole[1:-1]
    with monkeypatch.context() as only:
        only.setattr(Payloads, "__iter__", no_object_a_frame)
        read = told(part)
    assert [row[:2] for row in read] == [(at, at) for at in range(20) if at not in {6, 7}]
    assert read == told(payloads)


def test_a_template_may_be_of_any_shape() -> None:
    pair = Template('["<a>",<b>]')
    (rows,) = pair.read([b'["x",5]', b'["y",50]', b'["z",5 ]', b'["",0]', b'["w",5]]'])
    assert rows.index.tolist() == [0, 1, 3]
    assert rows.texts("a").to_pylist() == ["x", "y", ""]
    assert rows.numbers("b").tolist() == [5, 50, 0]


ALPHABET = st.sampled_from([*GOOD, *b'"\\{}[]:, 0129.eE-+', 0, 10, 31, 127, 128, 255])


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A payload with some bytes replaced, put in or taken out."""
    payload = bytearray(GOOD.replace(b"70", draw(st.sampled_from([b"70", b"0", b"123"]))))
    for _ in range(draw(st.integers(0, 3))):
        at, length = draw(st.integers(0, len(payload))), draw(st.integers(0, 3))
        payload[at : at + length] = bytes(draw(st.lists(ALPHABET, max_size=3)))
    return bytes(payload)


@given(st.lists(spoilt() | st.binary(max_size=8), max_size=12))
def test_what_fits_is_what_a_json_parser_finds(payloads: list[bytes]) -> None:
    for index, *found in told(payloads):
        pairs = json.loads(payloads[int(str(index))], object_pairs_hook=list)
        assert [name for name, _ in pairs] == ["kind", "id", "price", "n", "who"]
        assert [value for _, value in pairs] == ["trade", *found]


@given(st.lists(spoilt(), max_size=8))
def test_whether_a_payload_fits_does_not_depend_on_the_others(payloads: list[bytes]) -> None:
    alone = [(index, *row[1:]) for index, one in enumerate(payloads) for row in told([one])]
    assert told(payloads) == alone
