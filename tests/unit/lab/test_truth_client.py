"""The truth of a simulated market as an audit asks it over HTTP."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from forebay.domain.coverage import StreamKey
from forebay.domain.digest import MINUTE_NS, Digest
from forebay.errors import ConfigError, Unreachable
from forebay.lab.truth import CHANNEL, TruthDigest
from forebay.lab.truth import MARKET as MARKET_TYPE
from forebay.lab.truth_client import TruthClient
from tests.support.audit_bench import (
    BTC,
    LAST,
    MARKET,
    TruthServer,
    event,
    native,
    truth_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = StreamKey("coinbase", MARKET_TYPE, CHANNEL, BTC)


@pytest.fixture
def truth() -> Iterator[TruthServer]:
    with truth_server() as server:
        yield server


@pytest.mark.parametrize("at_once", [50_000, 100, 295])
def test_digests_over_http_are_digests(
    truth: TruthServer, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("forebay.lab.truth_client.EVENTS_AT_ONCE", at_once)

    told = TruthClient(truth.url).digests(KEY, 5, 300)

    assert sum(each.count for each in told.values()) == 295
    for minute, digest in told.items():
        events = [
            each for each in MARKET[BTC].events(5, 300) if each.event_ts // MINUTE_NS == minute
        ]
        right = TruthDigest.of(events)
        assert digest == Digest(len(events), right.ids, right.rows)


def test_events_over_http_have_number_and_canonical_row(truth: TruthServer) -> None:
    told = TruthClient(truth.url).events(KEY, 5, 9)

    assert [(each.number, each.row) for each in told] == [
        (native(index), event(index).row()) for index in range(5, 9)
    ]


def test_the_document_is_what_the_server_says(truth: TruthServer) -> None:
    assert TruthClient(truth.url).document()["symbols"][BTC] == {"first": 100, "last": LAST}


@pytest.mark.parametrize(
    "spoil", [lambda _: b"", lambda _: b"<html>", lambda body: body[: len(body) // 2]]
)
def test_a_server_that_says_something_else_is_unreachable(
    truth: TruthServer, spoil: object
) -> None:
    truth.spoil = spoil  # type: ignore[assignment]

    with pytest.raises(Unreachable, match="truth server"):
        TruthClient(truth.url).look()


def test_too_few_events_are_noticed(truth: TruthServer) -> None:
    truth.spoil = lambda body: body[: body.rindex(b"\n", 0, -1) + 1]

    with pytest.raises(Unreachable, match="3 of 4 events"):
        TruthClient(truth.url).events(KEY, 0, 4)


def test_nobody_listening_is_unreachable() -> None:
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"

        with pytest.raises(Unreachable, match="did not answer") as caught:
            TruthClient(url).look()
    assert "forebay lab serve" in caught.value.hint


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "https://example.test", "file:///etc/passwd"])
def test_what_is_no_address_is_a_mistake_of_the_caller(url: str) -> None:
    with pytest.raises(ConfigError, match="not the address"):
        TruthClient(url)
