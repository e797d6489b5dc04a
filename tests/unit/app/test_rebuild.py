"""``forebay rebuild``: the database anew from the journal equals the one it replaces."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from forebay.app.offline import rebuild as module
from forebay.app.offline.rebuild import rebuild_database
from forebay.app.processes.maintenance import HourlyParquet, hour_path
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.app.wiring.journaling import open_journal
from forebay.app.wiring.venues import VENUES, parsers
from forebay.cli.main import app
from forebay.clock import ManualClock
from forebay.domain.coverage import (
    Arrival,
    Coverage,
    IdCoverage,
    SequenceCoverage,
    StreamKey,
    TimeCoverage,
)
from forebay.domain.frames import FrameKind
from forebay.domain.kinds import KINDS
from forebay.errors import ConfigError, Unreachable
from forebay.journal import OS_DISK, CursorFile, PendingBlock
from forebay.journal.segments import list_segments, segment_path
from forebay.services.deliver import Deliverer
from forebay.services.rebuild import Absence, absences, arrived
from forebay.stores.duckdb import STORE, DuckDBStore
from forebay.telemetry import ignore
from tests.exam import made
from tests.exam.made.protocol import Edition
from tests.exam.offline import journal, stored, tell
from tests.exam.ping import PING
from tests.exam.wire import STREAMS, line
from tests.support.frames import (
    HOUR,
    SECOND,
    T0,
    as_json,
    context,
    heartbeat,
    match,
    rest_row,
    rfc3339,
)
from tests.support.store_histories import content

if TYPE_CHECKING:
    from forebay.domain.frames import Context

CONFIG = Config()


def draft(origin: Context, payloads: list[bytes], received_ns: int) -> PendingBlock:
    kind = FrameKind.REST if origin.source == "rest" else FrameKind.TEXT
    times = [received_ns + index for index in range(len(payloads))]
    return PendingBlock(int(kind), origin.encode(), payloads, times, (0, 0))


def groups(seed: int) -> list[list[PendingBlock]]:
    """Answer what a collector captures: repeated, late, altered and dead frames."""
    dice, made = random.Random(seed), []
    for number in range(10):
        received = T0 + 90_000 * SECOND + number * SECOND
        drafts = []
        for _ in range(dice.randrange(1, 4)):
            natives = [dice.randrange(number * 6 + 8) for _ in range(dice.randrange(1, 9))]
            if dice.random() < 0.25:
                page = as_json([rest_row(native) for native in natives])
                drafts.append(draft(context("rest", f"r{number}"), [page], received))
                continue
            payloads = [told(dice, native) for native in natives]
            payloads += [heartbeat(max(natives) + dice.randrange(2))]
            payloads += [b"junk %d" % dice.randrange(3)] * (dice.random() < 0.3)
            drafts.append(draft(context(epoch=f"e{dice.randrange(4)}"), payloads, received))
        made.append(drafts)
    return made


def told(dice: random.Random, native: int) -> bytes:
    changed: dict[str, object] = {}
    if dice.random() < 0.1:
        changed["price"] = f"{dice.randrange(2, 5)}"
    if dice.random() < 0.1:
        changed["time"] = rfc3339(T0 - dice.randrange(1, 40) * HOUR)
    return match(native, **changed)


def captured(root: Path, seed: int) -> DataFolder:
    """Make a folder: captured and delivered in several lives, with the cursor of the last."""
    folder, dice = DataFolder(root).create(), random.Random(seed)
    config = Config(data=str(root))
    store = DuckDBStore(folder.database("duckdb"))
    pending = groups(seed)
    while pending:
        writer = open_journal(folder, config, ManualClock(T0), ignore)
        for _ in range(min(len(pending), dice.randrange(1, 6))):
            writer.commit(pending.pop(0))
            if dice.random() < 0.5:
                Deliverer(folder.journal, store, parsers()).step()
        cursor = CursorFile(folder.cursor("store"))
        Deliverer(folder.journal, store, parsers(), cursor=cursor).drain()
        writer.close()
    store.close()
    return folder


def state(folder: DataFolder) -> tuple[Any, ...]:
    store = DuckDBStore(folder.database("duckdb"))
    try:
        loaded = store.load()
        return (
            comparable(store),
            dict(loaded.coverage),
            dict(loaded.positions),
            dict(loaded.ordinals),
        )
    finally:
        store.close()


def comparable(store: DuckDBStore) -> dict[str, list[tuple[object, ...]]]:
    """Answer all content but one flag: where connections alternate, it depends on the steps."""
    found = content(store)
    found["trades"] = [
        (*row[:-1], ",".join(flag for flag in str(row[-1]).split(",") if flag != "out_of_order"))
        for row in found["trades"]
    ]
    return found


def rebuilt(folder: DataFolder, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return rebuild_database(folder, CONFIG, clock=ManualClock(T0), observer=ignore, **more)


@pytest.mark.parametrize("seed", range(4))
def test_a_rebuilt_database_equals_the_original_in_every_table(tmp_path: Path, seed: int) -> None:
    folder = captured(tmp_path / "data", seed)
    before, seen = state(folder), []
    account = rebuilt(folder, progress=lambda done, total: seen.append((done, total)))
    after = state(folder)
    for mine, theirs in zip(before[1:], after[1:], strict=True):
        assert theirs == mine
    for name, rows in before[0].items():
        assert after[0][name] == rows, name
    assert account["not_in_journal"] == []
    assert account["complete"]
    assert account["kept"] is None
    assert account["oldest_frame"] == 1
    assert account["stored"]["trades"] == len(after[0]["trades"])
    assert seen[-1][0] == seen[-1][1] == account["frames"] > 0
    assert not list(folder.root.glob("forebay.duckdb.*")), "nothing is left beside"


def test_what_only_the_old_database_has_is_told_and_kept(tmp_path: Path) -> None:
    folder = captured(tmp_path / "data", 3)
    before = state(folder)
    ((_, coverage),) = before[1].items()
    writer = open_journal(folder, CONFIG, ManualClock(T0), ignore)
    writer.commit([draft(context(epoch="e9"), [match(900)], T0 + 95_000 * SECOND)])
    writer.close()
    *past, last = list_segments(OS_DISK, folder.journal)
    for first in past:  # as retention removes them
        segment_path(folder.journal, first).unlink()
    assert past
    account = rebuilt(folder)
    assert account["oldest_frame"] == last
    covered = coverage.arrived()["id", ""]
    (absence,) = account["not_in_journal"]
    assert (absence["symbol"], absence["unit"]) == ("BTC-USD", "id")
    assert absence["count"] == covered.count()
    assert not account["complete"]
    assert (absence["first"], absence["last"]) == (covered.first, covered.last)
    kept = Path(account["kept"])
    assert kept.name == "forebay.duckdb.before-1"
    old = DuckDBStore(kept)
    assert comparable(old) == before[0]
    old.close()


@pytest.mark.parametrize("log", [b"", b"a log that must not reach the new database"])
def test_a_database_that_cannot_be_read_is_replaced_and_kept(tmp_path: Path, log: bytes) -> None:
    folder = captured(tmp_path / "data", 5)
    before = state(folder)
    folder.database("duckdb").write_bytes(b"damaged")
    wal = folder.root / "forebay.duckdb.wal"
    if log:
        wal.write_bytes(log)
    account = rebuilt(folder)
    assert state(folder) == before
    kept = Path(account["kept"])
    assert kept.read_bytes() == b"damaged"
    if log:
        assert (folder.root / f"{kept.name}.wal").read_bytes() == log
    folder.database("duckdb").write_bytes(b"again")
    assert Path(rebuilt(folder)["kept"]).name == "forebay.duckdb.before-2"
    assert kept.read_bytes() == b"damaged"


def test_a_database_that_is_not_there_is_made(tmp_path: Path) -> None:
    folder = captured(tmp_path / "data", 5)
    before = state(folder)
    folder.database("duckdb").unlink()
    assert rebuilt(folder)["kept"] is None
    assert state(folder) == before


def test_it_refuses_while_a_capture_holds_the_folder(tmp_path: Path) -> None:
    folder = captured(tmp_path / "data", 1)
    before = folder.database("duckdb").read_bytes()
    with folder.owned(), pytest.raises(Unreachable, match="in use") as refused:
        rebuilt(folder)
    assert (refused.value.exit_code, refused.value.hint[:4]) == (3, "Stop")
    assert folder.database("duckdb").read_bytes() == before


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        rebuilt(DataFolder(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from forebay.app.offline import rebuild
from forebay.app.wiring.config import Config
from forebay.app.wiring.data_folder import DataFolder
from forebay.clock import ManualClock
from forebay.stores.duckdb import DuckDBStore
from forebay.telemetry import ignore

where, real_commit, real_swap = sys.argv[2], DuckDBStore.commit, rebuild._swap

def die(*told, **more):
    os.kill(os.getpid(), signal.SIGKILL)

def commit(self, told):
    real_commit(self, told)
    die()

if where == "commit":
    DuckDBStore.commit = commit
elif where == "swap":
    rebuild._swap = die
else:
    rebuild._account = die
folder = DataFolder(Path(sys.argv[1]))
rebuild.rebuild_database(folder, Config(), clock=ManualClock(), observer=ignore)
"""


