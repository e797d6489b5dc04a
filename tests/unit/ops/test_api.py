"""The routes that change nothing."""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from forebay.errors import Unreachable
from forebay.ops import api
from forebay.ops.view import Check, moment
from forebay.resilience.health import SystemState
from tests.support import fake_report
from tests.support.fake_system import AT, AT_TEXT, METRICS_TYPE, MOVED, Site, hang

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

REPORTED = [
    "/health",
    "/health/ready",
    "/health/resilience",
    "/metrics",
    "/api/v1/status",
    "/api/v1/circuit-breakers",
    "/api/v1/circuit-breakers/store",
]
"""All that show a report."""
STAMP = {"service": "forebay", "timestamp": AT_TEXT}


@pytest.fixture
def site() -> Site:
    return Site()


async def get(
    site: Site, path: str, headers: list[tuple[str, str]] | dict[str, str] | None = None
) -> httpx.Response:
    async with site.client() as client:
        return await client.get(path, headers=headers)


async def fail_unreachable() -> None:
    raise Unreachable("deliver does not answer.", hint="Is it running?")


async def fail_by_a_bug() -> None:
    raise ZeroDivisionError("secret detail")


# ---------------------------------------------------------------------- liveness


@pytest.mark.parametrize("trouble", [hang, fail_unreachable, fail_by_a_bug])
async def test_liveness_does_not_ask_the_system(
    site: Site, trouble: Callable[[], Awaitable[None]]
) -> None:
    site.system.before_report = trouble
    site.fall(SystemState.EMERGENCY, "nothing works")
    answer = await get(site, "/health/live")
    assert answer.status_code == 200
    assert answer.json() == {**STAMP, "status": "alive", "version": "1.2.3"}


async def test_liveness_says_the_time_of_its_clock(site: Site) -> None:
    site.clock.advance(61.5)
    assert (await get(site, "/health/live")).json()["timestamp"] == "2023-11-14T22:14:21.623Z"


# --------------------------------------------------------------------- readiness


async def test_it_is_ready_whatever_its_state_as_long_as_it_can_do_its_job(site: Site) -> None:
    for state in SystemState:
        site.fall(state)
        answer = await get(site, "/health/ready")
        assert answer.status_code == 200
        assert answer.json() == {**STAMP, "status": "ready", "reason": ""}


async def test_it_is_not_ready_for_a_reason(site: Site) -> None:
    site.fall(SystemState.HEALTHY, "the journal is full")
    answer = await get(site, "/health/ready")
    assert answer.status_code == 503
    assert answer.json() == {**STAMP, "status": "not-ready", "reason": "the journal is full"}


# ------------------------------------------------------------------------ health


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (SystemState.HEALTHY, 200),
        (SystemState.DEGRADED, 200),
        (SystemState.CRITICAL, 503),
        (SystemState.EMERGENCY, 503),
    ],
)
async def test_each_status_has_its_code(site: Site, state: SystemState, code: int) -> None:
    site.fall(state)
    answer = await get(site, "/health")
    assert answer.status_code == code
    assert answer.json()["status"] == state


async def test_health_has_the_fields_of_the_systems_before(site: Site) -> None:
    site.fall(SystemState.CRITICAL, "no store")
    assert (await get(site, "/health")).json() == {
        **STAMP,
        "status": "critical",
        "version": "1.2.3",
        "reason": "store is down",
        "ready": False,
        "checks": {
            "capture": {
                "status": "healthy",
                "last_check": AT_TEXT,
                "duration": "15ms",
                "detail": "",
                "failures": 0,
                "name": "capture",
                "ok": True,
                "last_check_ns": AT,
                "duration_s": 0.0151,
            },
            "disk": {
                "status": "unhealthy",
                "last_check": AT_TEXT,
                "duration": "0ms",
                "detail": "9 % are free",
                "failures": 4,
                "name": "disk",
                "ok": False,
                "last_check_ns": AT,
                "duration_s": 0.0,
            },
        },
        "dependencies": {
            "capture": "UP",
            "deliver": "UP",
            "coinbase-rest": "UP",
            "store": "DOWN",
        },
        "ws_connections": 3,
        "db": "disconnected",
    }


