"""The pages that explain: their tables and examples are compared with what the code does."""

from __future__ import annotations

import ast
import dataclasses
import errno
import hashlib
import importlib
import inspect
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from forebay import errors
from forebay.app.wiring.venues import VENUES
from forebay.clock import ManualClock
from forebay.domain import parsed, schema
from forebay.domain.channels import UNITS_OF
from forebay.domain.coverage import COVERAGES, GapState, IdCoverage, StreamKey
from forebay.domain.flags import FLAGS
from forebay.domain.frames import FrameBatch, FrameKind, HistoryFinished, encode_control
from forebay.domain.identity import (
    IdentityClass,
    digest_ids,
    native_id,
    numbered,
    stream_prefix,
    uuids,
)
from forebay.domain.kinds import KINDS
from forebay.journal import (
    CursorFile,
    JournalReader,
    JournalWriter,
    PendingBlock,
    Position,
    disk,
    seal,
    segments,
    two_slot_file,
    watermark,
)
from forebay.journal import cursor as cursors
from forebay.journal import format as layout
from forebay.journal.recovery import TailVerdict, decide
from forebay.journal.scan import Damage, SoundBlock
from forebay.ports import Commit
from forebay.services.normalise import letter_id
from forebay.services.projection import Projection
from forebay.stores.duckdb import DuckDBAudited, DuckDBStore
from tests.support.delivery import PARSERS
from tests.support.frames import as_json, batch, context, heartbeat, match, rest_row
from tests.support.made_venue import MADE, T0_NS, Deal
from tests.support.made_venue import frame as made_frame
from tests.support.pages import DOCS, ROOT, block, links, section, slug, table, tables, ticked
from tests.unit.journal.helpers import sound

if TYPE_CHECKING:
    from pathlib import Path
    from struct import Struct

PAGES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((DOCS / "explanation").glob("*.md"))
}
JOURNAL, IDENTITY, COVERAGE, AUDIT, SEEDS = (
    PAGES.get(name, "") for name in ("journal", "identity", "coverage", "audit", "seeds")
)
BTC = StreamKey("coinbase", "spot", "trade", "BTC-USD")
RECEIVED_NS = 1_767_225_600_130_000_000
READ = {
    f"{path.parent.name}/{path.stem}": path
    for folder in ("explanation", "how-to", "tutorial")
    for path in sorted((DOCS / folder).glob("*.md"))
} | {"README": DOCS / "README.md"}


def intervals(text: str) -> list[tuple[int, int]]:
    """``101–104, 106`` as pairs; a dash is nothing."""
    found = re.findall(r"(\d+)(?:–(\d+))?", text)
    return [(int(first), int(last or first)) for first, last in found]


# ---------------------------------------------------------------- the pages as pages


@pytest.mark.parametrize("name", READ)
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    path = READ[name]
    assert links(path) or name.startswith("tutorial/")
    for target, anchor in links(path):
        assert target.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), anchor