@pytest.mark.parametrize("where", ["commit", "swap", "end"])
def test_a_killed_rebuild_leaves_a_whole_database_and_can_begin_anew(
    tmp_path: Path, where: str
) -> None:
    folder = captured(tmp_path / "data", 2)
    before = state(folder)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder.root), where],
        check=False,
        cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert state(folder) == before
    rebuilt(folder)
    assert state(folder) == before
    assert not list(folder.root.glob("forebay.duckdb.*"))


def test_what_a_killed_rebuild_left_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = captured(tmp_path / "data", 2)
    before = state(folder)
    other = captured(tmp_path / "other", 3)
    folder.database("duckdb").with_name("forebay.duckdb.rebuilding").write_bytes(
        other.database("duckdb").read_bytes()
    )
    rebuilt(folder)
    assert state(folder) == before


def test_a_log_of_the_old_database_is_never_replayed_into_the_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "forebay.duckdb", tmp_path / "forebay.duckdb.rebuilding"
    for path in (old, new, tmp_path / "forebay.duckdb.wal"):
        path.write_bytes(path.name.encode())
    assert module._swap(old, new, STORE, keep=False) is None
    assert [path.name for path in tmp_path.iterdir()] == ["forebay.duckdb"]
    assert old.read_bytes() == b"forebay.duckdb.rebuilding"


