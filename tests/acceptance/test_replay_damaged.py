"""``forebay replay`` of damaged files: what can be read is stored, and the rest is said."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

import forebay as package
from tests.support import made_recording as made
from tests.support.commands import Answer, forebay
from tests.support.recordings import DATA

if TYPE_CHECKING:
    from pathlib import Path

MATCHES = [json.dumps(made.match("BTC-USD", step)).encode() for step in range(1, 101)]
GOOD = b"\n".join(MATCHES) + b"\n"
BAD_UTF8 = b'{"log_id":"\xff","seq":1}\n'
WIDE = b"1" * 32 + b": " + MATCHES[0] + b"\n"
NANOSECONDS = b'{"recv_ms":1767225600130000000,"event":' + MATCHES[0] + b"}\n"


def replay(data: Path, *files: Path) -> Answer:
    return forebay("replay", *files, "--venue", "coinbase", "--data", data, "--json")


def written(tmp_path: Path, content: bytes, name: str = "a.ndjson") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def letters(data: Path) -> list[dict[str, Any]]:
    with package.open(data) as opened:
        found: list[dict[str, Any]] = opened.dead_letters().to_pylist()
    return found


def trades(data: Path) -> int:
    with package.open(data) as opened:
        return len(opened.trades("BTC-USD"))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (BAD_UTF8, "line 1 of a.ndjson: 'utf-8' codec can't decode byte 0xff in position 11"),
        pytest.param(
            *(WIDE, "line 1 of a.ndjson: " + "1" * 32 + " is no receipt time in seconds"),
            marks=pytest.mark.drill,
        ),
        pytest.param(NANOSECONDS, "are these nanoseconds?", marks=pytest.mark.drill),
    ],
    ids=["bad UTF-8", "a time of 32 digits", "nanoseconds for milliseconds"],
)
def test_a_bad_line_is_one_letter_with_its_place_and_its_bytes(
    tmp_path: Path, bad: bytes, error: str
) -> None:
    path, data = written(tmp_path, bad + GOOD), tmp_path / "data"

    first, again = replay(data, path), replay(data, path)

    assert (first.code, again.code) == (0, 0), first.stderr
    assert (first.json["yielding"], first.json["dead_letters"]) == (100, 1)
    assert trades(data) == 100
    (letter,) = letters(data)
    assert error in letter["error"]
    assert letter["payload"] == bad.rstrip(b"\n")
    assert forebay("audit", "--data", data, "--json").code == 0


def test_bare_frames_and_bad_lines_told_again_change_no_table(tmp_path: Path) -> None:
    """A snapshot has no time but that of its receipt, and a bad line has none at all."""
    book = b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","2"]],"asks":[["3","4"]]}\n'
    path, data = written(tmp_path, b"}\n" + book + b"}\n" + GOOD + BAD_UTF8), tmp_path / "data"
    query = (
        "SELECT (SELECT count(*) FROM book_snapshots) AS books, (SELECT count(*) FROM trades) AS "
        "trades, (SELECT count(*) FROM dead_letters) AS letters"
    )
    for files in ([path, path], [path]):
        assert replay(data, *files).code == 0
        with package.open(data) as opened:
            assert opened.sql(query).to_pylist() == [{"books": 1, "trades": 100, "letters": 3}]


def test_a_rebuild_tells_the_same_letters(tmp_path: Path) -> None:
    data = tmp_path / "data"
    replay(data, written(tmp_path, BAD_UTF8 + GOOD))
    before = letters(data)

    assert forebay("rebuild", "--data", data).code == 0
    assert letters(data) == before


def test_a_cut_gzip_is_stored_as_far_as_it_goes_and_the_loss_is_said(tmp_path: Path) -> None:
    cut = written(tmp_path, gzip.compress(GOOD)[:-120], "cut.ndjson.gz")
    answer = replay(tmp_path / "data", cut)

    stored = answer.json["stored"]["trades"]
    assert answer.code == 1
    assert 0 < stored < 100
    assert trades(tmp_path / "data") == stored
    (lost,) = answer.json["lost"]
    assert (lost["file"], lost["line"]) == (str(cut), answer.json["frames"] + 1)
    assert f"{cut}, line {lost['line']}: the gzip data is cut short" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("content", [b"import os\nprint(os.name)\n", b""], ids=["python", "empty"])
def test_a_file_without_a_frame_is_an_error_and_nothing_is_stored(
    tmp_path: Path, content: bytes
) -> None:
    none = written(tmp_path, content, "none.py")
    answer = replay(tmp_path / "data", written(tmp_path, GOOD), none)

    assert answer.code == 2
    assert str(none) in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "data").exists()


def test_lines_of_a_recorded_market_are_all_frames(tmp_path: Path) -> None:
    path = DATA / "binance" / "BTCUSDT-20240808.ws.gz"
    if not path.exists():
        pytest.skip(f"the recording {path.name} is not beside this checkout")
    head = gzip.decompress(path.read_bytes()).splitlines(keepends=True)[:3000]
    answer = replay(tmp_path / "data", written(tmp_path, gzip.compress(b"".join(head)), path.name))

    assert answer.code == 0
    assert answer.json["frames"] == len(head)
    with package.open(tmp_path / "data") as opened:
        received = opened.sql("SELECT min(received_ts)::VARCHAR AS first FROM dead_letters")
        reasons = opened.sql("SELECT DISTINCT reason FROM dead_letters")["reason"].to_pylist()
    assert received["first"][0].as_py().startswith("2024-08-08")
    assert {*reasons} <= {"unknown_type", "wrong_type", "missing_field"}  # no venue of theirs here
