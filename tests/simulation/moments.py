"""What goes wrong at a time of its own, one function a kind; each says whether it could happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.simulation.world import World

_TAIL_BYTES = 300


def strike(world: World, kind: str) -> bool:
    """Let ``kind`` go wrong now; False if there was nothing for it to happen to."""
    return _KINDS[kind](world)


def _kill(*names: str) -> Callable[[World], bool]:
    def kill(world: World) -> bool:
        killed = [world.machine.kill(name) for name in names]
        _unsteady(world)
        return all(killed)

    return kill


def _cut_power(world: World) -> bool:
    world.machine.cut_power()
    _unsteady(world)
    return True


def _unsteady(world: World) -> None:
    """For a while, perhaps, a process that is started dies again soon, also in recovery."""
    span = world.dice["moments"].choice([0.0, 2.0])
    world.weather.until["unsteady"] = world.loop.time() + span


def _fuse(name: str, *, power: bool = False) -> Callable[[World], bool]:
    def fuse(world: World) -> bool:
        life = world.machine.lives[name]
        life.fuse, life.fuse_cuts_power = world.dice["moments"].randint(0, 40), power
        return True

    return fuse


def _rot(world: World) -> bool:
    """Flip a bit of any segment."""
    segments = _segments(world)
    if segments:
        path = world.dice["moments"].choice(segments)
        _flip(world, path, len(world.disk.names[path].data))
    return bool(segments)


def _rot_and_cut_power(world: World) -> bool:
    """Flip a bit near the end of the log, where nothing but a cursor can prove what was there."""
    segments = _segments(world)
    if segments:
        _flip(world, segments[-1], _TAIL_BYTES)
    world.machine.cut_power()
    return bool(segments)


def _segments(world: World) -> list[Path]:
    return sorted(path for path in world.disk.names if path.suffix == ".fbj")


def _flip(world: World, path: Path, tail: int) -> None:
    size = len(world.disk.names[path].data)
    first = max(0, size - tail)
    world.disk.flip(path, world.dice["moments"].randrange(first * 8, size * 8))
    world.rotted = True


def _fill_disk(world: World) -> bool:
    dice, disk = world.dice["moments"], world.disk
    whole = disk.capacity
    disk.capacity = whole - disk.free(None) + dice.randint(0, 3000)
    world.loop.call_later(dice.uniform(0.2, 3.0), world.make_space)
    return True


def _fail(operation: str) -> Callable[[World], bool]:
    def fail(world: World) -> bool:
        world.weather.failing[operation] = world.dice["moments"].randint(1, 4)
        return True

    return fail


def _step_clock(world: World) -> bool:
    world.clock.step_wall(world.dice["moments"].uniform(-7200.0, 7200.0))
    return True


def _drop_lines(world: World) -> bool:
    return world.network is not None and world.network.drop_all() > 0


def _mute_lines(world: World) -> bool:
    return world.network is not None and world.network.mute_all() > 0


def _flap(world: World) -> bool:
    _lasting("flap")(world)
    _drop_lines(world)
    return True


def _stop_capture(world: World) -> bool:
    world.stop_capture.set()
    return True


def _lasting(kind: str) -> Callable[[World], bool]:
    def last(world: World) -> bool:
        span = world.dice["moments"].uniform(0.5, 4.0)
        world.weather.until[kind] = world.loop.time() + span
        return True

    return last


_KINDS: dict[str, Callable[[World], bool]] = {
    "kill_capture": _kill("capture"),
    "kill_deliver": _kill("deliver"),
    "kill_both": _kill("capture", "deliver"),
    "power_cut": _cut_power,
    "fuse_capture": _fuse("capture"),
    "fuse_deliver": _fuse("deliver"),
    "fuse_power": _fuse("capture", power=True),
    "disk_full": _fill_disk,
    "sync_fails": _fail("fdatasync"),
    "write_fails": _fail("pwritev"),
    "bit_rot": _rot,
    "rot_and_power_cut": _rot_and_cut_power,
    "clock_step": _step_clock,
    "store_down": _lasting("store_down"),
    "lines_drop": _drop_lines,
    "half_open": _mute_lines,
    "flap": _flap,
    "history_down": _lasting("history_down"),
    "stop_capture": _stop_capture,
}
MOMENTS = tuple(_KINDS)
