"""Bytes of a stored part that flip: the audit names the hours, a rebuild mends them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import forebay
from forebay.errors import Corrupt
from tests.support import made_recording as made
from tests.support.clickhouse import running_clickhouse
from tests.support.commands import invoked

if TYPE_CHECKING:
    from forebay.app.reader import Data
    from forebay.lab.clickhouse_server import ClickHouseServer

PARTS = "FROM system.parts WHERE database = 'forebay' AND table = 'trades_rows' AND active"

DETACHED = "SELECT name FROM system.detached_parts WHERE database = 'forebay'"


def replayed(folder: Path, url: str) -> Data:
    """Return a data folder whose store is that of a server, with all of a recording."""
    folder.mkdir()
    (folder / "forebay.toml").write_text(f'[store]\nkind = "clickhouse"\nurl = "{url}"\n')
    file = folder.parent / "made.rec"
    file.write_bytes(made.rec())
    done = invoked("replay", file, "--venue", "coinbase", "--data", folder, "--json")
    assert done.code == 0, done
    return forebay.open(folder)


def flip(server: ClickHouseServer, part: str) -> None:
    """Flip some bytes in the midst of what a part has of its columns."""
    folder = Path(server.ask(f"SELECT path {PARTS} AND name = '{part}'"))
    file = max(folder.glob("*.bin"), key=lambda each: each.stat().st_size)
    dice, body = random.Random(part), bytearray(file.read_bytes())
    for _ in range(8):
        body[dice.randrange(len(body) // 4, len(body))] ^= 1 << dice.randrange(8)
    file.write_bytes(body)


def rows(data: Data) -> list[dict[str, Any]]:
    without = {"flags", "log_id"}  # they come behind later ones now, and say so
    return [{k: v for k, v in row.items() if k not in without} for row in data.trades().to_pylist()]


@pytest.mark.drill
def test_flipped_bytes_are_named_by_hour_and_mended_from_the_journal(tmp_path: Path) -> None:
    with running_clickhouse(tmp_path / "server") as server:
        data = replayed(tmp_path / "served", server.url)
        sound, whole = data.audit_report(), rows(data)
        assert (sound.missing, sound.doubled, sound.mutated) == (0, 0, 0)
        part = server.ask(f"SELECT name {PARTS} ORDER BY rows DESC LIMIT 1")
        lost = int(server.ask(f"SELECT rows {PARTS} AND name = '{part}'"))
        flip(server, part)

        with pytest.raises(Corrupt, match="forebay rebuild"):
            data.trades()
        report = data.audit_report()
        assert (report.missing, report.doubled, report.mutated) == (lost, 0, 0)
        (damaged,) = [each.text for each in report.problems if each.kind == "damaged"]
        assert part in damaged
        assert "of the hours 2023-11-14T22Z to 2023-11-14T22Z" in damaged

        done = invoked("rebuild", "--data", data.folder.root, "--json")
        assert done.json["stored"]["trades"] == lost
        assert [part in told for told in done.json["set_aside"]] == [True]
        assert rows(data) == whole
        mended = data.audit_report()
        assert (mended.missing, mended.doubled, mended.mutated, mended.spurious) == (0, 0, 0, 0)
        assert (
            server.ask("SELECT name FROM system.detached_parts WHERE database = 'forebay'") == part
        )
        again = invoked("rebuild", "--data", data.folder.root, "--json")
        assert (again.json["set_aside"], again.json["stored"]["trades"]) == ([], 0)
