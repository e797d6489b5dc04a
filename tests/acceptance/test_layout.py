"""A data folder of layout 1: refused by every command but the one that moves it to layout 2."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from forebay.app.offline import rebuild as module
from forebay.app.offline.rebuild import rebuild_database
from forebay.app.processes.maintenance import JournalMaintenance
from forebay.app.reader import Data
from forebay.app.wiring.config import Config, JournalConfig
from forebay.app.wiring.data_folder import LAYOUT, DataFolder
from forebay.app.wiring.venues import parsers
from forebay.clock import SystemClock
from forebay.errors import ConfigError
from forebay.journal import CursorFile, OsDisk
from forebay.journal.segments import list_segments, segment_path
from forebay.services.deliver import Deliverer
from forebay.stores.duckdb import DuckDBStore
from forebay.telemetry import ignore
from tests.support.commands import capture, forebay, invoked, simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVE = Path(__file__).parents[1] / "data" / "layout-1.tar.xz"
EVENTS, LETTERS, GAPS, SEED = 1202, 6, 34, 9
"""What the folder has, and of which simulated market; see ``tests/data/README.md``."""
CONFIG = Config()
FOR_EVER = "5200w"
"""How long frames are kept: those of the folder are as old as the file."""
SENTENCE = "is a data folder of layout 1; this Forebay needs 2."
COMMANDS = (
    ("run", "--venue", "coinbase", "--symbols", "BTC-USD"),
    (
        "check",
        "--venue",
        "coinbase",
        "--symbols",
        "BTC-USD",
        "--rest-url",
        "http://127.0.0.1:1",
        "--ws-url",
        "ws://127.0.0.1:1",
    ),
    ("replay", str(ARCHIVE), "--venue", "coinbase"),
    ("sql", "SELECT 1"),
    ("audit",),
    ("status",),
    ("top", "--times", "1"),
    ("gaps", "list"),
    ("gaps", "explain", "BTC-USD", "1"),
    ("gaps", "fill"),
    ("dlq", "list"),
    ("journal", "fsck"),
    ("journal", "inspect"),
    ("journal", "export"),
    ("journal", "tail"),
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as it was; nobody writes to it."""
    root = tmp_path_factory.mktemp("layout-1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> DataFolder:
    """A folder of layout 1 of the test's own."""
    return DataFolder(Path(shutil.copytree(unpacked, tmp_path / "data")))


def files_of(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def moved(folder: DataFolder) -> dict[str, Any]:
    return rebuild_database(folder, CONFIG, clock=SystemClock(), observer=ignore)


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as opened:
        return opened.sql(query).fetchall()


FLAGS = "list_filter(split(flags, ','), lambda flag: flag != 'out_of_order')"
"""All flags but one: where connections alternate, it depends on how the journal was cut."""
FACTS = (
    f"""SELECT event_id, venue, symbol, venue_symbol, event_ts, exchange_ts, received_ts, trade_id,
    price, size, side, {FLAGS} FROM trades ORDER BY event_id""",  # noqa: S608 - our own words
    "SELECT * FROM dead_letters ORDER BY letter_id",
    "SELECT venue, channel, symbol, unit, first, last, reason, state FROM gaps ORDER BY ALL",
    "SELECT venue, channel, symbol, unit, origin, first, last FROM coverage ORDER BY ALL",
    "SELECT consumer, log_id FROM cursors",
)
"""What a database of either layout says in the same words."""


def facts(database: Path) -> list[list[tuple[Any, ...]]]:
    return [rows(database, query) for query in FACTS]


def green(folder: DataFolder, source: Any = "auto") -> int:  # noqa: ANN401
    """Assert that an audit is green; return how many events it is of."""
    with Data(folder.root) as opened:
        report = opened.audit_report(source=source)
    assert report.ok, report
    return sum(stream.events for stream in report.streams)


# ------------------------------------------------------------------------- refused


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
def test_every_command_but_rebuild_refuses_it_and_says_what_to_type(
    unpacked: Path, command: tuple[str, ...]
) -> None:
    before = files_of(unpacked)
    answer = invoked(*command, "--data", unpacked)
    assert answer.code >= 2, answer
    said = " ".join((answer.stdout + answer.stderr).split())
    assert SENTENCE in said
    assert (
        f"`forebay rebuild --data {unpacked}` makes the new one from its journal, "
        "and keeps the old database."
    ) in said
    assert files_of(unpacked) == before


def test_python_refuses_it_too(unpacked: Path) -> None:
    with pytest.raises(ConfigError, match="layout 1"):
        Data(unpacked)


# ------------------------------------------------------------------------- moved


def test_a_rebuild_moves_it_and_loses_nothing(old: DataFolder) -> None:
    before = facts(old.database("duckdb"))
    assert (len(before[0]), len(before[1]), len(before[2])) == (EVENTS, LETTERS, GAPS)

    account = moved(old)

    assert account["complete"]
    assert account["stored"] == {"trades": EVENTS}
    assert account["not_in_journal"] == []
    assert old.existing().layout() == LAYOUT
    assert facts(old.database("duckdb")) == before
    assert rows(old.database("duckdb"), "SELECT DISTINCT market FROM trades") == [("spot",)]
    assert facts(Path(account["kept"])) == before
    assert green(old) == EVENTS


def test_the_command_moves_it_and_every_other_then_works(old: DataFolder) -> None:
    assert invoked("rebuild", "--data", old.root).code == 0
    assert invoked("audit", "--data", old.root).code == 0
    assert len(invoked("gaps", "list", "--data", old.root, "--json").json) == GAPS
    assert invoked("journal", "fsck", "--data", old.root).code == 0
    again = invoked("rebuild", "--data", old.root, "--json")
    assert (again.code, again.json["kept"]) == (0, None)


def test_what_was_made_from_frames_before_is_set_aside_and_made_again(old: DataFolder) -> None:
    ledger = files_of(old.ledger)
    hours = files_of(old.parquet)
    assert ledger
    assert hours

    moved(old)

    assert files_of(old.root / "ledger.before-1").items() >= ledger.items()
    assert files_of(old.root / "parquet.before-1") == hours
    assert not old.ledger.exists()
    store = DuckDBStore(old.database("duckdb"))
    cursor = CursorFile(old.cursor("store"))
    deliverer = Deliverer(old.journal, store, parsers(), cursor=cursor)
    deliverer.drain()
    assert deliverer.position is not None
    cursor.store(deliverer.position)
    house = JournalMaintenance(
        old,
        JournalConfig(retain=FOR_EVER),
        lambda: deliverer.position,
        store.first_told,
        clock=SystemClock(),
        observer=ignore,
    )
    while house.step():
        pass
    house.close()
    store.close()
    assert green(old, "ledger") > 0


def test_frames_that_retention_removed_are_told_and_what_has_them_is_kept(
    old: DataFolder,
) -> None:
    before = facts(old.database("duckdb"))
    *removed, oldest = list_segments(OsDisk(), old.journal)[:3]
    for first in removed:
        segment_path(old.journal, first).unlink()

    account = moved(old)

    assert not account["complete"]
    assert account["oldest_frame"] == oldest
    assert {absence["symbol"] for absence in account["not_in_journal"]} == {"BTC-USD", "ETH-USD"}
    assert facts(Path(account["kept"])) == before
    assert 0 < green(old) < EVENTS


KILLED = """
import os, sys, duckdb
opened = duckdb.connect(sys.argv[1], config={"checkpoint_threshold": "1GB"})
ids = "SELECT * REPLACE (1 AS first, 5 AS last) FROM coverage LIMIT 1"
opened.execute(f"INSERT INTO coverage {ids}")
os._exit(1)
"""


def test_what_a_killed_capture_left_in_the_databases_log_counts_and_is_kept(
    old: DataFolder,
) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(old.database("duckdb"))], check=False)
    assert old.database("duckdb").with_suffix(".duckdb.wal").exists()

    account = moved(old)

    (absence,) = account["not_in_journal"]
    assert (absence["first"], absence["last"]) == (1, 5)
    kept = rows(Path(account["kept"]), "SELECT count(*) FROM coverage WHERE first = 1")
    assert kept == [(1,)]
    assert green(old) == EVENTS


