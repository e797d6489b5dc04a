"""The routes of a running capture: what it says of itself, and what an operator can command."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE
from tests.support.commands import capture, connected, forebay, said, simulator, wait_for
from tests.support.rules import parsed, selectors, selects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

    from tests.support.commands import Lab, Running

LATER = (
    *("forebay_venue_clock_skew_seconds", "forebay_host_clock_skew_seconds"),
    *("forebay_bars_unlike_source", "forebay_publish_lag_seconds"),
    *("forebay_publish_waiting_share", "forebay_bridge_lag_seconds"),
    *("forebay_bridge_lane_waits_seconds", "forebay_bridge_letters_kept"),
)
"""What is told once two minutes had events, the second of two venues, and others of downloads, of
transports and of bridges."""
OPENMETRICS = "application/openmetrics-text"
TOKEN = "a long random word"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
CONFIG = """
data = "{data}"
log_level = "info"

[[venues]]
name = "coinbase"
symbols = ["BTC-USD"]
ws_url = "{lab.ws_url}"
rest_url = "{lab.rest_url}"

[http]
token_file = "{token}"

[resilience]
recovery_hold_s = 0.5
"""


class Live:
    """A capture with a file as its configuration, and a client of its routes."""

    def __init__(self, running: Running, client: httpx.Client, file: Path, lab: Lab) -> None:
        self.running = running
        self.client = client
        self.file = file
        self.lab = lab

    def breaker(self, name: str) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1/circuit-breakers/{name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def stored(self) -> int:
        told = self.running.told()
        return told["deliver"]["rows"] if told else 0

    def metric(self, line: str) -> float:
        for text in self.client.get("/metrics").text.splitlines():
            if text.startswith(f"{line} "):
                return float(text.rpartition(" ")[2])
        raise AssertionError(f"there is no {line}")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("http")
    data, token, file = folder / "data", folder / "token", folder / "forebay.toml"
    token.write_text(f"{TOKEN}\n")
    with simulator("--rate", 500, "--start", "now", seed=9) as lab:
        file.write_text(CONFIG.format(data=data, lab=lab, token=token))
        with capture(data, file=file) as running:
            connected(running)

            def served() -> str | None:
                answer = forebay("status", "--data", data, "--json")
                return answer.json["http"] if answer.code == 0 else None

            url = wait_for(served, "an address")
            with httpx.Client(base_url=url, timeout=20.0) as client:
                yield Live(running, client, file, lab)


def test_it_says_how_it_is(live: Live) -> None:
    assert live.client.get("/health/live").json()["status"] == "alive"
    wait_for(lambda: live.client.get("/health/ready").status_code == 200 or None, "readiness")
    health = live.client.get("/health").json()
    assert (health["status"], health["service"]) == ("healthy", "forebay")
    assert health["dependencies"]["store"] == "UP"
    assert {"capture", "deliver", "journal"} <= health["checks"].keys()
    names = {each["name"] for each in live.client.get("/health/resilience").json()["breakers"]}
    assert names == {"coinbase-rest", "coinbase-websocket", "store"}
    assert live.metric("forebay_websocket_connections") == 1
    assert live.metric('forebay_events_total{state="captured"}') > 0
    assert live.metric('forebay_circuit_breaker_state{breaker="store",state="closed"}') == 1


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", text_string_to_metric_families), (OPENMETRICS, openmetrics_families)],
    ids=["text", "OpenMetrics"],
)
def test_every_rule_asks_for_series_that_a_scrape_has(
    live: Live, accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    answer = live.client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(accept)
    families = [*parse(answer.text)]
    gauges = [each.name for each in families if each.type != "counter"]
    assert [name for name in gauges if name.endswith("_total")] == []
    series = [sample for family in families for sample in family.samples]
    for rule in parsed(alerts.text()):
        known = {"job", "instance"}
        for name, matchers in selectors(rule["expr"]):
            if name in LATER:
                known |= {*CATALOGUE[name].labels}
                continue
            found = [each.labels for each in series if each.name == name]
            assert name == "up" or any(selects(matchers, each) for each in found), (name, matchers)
            known |= {label for labels in found for label in labels}
        assert {*re.findall(r"labels\.(\w+)", str(rule["annotations"]))} <= known, rule["alert"]


def test_status_and_top_read_it_also_from_afar(live: Live) -> None:
    url = str(live.client.base_url)
    told = forebay("status", "--url", url, "--json")
    assert (told.code, told.json["running"]) == (0, True)
    assert told.json["health"]["state"] == "healthy"
    assert told.json["capture"]["captured"] > 0
    assert [each["name"] for each in told.json["breakers"]][-1] == "store"
    shown = forebay("top", "--data", live.running.folder.root, "--times", 2, "--every", 0.3)
    assert shown.code == 0
    assert "coinbase-websocket" in shown.stdout
    assert "frames/s captured" in shown.stdout
    away = forebay("status", "--url", "http://127.0.0.1:9")
    assert away.code == 3
    assert "No running Forebay answers" in away.sentence


def test_who_may_not_changes_nothing_and_is_logged(live: Live) -> None:
    path = "/admin/circuit-breaker/store/force-open"
    assert live.client.post(path).status_code == 401
    assert live.client.post(path, headers={"Authorization": "Bearer no"}).status_code == 403
    assert live.client.post(path, headers=AUTH, content=b"x" * 100_000).status_code == 413
    assert live.client.post(path, headers=AUTH, content=b"{").status_code == 422
    unknown = live.client.post("/admin/circuit-breaker/stroe/force-open", headers=AUTH)
    assert unknown.status_code == 404
    assert "store" in unknown.json()["hint"]
    assert live.breaker("store")["state"] == "closed"
    logged = said(live.running.log, "admin_called")
    assert [each["status"] for each in logged[-5:]] == [401, 403, 413, 422, 404]
    assert TOKEN not in live.running.log.read_text()


def test_a_breaker_held_open_stops_the_store_and_loses_nothing(live: Live) -> None:
    answer = live.client.post(
        "/admin/circuit-breaker/store/force-open", headers=AUTH, json={"reason": "disk swap"}
    )
    assert (answer.status_code, answer.json()["changed"]) == (200, ["store"])
    begun = live.running.told()
    assert begun
    live.running.captured(begun["capture"]["captured"] + 200)  # what was on its way is stored
    before = live.running.told()
    assert before
    live.running.captured(before["capture"]["captured"] + 500)
    assert live.stored() <= before["deliver"]["rows"] + 1
    wait_for(lambda: live.metric("forebay_buffer_size") > 400 or None, "a backlog")
    assert live.client.get("/health").json()["status"] == "critical"
    assert live.client.get("/health/ready").status_code == 200, "capture can do its job"
    assert live.breaker("store")["state"] == "forced_open"
    answer = live.client.post("/admin/circuit-breaker/store/reset", headers=AUTH)
    assert answer.status_code == 200
    wait_for(lambda: live.stored() > before["deliver"]["rows"] + 500 or None, "delivery")
    wait_for(lambda: live.client.get("/health").json()["status"] == "healthy" or None, "recovery")
    wait_for(
        lambda: live.metric("forebay_flushed_from_buffer_total") >= 400 or None, "the count of it"
    )
    assert live.metric("forebay_buffered_to_disk_total") >= 400


def test_thresholds_change_while_it_runs_and_sighup_reads_the_file_again(live: Live) -> None:
    answer = live.client.put(
        "/admin/circuit-breaker/store/config", headers=AUTH, json={"failure_threshold": 9}
    )
    assert answer.status_code == 200, answer.text
    wait_for(
        lambda: live.breaker("store")["config"]["failure_threshold"] == 9 or None, "9 failures"
    )
    requests = live.breaker("store")["requests"]
    text = live.file.read_text()
    live.file.write_text(text + "\n[resilience.store]\nrecovery_timeout_s = 7.5\n")
    live.running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: live.breaker("store")["config"]["recovery_timeout_s"] == 7.5 or None, "7.5 s")
    now = live.breaker("store")
    assert now["config"]["failure_threshold"] == 5, "the file is the truth again"
    assert now["requests"] >= requests, "what it knows is kept"
    live.file.write_text(text + "\n[resilience.store]\nrecovery_timeout = 1\n")
    live.running.process.send_signal(signal.SIGHUP)
    (refused,) = wait_for(
        lambda: said(live.running.log, "config_refused") or None, "a refusal in the log"
    )
    assert "recovery_timeout_s" in refused["reason"]
    assert live.breaker("store")["config"]["recovery_timeout_s"] == 7.5
    answer = live.client.post("/admin/config/reload", headers=AUTH)
    assert answer.status_code == 422
    live.file.write_text(text)
    assert live.client.post("/admin/config/reload", headers=AUTH).status_code == 200


def test_a_taken_port_stops_nothing(live: Live, tmp_path: Path) -> None:
    port = str(live.client.base_url.port)
    with capture(tmp_path / "data", *live.lab.flags, env={"FOREBAY_HTTP__PORT": port}) as other:
        connected(other)
        (told, *_) = wait_for(
            lambda: said(other.log, "http_unavailable") or None, "a line in the log"
        )
        assert "http.port" in told["reason"]
        other.captured(100)
        assert other.stop() == 0


def test_at_the_end_nothing_is_lost(live: Live) -> None:
    assert live.running.stop() == 0
    audit = forebay("audit", "--data", live.running.folder.root, "--json")
    assert audit.code == 0, audit
    assert audit.json["streams"][0]["events"] > 1000
