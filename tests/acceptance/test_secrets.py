"""Keys, tokens and signatures are in nothing that a capture writes, says or answers."""

from __future__ import annotations

import contextlib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest

from forebay.journal import JournalReader
from tests.support.commands import capture, connected, forebay, process, said, wait_for
from tests.support.relay import relaying

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "administration-of-this-one-is-secret"
ROUTES = (
    *("/", "/metrics", "/health", "/health/live", "/health/ready", "/health/resilience"),
    *("/api/v1/status", "/api/v1/circuit-breakers", "/openapi.json", "/nowhere"),
)
PIECE = 24
"""So many letters in a row of a long secret are not to be seen either."""


class Secretive(NamedTuple):
    """How a venue that wants to know who asks is served and captured."""

    symbols: str
    market: str
    ws_path: str = ""


VENUES = {
    "kalshi": Secretive("KXGOLD-26DEC31-T1,KXGOLD-26DEC31-T2", "prediction"),
    "massive": Secretive("EUR-USD", "forex", ws_path="/{market}"),
}


def secrets_of(file: Path) -> Iterator[str]:
    """Return every secret that a file of credentials holds or names."""
    for name, value in tomllib.loads(file.read_text()).items():
        if name.endswith("_file"):
            key = (file.parent / value).read_text()
            yield from (line for line in key.splitlines() if line and not line.startswith("---"))
        else:
            yield value


def pieces(secret: bytes) -> Iterator[bytes]:
    """Return what must not be seen of a secret: it, or parts of it if it is long."""
    if len(secret) <= PIECE:
        yield secret
    for begin in range(0, len(secret) - PIECE + 1, PIECE):
        yield secret[begin : begin + PIECE]


def answers(url: str) -> Iterator[tuple[str, bytes]]:
    """Return what the routes answer."""
    with httpx.Client(base_url=url, timeout=20.0) as client:
        for route in ROUTES:
            yield f"GET {route}", client.get(route).content
        for token in (TOKEN, f"{TOKEN}x"):
            headers = {"Authorization": f"Bearer {token}"}
            answer = client.post("/admin/recovery", headers=headers)
            yield "POST /admin/recovery", answer.content


def journalled(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Return all blocks of a journal as they are read."""
    with JournalReader(folder) as reader:
        while read := reader.read():
            for block in read:
                yield "the journal", block.context + b"\n".join(block.payloads)


def told(data: Path, file: Path) -> Iterator[tuple[str, bytes]]:
    """Return what commands say of a capture and of its configuration."""
    for words in (("status",), ("status", "--json"), ("gaps",), ("symbols",), ("check",)):
        of = ("-c", file, "--data", data) if words[0] in ("check", "symbols") else ("--data", data)
        answer = forebay(*words, *of)
        yield f"forebay {' '.join(words)}", (answer.stdout + answer.stderr).encode()


@pytest.mark.parametrize("name", VENUES)
def test_no_secret_is_in_anything_that_is_written_said_or_answered(
    tmp_path: Path, name: str
) -> None:
    venue, data, file = VENUES[name], tmp_path / "data", tmp_path / "forebay.toml"
    seen: list[tuple[str, bytes]] = []
    with contextlib.ExitStack() as stack:
        asked = ("--symbols", venue.symbols, "--rate", 400, "--start", "now")
        lab = stack.enter_context(process("lab", "serve", name, *asked))
        assert lab.stdout is not None
        urls = json.loads(lab.stdout.readline())
        credentials = Path(urls.get("credentials_file") or _key(tmp_path))
        relays = [stack.enter_context(relaying(urls[each])) for each in ("ws_url", "rest_url")]
        _configure(file, name, venue, [each.url for each in relays], credentials)
        running = stack.enter_context(capture(data, file=file, env={"FOREBAY_LOG_LEVEL": "debug"}))
        connected(running)
        running.captured(200)
        seen += told(data, file)
        url = wait_for(lambda: forebay("status", "--data", data, "--json").json["http"], "a URL")
        seen += answers(url)
        lab.kill()  # what is said of a venue that is gone, too
        log = running.log
        wait_for(lambda: said(log, "connection_failed") or None, "a failed dial")
        running.stop()
    secrets = {TOKEN.encode(), *(each.encode() for each in secrets_of(credentials))}
    proofs = {proof for each in relays for proof in each.proofs()}
    assert proofs, "nobody proved who asks, so this shows nothing"
    seen += [(str(path), path.read_bytes()) for path in data.rglob("*") if path.is_file()]
    seen += journalled(data / "journal")
    seen.append(("the log", log.read_bytes()))
    assert sum(len(each) for _, each in seen) > 100_000
    hidden = {piece for secret in secrets | proofs for piece in pieces(secret)}
    assert [where for where, text in seen if any(piece in text for piece in hidden)] == []


def test_a_wrong_secret_is_not_shown_either(tmp_path: Path) -> None:
    name, file, wrong = "massive", tmp_path / "forebay.toml", "not-the-right-key"
    with process("lab", "serve", name, "--symbols", "EUR-USD", "--start", "now") as lab:
        assert lab.stdout is not None
        urls = json.loads(lab.stdout.readline())
        credentials = Path(_key(tmp_path, wrong))
        _configure(file, name, VENUES[name], [urls["ws_url"], urls["rest_url"]], credentials)
        answer = forebay("check", "-c", file, "--data", tmp_path / "data")
    assert answer.code != 0
    assert wrong not in answer.stdout + answer.stderr


def _key(folder: Path, key: str = "forebay-lab") -> str:
    file = folder / "secrets.toml"
    file.write_text(f'key = "{key}"\n')
    return str(file)


def _configure(file: Path, name: str, venue: Secretive, urls: list[str], credentials: Path) -> None:
    token = file.with_name("token")
    token.write_text(TOKEN)
    asked: dict[str, Any] = {
        "name": name,
        "market": venue.market,
        "symbols": venue.symbols.split(","),
        "ws_url": urls[0] + venue.ws_path,
        "rest_url": urls[1],
        "credentials_file": str(credentials),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in asked.items()]
    served = ["[http]", f"token_file = {json.dumps(str(token))}"]
    file.write_text("\n".join(["[[venues]]", *lines, *served]))