STREAM, OTHER = StreamKey("v", "perp", "quote", "A"), StreamKey("v", "perp", "quote", "B")


def lacking(before: Coverage, after: Coverage) -> list[Absence]:
    """Return what a stream had and has not; another one lacks nothing."""
    had, has = ({STREAM: stream, OTHER: before} for stream in (before, after))
    return absences(arrived(had), arrived(has))


def ids(*intervals: tuple[int, int], fill: tuple[int, int] | None = None) -> IdCoverage:
    made = IdCoverage()
    for interval in intervals:
        made.live.add(*interval)
    if fill:
        made.fill.add(*fill)
    return made


def test_absent_ids_are_those_that_came_by_whatever_way_and_come_by_none() -> None:
    had, has = ids((1, 9), fill=(20, 22)), ids(fill=(3, 21))
    assert lacking(had, has) == [Absence(*STREAM, "id", "", 3, 1, 22)]
    assert lacking(has, has) == []
    assert [each.symbol for each in absences(arrived({STREAM: had, OTHER: had}), {})] == ["A", "B"]


def test_absent_numbers_are_of_a_connection_and_absent_times_of_all() -> None:
    had, has = SequenceCoverage(), SequenceCoverage()
    for epoch, number in (("e1", 5), ("e1", 6), ("e2", 5)):
        numbers = np.array([number])
        had.see(Arrival(epoch, True, numbers, T0 + numbers))
    has.see(Arrival("e1", True, np.array([6]), T0 + np.array([6])))
    assert lacking(had, has) == [
        Absence(*STREAM, "seq", "e1", 1, 5, 5),
        Absence(*STREAM, "seq", "e2", 1, 5, 5),
        Absence(*STREAM, "time", "", 1, T0 + 5, T0 + 5),
    ]


def test_absent_times_are_those_when_nothing_was_heard_any_more() -> None:
    had, has = TimeCoverage(), TimeCoverage()
    had.heard("e1", T0, T0 + 9)
    has.heard("e1", T0 + 4, T0 + 9)
    assert lacking(had, has) == [Absence(*STREAM, "time", "", 4, T0, T0 + 3)]


def test_of_a_stream_that_counts_nothing_nothing_is_absent() -> None:
    assert lacking(Coverage(), Coverage()) == []


