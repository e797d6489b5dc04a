"""A kind whose driver is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from forebay.drivers import Driven
from forebay.errors import ConfigError
from forebay.stores.clickhouse import STORE as CLICKHOUSE
from forebay.stores.kind import StoreConfig
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT as KAFKA
from forebay.transports.kind import TransportConfig
from forebay.transports.nats import TRANSPORT as NATS

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = [
    ("transports.kafka", "confluent_kafka", lambda: KAFKA.open(TransportConfig(), ignore)),
    ("transports.kafka", "confluent_kafka", lambda: KAFKA.probe(TransportConfig())),
    ("transports.nats", "nats", lambda: NATS.open(TransportConfig(), ignore)),
    ("transports.nats", "nats", lambda: NATS.probe(TransportConfig())),
    ("stores.clickhouse", "clickhouse_connect", lambda: CLICKHOUSE.open(StoreConfig(), Path())),
    ("stores.clickhouse", "clickhouse_connect", lambda: CLICKHOUSE.complaints(StoreConfig())),
]


@pytest.mark.parametrize(("package", "driver", "ask"), CALLS)
def test_a_driver_that_is_missing_is_named_with_what_installs_it(
    package: str, driver: str, ask: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.startswith(f"forebay.{package}."):
            monkeypatch.delitem(sys.modules, name)
        elif name.partition(".")[0] == driver:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, driver, None)
    extra = package.partition(".")[2]
    with pytest.raises(ConfigError, match=rf"{driver} is not.*pip install .\.\[{extra}\]"):
        ask()


def test_another_module_that_is_missing_is_no_matter_of_the_driver() -> None:
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        Driven("forebay.nowhere", "nats", "nats").at("open")()
