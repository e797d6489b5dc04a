"""Recordings: every line ends as a frame or is known to be none."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING

import pytest

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.domain.parsed import UnreadLine
from forebay.errors import ConfigError
from forebay.sources.recordings import Recorded, read_recording, receipt_ns

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


def letter(frame: Recorded) -> tuple[str, str]:
    """Return the reason and the error of a line that was not read."""
    assert frame.kind is FrameKind.UNREAD
    dead, _ = UnreadLine.letter(0, frame.payload)
    return dead.reason, dead.error


def unread(frame: Recorded) -> bytes:
    """Return the bytes of a line that was not read."""
    return UnreadLine.letter(0, frame.payload)[1]


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.rec", "a.rec.gz"])
def test_a_rec_file_line_by_line(tmp_path: Path, name: str) -> None:
    *frames, dead = read(written(tmp_path, name, REC))

    assert [frame.payload for frame in frames] == [
        b'{"type":"subscriptions"}',
        b'[{"trade_id":1}]',
        b'{"note":"a: b"}',
        b'{"later":1}',
    ]
    assert [frame.kind for frame in frames] == [
        FrameKind.TEXT,
        FrameKind.REST,
        FrameKind.TEXT,
        FrameKind.TEXT,
    ]
    assert letter(dead) == ("not_json", f"line 10 of {name}: it is no record of a recording")
    assert unread(dead) == b"what is this"
    assert dead.received_ns == frames[3].received_ns
    assert frames[0].received_ns == 1_618_677_817_061_845_000
    assert frames[1].context.source == "rest"
    assert frames[1].context.request == "GET /products/BTC-USD/trades?limit=2"
    epochs = [frame.context.epoch for frame in frames]
    assert epochs[0] == epochs[2] != epochs[3] == dead.context.epoch
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
    *frames, dead = read(written(tmp_path, "a.ndjson.gz", lines))

    assert [frame.payload for frame in frames] == [b'{"type":"match"}', b'{"type": "x"}']
    assert [frame.received_ns for frame in (*frames, dead)] == [
        ManualClock().wall_ns(),
        1_618_677_817_061_000_000,
        1_618_677_817_061_000_000,
    ]
    assert letter(dead) == (
        "not_json",
        "line 4 of a.ndjson.gz: it is no record of a recording",
    )


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


@pytest.mark.parametrize(
    ("number", "unit", "expected"),
    [
        (b"1618677817.079790123", "seconds", 1_618_677_817_079_790_123),
        (b"1618677817", "seconds", 1_618_677_817_000_000_000),
        (b"1767225600130.5", "milliseconds", 1_767_225_600_130_500_000),
        (b"1767225600130.0", "milliseconds", 1_767_225_600_130_000_000),
        (b"1.7672256e12", "milliseconds", 1_767_225_600_000_000_000),
        (b"1767225600130000001", "nanoseconds", 1_767_225_600_130_000_001),
    ],
)
def test_times_are_exact(number: bytes, unit: str, expected: int) -> None:
    assert receipt_ns(number, unit) == expected


@pytest.mark.parametrize(
    ("number", "unit", "hint"),
    [
        (b"1767225600130", "seconds", "are these milliseconds?"),
        (b"1767225600", "milliseconds", "are these seconds?"),
        (b"1767225600130000", "milliseconds", "are these microseconds?"),
        (b"1767225600130000000", "milliseconds", "are these nanoseconds?"),
        (b"1767225600130", "nanoseconds", "are these milliseconds?"),
        (b"9" * 32, "seconds", ""),
        (b"9" * 5000, "seconds", ""),
        (b"1e999999999", "milliseconds", ""),
        (b"-1767225600", "seconds", ""),
        (b"0", "milliseconds", ""),
        (b"NaN", "milliseconds", ""),
        (b"1.2.3", "seconds", ""),
        (b"null", "milliseconds", ""),
        (b"2026-01-01T00:00:00Z", "milliseconds", ""),
        (b"\xff", "milliseconds", ""),
    ],
)
def test_an_odd_time_is_refused_with_the_unit_that_it_may_be_in(
    number: bytes, unit: str, hint: str
) -> None:
    with pytest.raises(ValueError, match=f"no receipt time in {unit}") as caught:
        receipt_ns(number, unit)

    assert str(caught.value).endswith(hint or "since 1970")


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "a.rec", REC)
    told: list[int] = []

    list(read_recording(path, "coinbase", clock=ManualClock(), progress=told.append))

    assert told[-1] == path.stat().st_size


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory\. Check"):
        read(tmp_path / "missing.rec")


def exported(**changes: object) -> str:
    context = {"venue": "coinbase", "source": "ws", "collector": "c", "epoch": "e9"}
    line = {"log_id": "a" * 32, "seq": 7, "kind": 1, "received_ns": 5, "context": context}
    return json.dumps(line | changes)


def test_a_loss_in_a_journal_export_is_no_frame(tmp_path: Path) -> None:
    lines = [exported(payload="1"), exported(kind=255, payload="{}"), exported(payload="2")]

    frames = read(written(tmp_path, "x.ndjson", "\n".join(lines)))

    assert [frame.payload for frame in frames] == [b"1", b"2"]


@pytest.mark.parametrize(
    "bad",
    [
        exported(kind=77, payload="x"),
        exported(payload_base64="AA*A="),
        exported(kind=0),
        exported(received_ns=10**25, payload="x"),
        exported(received_ns=-1, payload="x"),
        exported(payload="x")[:-9],
    ],
    ids=["kind", "base64", "no kind", "a time of 25 digits", "a time before 1970", "cut"],
)
def test_a_bad_line_of_a_journal_export_is_a_letter(tmp_path: Path, bad: str) -> None:
    path = written(tmp_path, "x.ndjson", f"{exported(payload='1')}\n{bad}\n")

    good, dead = read(path)

    assert good.payload == b"1"
    assert letter(dead)[1].startswith("line 2 of x.ndjson: ")
    assert unread(dead) == bad.encode()


def test_partial_is_part_of_an_exported_context_too(tmp_path: Path) -> None:
    path = written(tmp_path, "x.ndjson", exported(payload="x"))

    assert [frame.context.partial for frame in read(path, partial=True)] == [True]
    assert [frame.context.partial for frame in read(path)] == [False]
