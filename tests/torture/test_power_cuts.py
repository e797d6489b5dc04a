"""Power cuts and kills at any operation, several in a row: commits, rolls, recovery itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.torture_crashes import JournalSubject, ordeals
from tests.tiers import seeds

if TYPE_CHECKING:
    from collections import Counter

HISTORIES = 500
SOMETIMES = {
    "append: pwritev": "a commit, half written",
    "append: fdatasync": "a commit, written and not synced",
    "append: create": "a roll, before its file was there",
    "append: rename": "a roll, before its file had its name",
    "append: fsync_dir": "a roll, before its name was durable",
    "append: unlink": "a full disk, while the ballast was given up",
    "open: allocate": "the ballast being taken",
    "open: pwritev": "recovery, writing the end again",
    "open: truncate": "recovery, cutting the torn end off",
    "open: fdatasync": "recovery, before the end was synced",
    "open: rename": "a new segment or a new log at the start",
    "close: pwritev": "the proof that closing writes",
    "full": "a full disk that refused",
    "refused": "a disk that failed",
}


def torture(run: int) -> Counter[str]:
    happened, complaints = ordeals(JournalSubject, range(run * HISTORIES, (run + 1) * HISTORIES))
    print(f"run {run}: {dict(happened)}")
    assert not complaints
    assert happened["histories"] == HISTORIES
    return happened


@pytest.mark.parametrize("run", seeds("runs of 500 crash histories"), ids=lambda run: f"run {run}")
def test_histories_of_crashes_lose_nothing_and_reuse_no_number(run: int) -> None:
    happened = torture(run)
    # Whatever is rare may miss one run, but never the commonest of them.
    assert {"append: pwritev", "open: pwritev", "append: rename"} <= happened.keys()


def test_each_moment_of_a_crash_is_really_met() -> None:
    happened, complaints = ordeals(JournalSubject, range(100_000, 101_000))
    assert not complaints
    assert {moment: happened[moment] for moment in SOMETIMES if not happened[moment]} == {}
