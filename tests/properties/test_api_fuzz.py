"""Whatever is sent: documented answers, nothing done without the token, all of it audited."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from forebay.errors import Unreachable
from forebay.resilience.health import SystemState
from tests.support.fake_system import BEARER, TOKEN, Site, report
from tests.tiers import count

if TYPE_CHECKING:
    from schemathesis import APIOperation, Case

    from tests.support.fake_system import Message

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
ROUTES = 14
EXPECTED = {200, 401, 403, 404, 422, 503}
NAMES = ["store", "coinbase-rest", "stoer"]
HEADERS: list[dict[str, str]] = [BEARER, BEARER, BEARER, {}, {"authorization": "Bearer wrong"}]


async def fail() -> None:
    raise Unreachable("Nobody answers.")


def into_state(site: Site, state: SystemState | None) -> None:
    """Let the system be in a state; None lets it not answer at all."""
    site.told.clear()
    site.system.commands.clear()
    site.clock.advance(60)  # wrong tokens of examples before do not count
    site.system.before_report = site.system.before_command = None if state else fail
    site.system.now = report(state or SystemState.HEALTHY)


def judge(site: Site, *, admin: bool, token: bool, status: int) -> None:
    """Assert what holds for every call, whatever it was."""
    assert status < 500 or status == 503
    if status != 200 or not token:
        assert site.system.commands == []
    audited = [told.status for told in site.audit()]
    assert audited == ([status] if admin else [])


# ------------------------------------------------------------- from the OpenAPI document


def operations(site: Site) -> list[APIOperation[Any, Any, Any, Any]]:
    """Every operation that is documented."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", site.app, config=SchemathesisConfig())
    found = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(found) == ROUTES
    return found


def fuzz(examples: int) -> Counter[int]:
    """Send generated calls of every operation and check the answers; answer their statuses."""
    site, seen = Site(), Counter[int]()
    for operation in operations(site):
        for mode in MODES:
            if mode is schemathesis.GenerationMode.NEGATIVE and not operation.body:
                continue  # what takes no more than a text cannot be asked wrongly

            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
            @given(
                case=operation.as_strategy(mode),
                name=st.none() | st.sampled_from(NAMES),
                headers=st.sampled_from(HEADERS),
                state=st.sampled_from([*SystemState, None]),
            )
            def check(
                case: Case[Any],
                name: str | None,
                headers: dict[str, str],
                state: SystemState | None,
            ) -> None:
                into_state(site, state)
                if name is not None and case.path_parameters:
                    case.path_parameters["name"] = name
                response = case.call(headers=dict(headers))
                seen[response.status_code] += 1
                admin = case.path.startswith("/admin")
                judge(site, admin=admin, token=headers == BEARER, status=response.status_code)
                if b"unknown-route" not in response.content:  # a name may have a slash
                    case.validate_response(response, checks=CHECKS)

            check()
    return seen


@pytest.mark.timeout(900)
def test_answers_are_as_the_document_says() -> None:
    examples = count("calls of a route")
    seen = fuzz(examples)
    assert seen.keys() >= EXPECTED
    assert seen.total() > 5 * examples


# --------------------------------------------------------------------- from any bytes

PATHS = st.sampled_from(
    [
        "/",
        "/health",
        "/health/live",
        "/metrics",
        "/api/v1/circuit-breakers/store",
        "/admin",
        "/admin/circuit-breaker/store/force-open",
        "/admin/circuit-breaker/store/config",
        "/admin/circuit-breaker/\n/reset",
        "/admin/resilience/force-recovery",
        "/admin/config/reload",
    ]
)
AUTHORIZATION = st.sampled_from([f"Bearer {TOKEN}".encode()]) | st.binary(max_size=40)
METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE"])
OTHERS = st.sampled_from(
    [
        (b"content-type", b"application/json"),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-type", b"multipart/form-data; boundary=x"),
        (b"content-type", b"application/json; charset=\xff"),
        (b"content-length", b"99999999999999999999"),
        (b"content-length", b"-1"),
        (b"content-length", b"\xb2"),
        (b"host", b"rebound.example"),
        (b"host", b"\xff[]"),
        (b"origin", b"http://rebound.example"),
    ]
)
ANY_CALL = {
    "method": METHODS,
    "path": PATHS | st.text(max_size=20).map(lambda text: f"/{text}"),
    "headers": st.lists(OTHERS | st.tuples(st.just(b"authorization"), AUTHORIZATION), max_size=4),
    "query": st.binary(max_size=20),
    "body": st.lists(st.binary(max_size=40) | st.just(b" " * 9000), min_size=1, max_size=3),
    "state": st.sampled_from([*SystemState, None]),
}


def send_anything(site: Site, **sent: Any) -> None:  # noqa: ANN401 - see ANY_CALL
    """Send one call, whatever it is, and judge what came of it."""
    into_state(site, sent["state"])
    status, parts = [], list(sent["body"])

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "raw_path": b"",
        "method": sent["method"],
        "path": sent["path"],
        "query_string": sent["query"],
        "headers": sent["headers"],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }
    asyncio.run(site.app(scope, receive, send))
    assert len(status) == 1
    given = [value for name, value in sent["headers"] if name == b"authorization"]
    judge(
        site,
        admin=sent["path"] == "/admin" or sent["path"].startswith("/admin/"),
        token=[value.strip() for value in given] == [f"Bearer {TOKEN}".encode()],
        status=status[0],
    )


SITE = Site()
GUESSED = {"query": b"", "body": [b""], "state": SystemState.HEALTHY}


@pytest.mark.timeout(900)
@settings(max_examples=count("any calls"))
@example(method="POST", path="/admin/config/reload", headers=[], **GUESSED)
@given(**ANY_CALL)
def test_any_call_is_answered_and_judged(**sent: Any) -> None:  # noqa: ANN401
    send_anything(SITE, **sent)
