"""``forebay replay``: the same tables, however often and in whatever parts it is told."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import forebay as package
from forebay.cli.sql import rows
from tests.support import made_recording as made
from tests.support.commands import Answer, forebay
from tests.support.recordings import COINBASE, recorded

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = ("trades", "tickers", "quotes", "book_snapshots", "book_deltas", "bars")
QUERIES = {
    **{
        table: f"SELECT * EXCLUDE (collector, epoch, log_id, seq) FROM {table} ORDER BY ALL"  # noqa: S608 - our own names
        for table in EVENTS
    },
    "gaps": "SELECT * FROM gaps ORDER BY ALL",
    "coverage": "SELECT * FROM coverage ORDER BY ALL",
    "conflicts": "SELECT * FROM conflicts ORDER BY ALL",
    "dead_letters": "SELECT * EXCLUDE (log_id, seq, epoch) FROM dead_letters ORDER BY ALL",
}
"""Position and epoch say by which way an event or a dead letter came; all else must be the same."""


def replay(data: Path, *files: Path, flags: tuple[str, ...] = ()) -> dict[str, Any]:
    answer = forebay("replay", *files, "--venue", "coinbase", "--data", data, "--json", *flags)
    assert answer.code == 0, answer.stderr
    account: dict[str, Any] = answer.json
    outcomes = account["yielding"] + account["control"] + account["dead_letters"]
    assert account["frames"] == outcomes
    return account


def tables(data: Path) -> dict[str, list[dict[str, Any]]]:
    """Answer the rows of every table; times are texts, since Python's have no nanoseconds."""
    found = {}
    with package.open(data) as opened:
        for name, query in QUERIES.items():
            table = opened.sql(query)
            found[name] = [dict(zip(table.column_names, row, strict=True)) for row in rows(table)]
    return found


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def trade_ids(data: Path) -> dict[str, list[int]]:
    query = "SELECT symbol, list(trade_id::BIGINT ORDER BY trade_id::BIGINT) AS ids FROM trades"
    with package.open(data) as opened:
        listed = opened.sql(f"{query} GROUP BY symbol").to_pylist()
    return {row["symbol"]: row["ids"] for row in listed}


# ------------------------------------------------------ a recording that the test makes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The made recording in a data folder, and what the replay said of it."""
    folder = tmp_path_factory.mktemp("whole")
    account = replay(folder / "data", written(folder / "all.rec", made.rec()))
    return folder / "data", account


def test_every_frame_is_accounted_for(whole: tuple[Path, dict[str, Any]]) -> None:
    data, account = whole
    trades = sum(len(made.ids(symbol)) for symbol in made.FIRST)
    assert account["frames"] == len(made.frames())
    assert account["dead_letters"] == len(made.DEAD)
    assert account["unknown"] == made.UNKNOWN
    others = made.OTHER_EVENTS
    assert account["events"] == {"trades": trades + 2, **others}  # one again, one otherwise
    assert account["stored"] == {"trades": trades, **others}
    assert (account["duplicates"], account["conflicts"]) == (1, 1)
    assert account["gaps"] == len(made.GAPS)
    assert trade_ids(data) == {symbol: made.ids(symbol) for symbol in made.FIRST}


def test_holes_and_poison_are_declared(whole: tuple[Path, dict[str, Any]]) -> None:
    stored = tables(whole[0])
    gaps = [(gap["symbol"], gap["first"], gap["last"], gap["reason"]) for gap in stored["gaps"]]
    assert gaps == made.GAPS
    assert {gap["state"] for gap in stored["gaps"]} == {"open"}
    assert sorted(letter["reason"] for letter in stored["dead_letters"]) == made.DEAD
    conflict = stored["conflicts"][0]
    assert "1.5" in conflict["incoming"]
    assert "1.5" not in conflict["stored"]


