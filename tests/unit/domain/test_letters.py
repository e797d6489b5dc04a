"""Dead letters as rows: each has an id of its own, and the same one when it is told again."""

from __future__ import annotations

import dataclasses

import numpy as np

from forebay.domain.letters import letter_rows
from forebay.domain.parsed import DeadLetter
from tests.support.frames import batch

TORN = b'{"type":'


def ids(payloads: list[bytes], received: list[int]) -> list[bytes]:
    frames = dataclasses.replace(batch(payloads), received_ns=np.array(received, dtype=np.int64))
    letters = [DeadLetter(n, 0, "not_json", "cut") for n in range(len(payloads))]
    found: list[bytes] = letter_rows(frames, letters, "p").column("letter_id").to_pylist()
    return found


def test_equal_frames_that_were_read_together_are_letters_of_their_own() -> None:
    first, second, third = ids([TORN] * 3, [7, 7, 7])
    assert len({first, second, third}) == 3
    assert ids([TORN] * 3, [7, 7, 7]) == [first, second, third]
    assert ids([TORN], [7]) == [first]


def test_what_stands_between_them_changes_nothing() -> None:
    assert ids([TORN, b"{", TORN], [7, 7, 7])[::2] == ids([TORN, TORN], [7, 7])


def test_another_moment_is_another_letter() -> None:
    assert len(set(ids([TORN, TORN], [7, 8]))) == 2
