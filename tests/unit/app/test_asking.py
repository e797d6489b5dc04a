"""What the CLI is told over HTTP is what the system says of itself, moments to the millisecond."""

from __future__ import annotations

import dataclasses
import json

from forebay.app.asking import _report
from forebay.ops.schema_shown import resilience_body, status_body
from tests.support.fake_report import STREAMS, report

MILLISECOND = 1_000_000


def test_a_report_survives_the_routes() -> None:
    capture, *others = report().processes
    capture = dataclasses.replace(capture, streams=STREAMS)
    told = dataclasses.replace(report(), not_ready="no source is subscribed")
    told = dataclasses.replace(told, processes=[capture, *others])
    status = json.loads(status_body(told, "forebay", "1").model_dump_json())
    resilience = json.loads(resilience_body(told, "forebay").model_dump_json())

    heard = _report(status, resilience)

    assert heard.not_ready == "no source is subscribed"
    assert heard.health.state is told.health.state
    assert dict(heard.health.attributed) == dict(told.health.attributed)
    assert [each.process for each in heard.processes] == [each.process for each in told.processes]
    assert [each.name for each in heard.breakers()] == [each.name for each in told.breakers()]
    failed = 0
    for was, now in zip(told.breakers(), heard.breakers(), strict=True):
        assert (now.state, now.cause, now.trips) == (was.state, was.cause, was.trips)
        for field in ("last_failure_ns", "opened_ns"):
            before, after = getattr(was, field), getattr(now, field)
            assert (after is None) is (before is None)
            failed += before is not None
            assert before is None or 0 <= before - after < MILLISECOND
        assert [move["now"] for move in now.history] == [move["now"] for move in was.history]
    assert [each.state for each in heard.streams()] == ["heard", "refused"]
    assert [each.refused for each in heard.streams()] == [each.refused for each in told.streams()]
    assert failed, "no breaker of the report has ever failed"
