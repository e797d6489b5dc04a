"""Each damage in the words in which ``fsck`` says it, and what a reader makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from forebay.errors import ConfigError, Corrupt, CursorBeyondEnd
from forebay.journal import CursorFile, JournalReader, Position, fsck
from forebay.journal.fsck import frames
from forebay.journal.two_slot_file import encode_slot
from tests.support.sim_disk import SimDisk
from tests.support.torture import CURSOR, FOLDER, Got, open_at, template
from tests.unit.journal.helpers import drain, overwrite, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPEN, CLOSED = template(closed=False), template(closed=True)
FIRST, MIDDLE, LAST = sorted(name for name in OPEN.files if name.endswith(".fbj"))
LOG = OPEN.cursors[0].log_id
DECLARED = "Readers declare the loss and go on; fill it from a sibling or the venue."
MENDED = "No frame is lost by it: the next start of the writer mends it."
RETENTION = "Retention removes the oldest segments; if it is not that, restore what is missing."


def flip(name: str, at: int) -> Callable[[SimDisk], None]:
    return lambda disk: disk.flip(FOLDER / name, at * 8)


def remove(*names: str) -> Callable[[SimDisk], None]:
    def damage(disk: SimDisk) -> None:
        for name in names:
            disk.unlink(FOLDER / name)

    return damage


def cut(name: str, size: int) -> Callable[[SimDisk], None]:
    return lambda disk: overwrite(disk, FOLDER / name, disk.files[name][:size])


def both(*damages: Callable[[SimDisk], None]) -> Callable[[SimDisk], None]:
    def damage(disk: SimDisk) -> None:
        for each in damages:
            each(disk)

    return damage


def cursor_at(position: Position) -> Callable[[SimDisk], None]:
    def damage(disk: SimDisk) -> None:
        disk.unlink(CURSOR)
        file = CursorFile(CURSOR, disk)
        file.store(position)
        file.close()

    return damage


class Case(NamedTuple):
    damage: Callable[[SimDisk], None]
    sentences: list[str]
    lost: Sequence[tuple[int, int]] = ()
    """What a reader declares without a recovery."""
    harmless: bool = False
    closed: bool = False


CASES = {
    "a block's body damaged": Case(
        flip(MIDDLE, 64 + 88 + 20),
        [f"{MIDDLE} at byte 64: 133 unreadable bytes; frames 5 to 6 are lost. {DECLARED}"],
        [(5, 6)],
    ),
    "a block's header damaged": Case(
        flip(MIDDLE, 64 + 20),
        [f"{MIDDLE} at byte 64: 133 unreadable bytes; frames 5 to 6 are lost. {DECLARED}"],
        [(5, 6)],
    ),
    "an old segment's header damaged": Case(
        flip(FIRST, 10),
        [
            (
                f"{FIRST} at byte 0: damaged segment header. "
                "No frame is lost by it: its blocks are found and read all the same."
            )
        ],
    ),
    "the first segment missing": Case(
        remove(FIRST),
        [
            (
                f"{MIDDLE} at byte 0: the journal begins with frame 5; frames 1 to 4 are not "
                "in it. "
                f"{RETENTION}"
            ),
        ],
        harmless=True,
    ),
    "the first segment missing, and a consumer needs it": Case(
        both(remove(FIRST), cursor_at(Position(LOG, 3))),
        [
            (
                f"{MIDDLE} at byte 0: the journal begins with frame 5; frames 1 to 4 are not "
                "in it. "
                f"{RETENTION}"
            ),
            (
                "store.cursor at byte 0: the cursor is before the oldest frame of the journal, 5; "
                "frames 3 to 4 are lost. A segment is missing, or retention was shorter than the "
                f"backlog. {DECLARED}"
            ),
        ],
    ),
    "a middle segment missing": Case(
        remove(MIDDLE),
        [
            (
                f"{FIRST} at byte 330: the file ends before all of its frames, or a "
                "segment between "
                f"it and the next one is missing; frames 5 to 8 are lost. {DECLARED}"
            )
        ],
        [(5, 8)],
    ),
    "the last segment missing": Case(
        remove(LAST),
        [
            (
                f"{MIDDLE} at byte 330: the file ends before all of its frames; frames 9 to 12 are "
                f"lost. {DECLARED}"
            )
        ],
        [(9, 12)],
    ),
    "all segments missing": Case(
        remove(FIRST, MIDDLE, LAST),
        [
            (
                "watermark at byte 0: every segment is missing; frames 1 to 12 are lost. "
                "Restore the "
                "segments from a copy, or fill the loss from a sibling or the venue."
            )
        ],
    ),
    "acknowledged frames cut off": Case(
        cut(LAST, 333 - 1),
        [f"{LAST} at byte 198: 134 unreadable bytes; frames 11 to 12 are lost. {DECLARED}"],
        [(11, 12)],
    ),
    "a sealed segment damaged": Case(
        flip(FIRST, 64 + 88 + 30),
        [f"{FIRST} at byte 64: 243 unreadable bytes; frames 1 to 4 are lost. {DECLARED}"],
        [(1, 4)],
        closed=True,
    ),
    "an unfinished write": Case(
        both(remove("watermark"), cut(LAST, 300)),
        [
            (
                f"{LAST} at byte 198: unfinished write at the end. It was never acknowledged; the "
                "next start of the writer cuts it off."
            )
        ],
        harmless=True,
    ),
    "one slot of the watermark damaged": Case(
        flip("watermark", 30),
        [
            (
                "watermark at byte 0: one of the two slots of the watermark is damaged or was "
                "torn by "
                f"a crash. {MENDED}"
            )
        ],
    ),
    "both slots of the watermark damaged": Case(
        both(flip("watermark", 30), flip("watermark", 4096 + 30)),
        [f"watermark at byte 0: neither slot of the watermark is sound. {MENDED}"],
    ),
    "a cursor torn in its first slot": Case(
        flip(CURSOR.name, 12),
        [
            (
                "store.cursor at byte 0: one of the two slots of the cursor is damaged or was "
                "torn by "
                "a crash. The cursor may be one store old: frames given twice are recognised by "
                "their ids."
            )
        ],
    ),
    "a cursor torn in its second slot": Case(
        flip(CURSOR.name, 4096 + 12),
        [
            (
                "store.cursor at byte 4096: one of the two slots of the cursor is damaged or "
                "was torn "
                "by a crash. The cursor may be one store old: frames given twice are recognised by "
                "their ids."
            )
        ],
    ),
    "a cursor damaged in both": Case(
        both(flip(CURSOR.name, 12), flip(CURSOR.name, 4096 + 12)),
        [
            (
                "store.cursor at byte 0: neither slot of the cursor is sound. Move the file "
                "away: its "
                "consumer reads again from the oldest frame."
            )
        ],
    ),
    "a cursor beyond the end": Case(
        cursor_at(Position(LOG, 20)),
        [
            (
                "store.cursor at byte 0: the cursor is beyond the end of the journal, which is 13; "
                "frames 13 to 19 are lost. The journal is an older copy, or its disk lied; the "
                "writer's start begins a new log."
            )
        ],
    ),
    "a cursor of another journal": Case(
        cursor_at(Position("ab" * 16, 3)),
        [
            (
                f"store.cursor at byte 0: the cursor is of the log {'ab' * 16}, which is not "
                "in this "
                "journal. Its consumer reads again from the oldest frame. Was the journal replaced?"
            )
        ],
    ),
    "a byte that nothing depends on": Case(
        flip("watermark", 3000),
        [
            (
                "watermark at byte 3000: bytes of the watermark that must be zero are not. Nothing "
                "depends on them."
            )
        ],
        harmless=True,
    ),
    "nothing": Case(both(), [], harmless=True),
    "nothing, and a segment is sealed": Case(both(), [], harmless=True, closed=True),
}


def damaged(name: str) -> SimDisk:
    case = CASES[name]
    disk = SimDisk.of(FOLDER, (CLOSED if case.closed else OPEN).files)
    case.damage(disk)
    return disk


@pytest.mark.parametrize("name", CASES)
def test_fsck_names_it_with_the_frames_and_what_to_do(name: str) -> None:
    before = damaged(name)
    disk = damaged(name)
    report = fsck(FOLDER, disk=disk, cursors=[CURSOR])
    assert [finding.sentence for finding in report.findings] == CASES[name].sentences
    assert report.ok == CASES[name].harmless
    assert disk.files == before.files, "fsck changed something"


@pytest.mark.parametrize("name", CASES)
def test_a_reader_and_a_restart_bear_it_and_declare_what_is_lost(name: str) -> None:
    disk = damaged(name)
    blind = "watermark" not in disk.files or "both slots of the watermark" in name
    all_gone = "all segments" in name
    if not blind and not all_gone:
        assert Got.of(read_all(disk)).losses == list(CASES[name].lost)
    with open_at(disk) as writer:
        end = writer.position.seq
    # Without a watermark and without a closing proof, an unfinished write is cut and not lost.
    assert end == (11 if name == "an unfinished write" else 13)
    assert all_gone or Got.of(read_all(disk)).losses == list(CASES[name].lost)
    assert writer.report.losses == ((1, 12),) if all_gone else True


@pytest.mark.parametrize("name", [name for name in CASES if "unfinished" not in name])
def test_after_the_writer_started_only_what_is_really_lost_is_still_found(name: str) -> None:
    disk = damaged(name)
    open_at(disk).close()
    report = fsck(FOLDER, disk=disk)
    lost = [(f.first_seq, f.last_seq) for f in report.findings if f.first_seq is not None]
    assert lost == list(CASES[name].lost)
    assert all("watermark" not in finding.sentence for finding in report.findings) or (
        "nothing depends" in name
    )


def test_a_torn_cursor_gives_the_store_before_and_two_torn_slots_are_said() -> None:
    newest, before = OPEN.cursors
    for name, expected in (("second", newest), ("first", before)):
        disk = damaged(f"a cursor torn in its {name} slot")
        assert CursorFile(CURSOR, disk).load() == expected
        with JournalReader(FOLDER, start=expected, disk=disk) as reader:
            assert drain(reader)[0].first_seq == expected.seq
    with pytest.raises(Corrupt, match="Both slots"):
        CursorFile(CURSOR, damaged("a cursor damaged in both")).load()


@pytest.mark.parametrize("name", ["a cursor beyond the end", "a cursor of another journal"])
def test_a_cursor_that_points_nowhere_is_refused_and_starts_no_loop(name: str) -> None:
    disk = damaged(name)
    position = CursorFile(CURSOR, disk).load()
    with pytest.raises(CursorBeyondEnd):
        JournalReader(FOLDER, start=position, disk=disk)


def test_a_folder_that_never_held_a_journal_is_no_damage() -> None:
    with pytest.raises(ConfigError, match="holds no journal"):
        fsck(FOLDER, disk=SimDisk.of(FOLDER, {}))
    empty = SimDisk.of(FOLDER, {})
    open_at(empty).close()
    assert fsck(FOLDER, disk=empty).findings == ()
    empty.unlink(FOLDER / FIRST)
    assert fsck(FOLDER, disk=empty).findings == ()


def test_one_frame_is_not_called_frames() -> None:
    assert frames(5, 5) == "frame 5 is"
    assert frames(5, 6) == "frames 5 to 6 are"


def test_a_slot_that_is_being_written_is_no_damage() -> None:
    """A check beside a writer may see half of a slot; a second look sees all of it."""

    class Writing(SimDisk):
        def pread(self, fd: int, size: int, offset: int) -> bytes:
            raw = super().pread(fd, size, offset)
            if size > 4000 and self.log.count("pread") == 1:
                return b"\x01" + raw[1:]
            return raw

    disk = Writing.of(FOLDER, OPEN.files)
    assert fsck(FOLDER, disk=disk).findings == ()
    assert disk.log.count("pread") > 2


def test_what_a_watermark_of_another_boot_proves_is_missed_all_the_same() -> None:
    disk = damaged("the last segment missing")
    disk.boot += 1
    (finding,) = fsck(FOLDER, disk=disk).findings
    assert (finding.first_seq, finding.last_seq) == (9, 12)


def test_a_watermark_of_another_journal_proves_nothing_here() -> None:
    other = template(closed=False, commits=20)
    disk = SimDisk.of(FOLDER, OPEN.files | {"watermark": other.files["watermark"]})
    foreign = bytearray(disk.files["watermark"])
    for side in (0, 4096):  # the same log id would be a matter of chance
        slot = foreign[side + 10 : side + 10 + 92]
        slot[0] ^= 0xFF
        counter = int.from_bytes(foreign[side : side + 8], "little")
        foreign[side : side + 256] = encode_slot(counter, bytes(slot))
    overwrite(disk, FOLDER / "watermark", bytes(foreign))
    assert fsck(FOLDER, disk=disk).ok
    with open_at(disk) as writer:
        assert writer.position.seq == 13
        assert writer.report.losses == ()
        assert list(dict(Got.of(read_all(disk)).frames)) == list(range(1, 13))
