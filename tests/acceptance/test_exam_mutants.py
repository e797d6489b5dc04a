"""The exam can be failed: each guarantee by code that is broken in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from forebay.domain import events, identity
from forebay.domain.coverage import IdCoverage, SequenceCoverage, TimeCoverage
from forebay.domain.kinds import KINDS
from forebay.domain.ordinals import EpochOrdinals
from forebay.services import ledger_builder
from forebay.stores.duckdb import store as duckdb_store
from tests.exam.made.protocol import EDITIONS
from tests.exam.ping import PING
from tests.exam.sitting import sit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

FEW = [
    edition
    for edition in EDITIONS
    if edition.venue
    in {
        "made-native-id",
        "made-native-text-time",
        "made-session-seq",
        "made-content-time",
        "made-observation-none",
    }
]
"""One of each class, and of each unit."""


@pytest.fixture(autouse=True)
def _ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)


def test_the_code_as_it_is_passes(tmp_path: Path) -> None:
    assert sit(tmp_path) == set()


def no_gaps_by_id(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IdCoverage, "gaps", lambda _self, _key: [])


def no_gaps_within_a_connection(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SequenceCoverage, "gaps", TimeCoverage.gaps)


def every_telling_is_new_to_the_ledger(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        ledger_builder, "first_rows", lambda _table, events, _first_told: _all_of(events.rows)
    )


def _all_of(rows: pa.Table) -> npt.NDArray[np.bool_]:
    return np.ones(len(rows), dtype=np.bool_)


def the_store_calls_every_telling_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(duckdb_store, "first_told", lambda _session, _name, rows: _all_of(rows))


def sums_of_delivery_are_doubled(patch: pytest.MonkeyPatch) -> None:
    once = ledger_builder.Sums._digest

    def twice(self: ledger_builder.Sums, *told: Any) -> None:  # noqa: ANN401 - as it is told
        once(self, *told)
        once(self, *told)

    patch.setattr(ledger_builder.Sums, "_digest", twice)


def equal_events_are_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EpochOrdinals, "count", lambda _self, contents: [0] * len(list(contents)))


def sessions_are_not_told_apart(patch: pytest.MonkeyPatch) -> None:
    real = identity.base_id
    patch.setattr(events, "base_id", lambda name, *parts: real(name, *parts[:4]))


def observations_share_numbers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(events, "observed", lambda batch, raw: batch.seqs[raw.frame] >> 4)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (no_gaps_by_id, "left out"),
    (no_gaps_within_a_connection, "left out"),
    (every_telling_is_new_to_the_ledger, "intact without frames"),
    (the_store_calls_every_telling_the_first, "intact without frames"),
    (sums_of_delivery_are_doubled, "intact without frames"),
    (equal_events_are_one, "pristine"),
    (sessions_are_not_told_apart, "pristine"),
    (observations_share_numbers, "pristine"),
]


@pytest.mark.parametrize(("spoil", "guarantee"), BROKEN, ids=[b.__name__ for b, _ in BROKEN])
def test_code_that_is_broken_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
) -> None:
    spoil(monkeypatch)
    assert guarantee in sit(tmp_path, FEW)