def test_twice_gives_the_same_tables(tmp_path: Path) -> None:
    data, file = tmp_path / "data", written(tmp_path / "all.rec", made.rec())
    first = replay(data, file)
    before = tables(data)
    again = replay(data, file)
    assert tables(data) == before
    assert set(again["stored"].values()) == {0}
    assert again["frames"] == first["frames"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the later half first"])
def test_two_overlapping_halves_give_the_tables_of_the_whole(
    order: tuple[int, int], tmp_path: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    halves = [
        written(tmp_path / "first.rec", made.rec(end=166)),
        written(tmp_path / "second.rec.gz", gzip.compress(made.rec(first=110))),
    ]
    replay(tmp_path / "data", *(halves[index] for index in order))
    assert tables(tmp_path / "data") == tables(whole[0])


def ndjson() -> bytes:
    """The made recording as NDJSON; what is no JSON stands there bare, without a time."""
    lines = []
    for recv_ms, payload in made.frames():
        try:
            event = json.loads(payload)
        except ValueError:
            lines.append(payload)
        else:
            lines.append(json.dumps({"recv_ms": recv_ms, "event": event}).encode())
    return b"\n".join(lines) + b"\n"


def test_ndjson_gives_the_same_trades(tmp_path: Path, whole: tuple[Path, dict[str, Any]]) -> None:
    account = replay(tmp_path / "data", written(tmp_path / "all.ndjson", ndjson()))
    stored, expected = tables(tmp_path / "data"), tables(whole[0])
    assert stored["trades"] == expected["trades"]
    assert account["dead_letters"] == len(made.DEAD)
    # NDJSON does not say where a connection ends, so the ids of then seem left out in one.
    assert [(gap["first"], gap["last"]) for gap in stored["gaps"]] == [
        (first, last) for _, first, last, _ in made.GAPS
    ]


def test_an_export_of_the_journal_gives_the_same_tables(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    exported = forebay("journal", "export", "--data", whole[0])
    assert exported.code == 0
    assert len(exported.stdout.splitlines()) == whole[1]["frames"]
    compressed = gzip.compress(exported.stdout.encode())
    replay(tmp_path / "data", written(tmp_path / "export.ndjson.gz", compressed))
    assert tables(tmp_path / "data") == tables(whole[0])


def test_holes_of_a_filtered_recording_are_no_gaps(
    tmp_path: Path, whole: tuple[Path, dict[str, Any]]
) -> None:
    data = tmp_path / "data"
    account = replay(data, written(tmp_path / "all.rec", made.rec()), flags=("--partial",))
    assert account["gaps"] == 0
    stored = tables(data)
    assert stored["gaps"] == []
    expected = tables(whole[0])["trades"]
    assert all("partial" in str(row.pop("flags")) for row in stored["trades"])
    assert not any("partial" in str(row.pop("flags")) for row in expected)
    assert stored["trades"] == expected


def audited(data: Path) -> Answer:
    return forebay("audit", "--data", data, "--json")


def test_the_audit_of_a_replay_is_clean_but_for_its_open_gaps(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    answer = audited(whole[0])
    report = answer.json
    counts = [report[name] for name in ("missing", "doubled", "mutated", "spurious")]
    assert counts == [0, 0, 0, 0]
    assert report["dead_letters"] == len(made.DEAD)
    # Open gaps and a conflict are no clean bill.
    assert {problem["kind"] for problem in report["problems"]} <= {"gap_open", "conflict"}
    assert answer.code == (0 if report["ok"] else 1)


def test_export_into_a_pipe_that_closes_is_no_error(whole: tuple[Path, dict[str, Any]]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        answer = forebay("journal", "export", "--data", whole[0], stdout=write)
    finally:
        os.close(write)
    assert answer.code == 0
    assert "Traceback" not in answer.stderr


# --------------------------------------------------------------- a real recording


TABLES_OF = {
    "match": ["trades"],
    "last_match": ["trades"],
    "ticker": ["tickers", "quotes"],
    "snapshot": ["book_snapshots"],
    "l2update": ["book_deltas"],
}


def real() -> tuple[Path, dict[str, list[int]]]:
    """The real recording and the ids of its trades by product; skips where it is absent."""
    ids: dict[str, set[int]] = {}
    for frame in recorded(COINBASE):
        message = json.loads(frame.payload)
        if message["type"] in ("match", "last_match"):
            ids.setdefault(message["product_id"], set()).add(message["trade_id"])
    return COINBASE, {symbol: sorted(found) for symbol, found in ids.items()}


def test_a_real_recording_is_stored_once_and_accounted_for(tmp_path: Path) -> None:
    file, expected = real()
    types = Counter(json.loads(frame.payload)["type"] for frame in recorded(file))
    data = tmp_path / "data"
    account = replay(data, file)
    assert account["frames"] == types.total()
    assert account["dead_letters"] == account["gaps"] == account["conflicts"] == 0
    assert account["unknown"] == {}
    assert account["control"] == types["subscriptions"]
    told = Counter(table for kind in types.elements() for table in TABLES_OF.get(kind, ()))
    assert account["events"] == account["stored"] == told
    assert account["duplicates"] == 0
    assert (told["book_deltas"], told["book_snapshots"], told["tickers"]) == (6582, 6, 75)
    assert trade_ids(data) == expected
    for symbol, ids in expected.items():
        assert ids == list(range(ids[0], ids[-1] + 1)), symbol
    assert audited(data).code == 0
    before = tables(data)
    assert {table: len(before[table]) for table in EVENTS} == {**dict.fromkeys(EVENTS, 0), **told}
    replay(data, file)
    assert tables(data) == before
    assert audited(data).code == 0


def test_a_real_books_rows_say_what_the_frames_say(tmp_path: Path) -> None:
    """Each level of each message, in its order, beside a reading with nothing but json."""
    expected = []
    for frame in recorded(COINBASE):
        message = json.loads(frame.payload)
        if message["type"] == "l2update":
            sides = [
                [[Decimal(change[at]) for change in message["changes"] if change[0] == side]
                 for at in (1, 2)]
                for side in ("buy", "sell")
            ]  # fmt: skip
            expected.append((message["product_id"], *sides[0], *sides[1]))
    replay(tmp_path / "data", COINBASE)
    with package.open(tmp_path / "data") as opened:
        told = opened.sql(
            "SELECT symbol, bid_prices, bid_sizes, ask_prices, ask_sizes FROM book_deltas "
            "ORDER BY seq"
        )
    assert [tuple(row.values()) for row in told.to_pylist()] == expected


def moved(text: str, *, seconds: int) -> str:
    """Return a later moment as the venue writes it."""
    later = datetime.fromisoformat(text) + timedelta(seconds=seconds)
    return later.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_a_real_book_at_the_end_is_a_plain_fold(tmp_path: Path) -> None:
    """Dictionaries of decimals straight from the file, beside `forebay book`."""
    books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
    last: dict[str, str] = {}
    for frame in recorded(COINBASE):
        message = json.loads(frame.payload)
        if message["type"] == "snapshot":
            books[message["product_id"]] = {
                side: {Decimal(price): Decimal(size) for price, size in message[side]}
                for side in ("bids", "asks")
            }
        elif message["type"] == "l2update":
            last[message["product_id"]] = message["time"]
            for side, price, size in message["changes"]:
                levels = books[message["product_id"]]["bids" if side == "buy" else "asks"]
                levels[Decimal(price)] = Decimal(size)
    replay(tmp_path / "data", COINBASE)
    told = forebay("book", "coinbase", "SKL-USD", "--data", tmp_path / "data", "--json").json
    with package.open(tmp_path / "data") as opened:
        assert opened.book_at("coinbase", "SKL-USD") == told
        found = {
            (symbol, at): opened.book_at("coinbase", symbol, at)
            for symbol in books
            for at in (None, last[symbol])
        }
    for (symbol, at), answer in found.items():
        if at is not None and answer["state"] == "unknown":
            # Another change of the same time may have been under way when the recording ended.
            assert answer["reason"] == "The recorded connection was over by then."
            assert max(last.values()) < moved(at, seconds=1)
            continue
        assert (answer["state"], answer["reason"]) == ("known", "")
        assert answer["known_to"] == {"bids": None, "asks": None}
        for side, best_first in (("bids", -1), ("asks", 1)):
            left = [level for level in books[symbol][side].items() if level[1]]
            expected = sorted(left, key=lambda level: level[0] * best_first)
            assert [tuple(map(Decimal, level)) for level in answer[side]] == expected


@pytest.mark.parametrize(
    "headed",
    [
        pytest.param(True, id="with the head", marks=pytest.mark.soak),
        pytest.param(False, id="bare", marks=pytest.mark.drill),
    ],
)
def test_overlapping_halves_of_a_real_recording_in_either_order(
    headed: bool, tmp_path: Path
) -> None:
    file, _ = real()
    lines = file.read_bytes().splitlines(keepends=True)
    head = next(i for i, line in enumerate(lines) if b'"subscriptions"' in line) + 1
    third = len(lines) // 3
    halves = [
        written(tmp_path / "first.rec", b"".join(lines[: 2 * third])),
        written(tmp_path / "second.rec", b"".join(lines[: head if headed else 0] + lines[third:])),
    ]
    replay(tmp_path / "forward", *halves)
    replay(tmp_path / "backward", *reversed(halves))
    replay(tmp_path / "whole", file)
    expected = tables(tmp_path / "whole")
    assert all(expected[table] for table in EVENTS if table != "bars")
    symbols = {str(row["symbol"]) for row in expected["book_snapshots"]}
    with package.open(tmp_path / "whole") as opened:
        books = {symbol: opened.book_at("coinbase", symbol) for symbol in symbols}
    for folder in ("forward", "backward"):
        assert tables(tmp_path / folder) == expected
        assert audited(tmp_path / folder).code == 0
        with package.open(tmp_path / folder) as opened:
            assert {symbol: opened.book_at("coinbase", symbol) for symbol in symbols} == books
