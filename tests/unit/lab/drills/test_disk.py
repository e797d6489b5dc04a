"""A small disk for a drill, without a mount."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from forebay.errors import Unreachable
from forebay.lab.drills import limits


async def test_a_disk_that_may_not_be_mounted_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*arguments: str) -> tuple[int, str]:
        return 32, "permission denied"

    monkeypatch.setattr(limits, "_command", refused)

    with pytest.raises(Unreachable, match="permission denied") as said:
        async with limits.small_disk(tmp_path / "data", 64):
            pytest.fail("went on without it")
    assert "root" in said.value.hint


async def test_a_disk_is_unmounted_also_when_the_drill_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def noted(*arguments: str) -> tuple[int, str]:
        asked.append(arguments)
        return 0, ""

    monkeypatch.setattr(limits, "_command", noted)

    with pytest.raises(RuntimeError):
        async with limits.small_disk(tmp_path / "data", 64):
            raise RuntimeError
    assert [each[0] for each in asked] == ["mount", "umount"]
    assert "size=64m,mode=0755" in asked[0]
    assert asked[1][-1] == str(tmp_path / "data")


async def test_a_command_that_is_not_there_is_no_crash() -> None:
    code, said = await limits._command("forebay-no-such-command")

    assert (code, said) == (1, "No such file or directory")


def test_filling_ends_when_there_is_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    with full.open("wb", buffering=0) as device, pytest.raises(OSError, match="space") as error:
        device.write(b"x")
    assert error.value.errno == errno.ENOSPC

    limits.fill(full)
