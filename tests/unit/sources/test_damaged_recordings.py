"""Damaged recordings: what can be read is read, every bad line is named, every loss is told."""

from __future__ import annotations

import gzip
import os
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.clock import ManualClock
from forebay.domain.frames import FrameKind
from forebay.domain.parsed import UnreadLine
from forebay.errors import ConfigError
from forebay.sources.recording_lines import Lines, UnreadableLines
from forebay.sources.recordings import Recorded, read_recording, require_frames

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = [b'{"type":"match","trade_id":%d,"note":"%08x"}' % (i, i * 2654435761) for i in range(500)]
GOOD = b"\n".join(FRAMES) + b"\n"


def read(path: Path) -> tuple[list[Recorded], list[UnreadableLines]]:
    losses: list[UnreadableLines] = []
    frames = list(read_recording(path, "coinbase", clock=ManualClock(), lose=losses.append))
    return frames, losses


def written(tmp_path: Path, content: bytes, name: str = "a.ndjson") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def texts(frames: list[Recorded]) -> list[bytes]:
    return [frame.payload for frame in frames if frame.kind is FrameKind.TEXT]


def errors(frames: list[Recorded]) -> list[str]:
    dead = [frame.payload for frame in frames if frame.kind is FrameKind.UNREAD]
    return [UnreadLine.letter(0, payload)[0].error for payload in dead]


@pytest.mark.parametrize(
    "line",
    [
        b'{"log_id":"\xff","seq":1}',
        b'{"recv_ms":1767225600130,"event":{"price":"\xff"}}',
        b'{"type":"match","trade_id":',
        b"\0" * 4096,
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b"http://[ -> 1767225600.5: {}",
        b"\xff -> 1767225600.5: {}",
        b"wss://x <-> 1767225600000",
        b"wss://x <-> 1.2.3",
        b'1767225600.5: {"price":"\xff"}',
        b'1767225600500000000 {"price":"\xff"}',
        b'2026-01-01T00:00:00Z {"type":"match"}',
        b"1" * 5000 + b': {"type":"match"}',
    ],
    ids=lambda line: repr(line[:24]),
)
def test_a_bad_line_costs_itself_and_is_named(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path, FRAMES[0] + b"\n" + line + b"\n" + FRAMES[1] + b"\n")

    frames, losses = read(path)

    assert texts(frames) == FRAMES[:2]
    assert [error.partition(": ")[0] for error in errors(frames)] == ["line 2 of a.ndjson"]
    assert UnreadLine.letter(0, frames[1].payload)[1] == line
    assert losses == []


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        (b"1767225600130: {}", "milliseconds"),
        (b'{"recv_ms":1767225600130000000,"event":{}}', "nanoseconds"),
        (b'{"recv_ms":1767225600130000,"event":{}}', "microseconds"),
        (b'{"recv_ms":1767225600,"event":{}}', "seconds"),
        (b"1767225600130 {}", "milliseconds"),
        (b"https://x/y -> 1767225600130: []", "milliseconds"),
    ],
)
def test_a_time_in_another_unit_is_a_letter_that_says_so(
    tmp_path: Path, line: bytes, unit: str
) -> None:
    frames, _ = read(written(tmp_path, line))

    assert [error.rpartition("; ")[2] for error in errors(frames)] == [f"are these {unit}?"]
    require_frames(tmp_path / "a.ndjson")  # a frame it is


def test_fractions_of_a_millisecond_are_read(tmp_path: Path) -> None:
    lines = b'{"recv_ms":1767225600130.5,"event":{}}\n{"recv_ms":"1767225600131.0","event":{}}\n'
    frames, _ = read(written(tmp_path, lines))

    assert [frame.received_ns for frame in frames] == [
        1_767_225_600_130_500_000,
        1_767_225_600_131_000_000,
    ]
    assert texts(frames) == [b"{}", b"{}"]


@pytest.mark.parametrize("name", ["a.rec", "a.ndjson", "a.ws"])
def test_lines_of_nanoseconds_and_json_are_frames(tmp_path: Path, name: str) -> None:
    lines = b'1723161256123456789 {"stream":"x"}\n1723161256123456790 [1]\n'
    frames, _ = read(written(tmp_path, lines, name))

    assert [(frame.received_ns, frame.payload) for frame in frames] == [
        (1_723_161_256_123_456_789, b'{"stream":"x"}'),
        (1_723_161_256_123_456_790, b"[1]"),
    ]


def test_byte_order_marks_blank_lines_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    lines = mark + FRAMES[0] + b"\r\n\r\n  \n" + mark + b"1767225600.5: {}\r\n\n"
    frames, losses = read(written(tmp_path, lines))

    assert texts(frames) == [FRAMES[0], b"{}"]
    assert len(frames) == 2
    assert losses == []


