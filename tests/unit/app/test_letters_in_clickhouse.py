"""Dead letters as they are asked for, of ClickHouse."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pyarrow as pa
import pytest

from forebay.app.dead_letters import LettersWanted, beginning, failed_in, listed, venues_of, whole
from forebay.app.wiring.data_folder import DataFolder
from forebay.domain import schema
from forebay.journal import Position
from forebay.ports import Commit
from tests.support.clickhouse_stores import a_clickhouse_store
from tests.support.delivery import deliver
from tests.support.frames import LOG, T0, batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.app.reader import Data

OPEN = ("open", "kept")


def letter_states(*told: tuple[bytes, str, str]) -> pa.Table:
    about = {"told_ts": T0, "by": "me", "reason": ""}
    rows = [{"letter_id": each, "state": state, "run": run, **about} for each, state, run in told]
    return pa.Table.from_pylist(rows, schema=schema.LETTER_STATES)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Data]:
    """What is asked of a folder whose store is ClickHouse: three letters, one of them open."""
    with a_clickhouse_store() as store, contextlib.closing(store.reader()) as reader:
        deliver(store, [[batch([b"\xff junk", b"junk 2", b"junk 3"])]])
        found = store.table("dead_letters").sort_by("seq")["letter_id"].to_pylist()
        first, second, third = (UUID(str(each)).bytes for each in found)
        told = [(first, "replayed", "run"), (first, "failed", "run"), (second, "replayed", "run")]
        told.append((third, "discarded", ""))
        states = letter_states(*told)
        store.commit(Commit({"store": Position(LOG, 9)}, letter_states=states))

        def sql(query: str, *, limit: int | None = None) -> pa.Table:
            return reader.query(query, timeout_s=10.0, limit=limit)

        yield cast("Data", SimpleNamespace(sql=sql, folder=DataFolder(tmp_path)))


def wanted(
    *, reason: str | None = None, error: str | None = None, states: Sequence[str] = OPEN
) -> LettersWanted:
    return LettersWanted(reason, error, None, None, None, states)


def test_letters_are_listed_found_and_settled(data: Data) -> None:
    (row,) = listed(data, wanted(reason="not_json", error="INVALID"), 10).to_pylist()
    assert (row["state"], row["attempts"], row["bytes"]) == ("open", 2, 6)
    assert listed(data, wanted(error="nothing like it"), 10).num_rows == 0
    for state in ("replayed", "discarded"):
        (settled,) = listed(data, wanted(states=(state,)), None).to_pylist()
        assert (settled["state"], settled["settled_by"]) == (state, "me")
    (shown,) = beginning(data, row["letter"][:13]).to_pylist()
    assert shown["payload"] == b"\xff junk"
    (letter,) = whole(data, [row["letter"]])
    assert (letter.payload, letter.log_id, letter.seq) == (b"\xff junk", LOG, 1)
    assert failed_in(data, "run").keys() == {row["letter"]}
    assert venues_of(data, [row["letter"]]) == {row["letter"]: "coinbase"}
