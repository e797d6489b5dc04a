"""A path is a name of bytes: whatever it looks like, every command means the same folder."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import forebay
from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import ConfigError
from forebay.ports import HourNote
from forebay.stores.duckdb import DuckDBStore
from tests.support import made_recording as made
from tests.support.commands import invoked, refused

NAMES = (
    "it's", 'q"q', "[b]", "a*", "50%", "#x", ":memory:", "-x", "~", "md:x", "http:", "s3:", "abc:x",
    "file:x", "sp ", "{}", "$HOME", "a;b", "two\nlines", "é", ".hidden", "x.duckdb",
)  # fmt: skip
LOOKED_AT = NAMES[:4] + NAMES[6:10] + ("sp ", "two\nlines", "é")
COUNT = "SELECT count(*) AS n FROM trades"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("a.rec").write_bytes(made.rec())
    return tmp_path


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_a_name_looks_like_does_not_matter(here: Path, name: str) -> None:
    data = f"--data={name}"
    stored = invoked("replay", "a.rec", "--venue", "coinbase", data)
    assert stored.code == 0, stored
    assert {"a.rec", name} == {each.name for each in here.iterdir()}
    counts = [invoked("sql", COUNT, data, "--json").json]
    events = sum(each["events"] for each in invoked("audit", data, "--json").json["streams"])
    assert events > 0
    assert invoked("rebuild", data).code == 0
    counts += [invoked("sql", COUNT, data, "--json").json]
    counts += [forebay.open(name).sql(COUNT).to_pylist()]
    assert counts == [[{"n": counts[0][0]["n"]}]] * 3
    assert counts[0][0]["n"] > 0
    files = {each.name for each in Path(name).iterdir()}
    assert {"FOREBAY", "forebay.duckdb", "journal"} <= files
    assert not any(each.startswith("forebay.duckdb.") for each in files)


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_hour_is_written_where_it_belongs(here: Path, name: str) -> None:
    Path(name).mkdir()
    with contextlib.closing(DuckDBStore(Path(name) / "forebay.duckdb")) as store:
        store.export_hour(HourNote("trades", 0, 1), Path(name) / "h.parquet")
    with (here / name / "h.parquet").open("rb") as file:
        assert "event_ts" in pq.read_schema(file).names


@pytest.mark.parametrize("name", ["d?x", "d?x/below", "a\\b", os.fsdecode(b"\xff")])
def test_where_no_database_can_be_nothing_is_begun(here: Path, name: str) -> None:
    answer = invoked("replay", "a.rec", "--venue", "coinbase", "--data", name)
    refused(answer, 2, "no database can be there", "Rename the folder")
    assert [each.name for each in here.iterdir()] == ["a.rec"]
    with pytest.raises(ConfigError):
        DataFolder(Path(name)).create()


@pytest.mark.parametrize("name", ["d?x", "a\\b", os.fsdecode(b"\xff")])
def test_such_a_folder_of_another_name_is_read_after_it_was_renamed(here: Path, name: str) -> None:
    assert invoked("replay", "a.rec", "--venue", "coinbase", "--data", "plain").code == 0
    Path("plain").rename(name)
    refused(invoked("sql", COUNT, "--data", name), 2, "Rename the folder")
    Path(name).rename("again")
    assert invoked("sql", COUNT, "--data", "again").code == 0


@pytest.mark.parametrize("content", [None, b""])
def test_a_database_without_tables_is_as_none(here: Path, content: bytes | None) -> None:
    for name in ("none", "empty"):
        DataFolder(Path(name)).create()
    database = Path("empty/forebay.duckdb")
    if content is None:
        duckdb.connect(str(database)).close()
    else:
        database.write_bytes(content)
    for command in (["sql", COUNT], ["gaps", "list"], ["audit"], ["dlq", "list"]):
        without = invoked(*command, "--data", "none")
        assert without.code == 3
        answer = invoked(*command, "--data", "empty")
        assert (answer.code, answer.stderr) == (3, without.stderr.replace("none/", "empty/"))
