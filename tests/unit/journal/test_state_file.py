"""A consumer's state is replaced whole, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.errors import Corrupt, Transient
from forebay.journal import OsDisk, StateFile

if TYPE_CHECKING:
    from pathlib import Path


class Failing(OsDisk):
    """Fails at one operation."""

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def fdatasync(self, fd: int) -> None:  # type: ignore[override]
        self._fail("fdatasync")
        OsDisk.fdatasync(fd)

    def rename(self, old: Path, new: Path) -> None:  # type: ignore[override]
        self._fail("rename")
        OsDisk.rename(old, new)

    def _fail(self, operation: str) -> None:
        if operation == self._operation:
            raise OSError(5, "it failed")


def test_what_was_stored_last_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "cursors" / "one.state")
    assert file.load() is None
    for payload in (b"", b"one", b"two" * 100_000):
        file.store(payload)
        assert StateFile(tmp_path / "cursors" / "one.state").load() == payload
    assert [path.name for path in (tmp_path / "cursors").iterdir()] == ["one.state"]


@pytest.mark.parametrize("operation", ["fdatasync", "rename"])
def test_a_store_that_fails_leaves_what_was_there_and_can_be_repeated(
    tmp_path: Path, operation: str
) -> None:
    path = tmp_path / "one.state"
    StateFile(path).store(b"before")
    with pytest.raises(Transient):
        StateFile(path, Failing(operation)).store(b"after")
    assert StateFile(path).load() == b"before"
    StateFile(path).store(b"after")
    assert StateFile(path).load() == b"after"


@pytest.mark.parametrize("at", [0, 9, 13])
def test_damage_is_named_and_never_taken_for_state(tmp_path: Path, at: int) -> None:
    path = tmp_path / "one.state"
    StateFile(path).store(b"payload")
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    for damaged in (bytes(raw), bytes(raw[:-1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(Corrupt, match=r"one\.state"):
            StateFile(path).load()
