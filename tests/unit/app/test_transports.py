"""Tables of transports: what is said of them, and by which variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forebay.app.wiring.config import load
from forebay.app.wiring.transports import kind_of, name_of
from forebay.errors import ConfigError
from forebay.transports.kind import TransportConfig, TransportKind

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = TransportKind(
    name="nobody",
    open=lambda *_: pytest.fail("nobody opens it"),
    probe=lambda _: "nobody",
    durable=lambda _: True,
)


def tables(text: str, folder: Path, **environment: str) -> list[tuple[str, str, str]]:
    path = folder / "forebay.toml"
    path.write_text(text)
    config, _ = load(path, {}, environment)
    return [(each.kind, name_of(each), each.servers) for each in config.transports]


def test_a_table_is_all_it_takes(tmp_path: Path) -> None:
    assert tables('[[transports]]\nkind = "kafka"\n', tmp_path) == [("kafka", "kafka", "")]


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"KAFKA_BROKER": "a:1"}, [("kafka", "kafka", "a:1")]),
        ({"KAFKA_BROKER": "a:1", "KAFKA_BROKERS": "b:1,c:1"}, [("kafka", "kafka", "b:1,c:1")]),
        ({"NATS_URL": "nats://d:4222"}, [("nats", "nats", "nats://d:4222")]),
        ({"KAFKA_BROKER": "", "NATS_URL": ""}, []),
        (
            {"KAFKA_BROKER": "a:1", "NATS_URL": "d"},
            [("kafka", "kafka", "a:1"), ("nats", "nats", "d")],
        ),
    ],
)
def test_the_variables_of_other_deployments_make_a_table(
    tmp_path: Path, environment: dict[str, str], found: list[tuple[str, str, str]]
) -> None:
    assert tables("", tmp_path, **environment) == found


def test_they_say_the_servers_of_a_table_that_is_there(tmp_path: Path) -> None:
    text = '[[transports]]\nkind = "kafka"\nservers = "z:1"\nrequired = false\n'
    assert tables(text, tmp_path, KAFKA_BROKER="a:1") == [("kafka", "kafka", "a:1")]
    config, origins = load(tmp_path / "forebay.toml", {}, {"KAFKA_BROKER": "a:1"})
    assert not config.transports[0].required
    assert origins["transports"] == "the environment"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('kind = "kafak"', "Did you mean 'kafka'"),
        ('servers = "a:1"', "There is: kafka, nats"),
        ('kind = "kafka"\n[[transports]]\nkind = "kafka"', "Two transports are called 'kafka'"),
        ('kind = "kafka"\nname = "../x"', "Write letters, digits"),
        ('plugin = "some.module:TRANSPORT"', "The name ''"),
        ('kind = "kafka"\nretain = "7 days"', "transports"),
        ('kind = "kafka"\npartitions = 0', "transports"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        tables(f"[[transports]]\n{text}\n", tmp_path)
    assert says in str(error.value)


def test_a_kind_of_your_own_is_named_by_its_place() -> None:
    config = TransportConfig(name="mine", plugin=f"{__name__}:NOBODY")
    assert kind_of(config) is NOBODY
    with pytest.raises(ConfigError, match=r"is no forebay\.transports\.kind\.TransportKind"):
        kind_of(TransportConfig(name="mine", plugin=f"{__name__}:tables"))