def test_the_command_prints_the_account_and_exits_3_while_a_capture_runs(tmp_path: Path) -> None:
    folder = captured(tmp_path / "data", 4)
    done = CliRunner().invoke(app, ["rebuild", "--data", str(folder.root), "--json"])
    assert done.exit_code == 0, done.output
    account = json.loads(done.stdout)
    assert account["frames"] > 0
    shown = CliRunner().invoke(app, ["rebuild", "--data", str(folder.root)])
    assert f"{account['frames']}" in shown.stdout
    with folder.owned():
        refused = CliRunner().invoke(app, ["rebuild", "--data", str(folder.root)])
    assert refused.exit_code == 3
    assert f"process id {os.getpid()}" in refused.stderr


# ------------------------------------------------- what the journal does not hold any more


def short_segments(folder: DataFolder, payloads: list[bytes], received_ns: int) -> None:
    """Capture, a segment for each frame."""
    with open_journal(folder, CONFIG, ManualClock(T0), ignore) as writer:
        writer._segment_bytes = 300
        for number, payload in enumerate(payloads):
            writer.commit([draft(context(), [payload], received_ns + number)])


def delivered(folder: DataFolder) -> DuckDBStore:
    store = DuckDBStore(folder.database("duckdb"))
    cursor = CursorFile(folder.cursor("store"))
    Deliverer(folder.journal, store, parsers(), cursor=cursor).drain()
    cursor.close()
    return store


def forget(folder: DataFolder, keep: int) -> None:
    """Remove old segments, as retention does."""
    for first_seq in list_segments(OS_DISK, folder.journal)[:-keep]:
        segment_path(folder.journal, first_seq).unlink()


def test_dead_letters_that_only_the_old_database_has_keep_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    short_segments(folder, [*(b"old junk %d" % n for n in range(3)), match(1)], T0)
    delivered(folder).close()
    short_segments(folder, [b"new junk %d" % n for n in range(3)], T0 + SECOND)
    forget(folder, 4)

    account = rebuild_database(folder, CONFIG, clock=ManualClock(T0), observer=ignore)

    assert account["dead_letters"] == 3
    kept = DuckDBStore(Path(account["kept"]))
    letters = {bytes(payload) for payload in kept.table("dead_letters")["payload"].to_pylist()}
    kept.close()
    assert letters == {b"old junk 0", b"old junk 1", b"old junk 2"}


def test_of_streams_that_count_nothing_their_number_by_hour_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edition = Edition("observation", "none")
    monkeypatch.setitem(KINDS, PING.channel, PING)
    monkeypatch.setitem(VENUES, edition.venue, made.VENUES[edition.venue])
    folder = DataFolder(tmp_path / "data").create()
    with journal(folder.journal, [], [], segment_bytes=300) as writer:
        tell(writer, edition, [line("quote", "AAA-USD", number) for number in (1, 2)])
        stored(folder.journal, DuckDBStore(folder.database("duckdb")), [edition]).close()
        removed = list_segments(OS_DISK, folder.journal)
        later = [line("quote", "AAA-USD", number) for number in (401, 402)]
        tell(writer, edition, later, epoch="e2", first=400 * len(STREAMS))
    for first_seq in removed:
        segment_path(folder.journal, first_seq).unlink()

    account = rebuilt(folder)

    assert account["stored"] == {"quotes": 2}
    assert account["not_in_journal"] == []
    assert not account["complete"]
    assert Path(account["kept"]).exists()


def test_hours_of_which_the_journal_has_less_are_kept_beside(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    short_segments(folder, [match(number) for number in range(1, 7)], T0)
    hours = folder.root / "parquet"
    store = delivered(folder)
    (note,) = store.hours_to_write()
    HourlyParquet(hours, store, clock=ManualClock(T0)).make(note)
    store.close()
    forget(folder, 1)

    rebuild_database(folder, CONFIG, clock=ManualClock(T0), observer=ignore)

    store = DuckDBStore(folder.database("duckdb"))
    (note,) = store.hours_to_write()
    HourlyParquet(hours, store, clock=ManualClock(T0)).make(note)
    store.close()
    beside = folder.root / "parquet.before-1"
    rows = [pq.read_metadata(hour_path(root, note)).num_rows for root in (hours, beside)]
    assert rows == [1, 6]
