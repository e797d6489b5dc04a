"""What a drill takes away from processes, it gives back, whatever happens."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from forebay.errors import Unreachable
from forebay.lab.drills import limits
from forebay.lab.drills.limits import ControlGroup, Firewall, control_group, cut_off

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LISTED = """Chain INPUT (policy ACCEPT 0 packets, 0 bytes)
    pkts      bytes target     prot opt in     out     source               destination
      12      720 DROP       6    --  lo     *       0.0.0.0/0            0.0.0.0/0            tcp spt:4711
      30     1800 DROP       6    --  lo     *       0.0.0.0/0            0.0.0.0/0            tcp dpt:4711
       9      540 DROP       6    --  lo     *       0.0.0.0/0            0.0.0.0/0            tcp dpt:47110
"""  # noqa: E501


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What iptables was told, which lists three rules and says well to everything."""
    told: list[str] = []

    def noted(*arguments: str) -> tuple[int, str]:
        told.append(" ".join(arguments[3:]))
        return 0, LISTED if "-L" in arguments else ""

    monkeypatch.setattr(limits, "_run", noted)
    monkeypatch.setattr(limits, "find", lambda _: "iptables")
    return told


def test_packets_of_one_port_are_dropped_and_counted(commands: list[str]) -> None:
    with contextlib.suppress(ZeroDivisionError), cut_off(4711) as wall:
        assert wall.dropped() == 42
        raise ZeroDivisionError

    rules = [f"INPUT -i lo -p tcp {side} 4711 -j DROP" for side in ("--dport", "--sport")]
    put, taken = ([f"{how} {rule}" for rule in rules] for how in ("-I", "-D"))
    assert commands == [*put, "-L INPUT -n -v -x", *taken]


@pytest.mark.parametrize("use", [limits.needs_firewall, lambda: cut_off(1).__enter__()])
def test_who_may_drop_no_packets_is_told(
    use: Callable[[], object], commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_run", lambda *_: (4, "Permission denied (you must be root)"))
    with pytest.raises(Unreachable, match=r"No packets can be dropped: Permission .* as root"):
        use()


def test_rules_that_are_not_there_cannot_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_run", lambda *_: (1, "does a matching rule exist?"))
    Firewall("iptables", 1).lower()


def test_who_may_have_no_control_group_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    with pytest.raises(Unreachable, match="no control group to be had"):
        limits.needs_groups("memory")


def test_at_the_end_processes_are_in_the_group_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    above = tmp_path / "cpu" / "cgroup.procs"
    above.parent.mkdir()
    above.touch()

    with control_group("cpu", "some") as group:
        group.add([11])

    assert above.read_text() == "11"


def test_numbers_of_a_group_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("nr_periods 7\nnr_throttled 5\n")
    group = ControlGroup(tmp_path)

    assert group.count("cpu.stat", "nr_throttled") == 5
    assert group.count("cpu.stat", "nr_else") == 0


def test_a_process_that_is_gone_needs_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise ProcessLookupError(os.strerror(3))

    monkeypatch.setattr(ControlGroup, "write", gone)
    ControlGroup(tmp_path).add([1])
