"""All drills, and which alert fires and clears in which."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from forebay.errors import ConfigError
from forebay.lab.drills import acts, bridges, brokers, history, kalshi, limits, saturation
from forebay.lab.drills.broker_servers import KAFKA, NATS
from forebay.lab.drills.plan import REST, WEBSOCKET, Bridging, Brokers, Drill
from forebay.lab.exchanges.kalshi.truth import VENUE as KALSHI
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.drills.plan import Act, HistoryAct

_QUICK = {"failure_threshold": 3, "recovery_timeout_s": 1.0, "success_threshold": 1}
"""Thresholds as small as the outages that a drill has the time for."""
_REST = {**_QUICK, "recovery_timeout_s": 4.0}
_WEBSOCKET = {"resilience.websocket": _QUICK}
_DROPS = "drop=0.002"
"""Holes all the time, so that there is always something to ask REST for."""
_SMALL_STORE = {"memory_limit_mb": 64}
"""DuckDB moves its log into the table each 8 MB: some ten seconds of this market."""
_STORE = {"store": _SMALL_STORE, "resilience.store": _QUICK}
_STORE_RATE = 6000


def _drill(act: Act, *alerts: str, name: str = "", about: str = "", **more: Any) -> Drill:  # noqa: ANN401
    """Return a drill that is called as its act is, and about what that says first."""
    name = name or act.__name__.replace("_", "-")
    about = about or (act.__doc__ or "").partition("\n")[0]
    return Drill(name, about, act, alerts=alerts, **more)


def _history(act: HistoryAct, requirements: str, bars: int = 15_000, **rest: float) -> Drill:
    """Return a drill whose act is a download; ``rest`` are limits of the breaker around REST."""
    return Drill(
        f"history-{act.__name__.replace('_', '-')}",
        (act.__doc__ or "").partition("\n")[0],
        history=act,
        bars=bars,
        requirements=requirements,
        symbols=("EUR-USD", "GBP-USD"),
        exchange=history.HistoryStage.served,
        config={"resilience.rest": {**_QUICK, **rest}},
    )


def _broker(act: Act, requirements: str, *breakers: str, name: str = "", **more: Any) -> Drill:  # noqa: ANN401
    """Return a drill of what is published to; ``more`` are Kafka's settings and the like."""
    wanted = Brokers(**{"kafka": 1, **more.pop("brokers", {})})
    # Where it must open, a single batch that was not acknowledged in its time is enough.
    limits = {**_QUICK, "failure_threshold": 1 if breakers else 3}
    told: dict[str, Any] = {"requirements": requirements, "breakers": breakers, "brokers": wanted}
    # What DuckDB keeps in memory grows with what is stored, fault or no fault.
    config = {"resilience.transport": limits, "store": _SMALL_STORE}
    return _drill(act, name=name, config=config, **told, **more)


def _bridge(act: Act, requirements: str, *breakers: str, **more: Any) -> Drill:  # noqa: ANN401
    """Return a drill of bridges to ClickHouse; ``more`` are its disk and the like."""
    names = ("bridges", "disk_mb")
    wanted = Bridging(**{name: more.pop(name) for name in names if name in more})
    about = more.pop("about", "")
    drill = _broker(act, requirements, **more)
    return replace(drill, bridging=wanted, breakers=breakers, about=about or drill.about)


def _kalshi(act: Act, requirements: str, **more: Any) -> Drill:  # noqa: ANN401
    """Return a drill of a venue that numbers messages; ``more`` are its markets and the like."""
    told: dict[str, Any] = {
        "exchange": KALSHI,
        "rate": 400,
        "symbols": ("KXA-26DEC31-T1", "KXB-26DEC31-T2"),
        "gaps": True,
        "lasting": True,
        "checked": kalshi.hold_against_truth,
        "config": {"resilience.websocket": _QUICK},
        **more,
    }
    # It gives a sign of life each ten seconds, and one of the connections carries nothing else.
    usual = {"channels": ["trade", "ticker", "book"], "stale_after_s": 12.0}
    venue = {**usual, **told.pop("venue", {})}
    name = f"kalshi-{act.__name__.replace('_', '-')}"
    return _drill(act, name=name, requirements=requirements, venue=venue, **told)


