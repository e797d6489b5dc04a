"""From a table of the configuration to the settings of Kafka's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forebay.errors import ConfigError
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT
from forebay.transports.kafka.settings import consuming, producing, shared
from forebay.transports.kind import TransportConfig

if TYPE_CHECKING:
    from pathlib import Path


def settings(**options: Any) -> dict[str, Any]:  # noqa: ANN401
    return shared(TransportConfig(kind="kafka", **options))


def test_what_we_promise_is_set() -> None:
    made = producing(settings())
    assert (made["acks"], made["enable.idempotence"]) == ("all", True)
    assert made["bootstrap.servers"] == "127.0.0.1:9092"
    read = consuming(settings(servers="a:1,b:2"), "g")
    assert (read["enable.auto.commit"], read["group.id"]) == (False, "g")
    assert read["bootstrap.servers"] == "a:1,b:2"


def test_the_largest_record_has_room_in_the_queue() -> None:
    made = producing(settings())
    assert made["queue.buffering.max.kbytes"] * 1024 > made["message.max.bytes"]


@pytest.mark.parametrize("name", ["acks", "enable.idempotence", "group.id", "transactional.id"])
def test_what_a_promise_rests_on_is_not_free_to_choose(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        settings(options={name: "0"})


def test_options_and_credentials_reach_the_client(tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text('sasl.username = "u"\n"sasl.password" = "p"\n', encoding="utf-8")
    made = producing(settings(options={"linger.ms": "50"}, credentials_file=str(file)))
    assert (made["linger.ms"], made["sasl.username"], made["sasl.password"]) == ("50", "u", "p")


def test_credentials_that_cannot_be_read_are_not_told(tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text("sasl.password = hunter2\n", encoding="utf-8")
    for name in (file, tmp_path / "none"):
        with pytest.raises(ConfigError, match=str(name)) as caught:
            settings(credentials_file=str(name))
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"options": {"no.such.option": "1"}}, "no.such.option"),
        ({"options": {"compression.type": "paper"}}, "compression.codec"),
        ({"replicas": 2, "min_insync": 3}, "min_insync"),
        ({"mode": "core"}, "no mode"),
    ],
)
def test_what_no_broker_could_take_is_refused_before_one_is_asked(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        TRANSPORT.open(TransportConfig(kind="kafka", servers="127.0.0.1:9", **options), ignore)
