"""Several stores of one data folder: how they are named, who answers, and who is left alone."""

from __future__ import annotations

import random
from contextlib import closing, nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import forebay
from forebay.app.offline.preflight import _store
from forebay.app.processes.mirror_process import note_begin
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.store_delivery import StoreAnswers
from forebay.app.processes.worker import roles
from forebay.app.querying import decode_arrow
from forebay.app.reader import Data
from forebay.app.store_reach import begun_at, log_id_of
from forebay.app.wiring import stores
from forebay.app.wiring.config import Config, load
from forebay.app.wiring.data_folder import Consumer, DataFolder
from forebay.app.wiring.transports import consumers
from forebay.app.wiring.venues import parsers
from forebay.clock import ManualClock
from forebay.errors import ConfigError, ForebayError, Permanent, Transient, Unreachable
from forebay.journal import CursorFile, JournalWriter, Position
from forebay.ports import Commit
from forebay.resilience import State
from forebay.services.deliver import Deliverer
from forebay.services.lane_bridge import journal_cursor
from forebay.stores.kind import MirrorConfig, StoreConfig
from forebay.telemetry import ignore
from forebay.times import to_ns
from tests.support.frames import LOG
from tests.support.served_store import PLUGIN, away
from tests.unit.app.test_rebuild import captured

if TYPE_CHECKING:
    from pathlib import Path

WHERE = "SELECT seq FROM cursors WHERE consumer = 'store'"