async def test_what_does_not_run_is_absent_from_health(site: Site) -> None:
    now = site.system.now
    parts = [part for part in now.health.services if part.name != "store"]
    health = dataclasses.replace(now.health, services=parts)
    site.system.now = dataclasses.replace(now, health=health, processes=())
    body = (await get(site, "/health")).json()
    assert body.keys().isdisjoint({"ws_connections", "db", "gatherers", "rds"})


async def test_a_deduplicators_gatherers_and_database_are_shown(site: Site) -> None:
    now = site.system.now
    status = {"gatherers": {"g1": "connected", "g2": "away"}, "rds": "connected", "connected": 2}
    more = dataclasses.replace(now.processes[0], process="deduplicator", status=status)
    site.system.now = dataclasses.replace(now, processes=[*now.processes, more])
    body = (await get(site, "/health")).json()
    assert body["gatherers"] == {"g1": "connected", "g2": "away"}
    assert body["rds"] == "connected"
    assert body["ws_connections"] == 5


def test_a_check_that_took_less_than_no_time_took_none() -> None:
    check = Check("clock", ok=True, detail="", last_check_ns=AT, duration_s=-1e-9)
    assert check.duration == "0ms"


@pytest.mark.parametrize(
    ("wall_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_999_999, "1970-01-01T00:00:00.001Z"),
        (AT, AT_TEXT),
        (4_102_444_800_000_000_000, "2100-01-01T00:00:00.000Z"),
    ],
)
def test_moments_are_utc_to_the_millisecond(wall_ns: int, text: str) -> None:
    assert moment(wall_ns) == text


# --------------------------------------------------------------------- resilience


async def test_resilience_shows_roots_fallbacks_and_what_waits_for_a_restart(site: Site) -> None:
    site.fall(SystemState.CRITICAL)
    answer = await get(site, "/health/resilience")
    body = answer.json()
    assert answer.status_code == 200  # it is read by people, whatever the state is
    assert (body["status"], body["reason"], body["share"]) == ("critical", "store is down", 0.75)
    assert body["roots"] == ["store"]
    assert body["fallbacks"] == ["store"]
    assert body["restart_needed"] == ["http.port"]
    assert body["services"][-1] == {
        "name": "store",
        "up": False,
        "critical": True,
        "depends_on": ["deliver"],
        "serving_fallback": True,
        "reason": "its breaker is open",
        "root": "store",
    }
    assert body["services"][0]["root"] is None
    names = [breaker["name"] for breaker in body["breakers"]]
    assert names == ["coinbase-rest", "coinbase-websocket", "store"]


async def test_a_breaker_is_shown_whole(site: Site) -> None:
    site.fall(SystemState.DEGRADED)
    assert (await get(site, "/api/v1/circuit-breakers/store")).json() == {
        "name": "store",
        "process": "deliver",
        "state": "open",
        "failure_count": 2,
        "cause": "Unreachable",
        "retry_after_s": 1.5,
        "last_failure": AT_TEXT,
        "last_failure_ns": AT,
        "opened": None,
        "opened_ns": None,
        "requests": 10,
        "successes": 7,
        "failures": 2,
        "slow": 1,
        "not_permitted": 0,
        "stale": 0,
        "trips": 1,
        "transitions": {"open": 1, "half_open": 1, "closed": 1},
        "latency_sum_s": 0.25,
        "latency_count": 10,
        "config": {
            "failure_threshold": 5,
            "recovery_timeout_s": 60.0,
            "success_threshold": 1,
            "timeout_s": None,
        },
        "history": [MOVED],
    }