def test_every_document_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    ahead = [DOCS / "README.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md" and page.is_relative_to(DOCS):
            reached.add(page)
            ahead += [target for target, _ in links(page)]
    assert {*DOCS.rglob("*.md")} - reached == {DOCS / "adr" / "template.md"} - reached


def constants() -> list[tuple[str, str, str]]:
    return [
        (name, ticked(row[1])[0], ticked(row[2])[0])
        for name, page in PAGES.items()
        for each in tables(page)
        if each[0] == ["constant", "value", "where"]
        for row in each[1:]
    ]


def looked_up(where: str) -> Any:  # noqa: ANN401 - whatever stands there
    """The value at a dotted path, a default of a field, or of a parameter in brackets."""
    path, _, parameter = where.rstrip(")").partition("(")
    parts = path.split(".")
    depth = next(
        depth
        for depth in range(len(parts), 0, -1)
        if (ROOT / "src" / "/".join(parts[:depth])).with_suffix(".py").exists()
        or (ROOT / "src" / "/".join(parts[:depth]) / "__init__.py").exists()
    )
    found: Any = importlib.import_module(".".join(parts[:depth]))
    for name in parts[depth:]:
        described = dataclasses.is_dataclass(found) or hasattr(found, "__struct_fields__")
        if isinstance(found, type) and described:
            found = found()
        found = getattr(found, name)
    return inspect.signature(found).parameters[parameter].default if parameter else found


@pytest.mark.parametrize(("page", "value", "where"), constants())
def test_a_constant_is_that_of_the_code(page: str, value: str, where: str) -> None:
    assert ast.literal_eval(value) == looked_up(where), page


# ------------------------------------------------------------------------ journal.md

TYPES = {"s": "bytes", "x": "zero", "B": "u8", "H": "u16", "I": "u32", "Q": "u64", "q": "i64"}
SEGMENT = ["magic", "version", "zero", *layout.SegmentHeader._fields, "zero", "crc"]
BLOCK = ["magic", "version", "kind", "codec", "zero", *layout.BlockHeader._fields[2:], "crc"]
LAYOUTS = {
    "Segment header": (layout._SEGMENT, True, SEGMENT),
    "Block header": (
        layout._BLOCK,
        True,
        [{"frames": "count"}.get(name, name) for name in BLOCK],
    ),
    "Two-slot files": (two_slot_file._HEAD, False, ["counter", "length"]),
    "Watermark": (watermark._FIELDS, False, [*watermark.Watermark._fields[:6]]),
    "Cursor": (cursors._FIELDS, False, ["magic", "log_id", "seq"]),
}


def laid_out(struct: Struct, crc: bool) -> list[tuple[int, int, str]]:
    """Offset, size and type of every field of a packed structure."""
    assert struct.format.startswith("<")
    found, offset = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", struct.format[1:] + "I" * crc):
        assert code in "sx" or not count
        size = int(count or 1) * {"H": 2, "I": 4, "Q": 8, "q": 8}.get(code, 1)
        found.append((offset, size, TYPES[code]))
        offset += size
    return found


@pytest.mark.parametrize("heading", LAYOUTS)
def test_a_layout_is_that_of_the_code(heading: str) -> None:
    struct, crc, names = LAYOUTS[heading]
    rows = table(section(JOURNAL, heading), "offset", "bytes", "type", "field", "value")
    told = [(int(row[0]), int(row[1]), row[2]) for row in rows]
    assert told == laid_out(struct, crc)
    assert [row[3] for row in rows] == names


def test_magics_and_sizes_are_those_of_the_code() -> None:
    magics = re.findall(r"magic \| `([0-9a-f ]+)`", JOURNAL)
    right = [layout.SEGMENT_MAGIC, layout.BLOCK_MAGIC, cursors._MAGIC]
    assert [bytes.fromhex(magic) for magic in magics] == right
    for size, text in (
        (layout.SEGMENT_HEADER_SIZE, "The first {} bytes of a segment."),
        (layout.BLOCK_HEADER_SIZE, "{} bytes of header and `body_len`"),
        (layout._BYTES_PER_FRAME, "`body_len < context_len + {} * count`"),
        (two_slot_file.FILE_SIZE, "{} bytes in all"),
        (two_slot_file.MAX_PAYLOAD, "at most {}"),
        (watermark._FIELDS.size, "Payload of the file `watermark`, {} bytes:"),
        (cursors._FIELDS.size, "{} bytes of payload, synced at every store"),
    ):
        assert text.format(size) in JOURNAL


def test_the_example_is_the_file_that_a_writer_makes(tmp_path: Path) -> None:
    right = bytes.fromhex(block(JOURNAL, "hex"))
    header = layout.parse_segment_header(right[: layout.SEGMENT_HEADER_SIZE])
    assert header is not None
    ids = iter([header.log_id.hex(), "f" * 32, header.segment_id.hex()])
    draft = PendingBlock(1, b'{"venue":"v"}', [b"hi", b"you"], [1000, 1500], (1_700 * 10**15, 1000))
    with JournalWriter.open(
        tmp_path, clock=ManualClock(), random_id=lambda: next(ids), ballast_bytes=0
    ) as writer:
        writer.commit([draft])
        with JournalReader(tmp_path) as reader:
            (read,) = reader.read()
    assert (tmp_path / "00000000000000000001.fbj").read_bytes() == right
    assert f"{len(right)} bytes" in JOURNAL
    assert [f"{ns}" in JOURNAL for ns in read.received_ns] == [True, True]


def fields_of(header: bytes, heading: str) -> dict[str, bytes]:
    """The bytes of each field, cut out as the page's table says."""
    rows = table(section(JOURNAL, heading), "offset", "bytes", "type", "field", "value")
    return {row[3]: header[int(row[0]) : int(row[0]) + int(row[1])] for row in rows}


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def test_the_sealed_example_is_unpacked_by_the_page_alone() -> None:
    """Knows nothing but the page, zlib, XXH3 and zstd."""
    whole, right = (bytes.fromhex(block(JOURNAL, name)) for name in ("sealed", "hex"))
    head, body = whole[64:152], whole[152:]
    told = fields_of(head, "Block header")
    assert number(told["crc"]) == zlib.crc32(head[:84])
    values = {name: number(told[name]) for name in told if name not in {"magic", "log_id"}}
    assert (values["kind"], values["codec"], values["body_len"]) == (0, 1, len(body))
    assert values["digest"] == xxhash.xxh3_64_intdigest(body)
    raw = pa.Codec("zstd").decompress(body, values["context_len"], asbytes=True)
    assert whole[:64] + raw == right
    assert f"sealed, {len(whole)} bytes" in JOURNAL
    first, second = (fields_of(raw[at : at + 88], "Block header") for at in (0, 130))
    assert values["first_seq"] == number(first["first_seq"])
    assert values["count"] == number(first["count"]) + number(second["count"])
    assert values["durable_seq"] == max(number(each["durable_seq"]) for each in (first, second))
    received = [number(first["anchor_wall"]) + after for after in (0, 500)]
    assert [values["anchor_mono"], values["anchor_wall"]] == received
    assert told["log_id"] == first["log_id"] == second["log_id"]


def test_the_sealed_example_is_what_sealing_makes_and_the_reader_reads(tmp_path: Path) -> None:
    whole, right = (bytes.fromhex(block(JOURNAL, name)) for name in ("sealed", "hex"))
    path = tmp_path / "00000000000000000001.fbj"
    path.write_bytes(right)
    seal.seal(disk.OS_DISK, tmp_path, 1, 3, random_id=lambda: "e" * 32)
    made = path.read_bytes()
    # The same but for what zstd makes of it, which is its own business.
    assert made[: 64 + 44] == whole[: 64 + 44]
    path.write_bytes(whole)
    segment = segments.open_segment(disk.OS_DISK, tmp_path, 1)
    assert b"".join(seal.unsealed(disk.OS_DISK, segment, 3)) == right
    disk.OS_DISK.close(segment.fd)


def test_the_fields_of_a_pack_are_those_of_a_header() -> None:
    rows = table(section(JOURNAL, "Packs"), "field", "of a pack")
    names = [{"frames": "count"}.get(name, name) for name in layout.BlockHeader._fields]
    assert [ticked(row[0])[0] for row in rows] == names
    assert f"at most {layout.MAX_PACK_BYTES}" in dict(rows)["`context_len`"]


def test_the_cursor_is_the_file_that_is_stored(tmp_path: Path) -> None:
    right = bytes.fromhex(block(JOURNAL, "cursor"))
    (told,) = re.findall(r"The cursor \(log id `([0-9a-f]{32})`, seq (\d+)\)", JOURNAL)
    path = tmp_path / "cursor"
    CursorFile(path).store(Position(told[0], int(told[1])))
    assert path.read_bytes().rstrip(b"\0") == right


def things_of(found: str) -> list[SoundBlock | Damage]:
    """Each found thing, 100 bytes long and behind the other."""
    made: list[SoundBlock | Damage] = []
    expected, offset = 1, 64
    things = re.findall(r"\[(junk|\d+–\d* damaged(?: d\d+)?|\d+–\d+ d\d+)\]", found)
    assert len(things) == found.count("[")
    for thing in things:
        numbers = [int(number) for number in re.findall(r"\d+", thing.partition(" ")[0])]
        following = numbers[1] + 1 if len(numbers) > 1 else None
        durable = int((re.findall(r"d(\d+)", thing) or ["0"])[0])
        if thing == "junk":
            numbers, following = [expected], expected
        place = offset, offset + 100, numbers[0]
        if "damaged" in thing or thing == "junk":
            made.append(Damage(*place, following, durable))
        else:
            made.append(sound(*place, numbers[1] + 1, durable))
        expected, offset = following or expected, offset + 100
    return made


def fate(verdict: TailVerdict, found: list[SoundBlock | Damage]) -> str:
    if verdict.abandoned:
        return "left, new segment"
    if verdict.end_offset == (found[-1].end if found else 64):
        return "kept"
    (last,) = [
        item.header.next_seq if isinstance(item, SoundBlock) else item.next or 0
        for item in found
        if item.end == verdict.end_offset
    ]
    return f"cut after {last - 1}"


RECOVERY = table(JOURNAL, "found", "watermark", "next number", "lost", "the file")


@pytest.mark.parametrize("row", RECOVERY, ids=lambda row: f"{row[0]} {row[1]}")
def test_recovery_decides_as_the_table_says(row: list[str]) -> None:
    found, mark, following, lost, file = row
    things = things_of(found)
    verdict = decide(things, 1, 64, 0 if mark == "–" else int(mark))
    assert verdict.end_seq == int(following)
    assert list(verdict.losses) == intervals(lost)
    assert fate(verdict, things) == file


def test_the_errors_are_those_of_the_tree() -> None:
    rows = table(JOURNAL, "error", "exit code", "the journal raises it when")
    right = [
        (kind.__name__, kind.exit_code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ForebayError)
    ]
    assert [(ticked(row[0])[0], int(row[1])) for row in rows] == right


def test_the_systems_errors_become_ours_as_the_table_says() -> None:
    rows = table(JOURNAL, "errno", "error")
    told = {name: ticked(row[1])[0] for row in rows for name in ticked(row[0])}
    for number, name in errno.errorcode.items():
        error = disk.translate(OSError(number, "no"), "test")
        assert type(error).__name__ == told.get(name, "Transient"), name


# ----------------------------------------------------------------------- identity.md


def test_the_ids_are_those_of_the_code() -> None:
    for stream, native, event_id in table(IDENTITY, "stream", "native id", "event id"):
        prefix = stream_prefix(*stream.strip("`").split("|"))
        assert str(native_id(prefix, int(native))) == event_id.strip("`")


def test_the_steps_of_an_id_are_right() -> None:
    steps = section(IDENTITY, "A native id")
    digest = hashlib.sha256(b"coinbase|spot|trade|BTC-USD").hexdigest()
    high = f"{stream_prefix('coinbase', 'spot', 'trade', 'BTC-USD'):016x}"
    assert f"first 8 bytes   {digest[:16]}\n" in steps
    assert f"first 60 bits            {digest[:15]}\n" in steps
    assert f"48 bits, 12 bits         {digest[:12]}  {digest[12:15]}\n" in steps
    assert f"high half                {high[:12]} {high[12]} {high[13:]}\n" in steps
    assert f"2 × 2⁶² + 280232 = {(2 << 62) + 280_232:016x}\n" in steps


def told_frame(**changed: object) -> bytes:
    return as_json(json.loads(block(IDENTITY, "json")) | changed)


def projected(*frames: bytes) -> FrameBatch:
    return batch(frames, context(), received_ns=[RECEIVED_NS] * len(frames))


def plain(rows: Any, column: str) -> str:  # noqa: ANN401 - Arrow has no types
    cells = rows[column]
    (value,) = (cells.cast("int64") if cells.type == schema.TIME else cells).to_pylist()
    return str(value)


def test_the_frame_becomes_the_row() -> None:
    assert f"Received at {RECEIVED_NS} " in IDENTITY
    rows = Projection(PARSERS, {}).project([projected(told_frame())]).events["trades"].rows
    told = table(IDENTITY, "column", "type", "value")
    assert [ticked(row[0])[0] for row in told] == KINDS["trade"].schema.names
    for name, _, value in told:
        assert plain(rows, name.strip("`")) == value.strip("`"), name


def test_the_canonical_row_is_what_the_store_makes() -> None:
    (columns,) = re.findall(r"^event_id\|.+$", IDENTITY, re.MULTILINE)
    assert columns.split("|") == ["event_id", *KINDS["trade"].content]
    with_one = stored(told_frame())
    asked = DuckDBAudited(lambda text: with_one.reader().query(text, timeout_s=60))
    (row,) = asked.rows(BTC, 0, 1 << 62).rows["canonical"].to_pylist()
    assert block(IDENTITY, "canonical").replace("\n", "") == row


def test_conflicts_are_about_these_columns_and_the_examples_hold() -> None:
    text = section(IDENTITY, "Conflicts")
    assert tuple(ticked(text.partition("\n*")[0])) == KINDS["trade"].content
    time = "2026-01-01T00:00:00.123456Z"
    assert time in text
    for price, conflicts in (("64250.12", 1), ("64250.1", 0)):
        assert f"`{price}`" in text
        store = stored(told_frame())
        rows = Projection(PARSERS, {}).project([projected(told_frame(price=price, time=time))])
        again = rows.events["trades"]
        other_frame = again.rows.set_column(8, "seq", pa.array([7]))
        events = {"trades": again._replace(rows=other_frame, vouched_new=again.seen_before)}
        done = store.commit(Commit({"store": Position("a" * 32, 9)}, events=events))
        assert (done.inserted, done.conflicts) == (0, conflicts)


def test_flags_and_reasons_are_those_of_the_code() -> None:
    flags = tuple(ticked(row[0])[0] for row in table(IDENTITY, "flag", "when"))
    assert flags == FLAGS
    (told,) = re.findall(r"reasons of dead letters\nare (.+?)\. A row", IDENTITY, re.DOTALL)
    assert tuple(ticked(told)) == get_args(parsed.Reason)


def test_the_id_of_a_dead_letter_is_right() -> None:
    text = section(IDENTITY, "Ids of dead letters")
    made = letter_id("coinbase", RECEIVED_NS, 0, b'{"type":')
    assert f"`{made}`" in text


def test_the_classes_are_those_of_the_code_and_of_every_venue() -> None:
    rows = table(IDENTITY, "class", "when", "told again", "two collectors")
    assert tuple(ticked(row[0])[0] for row in rows) == get_args(IdentityClass)
    told = [
        tuple(ticked("".join(row))) for row in table(IDENTITY, "venue", "channel", "class", "unit")
    ]
    declared = [
        (name, kind, channel.identity, channel.unit)
        for name, venue in VENUES.items()
        for kind, channel in venue.channels.items()
    ]
    assert told == declared
    assert not {*VENUES} & {*get_args(IdentityClass)}
    feed = PARSERS["coinbase"].parse(projected(told_frame()))
    page = PARSERS["coinbase"].parse(batch([as_json([rest_row(1)])], context("rest")))
    channels = [parsed.events[0].channel for parsed in (feed, page)]
    assert [(each.kind, each.identity, each.unit) for each in channels] == [told[0][1:]] * 2


def test_the_ids_of_the_other_classes_are_made_of_their_texts() -> None:
    """Re-implemented from the page, compared with its examples and with the code."""
    examples = re.findall(r"^(\S+)\n  \+ (\d+) = (\S+)$", block(IDENTITY, "ids"), re.MULTILINE)
    assert {text.partition("|")[0] for text, _, _ in examples} == {*get_args(IdentityClass)}
    for text, number, event_id in examples:
        digest = hashlib.sha256(text.encode()).digest()
        bits = "".join(f"{byte:08b}" for byte in digest)[:122]
        low = (int(bits[60:], 2) + int(number)) % 2**62
        whole = f"{bits[:48]}1000{bits[48:60]}10{low:062b}"
        assert str(UUID(int=int(whole, 2))) == event_id
        made = numbered(digest_ids([text]), np.array([int(number)]))
        assert str(uuids(made)[0].as_py()) == event_id


def test_what_is_told_of_ordinals_is_what_the_projection_makes() -> None:
    deals = [Deal(), Deal(micros=6), Deal(price="7.50"), Deal(), Deal(micros=6)]
    frames = batch([made_frame(deal) for deal in deals], context(venue="made-content"))
    rows = Projection(MADE, {}).project([frames]).events["trades"].rows
    stream, price = "content|made-content|spot|trade|A-B", f"7.5{'0' * 17}"
    for row, (micros, ordinal) in enumerate([(5, 0), (6, 0), (5, 1), (5, 2), (6, 1)]):
        text = f"{stream}|{T0_NS + micros * 1000}||{price}|1.{'0' * 18}|buy"
        low = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big") >> 6
        expected = (low + ordinal) % 2**62
        assert rows["event_id"][row].as_py().int % 2**62 == expected
        assert ("ambiguous" in rows["flags"][row].as_py()) is (micros == 5)
        assert rows["trade_id"][row].as_py() == ""


# ----------------------------------------------------------------------- coverage.md


def frame_of(line: str) -> FrameBatch:
    verb, *words = line.split(maxsplit=2 if line.startswith(("live", "heart")) else 1)
    ids = [n for first, last in intervals(words[-1]) for n in range(first, last + 1)]
    if verb == "live":
        return batch([match(native) for native in ids], context(epoch=words[0]))
    if verb == "heartbeat":
        return batch([heartbeat(ids[0])], context(epoch=words[0]))
    fill = context("rest", epoch="fill")
    if verb == "history":
        return batch([as_json([rest_row(native) for native in ids])], fill)
    assert verb == "finished"
    told, _, lacking = words[-1].partition(", lacking ")
    ends = intervals(told)[0]
    ended = HistoryFinished("trade", BTC.symbol, *ends, lacking=tuple(intervals(lacking)))
    waits_s = PARSERS["coinbase"].channels["trade"].believed_after_s
    looks = [RECEIVED_NS + sum(waits_s[:count]) * 10**9 for count in range(len(waits_s) + 1)]
    payloads = [encode_control(ended)] * len(looks)
    return batch(payloads, fill, kind=FrameKind.CONTROL, received_ns=looks)


def test_the_worked_example_is_what_the_projection_makes() -> None:
    projection = Projection(PARSERS, {})
    sets = table(COVERAGE, "set", "step 1", "step 2", "step 3")
    gaps = table(COVERAGE, "step", "gap", "reason", "state")
    assert [ticked(row[0])[0] for row in sets] == [*IdCoverage.sets]
    for step in (1, 2, 3):
        for line in block(COVERAGE, f"step {step}").splitlines():
            projection.adopt(projection.project([frame_of(line)]))
        stream = projection.coverage[BTC]
        assert isinstance(stream, IdCoverage)
        for row in sets:
            told = intervals(row[step])
            assert list(getattr(stream, ticked(row[0])[0])) == told, (row[0], step)
        found = [(gap.first, gap.last, gap.reason, gap.state) for gap in stream.gaps(BTC)]
        told_gaps = [row for row in gaps if row[0] == str(step)]
        assert found == [
            (*intervals(gap)[0], reason.strip("`"), state.strip("`"))
            for _, gap, reason, state in told_gaps
        ]
        hull = stream.hull()
        assert hull is not None
        assert f"The hull is {hull[0]}–{hull[1]} throughout." in COVERAGE


def test_sets_and_states_are_those_of_the_code() -> None:
    sets = [ticked(row[0])[0] for row in table(COVERAGE, "set", "contains", "grows when")]
    assert sets == [*IdCoverage.sets]
    units = [ticked(row[0])[0] for row in table(COVERAGE, "unit", "counts", "a gap is")]
    assert units == [*COVERAGES] == [*UNITS_OF["native"]]
    rows = table(COVERAGE, "part", "inside `spanned`", "outside", "state")
    assert {ticked(row[3])[0] for row in rows} == {*get_args(GapState)}


def stored(*frames: bytes) -> DuckDBStore:
    """A store that holds what these frames say."""
    store = DuckDBStore(None)
    made = Projection(PARSERS, {}).project([projected(*frames)])
    position = Position("a" * 32, 2)
    store.commit(Commit({"store": position}, events=made.events, coverage=made.coverage))
    return store


# -------------------------------------------------------------------------- seeds.md


def test_each_of_the_fifteen_has_its_answer_and_tests_that_exist() -> None:
    parts = re.split(r"^## (\d+)\. .+\n", SEEDS, flags=re.MULTILINE)[1:]
    files = dict(re.findall(r"^\[(\w+)\]: (\S+)$", SEEDS, re.MULTILINE))
    used = set()
    assert [int(number) for number in parts[::2]] == list(range(1, 16))
    for text in parts[1::2]:
        answer = text.partition("\n## ")[0]
        named = re.findall(r"^\* \[`(test_\w+)`\]\[(\w+)\]$", answer, re.MULTILINE)
        assert named
        assert [text.count(f"\n**{word}.** ") for word in ("Wrong", "Here")] == [1, 1]
        for name, file in named:
            source = (DOCS / "explanation" / files[file]).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), name
            used.add(file)
    assert used == files.keys()