def served(name: str, folder: Path) -> StoreConfig:
    return StoreConfig(name=name, plugin=PLUGIN, url=str(folder / f"{name}.db"))


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A folder with two stores: the first is at frame 9, the other at 7, of 8 that are captured."""
    made = DataFolder(tmp_path / "data").create()
    with JournalWriter.open(made.journal, clock=ManualClock(), ballast_bytes=0) as writer:
        log = writer.position.log_id
    places = {"main": "deliver", "second": "mirror-second"}
    made.remember_stores({role: served(name, tmp_path) for name, role in places.items()})
    for (role, said), seq in zip(made.stores().items(), (9, 7), strict=True):
        with closing(stores.open_store(made, said)) as store:
            store.commit(Commit({"store": Position(log, seq)}))
        CursorFile(made.cursor("store" if role == "deliver" else role)).store(Position(log, seq))
    return made


def go_away(folder: DataFolder, *names: str) -> None:
    for name in names:
        away(folder.root.parent / f"{name}.db").touch()


def opened(folder: DataFolder, said: list[str], store: str = "") -> Data:
    return Data(folder.root, store=store, tell=said.append, wait=lambda _: None)


def test_the_first_store_answers_and_nobody_is_told(folder: DataFolder) -> None:
    said: list[str] = []
    assert opened(folder, said).sql(WHERE)["seq"].to_pylist() == [9]
    assert opened(folder, said, "second").sql(WHERE)["seq"].to_pylist() == [7]
    assert said == []


def test_the_next_one_answers_while_the_first_is_away_and_that_is_said(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_away(folder, "main")
    monkeypatch.setattr("forebay.app.store_reach.captured_after", lambda *_: 2)
    said: list[str] = []
    found = opened(folder, said).sql(WHERE)
    assert found["seq"].to_pylist() == [7]
    assert found.schema.metadata == {b"store": b"second", b"instead_of": b"main"}
    lacks = "it lacks 2 frames of what is captured"
    assert said == [f"The store main cannot be reached: second answers; {lacks}."]
    begun_at(folder, "mirror-second").store(b"2026-11-22T10:00:00Z")
    folder.remember_consumers([Consumer("mirror-second", required=False)])
    more = "nothing from before 2026-11-22T10:00:00Z; it is not required, so it may lack more."
    with pytest.warns(UserWarning, match=f"second answers; {lacks}; {more}"):
        forebay.open(folder.root).sql(WHERE)


def test_who_names_a_store_gets_no_other_and_neither_does_an_audit_or_a_follow(
    folder: DataFolder,
) -> None:
    go_away(folder, "main")
    said: list[str] = []
    with pytest.raises(Unreachable, match=r"main\.db"):
        opened(folder, said, "main").sql(WHERE)
    with pytest.raises(Unreachable, match=r"main\.db"):
        opened(folder, said).audit_report()
    with opened(folder, said).follow() as follow, pytest.raises(Unreachable):
        follow.query(WHERE)
    go_away(folder, "second")
    with pytest.raises(Unreachable, match=r"main\.db"):
        opened(folder, said).sql(WHERE)
    assert said == []
    with pytest.raises(ConfigError, match="no store 'secnd'") as refused:
        opened(folder, said, "secnd")
    assert "'second'" in refused.value.hint


def test_a_wrong_query_is_asked_once(folder: DataFolder) -> None:
    said: list[str] = []
    with pytest.raises(Permanent):
        opened(folder, said).sql("SELECT nothing FROM nowhere")
    assert said == []


def test_a_mirror_that_begins_later_says_from_when_on_it_has_all(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_begin(folder, "mirror-second")
    note_begin(folder, "mirror-new")
    assert begun_at(folder, "mirror-new").load() is None, "the journal has all from its beginning"
    trimmed = SimpleNamespace(position=Position(LOG, 500))
    where = note_begin.__module__
    monkeypatch.setattr(f"{where}.JournalReader", lambda _: nullcontext(trimmed))
    oldest_ns = to_ns("2026-11-22T10:00:00Z")
    monkeypatch.setattr(f"{where}.overview", lambda _: SimpleNamespace(oldest_ns=oldest_ns))
    note_begin(folder, "mirror-second")
    note_begin(folder, "mirror-newer")
    assert begun_at(folder, "mirror-second").load() is None, "it is fed already"
    assert begun_at(folder, "mirror-newer").load() == b"2026-11-22T10:00:00Z"


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("mirrors", "said"),
    [
        ([{"kind": "duckdb"}], "both called duckdb"),
        ([{"kind": "duckdb", "name": "b"}], "both in duckdb"),
        ([{"kind": "clickhouse"}, {"kind": "clickhouse"}], "both called clickhouse"),
        ([{"kind": "clickhouse", "name": "a/b"}], "'a/b'"),
        ([{"kind": "clickhouse", "url": "http://me:secret@host"}], "more than an address"),
        ([{"kind": "clickhouse", "requierd": True}], "requierd"),
    ],
)
def test_stores_that_would_be_one_are_refused(mirrors: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load(None, {"mirrors": mirrors}, {})
    assert "secret" not in str(refused.value)


def test_each_mirror_has_a_process_and_a_cursor_that_counts_if_it_is_required() -> None:
    mirrors = (MirrorConfig(kind="clickhouse"), MirrorConfig(name="b", required=False))
    config = Config(mirrors=mirrors)
    assert [place.role for place in stores.stores_of(config)] == [
        "deliver", "mirror-clickhouse", "mirror-b",
    ]  # fmt: skip
    assert consumers(config) == [
        Consumer("mirror-clickhouse"),
        Consumer("mirror-b", required=False),
    ]


def test_a_folder_remembers_its_stores_wherever_who_reads_them_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = DataFolder(tmp_path / "data").create()
    said = StoreConfig(kind="clickhouse", url="http://a:1", credentials_file="own.toml")
    stores.remember(folder, Config(store=said, mirrors=(MirrorConfig(required=False),)))
    kept = folder.stores()
    assert [*kept] == ["deliver", "mirror-duckdb"]
    assert kept["deliver"].credentials_file == str(tmp_path / "own.toml")


def test_a_job_with_another_configuration_stores_nowhere_else(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    said = StoreConfig(kind="clickhouse", url="http://a:1")
    stores.require_same(folder, Config(store=said))
    stores.require_same(folder, Config(store=said))
    with pytest.raises(ConfigError, match="stored in clickhouse, and this configuration has duck"):
        stores.require_same(folder, Config())


# ---------------------------------------------------------------- breakers of queries


class Away:
    """A store whose readers fail as they are told."""

    def __init__(self) -> None:
        self.fails: ForebayError = Unreachable("Nobody answers.")
        self.asked = 0

    def reader(self) -> Any:  # noqa: ANN401
        self.asked += 1
        raise self.fails


@pytest.fixture
def answers(tmp_path: Path) -> tuple[Away, StoreAnswers, ProcessBreakers]:
    guarding = ProcessBreakers(
        "deliver", Config(), clock=ManualClock(), rng=random.Random(1), observer=ignore
    )
    store, place = Away(), stores.FolderStore("deliver", served("clickhouse", tmp_path))
    return store, StoreAnswers(store, place, guarding), guarding  # type: ignore[arg-type]


async def test_a_server_that_fails_three_times_is_left_alone(
    answers: tuple[Away, StoreAnswers, ProcessBreakers],
) -> None:
    store, answering, guarding = answers
    breaker = guarding.manager.breakers["clickhouse"]
    assert (breaker.config.failure_threshold, breaker.config.timeout) == (3, 30.0)
    for _ in range(5):
        with pytest.raises(Unreachable):
            await answering.sql({"query": "SELECT 1"})
    assert (store.asked, breaker.state) == (3, State.OPEN)


async def test_a_query_that_its_caller_does_not_wait_for_is_no_failure_of_the_server(
    answers: tuple[Away, StoreAnswers, ProcessBreakers],
) -> None:
    store, answering, guarding = answers
    breaker, store.fails = guarding.manager.breakers["clickhouse"], Transient("Too long.")
    for _ in range(5):
        with pytest.raises(Transient):
            await answering.sql({"query": "SELECT 1", "timeout_s": 1.0})
    states = [breaker.state]
    for _ in range(3):
        with pytest.raises(Transient):
            await answering.sql({"query": "SELECT 1"})
    assert [*states, breaker.state] == [State.CLOSED, State.OPEN]


async def test_an_embedded_store_needs_no_breaker_for_queries(tmp_path: Path) -> None:
    guarding = ProcessBreakers(
        "deliver", Config(), clock=ManualClock(), rng=random.Random(1), observer=ignore
    )
    folder, place = DataFolder(tmp_path / "data").create(), stores.stores_of(Config())[0]
    with closing(stores.open_store(folder, place.config)) as store:
        answering = StoreAnswers(store, place, guarding)
        head, body = await answering.sql({"query": "SELECT 7 AS n"})
    assert (head, decode_arrow(body)["n"].to_pylist()) == ({"rows": 1}, [7])
    assert not guarding.manager.breakers


# ------------------------------------------------------------------------- check


async def test_check_reaches_a_server_and_tells_what_would_do_harm(tmp_path: Path) -> None:
    place = stores.FolderStore("deliver", served("main", tmp_path))
    assert [(each.text, each.exit_code) for each in await _store(place)] == [
        ("answers, a database in a file", 0)
    ]
    away(place.config.url).touch()
    (found,) = await _store(place)
    assert (found.part, found.exit_code) == ("store main", 3)
    assert await _store(stores.stores_of(Config())[0]) == [], "the data folder is looked at"


# ----------------------------------------------------------------- fed by a bridge


def test_a_store_that_bridges_feed_is_read_and_audited_and_has_no_process(
    tmp_path: Path,
) -> None:
    said = MirrorConfig(name="far", plugin=PLUGIN, url=str(tmp_path / "far.db"), bridged=True)
    config = Config(mirrors=(said,))
    assert consumers(config) == []
    assert roles(config) == ("capture", "deliver")
    folder = captured(tmp_path / "data", 3)
    stores.remember(folder, config)
    with closing(stores.open_store(folder, folder.stores()["bridge-far"])) as store:
        consumer = journal_cursor(log_id_of(folder))
        Deliverer(folder.journal, store, parsers(), consumer=consumer).drain()
    told: list[str] = []
    here, there = (opened(folder, told, name).audit_report() for name in ("", "far"))
    assert there.streams == here.streams
    assert (there.undelivered, there.ok) == (0, here.ok)
    assert told == []
