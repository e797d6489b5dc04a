"""Drills of the way from a broker to ClickHouse: a store that is away, bridges that die.

While ClickHouse is away the broker keeps what it is to have. Afterwards it must have every event
that the capture has stored, once in its raw rows, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import partial
from typing import TYPE_CHECKING, Literal

from forebay.errors import Transient
from forebay.lab.clickhouse_front import Tampering
from forebay.lab.commands import until
from forebay.lab.drills.bridge_side import DATABASE, GROUP, UNAVAILABLE
from forebay.lab.drills.broker_servers import KAFKA
from forebay.lab.drills.brokers import TOPIC, kafka_leader_killed, publishing_goes_on
from forebay.lab.drills.limits import cut_off, fill
from forebay.lab.drills.stage import environment
from forebay.lab.kafka_admin import expire, forget_group, move_group, publish_bare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.lab.drills.bridge_side import BridgeSide
    from forebay.lab.drills.stage import Stage

BREAKER = "clickhouse-bridge"


def _side(stage: Stage) -> BridgeSide:
    assert stage.bridged is not None  # noqa: S101 - the drill wants one
    return stage.bridged


# ------------------------------------------------------------------- a store that is away


async def clickhouse_down(stage: Stage) -> None:
    """ClickHouse is killed with SIGKILL, and later started again."""
    server = _side(stage).server
    async with _away(stage):
        stage.say("killing ClickHouse")
        await asyncio.to_thread(server.kill)
        stage.check("it died", ok=not server.pid)
        try:
            await _noticed(stage)
        finally:
            await server.start()


async def clickhouse_partitioned(stage: Stage) -> None:
    """No packet goes through between bridges and ClickHouse, which lives."""
    server = _side(stage).server
    pid = server.pid
    async with _away(stage):
        with cut_off(server.port) as wall:
            stage.say("packets are dropped")
            await _noticed(stage)
            dropped = wall.dropped()
    stage.check(f"{dropped} packets were dropped", ok=dropped > 0)
    stage.check("ClickHouse lived", ok=server.pid == pid)


async def clickhouse_disk_full(stage: Stage) -> None:
    """The disk of ClickHouse is full: it lives, and takes no rows."""
    server = _side(stage).server
    stranger, pid = server.folder / "stranger", server.pid
    async with _away(stage):
        stage.say("ClickHouse's disk is full")
        try:
            await asyncio.to_thread(fill, stranger)
            await _noticed(stage)
        finally:
            stranger.unlink(missing_ok=True)
    stage.check("ClickHouse lived", ok=server.pid == pid)


@contextlib.asynccontextmanager
async def _away(stage: Stage) -> AsyncIterator[None]:
    """Count what bridges met while ClickHouse is away; they must live meanwhile."""
    side = _side(stage)
    before, lived = side.met(), [each.pids for each in side.bridges]
    try:
        yield
    finally:
        met = side.met() - before
        stage.fault_over(met)
    stage.check(f"bridges met it {met} times", ok=met > 0)
    stage.check("they lived", ok=lived == [each.pids for each in side.bridges])


async def _noticed(stage: Stage) -> None:
    """Wait until the breaker of a bridge is open; capture and publisher go on."""
    side = _side(stage)

    async def look() -> bool | None:
        return side.breakers(BREAKER) == {"open"} or None

    patience_s = 0.0 if side.wanted.instead else stage.timing.patience_s
    came = False
    with contextlib.suppress(Transient):
        came = await until(stage.clock, look, "breakers of bridges to open", patience_s)
    stage.check("the breaker of every bridge opened", ok=came)
    await stage.goes_on()


async def clickhouse_replica_lost(stage: Stage) -> None:
    """One of two ClickHouses is killed, and later started again: each has all by itself."""
    side = _side(stage)
    (name, first), (_, second) = side.servers.items()
    before, rows = len(stage.happened(UNAVAILABLE)), await side.rows_of(second) or 0
    stage.say(f"killing {name}")
    await asyncio.to_thread(first.kill)
    try:
        stage.check("it died", ok=not first.pid)
        await stage.breaker(f"{name}-bridge", "open")
        await stage.goes_on()
        came = (await side.rows_of(second) or 0) - rows
        stage.check(f"{came} rows came to the other one meanwhile", ok=came >= stage.drill.rate)
    finally:
        await first.start()
    stage.fault_over(len(stage.happened(UNAVAILABLE)) - before)


TIMES_LIVE = 5
"""So many times as fast as the market a backlog must drain."""


async def clickhouse_down_for_days(stage: Stage) -> None:
    """ClickHouse is away for long: what waits for it drains fast, in flat memory."""
    side = _side(stage)
    before = await side.rows() or 0
    await clickhouse_down(stage)
    side.drained_per_s = await side.caught_up(stage, stage.drill.least_s)
    rows = (await side.rows() or 0) - before
    times = side.drained_per_s / stage.drill.rate
    said = f"{rows} rows waited, and came {side.drained_per_s:.0f} a second: {times:.1f} times live"
    stage.check(said, ok=times >= TIMES_LIVE)


async def clickhouse_past_retention(stage: Stage) -> None:
    """ClickHouse is away for longer than Kafka keeps events: they come from the journal."""
    side, brokers = _side(stage), stage.brokers
    assert brokers is not None  # noqa: S101 - the drill wants some
    (bridge,) = side.bridges
    before = side.met()
    await asyncio.to_thread(side.server.kill)
    try:
        await _noticed(stage)
        await bridge.kill()  # or it would have in memory what expires
        expired = await asyncio.to_thread(expire, brokers.bootstrap, TOPIC)
        stage.say(f"{expired} records have expired")
        await bridge.start()
        await publishing_goes_on(stage, KAFKA)
    finally:
        await side.server.start()
        stage.fault_over(side.met() - before)
    gaps = f"SELECT count() FROM {DATABASE}.gaps"  # noqa: S608
    await _says(stage, gaps, "what expired is a gap there")
    stage.say("publishing again what Kafka lacks")
    side.republished = True
    code = await _repaired(stage)
    stage.check(f"`forebay verify --repair --expired` ends with {code}", ok=code == 0)


async def _says(stage: Stage, sql: str, what: str) -> None:
    """Check that ClickHouse comes to answer with a number beyond 0."""
    side = _side(stage)

    async def look() -> bool | None:
        return int(await side.answer(sql) or 0) > 0 or None

    came = False
    with contextlib.suppress(Transient):
        came = await until(stage.clock, look, what, stage.timing.patience_s)
    stage.check(what, ok=came)


async def _repaired(stage: Stage) -> int:
    command = ("verify", "--transport", KAFKA, "--repair", "--expired", "-c", str(stage.config))
    with (stage.root / "verify.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *stage.command, *command, stdout=log, stderr=log, env=environment()
        )
        return await process.wait()


# ----------------------------------------------------------------- what a group has committed


async def offsets_wrong(stage: Stage) -> None:
    """What the group has committed is deleted, set to the end, and set to the beginning."""
    side, brokers = _side(stage), stage.brokers
    assert brokers is not None  # noqa: S101 - the drill wants some
    (bridge,) = side.bridges
    there = brokers.bootstrap
    tamperings = {
        "deleted": partial(forget_group, there, GROUP),
        "set to the end": partial(move_group, there, GROUP, TOPIC, to_end=True),
        "set to 0": partial(move_group, there, GROUP, TOPIC, to_end=False),
    }
    for what, tamper in tamperings.items():
        await bridge.kill()
        await publishing_goes_on(stage, KAFKA)
        await asyncio.to_thread(tamper)
        stage.say(f"offsets are {what}")
        await bridge.start()
        await side.caught_up(stage)
        stage.check(f"offsets were {what}, and the bridge went on", ok=True)
    stage.fault_over(len(tamperings))


# ------------------------------------------------------------------------------ poison

POISON = (b"not JSON", b'{"event_id": 1}', b"\xff\xfe\x00", b'{"head": {}, "rows": -1}', b"[]", b"")
"""Records that nobody can read, and that nobody will ever be able to."""
DOSES = 4


async def poison_in_outage(stage: Stage) -> None:
    """Poison comes among good events while ClickHouse is away: it alone becomes dead letters."""
    side, brokers = _side(stage), stage.brokers
    assert brokers is not None  # noqa: S101 - the drill wants some
    async with _away(stage):
        await asyncio.to_thread(side.server.kill)
        try:
            for _ in range(DOSES):
                await asyncio.to_thread(publish_bare, brokers.bootstrap, TOPIC, POISON)
                await publishing_goes_on(stage, KAFKA)
            side.poison = DOSES * len(POISON)
            await _noticed(stage)
        finally:
            await side.server.start()


# ------------------------------------------------------------------------ bridges that die

KILLS = 6


async def bridge_killed(stage: Stage) -> None:
    """The bridge is killed with SIGKILL at random moments, and started again."""
    side, dice = _side(stage), random.Random(stage.seed)
    (bridge,) = side.bridges
    killed = 0
    for _ in range(KILLS):
        rows = await side.rows() or 0
        await _grows(stage, rows)
        await stage.clock.sleep(dice.random())
        killed += bool(bridge.pids)
        await bridge.kill()
        stage.say("killed the bridge")
        await stage.clock.sleep(dice.random())
        await bridge.start()
    stage.check(f"it was killed {killed} times", ok=killed == KILLS)
    stage.fault_over(killed)


async def _grows(stage: Stage, rows: int) -> None:
    """Wait until ClickHouse has more than so many rows."""
    side = _side(stage)

    async def look() -> bool | None:
        return (await side.rows() or 0) > rows or None

    await until(stage.clock, look, "rows to come", stage.timing.patience_s)


async def leader_killed_under_bridges(stage: Stage) -> None:
    """Of three nodes of Kafka the one that leads is killed while three bridges read."""
    side = _side(stage)
    rows = await side.rows() or 0
    await kafka_leader_killed(stage)
    await _grows(stage, rows)
    await side.caught_up(stage)
    stage.check("three bridges lived", ok=all(each.pids for each in side.bridges))


async def three_bridges(stage: Stage) -> None:
    """Of three bridges one is killed and one stopped with SIGSTOP, past its session."""
    side = _side(stage)
    first, second, _ = side.bridges
    await first.kill()
    stopped = second.freeze()
    stage.say("killed one bridge, froze another")
    try:
        rows = await side.rows() or 0
        await stage.last()
        await _grows(stage, rows)
        await side.caught_up(stage)
        stage.check("the third one writes what the others did", ok=True)
    finally:
        second.thaw()
        await first.start()
    stage.say("all three again")
    stage.check(f"{stopped} processes of the second one were stopped", ok=stopped > 0)
    stage.fault_over(stopped)


WITHHELD: tuple[tuple[str, Literal["before", "after"]], ...] = (
    ("trades_rows", "after"),
    ("commits", "after"),
    ("state", "after"),
    ("commits", "before"),
    ("trades_rows", "before"),
)
"""Tables whose insert is held back by turns: done already, or so that it comes when somebody else
has gone on."""
HELD_S = 600.0


async def clickhouse_answer_withheld(stage: Stage) -> None:
    """ClickHouse has committed, its answer is held back, the owner killed: another takes over."""
    side = _side(stage)
    server, (owner, heir) = side.server, side.bridges
    await heir.kill()
    withheld = 0
    for table, at in WITHHELD:
        if side.wanted.instead and table != "trades_rows":
            continue
        await _grows(stage, await side.rows() or 0)
        tampering = Tampering(rf"INSERT INTO \S*{table}\b", at=at, hold_s=HELD_S)
        await asyncio.to_thread(server.tamper, tampering)
        try:
            await _held(stage)
            await owner.kill()
            stage.say(f"an insert into {table} is held {at} it is done, {owner.name} is dead")
            withheld += 1
            await heir.start()
            await _grows(stage, (await side.rows() or 0) + 1)
        finally:
            await asyncio.to_thread(server.forget)
        owner, heir = heir, owner
    await heir.start()
    stage.check(f"{withheld} owners died without an answer", ok=withheld > 1)
    stage.fault_over(withheld)


async def _held(stage: Stage) -> None:
    """Wait until ClickHouse holds a request."""
    server = _side(stage).server

    async def look() -> bool | None:
        return await asyncio.to_thread(lambda: server.held) > 0 or None

    await until(stage.clock, look, "an insert to be held", stage.timing.patience_s)
