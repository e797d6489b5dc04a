"""Logs that deserve it are condemned by the same tortures that the journal stands."""

from __future__ import annotations

import random

import pytest

from tests.support import naive_logs
from tests.support.naive_logs import NaiveLog, WithoutCrc
from tests.support.sim_disk import SimDisk
from tests.support.torture import FOLDER, Got, complaints
from tests.support.torture_crashes import JournalSubject, Subject, ordeals
from tests.tiers import count

SEEDS = range(count("crash histories of a naive log"))


def condemned(log: type[Subject]) -> str:
    _, found = ordeals(log, SEEDS)
    return "; ".join(found)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (naive_logs.WithoutWatermark, {"corrupt", "means two things", "lost without a word"}),
        (naive_logs.WithoutSync, {"lost without a word"}),
        (naive_logs.WithoutNames, {"lost without a word"}),
        (naive_logs.WithoutCrc, {"corrupt", "was never given"}),
    ],
)
def test_what_a_log_lacks_is_found_by_crashing_it(log: type[NaiveLog], why: set[str]) -> None:
    found = condemned(log)
    assert any(each in found for each in why), found


def test_a_log_that_lacks_none_of_them_is_not_condemned() -> None:
    """So each of them is condemned for what it lacks, and for nothing else."""
    assert condemned(NaiveLog) == ""


def test_the_journal_stands_the_same_histories() -> None:
    assert condemned(JournalSubject) == ""


def flips_noticed(log: NaiveLog, flips: int) -> tuple[int, int]:
    """Flip single bits of a log of 20 records: how often it gave damage, and was silent."""
    disk = SimDisk.of(FOLDER, {})
    log.open(disk)
    payloads = [b"%d|" % seq + random.Random(seq).randbytes(20) for seq in range(1, 21)]
    log.append(payloads)
    raw = disk.files["log"]
    corrupt = silent = 0
    for seed in range(flips):
        disk = SimDisk.of(FOLDER, {"log": raw})
        disk.flip(FOLDER / "log", random.Random(seed).randrange(len(raw) * 8))
        log = type(log)()
        log.open(disk)
        found = complaints(dict(enumerate(payloads, 1)), log.everything(disk))
        corrupt += any(each.startswith("corrupt") for each in found)
        silent += any(each.startswith("lost") for each in found)
    return corrupt, silent


def test_without_a_crc_most_flips_are_delivered() -> None:
    corrupt, _ = flips_noticed(WithoutCrc(), 500)
    assert corrupt > 250


def test_with_a_crc_and_nothing_else_a_flip_ends_the_log_in_silence() -> None:
    corrupt, silent = flips_noticed(NaiveLog(), 500)
    assert corrupt == 0
    assert silent == 500


GOOD = {1: b"a", 2: b"b", 3: b"c"}
ALL = [(1, b"a"), (2, b"b"), (3, b"c")]


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (Got(ALL, []), []),
        (Got(ALL[:2], [(3, 3)]), []),
        (Got(ALL[:2], []), ["lost without a word: [3]"]),
        (Got([(1, b"x"), *ALL[1:]], []), ["corrupt: [1]"]),
        (Got([ALL[1], ALL[0], ALL[2]], []), ["out of order"]),
        (Got([*ALL, ALL[2]], []), ["doubled"]),
        (Got(ALL, [(2, 2)]), ["declared lost and delivered"]),
    ],
)
def test_the_judge_knows_each_offence(got: Got, expected: list[str]) -> None:
    assert complaints(GOOD, got) == expected
