"""Tables with replicas: what the engine makes of the statements, which has no Keeper."""

from __future__ import annotations

import contextlib
import re

import pytest

from forebay.errors import Transient
from forebay.stores.kind import StoreConfig
from tests.support.clickhouse import a_clickhouse, a_client, a_database

pytest.importorskip("clickhouse_connect", exc_type=ImportError)

from clickhouse_connect.driver.exceptions import DatabaseError

from forebay.stores.clickhouse.ddl import VIEWS, statements
from forebay.stores.clickhouse.lookups import quoted
from forebay.stores.clickhouse.replicas import replicated
from forebay.stores.clickhouse.session import Target
from forebay.stores.clickhouse.store import ClickHouseStore

MADE = statements(lambda name: f"`it's`.`{name}`")
NO_KEEPER = 225


def test_every_table_is_replicated_and_nothing_else_changes() -> None:
    for name, statement in MADE.items():
        changed = replicated(statement)
        assert (changed == statement) == (name in VIEWS)
        if name not in VIEWS:
            assert "ENGINE = Replicated" in changed
            assert "non_replicated" not in changed


@pytest.mark.parametrize("cluster", ["", "mine", "it's \\ {cluster}"])
def test_the_parser_takes_every_statement(cluster: str) -> None:
    changed = ", ".join(quoted(replicated(made, cluster)) for made in MADE.values())
    said = a_clickhouse().ask(f"SELECT formatQuery(arrayJoin([{changed}]))").split("\n")
    assert len(said) == len(MADE)
    assert all(("ON CLUSTER" in text) == bool(cluster) for text in said)


def test_the_engine_wants_only_a_keeper() -> None:
    """It has looked at the columns and the settings before it says so."""
    server = a_clickhouse()
    with a_database(server) as database, a_client(server, database) as client:

        def said(statement: str) -> int | None:
            with pytest.raises(DatabaseError) as refused:
                client.command(statement)
            return refused.value.code

        made = statements(lambda name: f"{database}.{name}")
        for name in made.keys() - VIEWS.keys():
            changed = placed(replicated(made[name]))
            assert said(changed) == NO_KEEPER, name
            assert said(changed.replace("ORDER BY", "ORDER BY absent,")) != NO_KEEPER


def placed(statement: str) -> str:
    """Name the place of a replica, as a server of no cluster wants it."""
    engine = re.compile(r"(Replicated\w*MergeTree)(?:\((\w+)\))?")
    return engine.sub(lambda m: f"{m[1]}('/x', 'r'{(m[2] and ', ' + m[2]) or ''})", statement)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, (False, "")),
        ({"replicated": "true"}, (True, "")),
        ({"cluster": "mine"}, (True, "mine")),
        ({"replicated": "false"}, (False, "")),
    ],
)
def test_the_options_say_so_and_are_none_of_the_client(
    options: dict[str, str], wanted: tuple[bool, str]
) -> None:
    target = Target.of(StoreConfig(kind="clickhouse", options={**options, "compress": "lz4"}))
    assert (target.replicated, target.cluster) == wanted
    assert target.options == {"compress": "lz4"}


def test_a_store_makes_its_tables_on_the_cluster() -> None:
    """One that is not there is told by its name, which is as far as one engine goes."""
    target = Target(a_clickhouse().url, "never", replicated=True, cluster="mine")
    with (
        contextlib.closing(ClickHouseStore(target)) as store,
        pytest.raises(Transient, match="mine"),
    ):
        store.load()
