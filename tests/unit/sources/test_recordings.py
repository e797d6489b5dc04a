"""Recordings: every line ends as a frame or is known to be none."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.errors import ConfigError
from forebay.sources.recordings import Recorded, nanoseconds, read_recording

if TYPE_CHECKING:
    from pathlib import Path

REC = """\
configuration: {"trades":["BTC-USD"]}
wss://feed.example <-> 1618677816.8434298
wss://feed.example <- 1618677817.020616: {"type":"subscribe"}
1618677817.061845: {"type":"subscriptions"}
https://api.example/products/BTC-USD/trades?limit=2 -> 1618677817.5: [{"trade_id":1}]
1618677817.07979: {"note":"a: b"}
wss://feed.example <-> 1618677820.5
1618677821: {"later":1}

what is this
"""


def read(path: Path, *, partial: bool = False) -> list[Recorded]:
    return list(read_recording(path, "coinbase", clock=ManualClock(), partial=partial))


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.rec", "a.rec.gz"])
def test_a_rec_file_line_by_line(tmp_path: Path, name: str) -> None:
    frames = read(written(tmp_path, name, REC))

    assert [frame.payload for frame in frames] == [
        b'{"type":"subscriptions"}',
        b'[{"trade_id":1}]',
        b'{"note":"a: b"}',
        b'{"later":1}',
        b"what is this",
    ]
    assert [frame.kind for frame in frames] == [
        FrameKind.TEXT,
        FrameKind.REST,
        FrameKind.TEXT,
        FrameKind.TEXT,
        FrameKind.TEXT,
    ]
    assert frames[0].received_ns == 1_618_677_817_061_845_000
    assert frames[1].context.source == "rest"
    assert frames[1].context.request == "GET /products/BTC-USD/trades?limit=2"
    epochs = [frame.context.epoch for frame in frames]
    assert epochs[0] == epochs[2] != epochs[3] == epochs[4]
    assert frames[0].context.url == "wss://feed.example"


def test_the_epoch_follows_from_the_content(tmp_path: Path) -> None:
    first = read(written(tmp_path, "a.rec", REC))
    renamed = read(written(tmp_path, "b.rec", REC))
    other = read(written(tmp_path, "c.rec", REC + "1618677822: {}\n"))

    assert first[0].context.epoch == renamed[0].context.epoch != other[0].context.epoch


def test_partial_is_part_of_the_context(tmp_path: Path) -> None:
    path = written(tmp_path, "a.rec", REC)

    assert {frame.context.partial for frame in read(path, partial=True)} == {True}
    assert {frame.context.partial for frame in read(path)} == {False}


def test_ndjson_bare_and_with_receipt_times(tmp_path: Path) -> None:
    lines = '{"type":"match"}\n\n{"recv_ms": 1618677817061, "event": {"type": "x"}}\nnot json\n'
    frames = read(written(tmp_path, "a.ndjson.gz", lines))

    assert [frame.payload for frame in frames] == [
        b'{"type":"match"}',
        b'{"type": "x"}',
        b"not json",
    ]
    assert [frame.received_ns for frame in frames] == [
        ManualClock().wall_ns(),
        1_618_677_817_061_000_000,
        ManualClock().wall_ns(),
    ]


def test_a_journal_export_keeps_context_kind_time_and_bytes(tmp_path: Path) -> None:
    context = {"venue": "coinbase", "source": "ws", "collector": "c", "epoch": "e9"}
    head = {"log_id": "a" * 32, "context": context}
    rows: list[dict[str, object]] = [
        {**head, "seq": 7, "kind": 1, "received_ns": 123456789, "payload": "{}"},
        {
            **head,
            "seq": 8,
            "kind": 2,
            "received_ns": 5,
            "payload_base64": base64.b64encode(b"\xff\x00").decode(),
        },
    ]
    frames = read(written(tmp_path, "x.ndjson", "\n".join(map(json.dumps, rows))))

    assert [(frame.kind, frame.received_ns, frame.payload) for frame in frames] == [
        (FrameKind.TEXT, 123456789, b"{}"),
        (FrameKind.BINARY, 5, b"\xff\x00"),
    ]
    assert {frame.context.epoch for frame in frames} == {"e9"}


def test_times_are_exact() -> None:
    assert nanoseconds(b"1618677817.079790123") == 1_618_677_817_079_790_123
    assert nanoseconds(b"1618677817") == 1_618_677_817_000_000_000


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.rec", REC)
    told: list[int] = []

    list(read_recording(path, "coinbase", clock=ManualClock(), progress=told.append))

    assert told[-1] == path.stat().st_size


@pytest.mark.parametrize("name", ["missing.rec", "broken.rec.gz"])
def test_an_unreadable_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(b"this is not gzip")

    with pytest.raises(ConfigError, match="cannot be read"):
        read(path)


def exported(**changes: object) -> str:
    context = {"venue": "coinbase", "source": "ws", "collector": "c", "epoch": "e9"}
    line = {"log_id": "a" * 32, "seq": 7, "kind": 1, "received_ns": 5, "context": context}
    return json.dumps(line | changes)


def test_a_loss_in_a_journal_export_is_no_frame(tmp_path: Path) -> None:
    lines = [exported(payload="1"), exported(kind=255, payload="{}"), exported(payload="2")]

    frames = read(written(tmp_path, "x.ndjson", "\n".join(lines)))

    assert [frame.payload for frame in frames] == [b"1", b"2"]


@pytest.mark.parametrize(
    "bad", [exported(kind=77, payload="x"), exported(payload_base64="AA*A="), exported(kind=0)]
)
def test_a_bad_line_of_a_journal_export_is_named(tmp_path: Path, bad: str) -> None:
    path = written(tmp_path, "x.ndjson", f"{exported(payload='x')}\n{bad}\n")

    with pytest.raises(ConfigError, match="Line 2 "):
        read(path)


def test_partial_is_part_of_an_exported_context_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x.ndjson", exported(payload="x"))

    assert [frame.context.partial for frame in read(path, partial=True)] == [True]
    assert [frame.context.partial for frame in read(path)] == [False]


def test_damaged_gzip_is_one_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, "a.rec.gz", REC)
    data = bytearray(path.read_bytes())
    data[10] = 0xFF  # the head of the first deflate block, which then has a type that is none
    path.write_bytes(data)

    with pytest.raises(ConfigError, match="cannot be read"):
        read(path)