async def test_all_breakers_are_listed_by_name(site: Site) -> None:
    body = (await get(site, "/api/v1/circuit-breakers")).json()
    names = [breaker["name"] for breaker in body.pop("breakers")]
    assert names == ["coinbase-rest", "coinbase-websocket", "store"]
    assert body == STAMP


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("stoer", "Did you mean store?"),
        ("xyz", "There are: coinbase-rest, coinbase-websocket, store."),
    ],
)
async def test_a_name_that_is_not_there_is_404_with_what_may_be_meant(
    site: Site, name: str, hint: str
) -> None:
    answer = await get(site, f"/api/v1/circuit-breakers/{name}")
    assert answer.status_code == 404
    message = f"There is no breaker '{name}'."
    assert answer.json() == {"error": "unknown-name", "message": message, "hint": hint}


async def test_status_shows_the_processes(site: Site) -> None:
    body = (await get(site, "/api/v1/status")).json()
    assert body.pop("report") == msgspec.json.decode(msgspec.json.encode(site.system.now))
    assert body == {
        **STAMP,
        "status": "healthy",
        "version": "1.2.3",
        "reason": "",
        "not_ready": "",
        "processes": {
            "capture": {"pid": 11, "not_ready": "", "status": {"connected": 3, "received": 100}},
            "deliver": {"pid": 12, "not_ready": "", "status": {"seq": 7}},
        },
        "streams": [],
    }


async def test_status_shows_each_stream_that_is_asked_for(site: Site) -> None:
    now = site.system.now
    capture = dataclasses.replace(now.processes[0], streams=fake_report.STREAMS)
    site.system.now = dataclasses.replace(now, processes=[capture])
    heard, refused = (await get(site, "/api/v1/status")).json()["streams"]
    assert (heard["symbol"], heard["state"], heard["refused"]) == ("BTC-USD", "heard", "")
    assert heard["last_heard"] == heard["acknowledged"] == heard["asked"]
    assert refused["acknowledged"] is None
    assert (refused["state"], refused["refusals"], refused["refused"]) == (
        "refused",
        2,
        "it is unknown",
    )
    assert refused["retry"] > refused["asked"]


async def test_a_number_that_json_has_not_is_null(site: Site) -> None:
    now = site.system.now
    odd = dataclasses.replace(now.processes[1], status={"rate": math.nan, "left_s": math.inf})
    site.system.now = dataclasses.replace(now, processes=[odd])
    body = (await get(site, "/api/v1/status")).json()
    assert body["processes"]["deliver"]["status"] == {"rate": None, "left_s": None}


async def test_metrics_are_rendered_from_the_report(site: Site) -> None:
    answer = await get(site, "/metrics", headers={"accept": "text/plain"})
    assert answer.text == "forebay_up 2 # text/plain\n"
    assert answer.headers["vary"] == "accept"
    assert answer.headers["content-type"] == METRICS_TYPE


# ------------------------------------------------------- when nothing can be reported


async def test_a_report_that_hangs_is_waited_for_so_long_and_no_longer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "REPORT_S", 0.01)
    site.system.before_report = hang
    for path in REPORTED:
        answer = await get(site, path)
        assert answer.status_code == 503, path
        assert answer.json()["error"] == "unavailable"
        assert "did not report" in answer.json()["message"]


async def test_an_error_of_ours_is_told_as_one(site: Site) -> None:
    site.system.before_report = fail_unreachable
    for path in REPORTED:
        answer = await get(site, path)
        assert answer.status_code == 503, path
        assert answer.json() == {
            "error": "unavailable",
            "message": "deliver does not answer.",
            "hint": "Is it running?",
        }


