"""The routes of administration: who may call them, what they command, and the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest

from forebay.errors import ConfigError, Permanent, Unreachable
from forebay.ops import admin, guard
from forebay.ops.calls import Call, RequestRefused, clean
from forebay.ops.guard import (
    BODY_LIMIT,
    GUESS_WINDOW_S,
    GUESSES,
    bearer,
)
from forebay.ops.schema import ConfigureBody
from forebay.ops.view import Action, Command
from forebay.telemetry import AdminCalled
from tests.support.fake_system import BEARER, TOKEN, FakeSystem, Site, hang

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    import httpx

    from tests.support.fake_system import Message, Receive, Scope, Send

FORCE_OPEN = "/admin/circuit-breaker/store/force-open"
CONFIG = "/admin/circuit-breaker/store/config"
RECOVER = "/admin/resilience/force-recovery"
RELOAD = "/admin/config/reload"
EVERY = [
    ("POST", FORCE_OPEN, "force-open", "store"),
    ("POST", "/admin/circuit-breaker/store/reset", "reset", "store"),
    ("PUT", CONFIG, "configure", "store"),
    ("POST", RECOVER, "force-recovery", ""),
    ("POST", RELOAD, "reload", ""),
]


@pytest.fixture
def site() -> Site:
    return Site()


async def call(
    site: Site,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str | bytes] | list[tuple[str, str]] = BEARER,
    peer: str = "127.0.0.1",
    **more: Any,  # noqa: ANN401 - whatever httpx sends
) -> httpx.Response:
    async with site.client(peer=peer) as client:
        return await client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]


def of(headers: Sequence[tuple[bytes, bytes]] = (), host: str = "h", path: str = RELOAD) -> Call:
    return Call("POST", path, headers, (host, 1), None, hang)  # type: ignore[arg-type]


def refused(site: Site, answer: httpx.Response, code: int, error: str) -> AdminCalled:
    """Assert that a call was refused in the one shape and changed nothing; answer its audit."""
    assert answer.status_code == code
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error", "message", "hint"}
    assert body["error"] == error
    assert body["message"]
    assert site.system.commands == []
    (told,) = site.audit()
    assert told.status == code
    return told


# -------------------------------------------------------------------- what they do


@pytest.mark.parametrize(
    ("asked", "body", "command", "more"),
    [
        (("POST", FORCE_OPEN), None, Command(Action.FORCE_OPEN, "store"), ""),
        (
            ("POST", FORCE_OPEN),
            {"reason": "upgrade"},
            Command(Action.FORCE_OPEN, "store", "upgrade"),
            " Reason: upgrade",
        ),
        (
            ("POST", "/admin/circuit-breaker/coinbase-rest/reset"),
            {},
            Command(Action.RESET, "coinbase-rest"),
            "",
        ),
        (
            ("PUT", CONFIG),
            {"failure_threshold": 3, "timeout_s": 2.5, "reason": "slow disk"},
            Command(
                Action.CONFIGURE, "store", "slow disk", {"failure_threshold": 3, "timeout_s": 2.5}
            ),
            " failure_threshold=3 timeout_s=2.5 Reason: slow disk",
        ),
        (
            ("PUT", CONFIG),
            {"recovery_timeout_s": 600, "success_threshold": 1},
            Command(
                Action.CONFIGURE, "store", "", {"recovery_timeout_s": 600, "success_threshold": 1}
            ),
            " recovery_timeout_s=600.0 success_threshold=1",
        ),
        (("POST", RECOVER), None, Command(Action.FORCE_RECOVERY), ""),
        (("POST", RECOVER), {"name": "store"}, Command(Action.FORCE_RECOVERY, "store"), ""),
        (("POST", RELOAD), None, Command(Action.RELOAD), ""),
    ],
)
async def test_a_call_is_one_command_and_one_line_of_audit(
    site: Site, asked: tuple[str, str], body: object, command: Command, more: str
) -> None:
    answer = await call(site, *asked, json=body)
    assert answer.status_code == 200
    changed = [] if command.action is Action.RELOAD else [command.target or "store"]
    done = f"{command.action} done."
    assert answer.json() == {"changed": changed, "detail": done}
    assert site.system.commands == [command]
    assert site.audit() == [
        AdminCalled(command.action, command.target, "127.0.0.1:4711", 200, done + more)
    ]


async def test_a_name_in_a_path_may_be_escaped(site: Site) -> None:
    await call(site, "POST", "/admin/circuit-breaker/coinbase%2Drest/reset")
    assert site.system.commands == [Command(Action.RESET, "coinbase-rest")]


async def test_an_address_of_ip_6_is_told_as_one(site: Site) -> None:
    await call(site, "POST", RELOAD, peer="::1")
    assert site.audit()[0].client == "[::1]:4711"


async def test_calls_at_the_same_time_are_commanded_one_after_the_other(site: Site) -> None:
    async with site.client() as client:
        answers = await asyncio.gather(
            *(
                client.request(
                    method, path, headers=BEARER, json={"timeout_s": 1} if path == CONFIG else None
                )
                for method, path, *_ in EVERY * 4
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 20
    assert len(site.system.commands) == len(site.audit()) == 20
    assert site.system.most_running == 1


# ---------------------------------------------------------------------- the token


@pytest.mark.parametrize(("method", "path", "action", "target"), EVERY)
async def test_without_a_token_nothing_happens(
    site: Site, method: str, path: str, action: str, target: str
) -> None:
    answer = await call(site, method, path, headers={})
    told = refused(site, answer, 401, "no-token")
    assert answer.headers["www-authenticate"] == 'Bearer realm="forebay"'
    assert (told.action, told.target, told.client) == (action, target, "127.0.0.1:4711")


async def test_a_header_that_holds_no_one_token_is_no_token(site: Site) -> None:
    good = f"Bearer {TOKEN}"
    for headers in (
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer   ")],
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", f"Bearer{TOKEN}")],
        [("authorization", good), ("authorization", good)],
        [("x-authorization", good)],
        [("cookie", f"token={TOKEN}")],
    ):
        site.told.clear()
        answer = await call(site, "POST", f"{FORCE_OPEN}?token={TOKEN}", headers=headers)
        refused(site, answer, 401, "no-token")


async def test_a_wrong_token_is_refused_however_near_it_is(site: Site) -> None:
    for wrong in ("x", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), f"{TOKEN}é", "\x7f", '"', "Bearer"):
        site.told.clear()
        headers = {"authorization": b"Bearer " + wrong.encode()}
        answer = await call(site, "POST", FORCE_OPEN, headers=headers)
        told = refused(site, answer, 403, "wrong-token")
        assert told.detail == "The token is wrong."
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("token", ["pässwörd", "秘密", "a b  c", "\udcff"])
async def test_any_text_can_be_the_token(site: Site, token: str) -> None:
    site.token = token
    sent = b"bearer " + token.encode("utf-8", "surrogateescape")
    answer = await call(site, "POST", RELOAD, headers={"authorization": sent})
    assert answer.status_code == 200


async def test_tokens_are_compared_in_constant_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Compare:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(guard, "hmac", Compare)
    await call(site, "POST", RELOAD, headers={"authorization": "Bearer wrong"})
    await call(site, "POST", RELOAD)
    assert compared == [(b"wrong", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_configured_token_administration_is_off(
    site: Site, token: str | None
) -> None:
    site.token = token
    for headers in (BEARER, {}, {"authorization": "Bearer "}, {"authorization": "Bearer None"}):
        site.told.clear()
        answer = await call(site, "POST", FORCE_OPEN, headers=headers)
        refused(site, answer, 403, "admin-off")
        assert "http.token_file" in answer.json()["hint"]


async def test_the_token_is_asked_for_at_each_call(site: Site) -> None:
    site.token = "another"
    assert (await call(site, "POST", RELOAD)).status_code == 403
    site.token = TOKEN
    assert (await call(site, "POST", RELOAD)).status_code == 200


@pytest.mark.parametrize("error", [OSError("no such file"), ConfigError("It is empty.")])
async def test_a_token_that_cannot_be_read_admits_nobody(error: Exception) -> None:
    site = Site()

    def token() -> str:
        raise error

    gate = guard.Gate(token, site.clock)
    with pytest.raises(RequestRefused) as refusal:
        gate.check(of([(b"authorization", b"Bearer x")]))
    assert refusal.value.status == 503
    assert str(error) not in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([], None),
        ([b"Bearer x"], b"x"),
        ([b"BEARER  x "], b"x"),
        ([b"Bearer x y"], b"x y"),
        ([b"Bearer \xff"], b"\xff"),
        ([b"Bearer\tx"], None),
        ([b"Bearer"], None),
        ([b"Bearer x", b"Bearer x"], None),
    ],
)
def test_the_token_in_a_header(values: list[bytes], token: bytes | None) -> None:
    assert bearer(values) == token


# --------------------------------------------------------------- too many guesses


async def guess(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post(RELOAD, headers={"authorization": f"Bearer {token}"})


async def test_who_guesses_too_often_has_to_wait_even_with_the_right_token(site: Site) -> None:
    async with site.client() as client:
        for _ in range(GUESSES):
            assert (await guess(client, "wrong")).status_code == 403
            site.clock.advance(1)
        limited = await guess(client, TOKEN)
        assert limited.status_code == 429
        assert limited.json()["error"] == "too-many-guesses"
        wait_s = int(limited.headers["retry-after"])
        assert wait_s == GUESS_WINDOW_S - GUESSES
        assert site.system.commands == []
        assert site.audit()[-1].status == 429

        site.clock.advance(wait_s - 0.5)
        assert (await guess(client, TOKEN)).status_code == 429
        site.clock.advance(0.5)
        assert (await guess(client, TOKEN)).status_code == 200


async def test_others_are_not_kept_out_by_who_guesses(site: Site) -> None:
    async with site.client(peer="10.0.0.1") as client:
        codes = [(await guess(client, "wrong")).status_code for _ in range(GUESSES + 1)]
    assert codes == [403] * GUESSES + [429]
    assert (await call(site, "POST", RELOAD, peer="10.0.0.2")).status_code == 200


async def test_a_missing_token_is_no_guess(site: Site) -> None:
    async with site.client() as client:
        for _ in range(GUESSES + 1):
            assert (await client.post(RELOAD)).status_code == 401
        assert (await guess(client, TOKEN)).status_code == 200


def test_what_is_remembered_of_guesses_is_bounded() -> None:
    site = Site()
    gate = guard.Gate(lambda: TOKEN, site.clock)
    headers = [(b"authorization", b"Bearer wrong")]
    for number in range(1100):
        with contextlib.suppress(RequestRefused):
            gate.check(of(headers, f"10.0.{number >> 8}.{number & 255}"))
    assert len(gate._guesses) == 1024


# ----------------------------------------------------------------------- the body


@pytest.mark.parametrize("sized", [True, False])
async def test_a_body_may_be_as_large_as_the_limit_and_no_larger(
    site: Site, *, sized: bool
) -> None:
    whole = b'{"reason": ""}'
    fitting = whole + b" " * (BODY_LIMIT - len(whole))

    async def parts(body: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    headers = {**BEARER, "content-type": "application/json"}
    for body, code in ((fitting, 200), (fitting + b" ", 413)):
        content = body if sized else parts(body)
        answer = await call(site, "POST", RELOAD, headers=headers, content=content)
        assert answer.status_code == code
        assert ("too-large" in answer.text) is (code == 413)
    assert len(site.system.commands) == 1
    assert [told.status for told in site.audit()] == [200, 413]


@pytest.mark.parametrize(
    ("headers", "code", "error"),
    [
        (BEARER, 413, "too-large"),
        ({**BEARER, "content-length": str(BODY_LIMIT + 1)}, 413, "too-large"),
        ({**BEARER, "content-length": "9" * 5000}, 413, "too-large"),
        ({}, 401, "no-token"),
    ],
)
async def test_of_a_body_that_is_refused_little_is_read(
    site: Site, headers: Mapping[str, str], code: int, error: str
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 10_000
            yield b" " * 10_000

    answer = await call(site, "POST", RELOAD, headers=headers, content=endless())
    refused(site, answer, code, error)
    assert read <= BODY_LIMIT + 20_000


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ([], 0),
        ([(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-length", b"99999")], 0),
        ([(b"authorization", f"Bearer {TOKEN}".encode())], 2),
    ],
    ids=["no token", "says its size", "says nothing"],
)
async def test_a_refusal_is_answered_before_more_is_read(
    site: Site, headers: list[tuple[bytes, bytes]], parts: int
) -> None:
    order: list[str] = []

    async def receive() -> Message:
        order.append("part")
        return {"type": "http.request", "body": b" " * 10_000, "more_body": True}

    async def send(message: Message) -> None:
        order.append(message["type"].rpartition(".")[2])

    await by_hand(site, receive, send, headers)
    assert order == [*["part"] * parts, "start", "body"]
    assert site.system.commands == []


MALFORMED = [
    b"{",
    b"nope",
    b"[1]",
    b'"text"',
    b"1",
    b'{"reason": 1}',
    b'{"reason": null}',
    b'{"nope": 1}',
    b'{"reason": "x", "nope": 1}',
    b'{"reason": "\xff"}',
    b'{"reason": "\\ud800"}',
    b'{"\\ud800": 1}',
    b"[" * 10_000,
    b"1" * 10_000,
    b'{"reason": "%s"}' % (b"x" * 1001),
]


async def test_what_is_not_the_body_that_is_asked_for_changes_nothing(site: Site) -> None:
    for body in MALFORMED:
        site.told.clear()
        headers = {**BEARER, "content-type": "application/json"}
        answer = await call(site, "POST", FORCE_OPEN, headers=headers, content=body)
        told = refused(site, answer, 422, "invalid-body")
        assert len(told.detail) < 60
        assert "nope" not in told.detail


SETTINGS: list[tuple[object, str]] = [
    ({}, "No threshold"),
    ({"reason": "none of them"}, "No threshold"),
    ({"failure_threshold": 0}, "failure_threshold"),
    ({"failure_threshold": -1}, "failure_threshold"),
    ({"failure_threshold": 1_000_001}, "failure_threshold"),
    ({"failure_threshold": 1.5}, "failure_threshold"),
    ({"failure_threshold": "3"}, "failure_threshold"),
    ({"failure_threshold": True}, "failure_threshold"),
    ({"failure_threshold": None}, "failure_threshold"),
    ({"failure_threshold": 10**400}, "failure_threshold"),
    ({"success_threshold": 0}, "success_threshold"),
    ({"success_threshold": 1001}, "success_threshold"),
    ({"recovery_timeout_s": 0}, "recovery_timeout_s"),
    ({"recovery_timeout_s": 600.5}, "recovery_timeout_s"),
    ({"recovery_timeout_s": float("nan")}, "malformed"),
    ({"timeout_s": float("inf")}, "malformed"),
    ({"timeout_s": 3601}, "timeout_s"),
    ({"timeout_s": "1"}, "timeout_s"),
    ({"timeout_s": 1, "colour": "red"}, "colour"),
]


async def test_settings_out_of_range_change_nothing(site: Site) -> None:
    headers = {**BEARER, "content-type": "application/json"}
    for settings, named in SETTINGS:
        site.told.clear()
        answer = await call(site, "PUT", CONFIG, headers=headers, content=json.dumps(settings))
        refused(site, answer, 422, "invalid-body")
        assert named in answer.json()["message"], settings


async def test_settings_need_a_body(site: Site) -> None:
    refused(site, await call(site, "PUT", CONFIG), 422, "invalid-body")


async def test_a_form_is_not_json(site: Site) -> None:
    """A page of a browser may send one anywhere without being asked whether it may."""
    answer = await call(
        site,
        "POST",
        FORCE_OPEN,
        headers={**BEARER, "content-type": "text/plain"},
        content=b'{"reason": "x"}',
    )
    refused(site, answer, 422, "invalid-body")
    assert "application/json" in answer.json()["hint"]


# ---------------------------------------------------------- what cannot be carried out


async def test_an_unknown_breaker_is_404_with_what_may_be_meant(site: Site) -> None:
    for method, path, body in (
        ("POST", "/admin/circuit-breaker/stoer/force-open", None),
        ("POST", "/admin/circuit-breaker/stoer/reset", None),
        ("PUT", "/admin/circuit-breaker/stoer/config", {"timeout_s": 1}),
        ("POST", RECOVER, {"name": "stoer"}),
    ):
        site.told.clear()
        answer = await call(site, method, path, json=body)
        told = refused(site, answer, 404, "unknown-name")
        assert told.target == "stoer"
        assert "store" in answer.json()["hint"]


async def test_settings_that_cannot_be_are_422(site: Site) -> None:
    answer = await call(site, "PUT", CONFIG, json={"timeout_s": 13})
    refused(site, answer, 422, "cannot-be")
    assert answer.json() == {
        "error": "cannot-be",
        "message": "timeout_s is 13.",
        "hint": "Not here.",
    }


@pytest.mark.parametrize("error", [Unreachable("It is away."), Permanent("It is away.")])
async def test_a_process_that_is_away_is_503(site: Site, error: Exception) -> None:
    async def fail() -> None:
        raise error

    site.system.before_command = fail
    answer = await call(site, "POST", FORCE_OPEN)
    told = refused(site, answer, 503, "unavailable")
    assert told.detail == "It is away."


async def test_a_command_that_hangs_is_left_and_the_next_one_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "COMMAND_S", 0.02)
    site.system.before_command = hang
    answer = await call(site, "POST", FORCE_OPEN)
    told = refused(site, answer, 503, "unavailable")
    assert "may have been carried out" in told.detail
    site.system.before_command = None
    assert (await call(site, "POST", FORCE_OPEN)).status_code == 200


async def test_a_command_that_never_began_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "COMMAND_S", 0.02)
    desk = admin.Admin(FakeSystem())
    async with desk.lock:
        with pytest.raises(RequestRefused, match="Nothing was changed"):
            await desk._outcome(Command(Action.RELOAD))


async def test_a_bug_is_500_and_audited(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("secret detail")

    site.system.before_command = fail
    answer = await call(site, "POST", FORCE_OPEN)
    told = refused(site, answer, 500, "internal")
    assert "secret detail" not in answer.text + told.detail
    assert "secret detail" in caplog.text


# --------------------------------------------------------- other paths, other methods


@pytest.mark.parametrize(
    ("method", "path", "action", "target"),
    [
        ("POST", "/admin", "unknown", "/admin"),
        ("POST", "/admin/", "unknown", "/admin/"),
        ("POST", "/admin/nope", "unknown", "/admin/nope"),
        ("POST", f"{RELOAD}/", "unknown", f"{RELOAD}/"),
        ("GET", FORCE_OPEN, "force-open", "store"),
        ("OPTIONS", FORCE_OPEN, "force-open", "store"),
        ("POST", CONFIG, "configure", "store"),
        ("DELETE", RELOAD, "reload", ""),
    ],
)
async def test_what_is_not_a_route_is_audited_too(
    site: Site, method: str, path: str, action: str, target: str
) -> None:
    code, error = (404, "unknown-route") if action == "unknown" else (405, "wrong-method")
    told = refused(site, await call(site, method, path), code, error)
    assert (told.action, told.target) == (action, target)
    site.told.clear()
    # Without the token nobody learns which routes there are.
    refused(site, await call(site, method, path, headers={}), 401, "no-token")


async def test_a_page_of_another_name_cannot_reach_administration(site: Site) -> None:
    answer = await call(site, "POST", FORCE_OPEN, headers={**BEARER, "host": "rebound.example"})
    refused(site, answer, 421, "unknown-host")


async def test_another_spelling_of_the_path_does_not_pass_the_guard(site: Site) -> None:
    for path in (
        "//admin/config/reload",
        "/./admin/config/reload",
        "/health/../admin/config/reload",
        "/ADMIN/config/reload",
        "/%2fadmin/config/reload",
        "/admin%2fconfig/reload",
        "/%61dmin/config/reload",
        "/admin;x/config/reload",
    ):
        async with site.client() as client:
            answer = await client.post(f"http://127.0.0.1:8080{path}")
        assert answer.status_code in {401, 404}, path
    assert site.system.commands == []


async def test_a_route_reached_past_the_guard_is_not_served(site: Site) -> None:
    """If the guard were ever taken away, administration would be closed, not open."""
    for route in admin.Admin(site.system).routes():
        named = dict.fromkeys(route.pattern.groupindex, "store")
        body = ConfigureBody(timeout_s=1) if route.required else None
        with pytest.raises(PermissionError):
            await route.handle(of(), **named, body=body)
    assert site.system.commands == []


# -------------------------------------------------------------------- the audit log


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n", "two lines  "),
        ("\x1b[31mred\x00", " [31mred "),
        ("a\u2028b\u202ec\ud800d", "a b c d"),
        ("é – 秘密", "é – 秘密"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_text_of_others_becomes_one_bounded_line(text: str, line: str) -> None:
    assert clean(text) == line


async def test_a_reason_cannot_forge_a_line_of_the_log(site: Site) -> None:
    reason = "fine\n2026-11-22 admin_called status=200\x1b[2J" + "x" * 900
    answer = await call(site, "POST", FORCE_OPEN, json={"reason": reason})
    assert answer.status_code == 200
    (told,) = site.audit()
    (command,) = site.system.commands
    for text in (told.detail, command.reason):
        assert text.isprintable()
        assert "fine 2026-11-22 admin_called" in text
        assert len(text) <= 300


async def test_a_name_cannot_forge_a_line_of_the_log(site: Site) -> None:
    for path in ("/admin/circuit-breaker/a%0Ab%1B[2J/reset", "/admin/a%0Ab%1B[2J"):
        answer = await call(site, "POST", path + "x" * 2000)
        assert answer.status_code == 404
    for path in ("/admin/circuit-breaker/a%0Ab/reset", f"/admin/circuit-breaker/{'x' * 999}/reset"):
        assert (await call(site, "POST", path)).json()["error"] == "unknown-name"
    for told in site.audit():
        assert (told.target + told.detail).isprintable()
        assert max(len(told.target), len(told.detail)) <= 300


async def test_the_token_is_never_told(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    for method, path, *_ in EVERY:
        await call(site, method, path, json={"token": TOKEN, TOKEN: 1})
        await call(site, method, path, content=TOKEN.encode())
        await call(site, method, f"{path}?token={TOKEN}")
    assert len(site.audit()) == 15
    assert TOKEN not in repr(site.told)
    assert TOKEN not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("forebay")
    )


async def by_hand(
    site: Site,
    receive: Receive,
    send: Send,
    headers: Sequence[tuple[bytes, bytes]] = ((b"authorization", f"Bearer {TOKEN}".encode()),),
) -> None:
    """Call the application without any client."""
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": RELOAD,
        "headers": headers,
        "client": None,
        "server": None,
        "query_string": b"",
        "root_path": "",
    }
    await site.app(scope, receive, send)


async def sent_nothing(message: Message) -> None:
    raise AssertionError(message)


async def test_a_client_that_hangs_up_is_audited_and_nothing_is_answered(site: Site) -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    await by_hand(site, gone, sent_nothing)
    assert site.system.commands == []
    assert site.audit() == [AdminCalled("reload", "", "unknown", 0, "The client hung up.")]


async def test_a_call_that_is_cancelled_is_audited(site: Site) -> None:
    calling = asyncio.create_task(by_hand(site, hang, sent_nothing))  # type: ignore[arg-type]
    for _ in range(5):
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert [told.status for told in site.audit()] == [0]


@pytest.mark.parametrize(
    ("path", "action", "target"),
    [
        ("/admin/circuit-breaker/a/force-open", "force-open", "a"),
        ("/admin/circuit-breaker/a\nb/reset", "reset", "a b"),
        ("/admin/circuit-breaker/a/config", "configure", "a"),
        ("/admin/circuit-breaker//config", "unknown", "/admin/circuit-breaker//config"),
        ("/admin/circuit-breaker/a/close", "unknown", "/admin/circuit-breaker/a/close"),
        ("/admin/config/reload\n", "unknown", "/admin/config/reload "),
    ],
)
def test_a_path_as_the_audit_log_tells_it(path: str, action: str, target: str) -> None:
    told = Site().routes.audited(of(path=path), 200)
    assert (told.action, told.target, told.client) == (action, target, "h:1")
