"""A transport is read back by ``forebay audit``, and mended by ``forebay verify --repair``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.domain.messages import EventsTold, Message, decode_message, encode_message
from tests.acceptance.test_publishing import publishing, socket, until
from tests.support.commands import forebay
from tests.support.memory_socket import serving
from tests.support.memory_transport import Broker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.commands import Answer, Running

__all__ = ["socket"]
TRADES = "trade_archive"


def published(running: Running) -> None:
    """Wait until some hundred trades are on the transport."""
    until(running, lambda told: told["status"]["published"] > 400, "trades on the transport")


def lose(broker: Broker, every: int) -> int:
    """Take a row out of each so many messages of trades; return how many that were."""
    lost = 0
    held = broker._lanes[TRADES].messages
    for place, raw in enumerate(list(held)):
        head, rows = decode_message(raw)
        if isinstance(head.told, EventsTold) and rows is not None and len(rows) > 1:
            lost += 1
            if lost % every == 0:
                held[place] = encode_message(Message(head, rows.slice(1).combine_chunks()))
    return lost // every


def command(*words: object, folder: Path) -> Answer:
    return forebay(*words, "-c", folder / "forebay.toml", "--json")


def account(ran: Answer) -> dict[str, object]:
    (found,) = ran.json["transports"]
    return dict(found)


def test_a_capture_that_runs_mends_its_transport_between_its_own_steps(
    tmp_path: Path, socket: Path
) -> None:
    broker = Broker()
    with serving(broker, socket), publishing(tmp_path, socket) as running:
        published(running)
        lost = lose(broker, 2)
        assert lost > 0
        seen = command("audit", folder=tmp_path)
        assert seen.code == 1
        assert account(seen)["missing"] == lost
        assert {each["kind"] for each in seen.json["problems"]} == {"unpublished"}
        mended = command("verify", "--transport", "memory", "--repair", folder=tmp_path)
        assert mended.code == 0
        assert account(mended)["published"] == lost
        assert running.stop() == 0
        after = command("audit", folder=tmp_path)
        assert after.code == 0, after.stdout
        for stream in after.json["streams"]:
            assert stream["stages"]["memory"] == stream["stages"]["store"]


@pytest.mark.drill
def test_without_a_capture_it_is_mended_all_the_same(tmp_path: Path, socket: Path) -> None:
    broker = Broker()
    with serving(broker, socket):
        with publishing(tmp_path, socket) as running:
            published(running)
            assert running.stop() == 0
        lost = lose(broker, 1)
        assert command("verify", folder=tmp_path).code == 1
        assert account(command("verify", "--repair", folder=tmp_path))["published"] == lost
        assert command("verify", folder=tmp_path).code == 0
        broker.delete(TRADES)
        broker.lanes(TRADES)
        anew = command("audit", folder=tmp_path)
        assert {"lane_anew", "unpublished"} == {each["kind"] for each in anew.json["problems"]}
        assert command("verify", "--repair", folder=tmp_path).code == 0
        assert command("audit", folder=tmp_path).code == 0


@pytest.mark.drill
def test_a_transport_that_is_away_is_said_and_makes_nothing_red(
    tmp_path: Path, socket: Path
) -> None:
    broker = Broker()
    with serving(broker, socket), publishing(tmp_path, socket) as running:
        published(running)
        assert running.stop() == 0
    seen = command("audit", folder=tmp_path)
    assert seen.code == 0
    assert not account(seen)["looked_at"]
    assert any(note.startswith("memory was not looked at: ") for note in seen.json["notes"])
    assert command("audit", "--transport", "memory", folder=tmp_path).code == 3
    assert command("verify", "--repair", folder=tmp_path).code == 3
    assert command("audit", "--no-transports", folder=tmp_path).json["transports"] == []
    assert command("audit", "--transport", "other", folder=tmp_path).code == 2
