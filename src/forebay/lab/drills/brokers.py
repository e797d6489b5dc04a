"""Drills of what a capture publishes to: real brokers that die, fill, freeze or lose a topic.

While a broker is away the journal keeps what it is to have. Afterwards its topics, read back, must
have every event that is stored, by id, and those of each symbol in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from forebay.app.wiring.transports import ROLE
from forebay.lab.commands import POLL_S, until
from forebay.lab.drills.broker_servers import KAFKA, NATS
from forebay.lab.drills.limits import control_group, cut_off, fill
from forebay.lab.drills.watch import workers
from forebay.lab.kafka_admin import delete_topic, leader_of, topic_setting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from forebay.lab.drills.broker_servers import BrokerServers
    from forebay.lab.drills.limits import ControlGroup
    from forebay.lab.drills.stage import Stage

TOPIC = "trade_archive"
"""Where the events of the simulated market go."""
RETENTION_MS = str(7 * 24 * 3600 * 1000)


def _servers(stage: Stage) -> BrokerServers:
    assert stage.brokers is not None  # noqa: S101 - the drill wants some
    return stage.brokers


# --------------------------------------------------------------------- brokers that die


async def nats_down(stage: Stage) -> None:
    """NATS is killed with SIGKILL, and later started again."""
    await _down(stage, NATS)


async def kafka_down(stage: Stage) -> None:
    """Kafka is killed with SIGKILL, and later started again."""
    await _down(stage, KAFKA)


async def brokers_down(stage: Stage) -> None:
    """NATS and Kafka are killed with SIGKILL at once, and later started again."""
    await _down(stage, NATS, KAFKA)


async def _down(stage: Stage, *names: str) -> None:
    servers = _servers(stage)
    async with _away(stage, *names):
        stage.say(f"killing {' and '.join(names)}")
        await asyncio.gather(*(servers.kill(name) for name in names))
        dead = not any(pid for name in names for pid in servers.pids(name))
        stage.check(f"{' and '.join(names)} died", ok=dead)
        try:
            await _noticed(stage, *names)
        finally:
            await asyncio.gather(*(servers.start(name) for name in names))


@contextlib.asynccontextmanager
async def _away(stage: Stage, *names: str) -> AsyncIterator[None]:
    """Count what publishers met while brokers are away; all the others must live meanwhile."""
    servers = _servers(stage)
    others = [name for name in stage.transports if name not in names]
    lived = {name: servers.pids(name) for name in others}
    before = {name: unavailable(stage, name) for name in names}
    try:
        yield
    finally:
        met = {name: unavailable(stage, name) - before[name] for name in names}
        stage.fault_over(sum(met.values()))
    for name, times in met.items():
        stage.check(f"the publisher of {name} met it {times} times", ok=times > 0)
    for name in others:
        stage.check(f"{name} lived", ok=lived[name] == servers.pids(name))


async def _noticed(stage: Stage, *names: str) -> None:
    """Wait until the breakers of brokers are open; capture and the other brokers go on."""
    for name in names:
        await stage.breaker(name, "open")
    await stage.comes(
        lambda seen: all(seen.down.get(name) == name for name in names), "each is a root"
    )
    for name in set(stage.transports) - {*names}:
        await publishing_goes_on(stage, name)
    await stage.goes_on()


async def publishing_goes_on(stage: Stage, name: str) -> None:
    """Check that a second's events are acknowledged from now on."""
    begin = await stage.until(lambda seen: seen.published(name) is not None, f"{name}'s publisher")
    goal = (begin.published(name) or 0) + stage.drill.rate
    await stage.comes(
        lambda seen: (seen.published(name) or 0) >= goal, f"publishing to {name} goes on"
    )


def unavailable(stage: Stage, name: str) -> int:
    """Return how often a publisher was told that its transport is away."""
    told = stage.happened("transport_unavailable")
    return sum(line.get("transport") == name for line in told)


async def kafka_disk_full(stage: Stage) -> None:
    """The disk of Kafka is full: it dies, and is started again when there is room."""
    servers = _servers(stage)
    assert servers.disk is not None  # noqa: S101 - the drill wants one
    stranger, node = servers.disk / "stranger", servers.node()
    async with _away(stage, KAFKA):
        stage.say("Kafka's disk is full")
        try:
            await asyncio.to_thread(fill, stranger)
            died = await _dies(stage)
            stage.check("Kafka died of it", ok=died)
            await _noticed(stage, KAFKA)
        finally:
            stranger.unlink(missing_ok=True)
            if node.pid:
                await asyncio.to_thread(node.kill)
            await servers.start(KAFKA)


async def _dies(stage: Stage) -> bool:
    node = _servers(stage).node()

    async def look() -> bool | None:
        return not node.pid or None

    return await until(stage.clock, look, "Kafka to die", stage.timing.patience_s)


# -------------------------------------------------------------------- brokers that live


async def kafka_partitioned(stage: Stage) -> None:
    """No packet goes through between us and Kafka, which lives."""
    servers = _servers(stage)
    pids = servers.pids(KAFKA)
    async with _away(stage, KAFKA):
        with cut_off(servers.node().port) as wall:
            stage.say("packets are dropped")
            await _noticed(stage, KAFKA)
            dropped = wall.dropped()
    stage.check(f"{dropped} packets were dropped", ok=dropped > 0)
    stage.check("Kafka lived", ok=servers.pids(KAFKA) == pids)


