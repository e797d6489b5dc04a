"""``forebay gaps``: holes in ids, in numbers of a connection and in time, listed and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forebay.app.wiring import venues
from forebay.app.wiring.data_folder import DataFolder
from forebay.cli.gaps import ALL_TOGETHER
from forebay.domain.kinds import KINDS
from forebay.services.deliver import Deliverer
from forebay.stores.duckdb import DuckDBStore
from forebay.times import to_text
from tests.exam import made
from tests.exam.made.protocol import Edition
from tests.exam.offline import journal, received_ns, stored, tell
from tests.exam.ping import PING
from tests.exam.wire import STREAMS, lines
from tests.support.audit_bench import bench
from tests.support.commands import invoked
from tests.support.numbered_venue import LINE
from tests.unit.services.test_numbered_connections import PARSERS, capture

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.domain.channels import Unit
    from forebay.domain.identity import IdentityClass

SYMBOL = STREAMS[0][1]
STEP = len(STREAMS)
FIRST, PAUSE, END = 40, 80, 120
"""Lines of the first connection, when the second begins, and where that ends."""


CLASSES: dict[Unit, IdentityClass] = {"id": "native", "seq": "session", "time": "content"}


@pytest.fixture(params=list(CLASSES))
def edition(request: pytest.FixtureRequest) -> Edition:
    return Edition(CLASSES[request.param], request.param)


@pytest.fixture
def data(tmp_path: Path, edition: Edition, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two connections: of the first, the third quote did not come; nothing came between them."""
    monkeypatch.setitem(KINDS, PING.channel, PING)
    monkeypatch.setitem(venues.VENUES, edition.venue, made.VENUES[edition.venue])
    folder, told = DataFolder(tmp_path / "data").create(), lines(END)
    with journal(folder.journal, [], []) as writer:
        dropped = [line for index, line in enumerate(told[:FIRST]) if index != 2 * STEP]
        tell(writer, edition, dropped)
        tell(writer, edition, told[PAUSE:], epoch="e2", first=PAUSE)
    stored(folder.journal, DuckDBStore(folder.database("duckdb")), [edition]).close()
    return folder.root


def listed(data: Path, unit: str, channel: str = "quote") -> list[dict[str, Any]]:
    found = invoked("gaps", "list", "--data", data, "--json").json
    wanted = {"unit": unit, "channel": channel, "symbol": SYMBOL, "market": "spot"}
    return [gap for gap in found if wanted.items() <= gap.items()]


def explained(data: Path, *arguments: object) -> dict[str, Any]:
    answer = invoked("gaps", "explain", SYMBOL, *arguments, "--data", data, "--json")
    assert answer.code == 0, answer
    document: dict[str, Any] = answer.json
    return document


def numbers(told: dict[str, Any]) -> list[int | None]:
    return [event["venue_seq"] for event in told["neighbours"]]


@pytest.mark.parametrize("edition", ["id", "seq"], indirect=True)
def test_a_number_that_did_not_come_is_between_its_neighbours(data: Path, edition: Edition) -> None:
    gap = listed(data, edition.unit)[0]
    assert (gap["first"], gap["last"], gap["reason"]) == (3, 3, "in_connection")
    told = explained(data, 3, "--channel", "quote")
    assert gap.items() <= told.items()
    assert told["count"] == 1
    assert numbers(told) == [2, 4]
    filled = "The venue's history is asked for it."
    never = "The venue has no history to fill it from, so it stays open."
    assert told["filling"] == (filled if edition.history else never)


@pytest.mark.parametrize("edition", ["seq"], indirect=True)
def test_numbers_of_two_connections_are_kept_apart(data: Path, edition: Edition) -> None:
    (gap,) = listed(data, "seq")
    assert gap["epoch"] == "e1"
    assert invoked("gaps", "explain", SYMBOL, 3, "--epoch", "e2", "--data", data).code == 2


