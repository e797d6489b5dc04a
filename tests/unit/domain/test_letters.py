"""Which dead letters are the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from forebay.domain.parsed import DeadLetter
from forebay.services.normalise import letter_rows, row_id
from tests.support.frames import SECOND, T0, as_json, batch, context, match, rest_row

if TYPE_CHECKING:
    from forebay.domain.frames import Context

ASKED = context("rest")
BAD = rest_row(7) | {"size": "NaN"}


def page(*rows: dict[str, object]) -> bytes:
    return as_json(list(rows))


def ids_of(payloads: list[bytes], letters: list[tuple[int, int]], origin: Context) -> list[str]:
    told = batch(payloads, origin, received_ns=[T0 + n * SECOND for n in range(len(payloads))])
    dead = [DeadLetter(frame, item, "bad_size", "NaN") for frame, item in letters]
    return [str(each) for each in letter_rows(told, dead, "test")["letter_id"].to_pylist()]


def test_a_row_that_is_told_again_is_the_same_letter_wherever_it_stands() -> None:
    pages = [page(BAD), page(rest_row(9), rest_row(8), BAD), page(rest_row(8), BAD, rest_row(6))]
    assert len(set(ids_of(pages, [(0, 0), (1, 2), (2, 1)], ASKED))) == 1


def test_another_row_is_another_letter() -> None:
    other = BAD | {"size": "inf"}
    assert len(set(ids_of([page(BAD, other)], [(0, 0), (0, 1)], ASKED))) == 2


def test_each_row_of_a_page_that_is_an_object_is_a_letter_and_the_same_one_again() -> None:
    other = BAD | {"size": "inf"}
    pages = [as_json({"status": "OK", "results": rows}) for rows in ([BAD, other], [other, BAD])]
    one, two, two_again, one_again = ids_of(pages, [(0, 0), (0, 1), (1, 0), (1, 1)], ASKED)
    assert (one, two) == (one_again, two_again)
    assert one != two


@pytest.mark.parametrize("field", ["venue", "market", "channels", "symbols"])
def test_the_same_row_of_something_else_is_another_letter(field: str) -> None:
    changed = ("other",) if field.endswith("s") else "other"
    elsewhere = msgspec.structs.replace(ASKED, **{field: changed})
    assert row_id(ASKED, 0, page(BAD)) != row_id(elsewhere, 0, page(BAD))


def test_a_page_without_rows_is_one_letter_however_often_it_comes() -> None:
    pages = [b"<html>", b"<html>", b"<h1>"]
    first, second, other = ids_of(pages, [(0, 0), (1, 0), (2, 0)], ASKED)
    assert first == second != other


def test_frames_of_a_connection_are_letters_of_their_own() -> None:
    live = [match(7, size="NaN")] * 2
    assert len(set(ids_of(live, [(0, 0), (1, 0)], context()))) == 2
