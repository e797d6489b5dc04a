"""What a configuration says of a bridge, and what its process tells."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

import pytest

from forebay.app.processes.bridge_process import BridgeRun
from forebay.app.processes.process_breakers import ProcessBreakers
from forebay.app.processes.samples import CountingObserver
from forebay.app.processes.system import PolledProcess, services
from forebay.app.processes.worker import roles
from forebay.app.wiring import bridges
from forebay.app.wiring.bridges import BridgeConfig
from forebay.app.wiring.config import Config, VenueConfig, load
from forebay.app.wiring.transports import consumers
from forebay.cli.status import SystemStatus, line, lines, running
from forebay.clock import ManualClock
from forebay.errors import ConfigError, Transient
from forebay.ops.metrics import render
from forebay.ops.view import Check
from forebay.services.bridge import Bridge
from forebay.services.guarded_bridge import GuardedBridge
from forebay.stores.kind import StoreConfig
from forebay.telemetry import ignore
from forebay.transports.kind import TransportConfig
from tests.support import fake_report
from tests.support.memory_store import MemoryStore
from tests.support.memory_transport import Broker, MemoryTransport
from tests.unit.services.test_bridge import LANE, step

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.ops.view import SystemReport

VENUE = VenueConfig(name="coinbase", symbols=("BTC-USD",))
KAFKA = TransportConfig(kind="kafka")
BRIDGE = BridgeConfig(transport="kafka")
TABLES = '[[transports]]\nkind = "kafka"\n'


# ----------------------------------------------------------------------- configuration


def test_a_machine_has_a_bridge_alone_or_beside_a_capture() -> None:
    alone = Config(transports=(KAFKA,), bridge=BRIDGE)
    assert roles(alone) == ("bridge",)
    assert consumers(alone) == [], "there is no journal"
    beside = Config(venues=(VENUE,), transports=(KAFKA,), bridge=BRIDGE)
    assert roles(beside) == ("capture", "deliver", "publish-kafka", "bridge")
    assert len(consumers(beside)) == 1
    assert "bridge" not in roles(Config(venues=(VENUE,), transports=(KAFKA,)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABLES + "[bridge]\nbatch_rows = 10\n", "does not say which transport"),
        ('[bridge]\ntransport = "kafka"\n', "There is no transport called 'kafka'"),
        (TABLES + '[bridge]\ntransport = "kafak"\n', "Did you mean 'kafka'"),
        (
            TABLES + '[bridge]\ntransport = "kafka"\n[bridge.store]\nkind = "duckbd"\n',
            "no store of the kind 'duckbd'",
        ),
        (TABLES + '[bridge]\ntransport = "kafka"\ngroup = "a/b"\n', "bridge.group"),
        (
            TABLES
            + '[[venues]]\nname = "coinbase"\nsymbols = ["BTC-USD"]\n'
            + '[store]\nkind = "clickhouse"\n'
            + '[bridge]\ntransport = "kafka"\n[bridge.store]\nkind = "clickhouse"\n',
            "both called 'clickhouse'",
        ),
    ],
)
def test_a_bridge_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert said in str(caught.value)


def test_two_stores_on_servers_have_names_of_their_own() -> None:
    server = StoreConfig(kind="clickhouse")
    assert bridges.breaker_of(Config(bridge=BridgeConfig(store=server))) == "clickhouse-bridge"
    named = StoreConfig(kind="clickhouse", name="second")
    assert bridges.breaker_of(Config(bridge=BridgeConfig(store=named))) == "second-bridge"


def test_a_bridge_that_is_away_is_critical_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    def away(*names: str) -> dict[str, bool]:
        seen = [PolledProcess(name, tmp_path, failures=100) for name in names]
        return {each.name: each.critical for each in services(seen, ())}

    assert away("bridge") == {"bridge": True}
    assert away("capture", "deliver", "bridge")["bridge"] is False


# --------------------------------------------------------------------------- what it tells


class Rig:
    """A bridge that runs."""

    def __init__(self) -> None:
        self.clock, self.broker = ManualClock(), Broker()
        self.broker.lanes(LANE)
        self.transport = MemoryTransport(self.broker)
        config = Config(transports=(KAFKA,), bridge=BRIDGE)
        self.bridge = Bridge(self.transport, MemoryStore(), topics=[LANE], clock=self.clock)
        guarding = ProcessBreakers(
            "bridge", config, clock=self.clock, rng=random.Random(1), observer=ignore
        )
        breaker = guarding.breaker("duckdb-bridge", "clickhouse_bridge", critical=True)
        self.guarded = GuardedBridge(
            self.bridge, name="kafka", clock=self.clock, rng=random.Random(1), breaker=breaker
        )
        self.running = BridgeRun(
            self.bridge,
            self.guarded,
            guarding,
            Letters(),  # type: ignore[arg-type]
            CountingObserver(ignore),
        )


class Letters:
    kept = 2


async def test_it_is_ready_when_it_can_read_and_says_how_far_it_is() -> None:
    rig = Rig()
    assert (await rig.running.tell()).not_ready == "the bridge has not joined its group yet"
    rig.transport.publish(LANE, step(1, 1, 2))
    await rig.guarded.turn()
    await rig.guarded.turn()
    told = await rig.running.tell()
    assert told.not_ready == ""
    samples = {each.name: each.value for each in told.samples}
    assert samples["forebay_bridge_rows"] == 2
    assert samples["forebay_total_batch_inserts"] == 1
    assert samples["forebay_bridge_letters_kept"] == 2
    assert samples["forebay_bridge_lanes"] == 1
    assert samples["forebay_bridge_lag_seconds"] < 1

    def away(*_: object) -> None:
        raise Transient("No broker.")

    rig.bridge.close()
    rig.transport.join = away  # type: ignore[assignment, method-assign]
    await rig.guarded.turn()
    assert (await rig.running.tell()).not_ready == "kafka: No broker."


def status_of(report: SystemReport) -> list[str]:
    return [text for text in lines(SystemStatus(report), None, "data") if "bridge" in text]


def test_people_are_told_where_it_is_and_what_waits() -> None:
    beside = fake_report.report(fake_report.bridge())
    assert status_of(beside)[0].startswith(
        "bridge        kafka to second: 0/s stored, 61.5 s behind"
    )
    assert "quotes/0 waits: The table quotes is missing." in " ".join(
        lines(SystemStatus(beside), None, "data")
    )


def test_a_machine_that_has_a_bridge_alone_speaks_of_no_capture() -> None:
    bridge = fake_report.bridge(alone=True)
    report = fake_report.report(bridge)
    checks = [Check("bridge", ok=True, detail="", last_check_ns=0, duration_s=0.0)]
    told = SystemStatus(dataclasses.replace(report, checks=checks))
    assert running(told)
    text = "\n".join(lines(told, None, "data"))
    assert "capture" not in text
    assert "61.5 s behind" in line(told, 200)
    scrape = render(told.report)[0].decode()
    assert "forebay_store_lag_seconds 61.5" in scrape
    assert 'forebay_events_total{state="stored"} 600.0' in scrape
    assert "forebay_metrics_left_out 0.0" in scrape
