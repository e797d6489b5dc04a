"""Columns of ids equal those made by hand from the words of the page."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forebay.domain import schema
from forebay.domain.channels import Channel
from forebay.domain.events import contents_of, event_ids, observed, with_ordinals
from forebay.domain.identity import (
    NATIVE_ID_LIMIT,
    base_id,
    base_text,
    digest_id,
    digest_ids,
    halves_of,
    numbered,
    uuids,
)
from forebay.domain.parsed import RawEvents
from tests.support.frames import LOG, batch, context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.domain.identity import IdentityClass

NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
NUMBERS = st.integers(0, NATIVE_ID_LIMIT - 1)
TEXTS = st.lists(st.text(max_size=12), max_size=8)


def by_hand(text: str, number: int) -> str:
    """Build an id as the page says it, with bits as text."""
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(text.encode()).digest())[:122]
    low = (int(bits[60:], 2) + number) % 2**62
    return str(UUID(f"{int(bits[:48] + '1000' + bits[48:60] + '10' + f'{low:062b}', 2):032x}"))


@given(TEXTS)
def test_a_column_of_digests_equals_single_ones(texts: list[str]) -> None:
    made = uuids(digest_ids(texts)).to_pylist()
    assert made == [digest_id(hashlib.sha256(text.encode()).digest()) for text in texts]
    assert [str(each) for each in made] == [by_hand(text, 0) for text in texts]


@given(st.lists(st.tuples(NUMBERS, st.text(max_size=5)), max_size=8))
@example([(NATIVE_ID_LIMIT - 1, "wraps"), (0, "stays")])
def test_a_number_is_added_to_the_low_62_bits(pairs: list[tuple[int, str]]) -> None:
    halves = digest_ids([text for _, text in pairs])
    made = numbered(halves, np.array([number for number, _ in pairs], dtype=np.int64))
    ids = uuids(made).to_pylist()
    assert [str(each) for each in ids] == [by_hand(text, number) for number, text in pairs]
    assert all((each.version, each.variant) == (8, UUID(int=2 << 62).variant) for each in ids)


@given(st.lists(NAMES, max_size=5), st.lists(NAMES, max_size=5))
@example(["a|b", "c"], ["a", "b|c"])
@example(["a%7C"], ["a|"])
def test_other_parts_are_another_text(one: list[str], other: list[str]) -> None:
    assert (base_text("session", *one) == base_text("session", *other)) is (one == other)


def test_classes_cannot_tell_the_same() -> None:
    parts = ("v", "spot", "trade", "A-B")
    assert len({base_id("session", *parts), base_id("content", *parts)}) == 2
    assert base_text("observation", "v|%", "x") == "observation|v%7C%25|x"


STREAM = ("v", "perp", "trade")
SYMBOLS = ["A-B", "A-C"]
CODES = np.array([0, 1, 0])


def raw(identity: IdentityClass, places: Sequence[tuple[int, int]] = ()) -> RawEvents:
    """Build what ids are made of: a channel, a market, and frame and item of each event."""
    return RawEvents(
        channel=Channel("trade", identity, "none"),
        market="perp",
        frame=np.array([frame for frame, _ in places], dtype=np.int64),
        item=np.array([item for _, item in places], dtype=np.int64),
        venue_symbol=[],
        symbol=[],
        time=None,
        columns={},
    )


@pytest.mark.parametrize(
    ("identity", "tail"),
    [("session", "c1|e1"), ("observation", LOG)],
)
def test_ids_of_connections_and_observations_are_those_by_hand(
    identity: IdentityClass, tail: str
) -> None:
    frames = batch([b"x"] * 3, context(venue="v"), first_seq=77)
    told = raw(identity, [(0, 0), (2, 0), (2, 65_535)])
    natives = numbers = np.array([5, 6, NATIVE_ID_LIMIT - 1])
    if identity == "observation":
        numbers = observed(frames, told)
        assert numbers.tolist() == [77 << 16, 79 << 16, (79 << 16) + 65_535]
    made = event_ids(told, frames, SYMBOLS, CODES, natives=natives, content=[])
    assert [str(each) for each in uuids(made).to_pylist()] == [
        by_hand("|".join([identity, *STREAM, SYMBOLS[code], tail]), int(number))
        for code, number in zip(CODES, numbers, strict=True)
    ]


def spelled(units: int) -> str:
    return f"{units // 10**18}.{units % 10**18:018d}"


def exact(units: int) -> Decimal:
    return Decimal(spelled(units))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**62),
            st.integers(1, 10**38 - 1),
            st.integers(1, 10**38 - 1),
            st.sampled_from(["buy", "sell", "unknown"]),
            st.integers(0, 20),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_ids_of_content_are_those_by_hand(
    rows: list[tuple[int, int, int, str, int]],
) -> None:
    moments, prices, sizes, sides, told = zip(*rows, strict=True)
    content = [
        pa.array(moments, schema.TIME),
        pa.array([exact(units) for units in prices], schema.DECIMAL),
        pa.array([exact(units) for units in sizes], schema.DECIMAL),
        pa.array(sides, pa.string()),
    ]
    frames = batch([b"x"], context(venue="v"))
    codes = np.zeros(len(rows), dtype=np.int64)
    bases = uuids(event_ids(raw("content"), frames, SYMBOLS, codes, natives=None, content=content))
    assert [len(each) for each in contents_of(bases)] == [16] * len(rows)
    made = with_ordinals(bases, told)
    assert [str(each) for each in made.to_pylist()] == [
        by_hand(f"content|v|perp|trade|A-B|{at}|{spelled(price)}|{spelled(size)}|{side}", ordinal)
        for at, price, size, side, ordinal in rows
    ]


def test_content_of_slices_and_refused_rows_is_made_of_the_right_cells() -> None:
    prices = pa.array([Decimal(9), Decimal("7.5"), None, Decimal("7.50")], schema.DECIMAL)
    sizes = pa.array([Decimal(1)] * 3, schema.DECIMAL)
    content = [pa.array([1, 1, 1]), prices.slice(1), sizes, pa.array(["buy"] * 3)]
    frames = batch([b"x"], context(venue="v"))
    codes = np.zeros(3, dtype=np.int64)
    made = uuids(
        event_ids(raw("content"), frames, SYMBOLS, codes, natives=None, content=content)
    ).to_pylist()
    right = by_hand(f"content|v|perp|trade|A-B|1|7.5{'0' * 17}|1.{'0' * 18}|buy", 0)
    assert [str(made[0]), str(made[2])] == [right, right]
    assert made[1] != made[0]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6))
@example(["a|b", "a", "b", "%7C"])
def test_ids_of_texts_are_those_by_hand(natives: list[str]) -> None:
    told = raw("native")
    told.native = pa.array(natives, pa.string())
    codes = np.arange(len(natives)) % 2
    made = event_ids(
        told, batch([b"x"], context(venue="v")), SYMBOLS, codes, natives=None, content=[]
    )
    assert [str(each) for each in uuids(made).to_pylist()] == [
        by_hand(f"native|v|perp|trade|{SYMBOLS[code]}|{native}", 0)
        for code, native in zip(codes, natives, strict=True)
    ]


def test_a_number_of_a_connection_must_be_an_integer() -> None:
    told = raw("session")
    told.native = pa.array(["t3"])
    frames = batch([b"x"], context(venue="v"))
    with pytest.raises(TypeError, match="needs integers"):
        event_ids(told, frames, SYMBOLS, CODES[:1], natives=None, content=[])


def test_halves_are_the_halves() -> None:
    made = UUID("ebeba404-b774-867a-8000-0000000446a8")
    assert halves_of([made]).tolist() == [[made.int >> 64, made.int & (1 << 64) - 1]]
