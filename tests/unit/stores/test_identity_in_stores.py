"""What stores owe to identity: ordinals with the rows, one flag merged, conflicts in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import pytest

from forebay.domain.coverage import StreamKey
from forebay.errors import Transient
from forebay.journal import Position
from forebay.ports import Commit
from forebay.services.deliver import Deliverer
from forebay.services.projection import Projection
from forebay.stores.duckdb import DuckDBStore
from forebay.stores.duckdb.session import SqlSession
from forebay.telemetry import ConflictFound
from tests.support.delivery import deliver, plain_rows
from tests.support.frames import LOG, T0, as_json, batch, context, match, rest_row, rfc3339
from tests.support.made_venue import MADE, Deal, frame, rig
from tests.support.memory_store import MemoryStore, merged_flags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from forebay.telemetry import TelemetryEvent
    from tests.support.delivery import TableStore

KEY, OTHER = StreamKey("v", "spot", "trade", "A-B"), StreamKey("v", "spot", "trade", "A-C")


@pytest.fixture(params=["memory", "duckdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TableStore]:
    duck = request.param == "duckdb"
    made: TableStore = DuckDBStore(tmp_path / "forebay.duckdb") if duck else MemoryStore()
    yield made
    made.close()


def test_ordinals_come_back_whole_and_replace_those_of_their_stream_only(store: TableStore) -> None:
    assert dict(store.load().ordinals) == {}
    store.commit(Commit({"store": Position(LOG, 1)}, ordinals={KEY: b"\x00\xff'", OTHER: b""}))
    store.commit(Commit({"store": Position(LOG, 2)}, ordinals={OTHER: b"later"}))
    store.commit(Commit({"store": Position(LOG, 3)}))
    assert dict(store.load().ordinals) == {KEY: b"\x00\xff'", OTHER: b"later"}


def test_ordinals_of_a_commit_that_failed_are_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DuckDBStore(tmp_path / "forebay.duckdb")
    store.commit(Commit({"store": Position(LOG, 1)}, ordinals={KEY: b"before"}))
    real = SqlSession.run

    def refuse(session: SqlSession, statement: str, *rest: object, **named: object) -> object:
        if statement == "COMMIT":
            raise duckdb.IOException("no space")
        return real(session, statement, *rest, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(SqlSession, "run", refuse)
        with pytest.raises(Transient):
            store.commit(Commit({"store": Position(LOG, 2)}, ordinals={KEY: b"after"}))
    assert dict(store.load().ordinals) == {KEY: b"before"}
    assert store.load().positions["store"] == Position(LOG, 1)
    store.close()


@pytest.mark.parametrize(
    ("stored", "told", "merged"),
    [
        ("", "", ""),
        ("late", "backfill", "late"),
        ("", "ambiguous", "ambiguous"),
        ("late", "backfill,ambiguous", "late,ambiguous"),
        ("late,ambiguous", "", "late,ambiguous"),
        ("ambiguous", "late,ambiguous", "ambiguous"),
        ("", "unambiguous", ""),
    ],
)
def test_one_flag_is_merged_and_the_others_stay(stored: str, told: str, merged: str) -> None:
    assert merged_flags(stored, told) == merged


PAGE = as_json([rest_row(7, time=rfc3339(T0 + 123_456_000))])
FEED = match(7, time="2021-04-17T16:43:37.123456789Z")
"""The same trade with nanoseconds, which only the feed tells."""


@pytest.mark.parametrize("page_first", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_the_same_trade_by_websocket_and_by_rest_is_one_row_and_no_conflict(
    store: TableStore, page_first: bool, together: bool
) -> None:
    told = [batch([FEED]), batch([PAGE], context("rest"))]
    runs = told[::-1] if page_first else told
    deliver(store, [runs] if together else [[run] for run in runs])
    trades = store.table("trades")
    (event_ns,) = trades["event_ts"].cast("int64").to_pylist()
    assert event_ns == T0 + 123_456_000
    assert trades["exchange_ts"].cast("int64").to_pylist() == [
        T0 + (123_456_000 if page_first else 123_456_789)
    ]
    assert len(store.table("conflicts")) == 0


OTHERS: dict[str, object] = {
    "price": "1.5",
    "size": "1.5",
    "side": "buy",
    "time": "2021-04-17T16:43:37.123457Z",
}


@pytest.mark.parametrize("changed", OTHERS)
@pytest.mark.parametrize("swapped", [False, True])
def test_whoever_is_first_stays_and_the_other_is_a_conflict(
    store: TableStore, changed: str, swapped: bool
) -> None:
    versions = [match(7, time="2021-04-17T16:43:37.123456Z")]
    versions.append(match(7, **{"time": "2021-04-17T16:43:37.123456Z", changed: OTHERS[changed]}))
    first, second = versions[::-1] if swapped else versions
    alone = MemoryStore()
    deliver(alone, [[batch([first])]])
    deliver(store, [[batch([first])], [batch([second], context(epoch="e2"))], [batch([second])]])
    assert plain_rows(store.table("trades"), "flags") == plain_rows(alone.table("trades"), "flags")
    assert store.table("conflicts")["table"].to_pylist() == ["trades"]


def test_a_conflict_raises_an_alarm_of_native_and_of_session_ids(tmp_path: Path) -> None:
    for identity in ("native", "session"):
        seen: list[TelemetryEvent] = []
        with rig(tmp_path / identity, identity) as made:
            made.tell("e1", Deal(number=4), Deal(number=5))
            made.step()
            made.tell("e1", Deal(number=4, price="8"), Deal(number=5))
            folder = tmp_path / identity / "journal"
            Deliverer(folder, made.store, MADE, observer=seen.append).drain()
            assert [each for each in seen if isinstance(each, ConflictFound)] == [ConflictFound(1)]
            assert len(made.rows()) == 2


def test_an_item_that_does_not_fit_an_observation_is_a_dead_letter() -> None:
    page = batch([frame(*[Deal()] * 65_537)], context("rest", venue="made-observation"))
    made = Projection(MADE, {}).project([page])
    letters, rows = made.letters, made.events["trades"].rows
    assert letters is not None
    assert letters["item"].to_pylist() == [65_536]
    assert letters["reason"].to_pylist() == ["bad_id"]
    assert len(set(rows["event_id"].to_pylist())) == len(rows) == 65_536
