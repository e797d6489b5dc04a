"""The exam across a transport: a second store behind it is as the first, in every edition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from forebay.domain.kinds import KINDS
from forebay.services import lane_bridge
from forebay.services.lane_bridge import journal_cursor
from forebay.services.normalise import OrdinalAssigner
from forebay.services.publisher import Publisher, Telling
from forebay.stores.duckdb import DuckDBAudited, DuckDBReader, DuckDBStore
from tests.exam.across import sit_across
from tests.exam.capturing import capture
from tests.exam.carrying import carried, second_of
from tests.exam.judging import audit
from tests.exam.made.protocol import EDITIONS
from tests.exam.ping import PING
from tests.support.crossing import content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from forebay.domain.messages import Message
    from forebay.journal import Position
    from forebay.services.normalise import Normalised


@pytest.fixture(autouse=True)
def _ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, PING.channel, PING)


def test_every_edition_passes_across_a_transport(tmp_path: Path) -> None:
    assert sit_across(tmp_path) == set()


# -------------------------------------------------------------------- with real processes

EVENTS = 5_000
"""Of each edition."""


def test_processes_on_both_sides_of_a_transport_fill_a_second_store(tmp_path: Path) -> None:
    folder = capture(tmp_path, EDITIONS, EVENTS, carried)
    (log_id,) = {position.log_id for position in _positions(folder.database("duckdb")).values()}
    cursor = journal_cursor(log_id)
    assert _positions(second_of(folder))[cursor] == _positions(folder.database("duckdb"))["store"]
    reports = []
    for database, consumer in ((folder.database("duckdb"), "store"), (second_of(folder), cursor)):
        reader = DuckDBReader.of_file(database)
        found = audit(DuckDBAudited(reader.query, consumer), folder.journal)
        reader.close()
        assert found.only_refused(), found.report.problems
        reports.append(msgspec.structs.replace(found.report, took_ms=0))
    assert reports[0] == reports[1]
    first, second = (_content(path) for path in (folder.database("duckdb"), second_of(folder)))
    assert [name for name, rows in first.items() if rows != second[name]] == []
    assert len(first["quotes"]) + len(first["pings"]) >= EVENTS * len(EDITIONS)


def _positions(database: Path) -> dict[str, Position]:
    store = DuckDBStore(database)
    positions = dict(store.load().positions)
    store.close()
    return positions


def _content(database: Path) -> dict[str, list[tuple[object, ...]]]:
    store = DuckDBStore(database)
    found = content(store)
    store.close()
    return found


# ------------------------------------------------------------- what is broken is found out


FEW = [
    edition
    for edition in EDITIONS
    if edition.venue
    in {"made-native-id", "made-session-seq", "made-content-time", "made-observation-none"}
]


def ordinals_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    load = Publisher.load

    def forgetful(self: Publisher) -> Position | None:
        position = load(self)
        self._ordinals = OrdinalAssigner({})
        return position

    patch.setattr(Publisher, "load", forgetful)


def the_position_is_kept_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    commit = Publisher.commit

    def hasty(self: Publisher, plan: Telling) -> int:
        publish, late = self._transport.publish, []
        self._transport.publish = lambda *told: late.append(told)  # type: ignore[method-assign]
        try:
            frames = commit(self, plan)
            self._feed.done(plan.end)
        finally:
            self._transport.publish = publish  # type: ignore[method-assign]
        for told in late:
            publish(*told)
        return frames

    patch.setattr(Publisher, "commit", hasty)


def records_of_connections_do_not_travel(patch: pytest.MonkeyPatch) -> None:
    listen = lane_bridge.listen

    def deaf(messages: Iterable[Message]) -> Iterator[Normalised]:
        return (item for item in listen(messages) if not item.controls)

    patch.setattr(lane_bridge, "listen", deaf)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], str]] = [
    (ordinals_are_not_kept, "pings"),
    (the_position_is_kept_before_the_acknowledgement, "the audit"),
    (records_of_connections_do_not_travel, "coverage"),
]


@pytest.mark.parametrize(("spoil", "guarantee"), BROKEN, ids=[b.__name__ for b, _ in BROKEN])
def test_code_that_is_broken_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch], None],
    guarantee: str,
) -> None:
    spoil(monkeypatch)
    assert guarantee in sit_across(tmp_path, FEW)
