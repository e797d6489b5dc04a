"""What the CLI is told over HTTP is what the system says of itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from forebay.cli import status as status_client
from forebay.ops.view import BreakerReport
from tests.support.fake_report import STREAMS, report
from tests.support.fake_system import Site

if TYPE_CHECKING:
    import pytest


async def test_a_report_survives_the_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, *others = report().processes
    capture = dataclasses.replace(capture, streams=STREAMS)
    told = dataclasses.replace(report(capture, *others), not_ready="no source is subscribed")
    site = Site()
    site.system.now = told
    async with site.client() as client:
        answer = await client.get("/api/v1/status")
    monkeypatch.setattr(
        status_client, "_get", {"http://x/api/v1/status": answer.content}.__getitem__
    )

    heard = status_client.from_url("http://x/")

    assert heard.http == "http://x"
    before, after = (msgspec.json.decode(msgspec.json.encode(e)) for e in (told, heard.report))
    assert after == before
    assert [type(each) for each in heard.report.breakers()] == [BreakerReport]
    assert heard.report.streams() == told.streams() == list(STREAMS)
