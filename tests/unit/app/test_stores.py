"""Which store is opened is said by the configuration, and nothing else knows one."""

from __future__ import annotations

import sys
from contextlib import closing
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from forebay.app.reader import Data
from forebay.app.wiring import stores
from forebay.app.wiring.config import load
from forebay.app.wiring.data_folder import DataFolder
from forebay.errors import ConfigError, Unreachable
from forebay.journal import Position
from forebay.ports import Commit
from forebay.stores.duckdb import STORE, DuckDBStore
from forebay.stores.kind import StoreConfig, StoreKind
from tests.support.frames import LOG

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> StoreKind:
    """Make a kind of store that lives outside the tree, as a plugin."""
    module = ModuleType("somewhere")
    kind = StoreKind("own", STORE.open, STORE.read, STORE.audited, STORE.beside)
    vars(module).update(STORE=kind, NOTHING=7)
    monkeypatch.setitem(sys.modules, "somewhere", module)
    return kind


def test_the_default_store_is_opened_in_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    assert folder.databases() == []
    with closing(stores.open_store(folder, StoreConfig())) as store:
        assert isinstance(store, DuckDBStore)
        store.commit(Commit({"store": Position(LOG, 7)}))
    assert folder.databases() == ["duckdb"]
    told = stores.query_store(
        folder, stores.in_folder(folder)[0], "SELECT seq FROM cursors", timeout_s=10
    )
    assert told["seq"].to_pylist() == [7]


def test_what_lies_beside_a_database_is_none(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    for name in ("forebay.duckdb.wal", "forebay.duckdb.before-1", "forebay.toml"):
        (folder.root / name).write_bytes(b"")
    assert folder.databases() == []


def test_a_store_from_outside_the_tree_is_opened_as_one_of_it(
    tmp_path: Path, private: StoreKind
) -> None:
    folder = DataFolder(tmp_path / "data").create()
    config, _ = load(None, {"store": {"plugin": "somewhere:STORE", "kind": "whatever"}}, {})
    assert stores.kind_of(config.store) is private
    stores.open_store(folder, config.store).close()
    assert folder.databases() == ["own"]
    with pytest.raises(Unreachable, match="'own'"):
        Data(folder.root, wait=lambda _: None).sql("SELECT 1")


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        ("somewhere", "names no object"),
        ("somewhere:", "names no object"),
        ("nowhere_at_all:STORE", "cannot be imported"),
        ("somewhere:MISSING", "is no forebay.stores.kind.StoreKind"),
        ("somewhere:NOTHING", "is no forebay.stores.kind.StoreKind"),
    ],
)
@pytest.mark.usefixtures("private")
def test_a_plugin_that_is_none_is_refused_in_one_sentence(plugin: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        stores.kind_of(StoreConfig(plugin=plugin))
    assert refused.value.hint


@pytest.mark.parametrize(("kind", "hint"), [("dukdb", "'duckdb'"), ("oracle", "There is: duckdb")])
def test_a_kind_that_there_is_not_is_refused_at_once(kind: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no store of the kind '{kind}'") as refused:
        load(None, {"store": {"kind": kind}}, {})
    assert hint in refused.value.hint