@pytest.mark.parametrize("edition", ["seq", "time"], indirect=True)
def test_a_pause_is_explained_by_its_time(data: Path, edition: Edition) -> None:
    (gap,) = listed(data, "time")
    assert gap["first"] - 1 == received_ns(FIRST - 2)
    inside = to_text(gap["first"] + 1, exact=True)
    told = explained(data, inside, "--channel", "quote")
    assert (told["first"], told["last"], told["epoch"]) == (gap["first"], gap["last"], "")
    assert [event["epoch"] for event in told["neighbours"]] == ["e1", "e2"]
    assert told["neighbours"][0]["received_ts"] < to_text(gap["first"], exact=True)
    assert explained(data, gap["last"], "--channel", "quote") == told


@pytest.mark.parametrize("edition", ["time"], indirect=True)
def test_people_read_times_as_such(data: Path, edition: Edition) -> None:
    (gap,) = listed(data, "time")
    ends = [to_text(gap[end], exact=True) for end in ("first", "last")]
    shown = invoked("gaps", "list", "--data", data, "--state", "all").stdout
    assert all(end in shown for end in ends)
    said = invoked("gaps", "explain", SYMBOL, ends[0], "--channel", "quote", "--data", data)
    assert f"{ends[0]} to {ends[1]}" in said.stdout


@pytest.mark.parametrize("edition", ["time"], indirect=True)
def test_which_of_several_gaps_is_meant_is_asked_back(data: Path, edition: Edition) -> None:
    (gap,) = listed(data, "time")
    answer = invoked("gaps", "explain", SYMBOL, gap["first"], "--data", data)
    assert answer.code == 2
    said = " ".join(answer.stderr.split())
    assert f"{SYMBOL} has 2 gaps at {gap['first']}. Say which with --channel." in said


@pytest.mark.parametrize("inside", ["999", "yesterday", "2026-01-01T00:00:00Z"])
def test_where_there_is_no_gap_it_says_so(data: Path, edition: Edition, inside: str) -> None:
    answer = invoked("gaps", "explain", SYMBOL, inside, "--data", data)
    assert answer.code == 2
    assert inside in answer.stderr


# ----------------------------------------------------------------------- listed, accepted


def accepted(data: Path, *arguments: object) -> list[dict[str, Any]]:
    named = "--reason", "never  listed", "--channel", "quote", "--data", data
    answer = invoked("gaps", "accept", SYMBOL, *arguments, *named, "--json")
    assert answer.code == 0, answer
    found: list[dict[str, Any]] = answer.json
    return found


@pytest.mark.parametrize("edition", ["id"], indirect=True)
def test_a_gap_says_between_which_times_it_is_and_when_it_was_seen(
    data: Path, edition: Edition
) -> None:
    gap = listed(data, "id")[0]
    before, behind = explained(data, 3, "--channel", "quote")["neighbours"]
    assert (gap["from_ts"], gap["to_ts"]) == (before["event_ts"], behind["event_ts"])
    assert (gap["opened_ts"], gap["closed_ts"]) == (behind["received_ts"], None)
    shown = invoked("gaps", "list", "--data", data).stdout
    assert f"{before['event_ts'][:19]}Z to {behind['event_ts'][:19]}Z, 1 missing" in shown
    assert max(map(len, shown.splitlines()[:-1])) <= 80


@pytest.mark.parametrize("edition", ["id", "seq", "time"], indirect=True)
def test_an_accepted_gap_of_any_unit_is_on_record_with_a_name(data: Path, edition: Edition) -> None:
    gap = listed(data, edition.unit)[0]
    for by in ("ann", "bob"):
        (found,) = accepted(data, gap["first"], "--by", by)
        assert (found["state"], found["first"], found["last"]) == (
            "accepted",
            gap["first"],
            gap["last"],
        )
        assert (found["accepted_by"], found["accepted_reason"]) == ("ann", "never listed")
        assert found["closed_ts"] is not None
    said = invoked("gaps", "explain", SYMBOL, gap["first"], "--channel", "quote", "--data", data)
    assert "accepted by ann: never listed" in said.stdout
    audit = invoked("audit", "--data", data, "--json").json
    told = [each for each in audit["gaps"] if each["accepted_by"]]
    assert [(each["first"], each["accepted_reason"]) for each in told] == [
        (gap["first"], "never listed")
    ]


