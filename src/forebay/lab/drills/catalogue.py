"""All drills, and which alert fires and clears in which."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError
from forebay.lab.drills import acts
from forebay.lab.drills.plan import REST, WEBSOCKET, Drill
from forebay.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.lab.drills.plan import Value

_QUICK: Final[Mapping[str, Value]] = MappingProxyType(
    {"failure_threshold": 3, "recovery_timeout_s": 1.0, "success_threshold": 1}
)
"""Thresholds as small as the outages that a drill has the time for."""
_REST: Final[Mapping[str, Value]] = MappingProxyType(
    {"failure_threshold": 3, "recovery_timeout_s": 4.0, "success_threshold": 1}
)
_DROPS = "drop=0.002"
"""Holes all the time, so that there is always something to ask REST for."""
_SMALL_STORE: Final[Mapping[str, Value]] = MappingProxyType({"memory_limit_mb": 64})
"""DuckDB moves its log into the table each 8 MB: some ten seconds of this market."""
_STORE_RATE = 6000

_ALL = (
    Drill(
        "store-read-only",
        "the database's folder is read-only for a while",
        acts.store_read_only,
        ("store",),
        requirements="D1",
        rate=_STORE_RATE,
        config={"store": _SMALL_STORE, "resilience.store": _QUICK},
        alerts=(
            "ForebayServiceDown",
            "ForebayBreakerOpen",
            "ForebayBreakerOpenLong",
            "ForebayBufferedToDisk",
            "ForebayBufferLarge",
            "ForebayDatabaseErrors",
        ),
    ),
    Drill(
        "store-away",
        "the store is away for more than half a minute",
        acts.store_read_only,
        ("store",),
        alerts=("ForebayLag",),
        requirements="D1",
        rate=_STORE_RATE,
        config={"store": _SMALL_STORE, "resilience.store": _QUICK},
        least_s=35.0,
    ),
    Drill(
        "store-away-long",
        "the store is away for more than five minutes",
        acts.store_read_only,
        ("store",),
        alerts=("ForebayLagLarge",),
        requirements="D2",
        config={"store": _SMALL_STORE, "resilience.store": _QUICK},
        least_s=310.0,
    ),
    Drill(
        "disk-full",
        "somebody else fills the disk of the data folder",
        acts.disk_full,
        (),
        alerts=(
            "ForebayJournalFull",
            "ForebayBufferFilling",
            "ForebayDiskFilling",
            "ForebayDiskFull",
        ),
        requirements="X2",
        disk_mb=256,
        gaps=True,
    ),
    Drill(
        "rest-429",
        "the exchange's REST answers 429 with Retry-After",
        acts.rest_429,
        (REST,),
        requirements="E1",
        faults=_DROPS,
        config={"resilience.rest": _REST},
        gaps=True,
    ),
    Drill(
        "rest-500",
        "the exchange's REST answers 500",
        acts.rest_500,
        (REST,),
        faults=_DROPS,
        config={"resilience.rest": _REST},
        gaps=True,
    ),
    Drill(
        "rest-timeouts",
        "the exchange's REST takes requests and never answers",
        acts.rest_timeouts,
        (REST,),
        requirements="E2",
        faults=_DROPS,
        config={"resilience.rest": {**_REST, "timeout_s": 0.5}},
        gaps=True,
        alerts=("ForebayGapsOpen",),
    ),
    Drill(
        "websocket-flap",
        "the exchange closes each websocket right after it accepted the subscription",
        acts.websocket_flap,
        (WEBSOCKET,),
        requirements="E5",
        config={"resilience.websocket": _QUICK},
        gaps=True,
    ),
    Drill(
        "websocket-half-open",
        "the exchange's websocket stays open and is silent",
        acts.websocket_half_open,
        (WEBSOCKET,),
        requirements="E5",
        config={"resilience.websocket": _QUICK},
        gaps=True,
        venue={"stale_after_s": 1.5},
    ),
    Drill(
        "websocket-refused",
        "nobody gets a websocket: no gatherer is healthy",
        acts.websocket_refused,
        (WEBSOCKET,),
        requirements="G1 G6",
        config={"resilience.websocket": _QUICK},
        gaps=True,
        alerts=("ForebayNoWebsocket", "ForebayWebsocketsMissing", "ForebayNoGatherer"),
    ),
    Drill(
        "emergency",
        "the store and another critical service are down at once",
        acts.emergency,
        ("store", REST),
        rate=_STORE_RATE,
        faults="drop=0.0005",
        config={
            "store": _SMALL_STORE,
            "resilience": {"critical": [REST]},
            "resilience.store": {**_QUICK, "recovery_timeout_s": 4.0},
            "resilience.rest": {**_REST, "recovery_timeout_s": 1.0},
        },
        gaps=True,
        alerts=("ForebayEmergency", "ForebayBreakerTripping"),
    ),
    Drill(
        "capture-killed",
        "capture is killed with SIGKILL while it works",
        acts.capture_killed,
        (),
        requirements="G4",
        gaps=True,
    ),
    Drill(
        "deliver-killed",
        "deliver is killed with SIGKILL while it works",
        acts.deliver_killed,
        (),
        requirements="O3",
    ),
    Drill(
        "deliver-hung",
        "deliver is stopped with SIGSTOP: it neither dies nor answers",
        acts.deliver_hung,
        (),
        alerts=("ForebayHealthCheckFailing", "ForebayProcessDown"),
    ),
    Drill(
        "payload-torn",
        "every hundredth event arrives as JSON cut short",
        acts.payload_torn,
        (),
        requirements="E3",
        gaps=True,
        alerts=("ForebayDeadLetters",),
    ),
    Drill(
        "payload-restated",
        "every hundredth event comes a second time with another price",
        acts.payload_restated,
        (),
        alerts=("ForebayConflicts",),
        requirements="V1",
    ),
    Drill(
        "run-killed",
        "the supervisor is killed with SIGKILL, and everything with it, then started again",
        acts.run_killed,
        (),
        alerts=("ForebayDown",),
        requirements="G1",
        gaps=True,
    ),
    Drill(
        "descriptors-exhausted",
        "capture may open hardly another file or socket",
        acts.descriptors_exhausted,
        (),
        requirements="X4",
        alerts=("ForebayDescriptorsShort",),
    ),
)
DRILLS: Final[Mapping[str, Drill]] = MappingProxyType({drill.name: drill for drill in _ALL})


def drill_named(name: str) -> Drill:
    """Return a drill; raises :class:`~forebay.errors.ConfigError` if there is none."""
    if name in DRILLS:
        return DRILLS[name]
    hint = did_you_mean(name, DRILLS, "`forebay drill list` shows all.")
    raise ConfigError(f"There is no drill {name!r}.", hint=hint)