def test_equal_bad_lines_are_letters_of_their_own_whenever_they_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, b'}\n}\n1767225600.5: {}\n}\n{"a":1}\n}\n')

    def ids() -> list[tuple[int, int]]:
        dead = [frame for frame in read(path)[0] if frame.kind is FrameKind.UNREAD]
        return [(each.received_ns, UnreadLine.letter(0, each.payload)[0].item) for each in dead]

    assert len({*ids()}) == len(ids()) == 4
    assert ids() == ids()


def test_bare_frames_count_as_received_when_the_file_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, b'{"a":1}\n')
    os.utime(path, ns=(0, 1_600_000_000_000_000_001))
    assert read(path)[0][0].received_ns == 1_600_000_000_000_000_001

    os.utime(path, ns=(0, 1))  # nobody wrote it then
    assert read(path)[0][0].received_ns == ManualClock().wall_ns()


# -------------------------------------------------------------------------- gzip


@given(share=st.floats(0.05, 0.99))
def test_a_cut_gzip_gives_all_that_its_bytes_say(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    whole = gzip.compress(GOOD)
    cut = whole[: int(len(whole) * share)]
    path = written(tmp_path_factory.mktemp("cut"), cut, "a.ndjson.gz")
    readable = zlib.decompressobj(wbits=31).decompress(cut)

    frames, losses = read(path)

    expected = readable.count(b"\n")
    assert texts(frames)[:expected] == FRAMES[:expected]
    assert len(frames) == expected + (not readable.endswith(b"\n") and readable != b"")
    assert [loss.line for loss in losses] == [len(frames) + 1]
    assert "cut short" in losses[0].reason


def test_a_cut_in_the_second_of_two_gzips_is_called_one(tmp_path: Path) -> None:
    cut = gzip.compress(GOOD) + gzip.compress(GOOD)[:-200]
    frames, losses = read(written(tmp_path, cut, "a.gz"))

    assert len(frames) > len(FRAMES)
    assert "cut short" in losses[0].reason


def test_damage_inside_gzip_costs_what_follows_it(tmp_path: Path) -> None:
    spoilt = bytearray(gzip.compress(GOOD))
    spoilt[len(spoilt) // 2] ^= 0xFF
    frames, losses = read(written(tmp_path, bytes(spoilt), "a.gz"))

    good = texts(frames)
    assert len(good) > 100
    assert good[:100] == FRAMES[:100]
    assert "damaged" in losses[0].reason


def test_members_of_gzip_and_padding_are_one_file(tmp_path: Path) -> None:
    half = GOOD.index(FRAMES[250])
    content = gzip.compress(GOOD[:half]) + b"\0" * 700 + gzip.compress(GOOD[half:]) + b"\0"
    frames, losses = read(written(tmp_path, content))  # whatever it is called

    assert texts(frames) == FRAMES
    assert losses == []


@pytest.mark.parametrize("rest", [b"\n", b"junk behind it", b"x" * 100_000])
def test_what_follows_gzip_and_is_none_is_a_loss(tmp_path: Path, rest: bytes) -> None:
    frames, losses = read(written(tmp_path, gzip.compress(GOOD) + rest, "a.gz"))

    assert texts(frames) == FRAMES
    assert [(loss.line, "follows the gzip" in loss.reason) for loss in losses] == [(501, True)]


def test_plain_text_called_gz_is_read(tmp_path: Path) -> None:
    assert texts(read(written(tmp_path, GOOD, "a.ndjson.gz"))[0]) == FRAMES


def test_a_line_that_is_too_long_is_lost_alone(tmp_path: Path) -> None:
    path = written(tmp_path, b"first\n" + b"x" * 100_000 + b"\nlast\n")
    with path.open("rb") as file:
        lines = Lines(file, longest=50)
        assert list(lines) == [(1, b"first"), (3, b"last")]
    assert lines.losses == [UnreadableLines(2, "it has 100,000 bytes, and at most 50 are read")]


# ---------------------------------------------------------------- no frame at all


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"import os\n\nprint({'a': 1})\n", "holds no frame"),
        (b"\n\r\n  \n", "holds no frame"),
        (b"configuration: {}\nwss://x <-> 1618677816.8\n", "holds no frame"),
        ('{"type":"match"}\n'.encode("utf-16"), "UTF-16"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (gzip.compress(GOOD)[:12], "cut short"),
        (gzip.compress(b""), "holds no frame"),
        (b"PK\x03\x04...", "unpack"),
    ],
    ids=["empty", "python", "blank", "heads", "utf-16", "zstd", "cut", "empty gzip", "zip"],
)
def test_a_file_without_a_frame_is_an_error(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        require_frames(written(tmp_path, content))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in ((tmp_path, "a folder"), (tmp_path / "pipe", "read twice")):
        with pytest.raises(ConfigError, match=sentence):
            require_frames(path)


def test_a_frame_that_no_parser_can_read_is_one_all_the_same(tmp_path: Path) -> None:
    require_frames(written(tmp_path, b'{"type":"match","trade_id":9'))
