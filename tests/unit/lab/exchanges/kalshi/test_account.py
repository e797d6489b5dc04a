"""Who is let in: only what one of the account's keys signed a moment ago."""

from __future__ import annotations

import asyncio
import stat
import tomllib
from pathlib import Path

import aiohttp
import pytest

from forebay.clock import SystemClock
from forebay.lab.exchanges.exchange import ExchangeConfig
from forebay.lab.exchanges.kalshi import Kalshi
from forebay.lab.exchanges.kalshi.account import (
    CLOCK_MS,
    ED25519_KEY_ID,
    RSA_KEY_ID,
    WS_PATH,
    LabAccount,
)
from forebay.lab.exchanges.market import MarketConfig
from forebay.lab.exchanges.server import ServerConfig, running
from tests.unit.lab.exchanges.kalshi.bench import A

NOW_NS = 1_786_407_333_623_000_000
KEYS = (RSA_KEY_ID, ED25519_KEY_ID)
NAMES = ("KALSHI-ACCESS-KEY", "KALSHI-ACCESS-TIMESTAMP", "KALSHI-ACCESS-SIGNATURE")


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> LabAccount:
    return LabAccount.at(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize("key_id", KEYS)
def test_what_a_key_signed_is_accepted_and_nothing_else(account: LabAccount, key_id: str) -> None:
    signed = account.headers("GET", WS_PATH, NOW_NS, key_id)

    def refusal(
        at_ns: int = NOW_NS, path: str = WS_PATH, changed: tuple[str, str] = ("", "")
    ) -> str:
        headers = {**signed, changed[0]: changed[1]}
        return account.refusal({k: v for k, v in headers.items() if v}, "GET", path, at_ns)

    assert refusal() == ""
    for name in NAMES:
        assert refusal(changed=(name, "")) == "missing_authentication_headers"
    assert refusal(changed=(NAMES[0], "somebody")) == "key_not_found"
    assert refusal(changed=(NAMES[0], KEYS[key_id == RSA_KEY_ID])) == "incorrect_api_key_signature"
    assert refusal(path="/trade-api/v2/markets") == "incorrect_api_key_signature"
    assert (
        refusal(changed=(NAMES[1], str(NOW_NS // 1_000_000 + 1))) == "incorrect_api_key_signature"
    )
    assert refusal(changed=(NAMES[1], "now")) == "header_timestamp_invalid"
    assert refusal(changed=(NAMES[2], "…")) == "incorrect_api_key_signature"
    for way in (1, -1):
        edge_ns = NOW_NS + way * CLOCK_MS * 1_000_000
        assert refusal(edge_ns) == ""
        assert refusal(edge_ns + way * 1_000_000) == "header_timestamp_expired"


def test_keys_of_a_folder_stay_and_are_nobody_else_s(tmp_path: Path) -> None:
    first = LabAccount.at(tmp_path / "keys")
    signed = first.headers("GET", WS_PATH, NOW_NS)
    assert LabAccount.at(tmp_path / "keys").refusal(signed, "GET", WS_PATH, NOW_NS) == ""
    other = LabAccount.at(tmp_path / "others").refusal(signed, "GET", WS_PATH, NOW_NS)
    assert other == "incorrect_api_key_signature"
    for name in ("credentials_file", "credentials_file_ed25519"):
        path = Path(first.files[name])
        told = tomllib.loads(path.read_text())
        assert told["key_id"] in KEYS
        assert (path.parent / told["private_key_file"]).exists()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {0o600}


async def test_a_websocket_is_for_who_signs_and_public_rest_for_all(tmp_path: Path) -> None:
    venue = Kalshi(LabAccount.at(tmp_path))
    config = ExchangeConfig(venue, MarketConfig(5, (A,)))
    clock = SystemClock()
    async with (
        asyncio.timeout(20),
        running(ServerConfig(config), clock) as server,
        aiohttp.ClientSession() as session,
    ):
        late_ns = clock.wall_ns() - 60_000_000_000
        for headers in ({}, venue.keys.headers("GET", WS_PATH, late_ns)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(server.ws_url, headers=headers)
            assert refused.value.status == 401
        for url in (server.ws_url, server.ws_url.removesuffix(WS_PATH) + "/elsewhere"):
            headers = venue.keys.headers("GET", WS_PATH, clock.wall_ns())
            async with session.ws_connect(url, headers=headers) as socket:
                await socket.send_json({"id": 1, "cmd": "list_subscriptions"})
                assert (await socket.receive_json()) == {"id": 1, "type": "ok", "msg": []}
        async with session.get(f"{server.rest_url}/markets/{A}") as answer:
            assert answer.status == 200
        async with session.get(f"{server.rest_url}/account/limits") as answer:
            assert answer.status == 401
            assert (await answer.json())["details"] == "missing_authentication_headers"