_THREE = {"kafka": 3}
_LANES = {"tables": {KAFKA: {"partitions": 4}}}
"""So that each of three bridges has some."""
_SIX = ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD", "DOGE-USD")
_HOUR = {"log.retention.ms": "3600000"}
"""What Kafka gives a topic of which nobody says how long it keeps events."""
_BOTH = {"nats": 1}
_WEEK = 7 * 1440
_MANY = tuple(f"KXSIM-26DEC31-T{number:04}" for number in range(1, 201))
_ALL_FAULTS = (
    "drop=0.001,duplicate=0.005,reorder=0.002,late=0.002,corrupt=0.001,disconnect=0.0001"
    ",halfopen=0.00005,book_drop=0.001,book_duplicate=0.005,book_reorder=0.002,book_late=0.002"
    ",book_corrupt=0.001,book_disconnect=0.0001,book_halfopen=0.00005,ticker_disconnect=0.0001"
)
_ALL = (
    _drill(
        acts.store_read_only,
        "ForebayServiceDown",
        "ForebayBreakerOpen",
        "ForebayBreakerOpenLong",
        "ForebayBufferedToDisk",
        "ForebayBufferLarge",
        "ForebayDatabaseErrors",
        breakers=("store",),
        requirements="D1",
        rate=_STORE_RATE,
        config=_STORE,
    ),
    _drill(
        acts.store_read_only,
        "ForebayLag",
        name="store-away",
        about="The store is away for more than half a minute.",
        breakers=("store",),
        requirements="D1",
        rate=_STORE_RATE,
        config=_STORE,
        least_s=35.0,
    ),
    _drill(
        acts.store_read_only,
        "ForebayLagLarge",
        name="store-away-long",
        about="The store is away for more than five minutes.",
        breakers=("store",),
        requirements="D2",
        config=_STORE,
        least_s=310.0,
    ),
    _drill(
        acts.disk_full,
        "ForebayJournalFull",
        "ForebayBufferFilling",
        "ForebayDiskFilling",
        "ForebayDiskFull",
        requirements="X2",
        disk_mb=256,
        gaps=True,
    ),
    _drill(
        acts.rest_429,
        breakers=(REST,),
        requirements="E1",
        faults=_DROPS,
        config={"resilience.rest": _REST},
        gaps=True,
    ),
    _drill(
        acts.rest_500, breakers=(REST,), faults=_DROPS, config={"resilience.rest": _REST}, gaps=True
    ),
    _drill(
        acts.rest_timeouts,
        "ForebayGapsOpen",
        breakers=(REST,),
        requirements="E2",
        faults=_DROPS,
        config={"resilience.rest": {**_REST, "timeout_s": 0.5}},
        gaps=True,
    ),
    _drill(
        acts.websocket_flap, breakers=(WEBSOCKET,), requirements="E5", config=_WEBSOCKET, gaps=True
    ),
    _drill(
        acts.websocket_half_open,
        breakers=(WEBSOCKET,),
        requirements="E5",
        config=_WEBSOCKET,
        venue={"stale_after_s": 1.5},
        gaps=True,
    ),
    _drill(
        acts.websocket_refused,
        "ForebayNoWebsocket",
        "ForebayWebsocketsMissing",
        "ForebayNoGatherer",
        breakers=(WEBSOCKET,),
        requirements="G1 G6",
        config=_WEBSOCKET,
        gaps=True,
    ),
    _drill(
        acts.emergency,
        "ForebayEmergency",
        "ForebayBreakerTripping",
        breakers=("store", REST),
        rate=_STORE_RATE,
        faults="drop=0.0005",
        config={
            "store": _SMALL_STORE,
            "resilience": {"critical": [REST]},
            "resilience.store": {**_QUICK, "recovery_timeout_s": 4.0},
            "resilience.rest": {**_REST, "recovery_timeout_s": 1.0},
        },
        gaps=True,
    ),
    _drill(acts.capture_killed, requirements="G4", gaps=True),
    _drill(acts.deliver_killed, requirements="O3"),
    _drill(acts.deliver_hung, "ForebayHealthCheckFailing", "ForebayProcessDown"),
    _drill(acts.payload_torn, "ForebayDeadLetters", requirements="E3", gaps=True),
    _drill(acts.payload_restated, "ForebayConflicts", requirements="V1"),
    _drill(acts.run_killed, "ForebayDown", requirements="G1", gaps=True),
    _drill(acts.descriptors_exhausted, "ForebayDescriptorsShort", requirements="X4"),
    _history(history.rate_limited, "E1"),
    _history(history.banned, "E1"),
    _history(history.hanging, "E2", timeout_s=0.5),
    _history(history.page_for_people, "E3"),
    _history(history.corrupt_bars, "V3 V4 V5 E3", _WEEK),
    _history(history.download_killed, "O2", 40_000),
    _drill(
        saturation.line_saturated,
        name="history-line-saturated",
        requirements="X5",
        bars=20_000,
        line_kbit=7_000,
    ),
    _broker(brokers.nats_down, "Q1", NATS, brokers=_BOTH),
    _broker(brokers.kafka_down, "Q2", KAFKA, brokers=_BOTH),
    _broker(brokers.brokers_down, "Q3", NATS, KAFKA, brokers=_BOTH),
    _broker(brokers.kafka_disk_full, "Q4", KAFKA, brokers={"disk_mb": 64}),
    _broker(brokers.kafka_partitioned, "Q5", KAFKA, needs=limits.needs_firewall),
    _broker(brokers.topic_deleted, "Q6", brokers={"settings": _HOUR}),
    _broker(
        brokers.topic_deleted,
        "Q6",
        name="topic-deleted-auto",
        about="Somebody deletes a topic of Kafka, which makes it again by itself.",
        brokers={"settings": {**_HOUR, "auto.create.topics.enable": "true"}},
    ),
    _broker(brokers.kafka_leader_killed, "D11", brokers=_THREE),
    _broker(brokers.kafka_leader_frozen, "D11", brokers=_THREE, least_s=20.0),
    _broker(brokers.memory_limited, "X1", gaps=True, needs=partial(limits.needs_groups, "memory")),
    _broker(brokers.cpu_limited, "X3", rate=3000, needs=partial(limits.needs_groups, "cpu")),
    _bridge(
        bridges.clickhouse_down,
        "D1",
        bridges.BREAKER,
        name="clickhouse-down-short",
        about="ClickHouse is killed with SIGKILL, and started again within a minute.",
    ),
    _bridge(bridges.clickhouse_down, "D2", bridges.BREAKER, least_s=65.0),
    _bridge(bridges.clickhouse_down_for_days, "D3", bridges.BREAKER, least_s=240.0),
    _bridge(bridges.clickhouse_disk_full, "D4", bridges.BREAKER, disk_mb=128),
    _bridge(bridges.clickhouse_partitioned, "D5", bridges.BREAKER, needs=limits.needs_firewall),
    _bridge(bridges.clickhouse_past_retention, "D8"),
    _bridge(
        bridges.leader_killed_under_bridges,
        "D11",
        bridges=3,
        symbols=_SIX,
        brokers={**_THREE, **_LANES},
    ),
    _drill(
        bridges.clickhouse_replica_lost,
        requirements="D11",
        breakers=("first-bridge",),
        config={"resilience.clickhouse_bridge": _QUICK, "store": _SMALL_STORE},
        bridging=Bridging(mirrors=("first", "second")),
    ),
    _bridge(bridges.bridge_killed, "O3"),
    _bridge(bridges.offsets_wrong, "Q7"),
    _bridge(bridges.clickhouse_answer_withheld, "D5 O3", bridges=2),
    _bridge(bridges.three_bridges, "O3", bridges=3, symbols=_SIX, brokers=_LANES, least_s=20.0),
    _bridge(bridges.poison_in_outage, "D1 E3", bridges.BREAKER),
    _kalshi(kalshi.sequence_holes, "E4", checked=kalshi.hold_numbers),
    _kalshi(kalshi.all_faults, "E1 E3 E4 E5 G4", faults=_ALL_FAULTS),
    _kalshi(
        kalshi.venue_down,
        "G6",
        symbols=_MANY,
        venue={"connections": 200, "channels": ["trade"]},
        least_s=20.0,
    ),
)
DRILLS: Final[Mapping[str, Drill]] = MappingProxyType({drill.name: drill for drill in _ALL})


def drill_named(name: str) -> Drill:
    """Return a drill; raises :class:`~forebay.errors.ConfigError` if there is none."""
    if name in DRILLS:
        return DRILLS[name]
    hint = did_you_mean(name, DRILLS, "`forebay drill list` shows all.")
    raise ConfigError(f"There is no drill {name!r}.", hint=hint)