async def test_a_bug_in_the_report_is_logged_and_not_shown(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.system.before_report = fail_by_a_bug
    for path in REPORTED:
        caplog.clear()
        answer = await get(site, path)
        assert answer.status_code == 503, path
        assert answer.json()["message"] == "The system could not report: ZeroDivisionError."
        assert "secret detail" not in answer.text
        assert "secret detail" in caplog.text


async def test_a_bug_in_showing_is_500_in_the_one_shape(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    now = site.system.now
    odd = dataclasses.replace(now.processes[1], status={"odd": object()})
    site.system.now = dataclasses.replace(now, processes=[odd])
    with caplog.at_level(logging.ERROR, "forebay.ops"):
        answer = await get(site, "/api/v1/status")
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal"
    assert "A route raised." in caplog.text
    assert site.told == []


# ------------------------------------------------------------------ what all have


async def test_the_index_needs_nothing_from_elsewhere(site: Site) -> None:
    answer = await get(site, "/")
    links = re.findall(r'(?:href|src)="([^"]*)"', answer.text)
    assert links
    assert "script" not in answer.text
    for link in links:
        assert link.startswith("/")
        assert (await get(site, link)).status_code == 200, link


async def test_the_index_escapes_the_name_of_the_service() -> None:
    site = Site()
    index, *_ = api.Reading(
        site.system, "<script>", "1", lambda *_: (b"", METRICS_TYPE), site.clock
    ).routes()
    assert b"<script>" not in (await index.handle(None)).body


async def test_every_answer_is_for_now_and_from_nowhere_else(site: Site) -> None:
    for path in ("/", "/health/live", "/nowhere", "/admin/x", "/openapi.json"):
        answer = await get(site, path, headers={"origin": "http://elsewhere.example"})
        assert answer.headers["cache-control"] == "no-store", path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "set-cookie" not in answer.headers


async def test_a_check_may_ask_for_the_status_alone(site: Site) -> None:
    site.fall(SystemState.CRITICAL, "no")
    for path in ("/health", "/health/ready", "/health/live"):
        async with site.client() as client:
            whole, head = await client.get(path), await client.head(path)
        assert head.status_code == whole.status_code, path
        assert head.content == b""
        assert head.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "code", "error"),
    [
        ("GET", "/nowhere", 404, "unknown-route"),
        ("GET", "/health/", 404, "unknown-route"),
        ("GET", "//health", 404, "unknown-route"),
        ("GET", "/docs", 404, "unknown-route"),
        ("GET", "/api/v1/circuit-breakers/a/b", 404, "unknown-route"),
        ("POST", "/health", 405, "wrong-method"),
        ("DELETE", "/api/v1/circuit-breakers/store", 405, "wrong-method"),
        ("OPTIONS", "/health", 405, "wrong-method"),
    ],
)
async def test_what_is_not_a_route_is_an_error_in_the_one_shape(
    site: Site, method: str, path: str, code: int, error: str
) -> None:
    async with site.client() as client:
        answer = await client.request(method, f"http://127.0.0.1:8080{path}")
    assert answer.status_code == code
    assert answer.json().keys() == {"error", "message", "hint"}
    assert answer.json()["error"] == error
    assert ("allow" in answer.headers) is (code == 405)


# ----------------------------------------------------------------------- the Host


async def test_over_loopback_localhost_and_addresses_are_answered(site: Site) -> None:
    own = ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "localhost.", "[::1]:8080", "10.1.2.3"]
    for host in own:
        assert (await get(site, "/health", headers={"host": host})).status_code == 200, host


@pytest.mark.parametrize("server", ["http://127.0.0.1:8080", "http://[::1]:8080"])
async def test_over_loopback_other_names_are_refused(site: Site, server: str) -> None:
    strange = [
        "rebound.example",
        "rebound.example:8080",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example",
        "notlocalhost",
        "127.1",
        "2130706433",
        "[rebound.example]",
        "",
        "é",
    ]
    async with site.client(server) as client:
        for host in strange:
            for path in ("/health", "/metrics", "/health/live", "/nowhere"):
                answer = await client.get(path, headers={b"host": host.encode()})
                assert answer.status_code == 421, (host, path)
                assert answer.json()["error"] == "unknown-host"


async def test_one_good_host_of_two_is_not_enough(site: Site) -> None:
    headers = [("host", "127.0.0.1"), ("host", "rebound.example")]
    assert (await get(site, "/health", headers=headers)).status_code == 421


async def test_elsewhere_than_over_loopback_any_name_is_answered(site: Site) -> None:
    async with site.client("http://10.1.2.3:8080") as client:
        answer = await client.get("/health", headers={"host": "collector.example"})
    assert answer.status_code == 200