async def topic_deleted(stage: Stage) -> None:
    """Somebody deletes a topic of Kafka, which makes none by itself."""
    await _deleted(stage)


async def _deleted(stage: Stage) -> None:
    servers = _servers(stage)
    pids = servers.pids(KAFKA)
    await publishing_goes_on(stage, KAFKA)
    stage.say(f"deleting {TOPIC}")
    await asyncio.to_thread(delete_topic, servers.bootstrap, TOPIC)

    async def look() -> int | None:
        return len(stage.happened("topic_made_anew")) or None

    noticed = await until(stage.clock, look, "the loss to be noticed", stage.timing.patience_s)
    stage.fault_over(noticed)
    await publishing_goes_on(stage, KAFKA)
    kept = await asyncio.to_thread(topic_setting, servers.bootstrap, TOPIC, "retention.ms")
    stage.check(f"the new topic keeps events for {kept} ms", ok=kept == RETENTION_MS)
    stage.check("Kafka lived", ok=servers.pids(KAFKA) == pids)


async def kafka_leader_killed(stage: Stage) -> None:
    """Of three nodes of Kafka the one that leads is killed, and later started again."""
    servers = _servers(stage)
    number = await _leader(stage)
    node = servers.node(number)
    await asyncio.to_thread(node.kill)
    stage.say(f"killed node {number}, which led")
    try:
        stage.check("it died", ok=not node.pid)
        moved = await _taken_over(stage, number)
    finally:
        await servers.start(KAFKA)
    stage.fault_over(moved)


async def kafka_leader_frozen(stage: Stage) -> None:
    """Of three nodes of Kafka the one that leads is stopped with SIGSTOP: it holds its sockets."""
    number = await _leader(stage)
    node = _servers(stage).node(number)
    pid = node.pid
    await asyncio.to_thread(node.freeze)
    stage.say(f"froze node {number}, which led")
    try:
        moved = await _taken_over(stage, number)
    finally:
        node.thaw()
    stage.check("it lived", ok=node.pid == pid)
    stage.fault_over(moved)


async def _leader(stage: Stage) -> int:
    return await asyncio.to_thread(leader_of, _servers(stage).bootstrap, TOPIC, 0)


async def _taken_over(stage: Stage, number: int) -> int:
    """Wait until another node leads, and events are acknowledged by it; return how often."""
    servers, begin_ns = _servers(stage), stage.clock.monotonic_ns()
    now = await asyncio.to_thread(leader_of, servers.bootstrap, TOPIC, 0, number)
    await publishing_goes_on(stage, KAFKA)
    gap_s = (stage.clock.monotonic_ns() - begin_ns) / 1e9
    said = f"node {now} leads instead; {gap_s:.1f} s later a second's events were acknowledged"
    stage.check(said, ok=now != number)
    others = [pid for place, pid in enumerate(servers.pids(KAFKA), 1) if place != number]
    stage.check("the other two lived", ok=all(others))
    await stage.goes_on()
    return int(now != number)


# ---------------------------------------------------------------------------- little room

QUOTA_US = 10_000
"""Of each tenth of a second, for capture and publisher together."""
LATE = 1000
"""Frames."""


async def memory_limited(stage: Stage) -> None:
    """Capture and publisher may have no more memory: Linux kills them, again and again.

    What they have already they keep. The next page, be it one of a file, is too much.
    """
    with control_group("memory", f"forebay-drill-{stage.run.pid}") as group:
        group.write("memory.limit_in_bytes", "0")
        stage.say("no memory is left to capture and publisher")
        await _confined(stage, group, until_told="process_died")
        killed = group.count("memory.oom_control", "oom_kill")
    told = [line for line in stage.happened("process_died") if "signal 9" in str(line)]
    stage.check(f"{killed} were killed, of which {len(told)} were told", ok=bool(killed and told))
    stage.fault_over(killed)


async def cpu_limited(stage: Stage) -> None:
    """Capture and publisher have a tenth of a core together, and are late."""
    with control_group("cpu", f"forebay-drill-{stage.run.pid}") as group:
        group.write("cpu.cfs_quota_us", str(QUOTA_US))
        stage.say(f"{QUOTA_US / 100_000:.0%} of a core are left to capture and publisher")
        await _confined(stage, group)
        throttled = group.count("cpu.stat", "nr_throttled")
        late = stage.watch.most_lag
    stage.check(f"they had to wait {throttled} times, {late} frames late", ok=late >= LATE)
    stage.fault_over(throttled)


async def _confined(stage: Stage, group: ControlGroup, until_told: str = "") -> None:
    """Keep capture and publisher in a group, those too that are started meanwhile.

    Something must be told of either before the fault lasts as long as every one does.
    """
    roles, timing, clock = {"capture", ROLE + KAFKA}, stage.timing, stage.clock
    begin_ns = noticed_ns = clock.monotonic_ns()
    noticed = not until_told
    while clock.monotonic_ns() - begin_ns < timing.patience_s * 1e9:
        group.add(await asyncio.to_thread(workers, stage.run.pid, roles))
        if not noticed:
            noticed = roles <= {line.get("name") for line in stage.happened(until_told)}
            noticed_ns = clock.monotonic_ns()
        lasts_s = max(timing.fault_s, stage.drill.least_s)
        if noticed and clock.monotonic_ns() - noticed_ns >= lasts_s * 1e9:
            return
        await clock.sleep(POLL_S)