# ------------------------------------------------------------------------- killed


class KilledError(BaseException):
    """The process is gone."""


class DyingDisk(OsDisk):
    """The machine's disk, and a process that dies before or after an operation that lasts."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]  # a function there
        self._step()
        super().rename(old, new)
        self._step()

    def fsync_dir(self, folder: Path) -> None:
        self._step()
        super().fsync_dir(folder)

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._step()
        super().fdatasync(fd)


STEPS = 15
"""Places to die at: two at each of four renames, one at each sync."""


def died(monkeypatch: pytest.MonkeyPatch, folder: DataFolder, left: int) -> bool:
    """Move the folder with a process that dies; return whether it did."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "OS_DISK", DyingDisk(left))
        try:
            moved(folder)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize(
    "left",
    [pytest.param(n, marks=pytest.mark.drill) if n % 2 else n for n in range(STEPS)],
)
def test_a_move_that_is_killed_anywhere_is_finished_by_the_next_one(
    old: DataFolder, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    before, ledger = facts(old.database("duckdb")), files_of(old.ledger)

    assert died(monkeypatch, old, left)
    if old.layout() == 1:
        with pytest.raises(ConfigError, match="layout 1"):
            old.existing()
        moved(old)

    assert old.existing().layout() == LAYOUT
    assert facts(old.database("duckdb")) == before
    assert facts(old.root / "forebay.duckdb.before-1") == before
    (aside,) = old.root.glob("ledger.before-*")
    assert files_of(aside).items() >= ledger.items()
    assert len(list(old.root.glob("parquet.before-*"))) == 1
    assert not (old.root / "FOREBAY.making").exists()


def test_no_place_to_die_at_is_left_out(old: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not died(monkeypatch, old, STEPS)


def test_a_move_that_dies_while_it_reads_the_journal_leaves_all_as_it_was(
    old: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(old.database("duckdb"))

    def dying(self: DuckDBStore, commit: object) -> object:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(DuckDBStore, "commit", dying)
        with pytest.raises(KilledError):
            moved(old)
    assert old.layout() == 1
    assert facts(old.database("duckdb")) == before
    assert moved(old)["complete"]


# ------------------------------------------------------------------------- run on


@pytest.fixture
def market() -> Iterator[Any]:
    """The market that was captured, which goes on where it was."""
    symbols = ("--symbols", "BTC-USD,ETH-USD")
    with simulator(*symbols, "--rate", 2000, "--events", 2000, seed=SEED) as lab:
        yield lab


def test_a_capture_goes_on_in_it(old: DataFolder, market: Any) -> None:  # noqa: ANN401
    assert forebay("rebuild", "--data", old.root).code == 0
    with capture(old.root, *market.flags, env={"FOREBAY_JOURNAL__RETAIN": FOR_EVER}) as running:
        running.until(
            lambda told: told["deliver"]["rows"] >= 2000 - EVENTS, "the rest of the market"
        )
        running.stop()
    assert green(old) >= 2000
    (count,) = rows(old.database("duckdb"), "SELECT count(*) FROM trades WHERE seq > 1000")
    assert count[0] > 2000 - EVENTS