@pytest.mark.parametrize("edition", ["id"], indirect=True)
def test_all_gaps_of_a_range_are_accepted_and_no_more(data: Path, edition: Edition) -> None:
    first, second = listed(data, "id")
    found = accepted(data, 1, second["first"] + 1)
    assert [(gap["first"], gap["last"], gap["state"]) for gap in found] == [
        (first["first"], first["last"], "accepted"),
        (second["first"], second["first"] + 1, "accepted"),
    ]
    assert found[0]["accepted_by"], "whoever is logged in"
    assert [gap["first"] for gap in listed(data, "id") if gap["state"] == "open"] == [
        second["first"] + 2
    ]


@pytest.mark.parametrize("edition", ["id"], indirect=True)
def test_open_gaps_come_first_and_the_others_are_counted(data: Path, edition: Edition) -> None:
    accepted(data, 3)
    states = [gap["state"] for gap in invoked("gaps", "list", "--data", data, "--json").json]
    assert states == sorted(states, key=["open", "permanent", "accepted", "filled"].index)
    shown = invoked("gaps", "list", "--data", data, "--limit", 1).stdout
    assert "accepted  " not in shown
    opened = states.count("open")
    assert f"{opened - 1} more; see --limit" in shown
    said = " ".join(shown.split())
    assert f"{opened} open, 0 permanent, 1 accepted, 0 filled in" in said
    assert said.endswith("; --state all lists them.")
    assert len(invoked("gaps", "list", "--data", data, "--state", "accepted", "--json").json) == 1
    assert len(invoked("gaps", "list", "--data", data, "--limit", 1, "--json").json) == 1


@pytest.mark.parametrize("edition", ["id"], indirect=True)
def test_a_reason_is_asked_for(data: Path, edition: Edition) -> None:
    answer = invoked("gaps", "accept", SYMBOL, 3, "--reason", " ", "--data", data)
    assert answer.code == 2
    assert invoked("gaps", "accept", SYMBOL, 3, "--data", data).code == 2


def test_where_there_are_no_gaps_it_says_so(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    DuckDBStore(folder.database("duckdb")).close()
    answer = invoked("gaps", "list", "--data", folder.root)
    assert " ".join(answer.stdout.split()) == f"No gaps in {folder.root}."


def test_what_all_symbols_of_a_connection_miss_together_is_told(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data").create()
    with bench(folder.journal, delivering=PARSERS) as recorded:
        capture(recorded)
    store = DuckDBStore(folder.database("duckdb"))
    Deliverer(folder.journal, store, PARSERS).drain()
    store.close()
    where = "--data", folder.root
    shown = invoked("gaps", "list", *where, "--state", "permanent").stdout.splitlines()
    begins = shown.index(f"permanent numbered quote * e1/{LINE} 7 to 8")
    assert shown[begins + 1 : begins + 3] == [
        "  2021-04-17T16:43:38Z to 2021-04-17T16:43:39Z, 2 missing",
        "  in_connection, opened 2021-04-17T16:43:39Z",
    ]
    told = invoked("gaps", "explain", "*", 7, *where, "--json").json
    assert (told["epoch"], told["count"], told["filling"]) == (f"e1/{LINE}", 2, ALL_TOGETHER)
    said = " ".join(invoked("gaps", "explain", "*", 8, *where).stdout.split())
    assert f"quote * e1/{LINE}: 2 numbers of one connection, 7 to 8" in said
