"""Whatever happens to the process and the power: what was acknowledged is there, in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.journal import PendingBlock
from tests.support.torture_crashes import JournalSubject, Ordeal
from tests.tiers import examples
from tests.unit.journal.helpers import frames_of, losses_of, open_writer, read_all


def ordeal_of(seed: int, segment_bytes: int) -> tuple[Ordeal, JournalSubject]:
    subject = JournalSubject([segment_bytes])
    return Ordeal(seed, lambda: subject), subject


@settings(max_examples=examples(300))
@given(
    seed=st.integers(0, 10**9),
    segment_bytes=st.sampled_from([100, 3000, 1 << 20]),
    actions=st.lists(
        st.sampled_from(["append", "append", "fail", "consume", "kill", "cut_power", "reopen"]),
        min_size=3,
        max_size=25,
    ),
)
def test_no_history_of_crashes_and_errors_loses_doubles_or_reorders(
    seed: int, segment_bytes: int, actions: list[str]
) -> None:
    ordeal, _ = ordeal_of(seed, segment_bytes)
    for action in [*actions, "cut_power", "consume"]:
        getattr(ordeal, action)()
        assert ordeal.complaints == []
    assert list(ordeal.consumed) == list(range(1, ordeal.next_seq))
    assert ordeal.consumed == ordeal.acknowledged


@settings(max_examples=examples(100))
@given(seed=st.integers(0, 10**9))
def test_a_disk_that_lies_about_syncs_is_found_out_by_its_consumers(seed: int) -> None:
    """A sync that kept nothing: a consumer is ahead of the log, and that is said."""
    ordeal, subject = ordeal_of(seed, 1 << 20)
    disk = ordeal.disk
    disk.capacity = 1 << 40
    for _ in range(3):
        ordeal.append()
    stable = {path: bytes(inode.stable) for path, inode in disk.names.items()}
    before = ordeal.next_seq
    for _ in range(3):
        ordeal.append()
    ordeal.consume()
    cursor = subject.cursor
    assert cursor is not None
    for path, data in stable.items():
        disk.names[path].stable = bytearray(data)
    for inode in disk.names.values():
        inode.data = bytearray(inode.stable)
        inode.dirty.clear()
    disk.kill()
    disk.boot += 1
    with open_writer(disk, floor=[cursor]) as writer:
        assert writer.report.new_log
        assert writer.report.losses == ((before, cursor.seq - 1),)
        writer.commit([PendingBlock(1, b"", [b"new"], [0])])
        blocks = read_all(disk, start=cursor)
    assert losses_of(blocks) == [(before, cursor.seq - 1)]
    assert list(frames_of(blocks).values()) == [b"new"]
