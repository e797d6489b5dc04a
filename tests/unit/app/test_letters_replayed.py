"""Dead letters read anew after a parser's fix, or given up: stored once, and what is on record."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from forebay.app import dead_letters
from forebay.app.offline import letters
from forebay.app.wiring import venues
from forebay.errors import Unreachable
from forebay.journal import StateFile
from forebay.services.bridge import Bridge
from forebay.services.letters import LetterBox, LetterSpool
from forebay.services.publisher import Publisher
from forebay.stores.duckdb import DuckDBStore
from tests.support.commands import invoked
from tests.support.made_venue import CLASSES
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryTransport
from tests.support.mending_venue import MendingParser
from tests.support.poisoned import GOOD, LATER, captured
from tests.unit.services.test_letters import Limited, letter

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.domain.identity import IdentityClass


@pytest.fixture(autouse=True)
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MendingParser, "mended", False)
    monkeypatch.setattr(venues, "VENUES", dict(venues.VENUES))


def ids(listed: list[dict[str, Any]]) -> list[str]:
    return sorted(each["letter"] for each in listed)


# -------------------------------------------------------------------------------- replay


OTHERS = [pytest.param(each, marks=pytest.mark.drill) for each in CLASSES if each != "native"]


@pytest.mark.parametrize("identity", ["native", *OTHERS])
def test_a_replay_after_the_fix_stores_exactly_what_was_missing(
    identity: IdentityClass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path / "data", identity)
    before, poison = place.rows(), place.listed()
    assert len(poison) == 3
    assert len(before) == len(GOOD) + len(LATER) + 1
    monkeypatch.setattr(MendingParser, "mended", True)
    answer = place.dlq("replay", "--json")
    assert answer.code == 0, answer
    assert sorted(answer.json["replayed"]) == ids(poison)
    assert len(place.rows()) == len(before) + 3
    if identity != "observation":  # whose ids are of the journal
        assert place.rows() == captured(tmp_path / "right", identity).rows()
    assert place.listed() == []
    assert ids(place.listed("--state", "replayed")) == ids(poison)
    assert place.audit()["dead_letters"] == 0
    rows = place.rows()
    assert invoked("rebuild", "--data", place.root, "--json").json["complete"]
    assert place.rows() == rows
    assert place.audit("frames")["dead_letters"] == 0


def test_letters_that_are_refused_again_for_one_reason_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path)
    poison = ids(place.listed())
    monkeypatch.setattr(dead_letters, "failed_in", lambda *_: dict.fromkeys(poison, "as bad"))
    answer = place.dlq("replay")
    assert answer.code == 1
    (line,) = answer.stdout.splitlines()
    assert line.endswith(" and 2 more: as bad")
    assert line.partition(" ")[0] in poison


def test_a_replay_that_is_repeated_stores_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path)
    poison = ids(place.listed())
    monkeypatch.setattr(MendingParser, "mended", True)
    assert place.dlq("replay").code == 0
    rows = place.rows()
    assert place.dlq("replay", "--json").json == {"replayed": [], "failed": {}}
    assert sorted(place.dlq("replay", *poison, "--json").json["replayed"]) == poison
    assert place.rows() == rows
    assert place.audit("frames")["doubled"] == 0


def test_what_fails_again_keeps_its_letter_with_an_attempt_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path)
    rows, poison = place.rows(), place.listed()
    assert {each["attempts"] for each in poison} == {1}
    for attempts in (2, 3):
        answer = place.dlq("replay", "--json")
        assert answer.code == 1
        assert sorted(answer.json["failed"]) == ids(poison)
        assert {each["attempts"] for each in place.listed()} == {attempts}
    assert ids(place.listed()) == ids(poison)
    assert place.rows() == rows
    assert place.audit()["dead_letters"] == 3
    assert invoked("rebuild", "--data", tmp_path, "--json").json["complete"]
    assert {each["attempts"] for each in place.listed()} == {3}
    monkeypatch.setattr(MendingParser, "mended", True)
    assert place.dlq("replay").code == 0
    assert len(place.rows()) == len(rows) + 3


@pytest.mark.drill
def test_a_letter_tells_enough_where_the_journal_has_let_go_of_its_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path / "data")
    right = captured(tmp_path / "right")
    monkeypatch.setattr(MendingParser, "mended", True)
    monkeypatch.setattr(letters, "_in_journal", lambda *_: None)
    assert place.dlq("replay").code == 0
    assert right.dlq("replay").code == 0
    assert place.rows() == right.rows()


@pytest.mark.drill
def test_only_what_is_asked_for_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path)
    monkeypatch.setattr(MendingParser, "mended", True)
    assert place.dlq("replay", "--venue", "other", "--json").json["replayed"] == []
    assert place.dlq("replay", "--reason", "bad_price", "--json").json["replayed"] == []
    one = place.listed("--error", "new -b 2")
    assert len(one) == 1
    answer = place.dlq("replay", one[0]["letter"][:13], "--json")
    assert answer.json["replayed"] == [one[0]["letter"]]
    assert len(place.listed()) == 2


@pytest.mark.drill
@pytest.mark.parametrize("mended", [True, False])
def test_a_bridge_hears_what_became_of_letters(
    mended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = captured(tmp_path)
    before, (first, second, third) = place.rows(), ids(place.listed())
    assert place.dlq("replay").code == 1
    monkeypatch.setattr(MendingParser, "mended", True)
    assert place.dlq("replay", first, second).code == 0
    assert place.dlq("discard", third, "--reason", "known").code == 0
    monkeypatch.setattr(MendingParser, "mended", mended)
    transport, store = MemoryTransport(Broker(partitions=2)), MemoryStore()
    parts = place.folder.journal, transport, venues.parsers(), StateFile(tmp_path / "state")
    with contextlib.closing(Publisher(*parts, clock=place.clock)) as publisher:
        publisher.drain()
    with contextlib.closing(Bridge(transport, store)) as bridge:
        bridge.drain()
    told = store.table("letter_states").to_pylist()
    ours = place.sql("SELECT letter_id, state, run FROM letter_states WHERE state <> 'failed'")
    known = {(str(row["letter_id"]), row["state"], row["run"]) for row in told}
    assert {tuple(row.values()) for row in ours} <= known
    assert len(known) == len(told) == len(ours) + (0 if mended else 5)
    assert len(store.table("trades")) == len(before) + (3 if mended else 0)


# ------------------------------------------------------------------------------- discard


def test_a_discarded_letter_is_on_record_and_open_no_more(tmp_path: Path) -> None:
    place = captured(tmp_path)
    first, *others = ids(place.listed())
    answer = place.dlq("discard", first, "--reason", " a  test ", "--by", "me", "--json")
    assert answer.json == {"discarded": [first]}
    assert ids(place.listed()) == others
    (gone,) = place.listed("--state", "discarded")
    assert (gone["letter"], gone["settled_by"], gone["settled_reason"]) == (first, "me", "a test")
    assert gone["settled_ts"]
    assert place.audit()["dead_letters"] == 2
    assert "me" in place.dlq("show", first).stdout
    assert invoked("rebuild", "--data", tmp_path, "--json").json["complete"]
    assert ids(place.listed()) == others
    assert ids(place.listed("--state", "all")) == sorted([first, *others])


def test_nothing_is_discarded_without_a_reason_or_by_default(tmp_path: Path) -> None:
    place = captured(tmp_path)
    assert place.dlq("discard", "--reason", "all of it").code == 2
    assert place.dlq("discard", "--venue", place.venue, "--reason", " ").code == 2
    assert len(place.listed()) == 3
    assert place.dlq("discard", "--venue", place.venue, "--reason", "known").code == 0
    assert place.listed() == []


# --------------------------------------------------------------------------------- lists


def test_letters_are_found_by_reason_error_venue_and_time(tmp_path: Path) -> None:
    place = captured(tmp_path)
    every = place.listed()
    times = sorted(each["received_ts"] for each in every)
    for arguments, count in (
        (("--reason", "missing_field"), 3),
        (("--reason", "bad_price"), 0),
        (("--error", "new -b"), 3),
        (("--error", "nothing like it"), 0),
        (("--venue", place.venue), 3),
        (("--venue", "other"), 0),
        (("--since", times[1]), 2),
        (("--until", times[1]), 1),
        (("--since", times[0], "--until", times[2]), 2),
        (("--limit", 1), 1),
        (("--state", "replayed"), 0),
        (("--state", "all"), 3),
    ):
        assert len(place.listed(*arguments)) == count, arguments


def test_letters_that_wait_for_their_topic_are_listed_shown_and_given_up(tmp_path: Path) -> None:
    place = captured(tmp_path)
    transport = Limited(Broker())
    transport.away = Unreachable("Kafka does not answer.")
    box = LetterBox(transport, LetterSpool(place.folder.letters), clock=place.clock)
    box.put("trade_archive", letter(7, b"poison"))
    (kept,) = place.listed("--state", "kept")
    assert kept["reason"] == "unreadable_record"
    assert kept["attempts"] == 3
    assert "Kafka does not answer." in kept["error"]
    assert [each["state"] for each in place.listed()] == ["kept", "open", "open", "open"]
    assert place.dlq("show", kept["letter"][:20], "--raw").stdout == "poison"
    assert place.dlq("replay", kept["letter"], "--json").json["replayed"] == []
    assert place.dlq("discard", kept["letter"], "--reason", "known").code == 0
    assert place.listed("--state", "kept") == []
    assert place.listed("--state", "discarded")[0]["settled_reason"] == "known"
    transport.away = None
    again = LetterBox(transport, LetterSpool(place.folder.letters), clock=place.clock)
    assert again.deliver() == 0


def test_a_database_without_the_table_has_letters_that_are_open(tmp_path: Path) -> None:
    place = captured(tmp_path)
    store = DuckDBStore(place.folder.database("duckdb"))
    store.connection().execute("DROP TABLE letter_states")
    store.close()
    assert len(place.listed()) == 3
    assert place.audit()["dead_letters"] == 3
