"""A real Prometheus reads our scrape, and an alert reaches a person through Alertmanager."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from forebay.clock import SystemClock
from forebay.errors import Unreachable
from forebay.lab import servers
from forebay.lab.commands import until
from forebay.ops import alerts
from forebay.ops.catalogue import CATALOGUE
from forebay.ops.metrics import render
from forebay.ops.view import ProcessReport, Sample
from tests.support import http_server
from tests.support.fake_report import breaker, processes, report
from tests.support.reference_pages import exposed_beside
from tests.support.servers import delivered, needed

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.lab.servers import Server
    from forebay.ops.view import SystemReport

LAG = "forebay_store_lag_seconds"
SOON_S = 20.0


def system(*, trouble: bool) -> SystemReport:
    """Everything there is to scrape; in trouble a breaker is open and the store 400 s behind."""
    told = [
        dataclasses.replace(
            process,
            breakers=[breaker(state="open" if trouble else "closed")] if process.breakers else [],
            samples=[
                Sample(LAG, 400 if trouble else 0) if each.name == LAG else each
                for each in process.samples
            ],
        )
        for process in processes()
    ]
    return report(*told, ProcessReport("other", 4, ""))


@dataclasses.dataclass
class Page:
    """What is scraped, as a test changes it."""

    trouble: bool = False

    async def answer(self, request: web.Request) -> web.Response:
        body, kind = render(system(trouble=self.trouble), request.headers.get("accept", ""))
        assert request.path == "/metrics"
        return web.Response(body=body, headers={"Content-Type": kind})


@dataclasses.dataclass
class Person:
    """Who is told; while away, every call ends without an answer."""

    hook: servers.Webhook
    away: bool = False
    missed: int = 0
    """Calls that came meanwhile."""

    async def answer(self, request: web.Request) -> web.Response:
        if not self.away:
            return await self.hook.take(request)
        self.missed += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=503)


async def query(server: Server, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return an instant query: by sorted labels, the value."""
    told = await server.ask("/api/v1/query", query=expression)
    return {
        tuple(sorted(each["metric"].items())): float(each["value"][1])
        for each in told["data"]["result"]
    }


async def firing(server: Server) -> set[str]:
    """Return the names of the alerts that fire now."""
    told = await server.ask("/api/v1/alerts")
    return {
        each["labels"]["alertname"] for each in told["data"]["alerts"] if each["state"] == "firing"
    }


async def names(server: Server) -> set[str]:
    """Names of all series that Prometheus has of us."""
    found = await query(server, 'count by (__name__) ({job="forebay"})')
    return {dict(labels)["__name__"] for labels in found}


def wanted() -> set[str]:
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    return {
        f"{name}{ending}"
        for metric in CATALOGUE.values()
        for name in (metric.exposed, exposed_beside(metric))
        for ending in endings.get(metric.kind, ("",))
        if name
    }


async def test_an_alert_and_its_end_reach_a_person_who_was_away_when_it_ended(
    tmp_path: Path,
) -> None:
    needed("prometheus")
    needed("alertmanager", "prometheus-alertmanager")
    clock, page = SystemClock(), Page()
    hook = servers.Webhook()
    person = Person(hook)
    rules = alerts.scaled(alerts.text(), 0.01)
    async with (
        http_server.serving(page.answer) as url,
        http_server.serving(person.answer) as phone,
        servers.alertmanager(tmp_path / "alertmanager", f"{phone}/", clock=clock) as manager,
        servers.prometheus(
            tmp_path / "prometheus",
            [url.removeprefix("http://")],
            rules=rules,
            alertmanager=manager.address,
            clock=clock,
        ) as server,
    ):
        scraped = {
            name for name in await names(server) if not name.startswith(("scrape_", "ALERTS"))
        }
        assert scraped == wanted() | {"up"}
        assert await query(server, "up") == {
            (("__name__", "up"), ("instance", url.removeprefix("http://")), ("job", "forebay")): 1
        }
        in_trouble = {"ForebayBreakerOpen", "ForebayLag", "ForebayLagLarge"}
        assert not in_trouble & hook.seen("firing")
        page.trouble = True
        for alert in in_trouble:
            delivery = await delivered(hook, alert, "firing", seconds=SOON_S, clock=clock)
            assert delivery.annotations["description"]
            assert "{{" not in delivery.annotations["summary"]
        assert in_trouble <= await firing(server)
        critical = await delivered(hook, "ForebayLagLarge", "firing", seconds=SOON_S, clock=clock)
        assert (critical.severity, critical.annotations["summary"]) == (
            "critical",
            "The store is 6m 40s behind capture",
        )
        assert not in_trouble & hook.seen("resolved")
        page.trouble, person.away = False, True

        async def missed() -> bool | None:
            still = in_trouble & await firing(server)
            return True if person.missed >= len(in_trouble) and not still else None

        await until(clock, missed, "the end to be told to nobody", SOON_S)
        assert not in_trouble & hook.seen("resolved")
        person.away = False
        for alert in in_trouble:
            await delivered(hook, alert, "resolved", seconds=SOON_S, clock=clock)
        assert not in_trouble & await firing(server)
    assert manager.version[0].isdigit()
    assert server.version[0].isdigit()


@pytest.mark.parametrize("rules", ["groups: [", "groups: [{name: x, rules: [{alert: X}]}]"])
async def test_a_server_that_cannot_start_says_why(tmp_path: Path, rules: str) -> None:
    needed("prometheus")
    with pytest.raises(Unreachable, match=r"ended at its start.*rules\.yml"):
        async with servers.prometheus(tmp_path, [], rules=rules, clock=SystemClock()):
            pytest.fail("it started")
