"""A two-slot file looked at byte by byte."""

from __future__ import annotations

import pytest

from forebay.journal.two_slot_file import (
    FILE_SIZE,
    SlotCheck,
    check_slots,
    encode_slot,
    parse_slots,
)

OLD, NEW = encode_slot(4, b"old"), encode_slot(5, b"new")


def two(first: bytes, second: bytes) -> bytes:
    return (first.ljust(4096, b"\0") + second).ljust(FILE_SIZE, b"\0")


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


WHOLE = two(OLD, NEW)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (WHOLE, (2, (), None)),
        (two(NEW, b""), (1, (), None)),
        (b"", (0, (), None)),
        (bytes(FILE_SIZE), (0, (), None)),
        (flipped(WHOLE, 3), (1, (0,), None)),
        (flipped(WHOLE, 4096 + 12), (1, (1,), None)),
        (flipped(flipped(WHOLE, 3), 4096 + 3), (0, (0, 1), None)),
        (flipped(WHOLE, 200), (2, (), 200)),
        (flipped(WHOLE, 1000), (2, (), 1000)),
        (WHOLE + b"\0\0x", (2, (), FILE_SIZE + 2)),
        (WHOLE[:4096], (1, (), None)),
        (WHOLE[: 4096 + 9], (1, (1,), None)),
    ],
)
def test_every_byte_is_accounted_for(
    raw: bytes, expected: tuple[int, tuple[int, ...], int | None]
) -> None:
    assert check_slots(raw) == SlotCheck(*expected)


def test_every_flipped_bit_of_a_whole_file_is_seen() -> None:
    for at in range(FILE_SIZE):
        check = check_slots(flipped(WHOLE, at))
        assert check.damaged or check.stray == at


def test_a_slot_says_whether_a_newer_one_may_be_lost() -> None:
    found = [parse_slots(raw) for raw in (WHOLE, flipped(WHOLE, 4096 + 3), flipped(WHOLE, 3))]
    assert [(slot.payload, slot.newest) for slot in found if slot] == [
        (b"new", True),
        (b"old", False),
        (b"new", False),
    ]
    alone = parse_slots(two(NEW, b""))
    assert alone is not None
    assert alone.newest


def test_damage_is_found_where_its_slot_begins() -> None:
    assert [SlotCheck.offset_of(side) for side in (0, 1)] == [0, 4096]
