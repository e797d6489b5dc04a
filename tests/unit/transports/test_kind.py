"""A kind whose driver is missing."""

from __future__ import annotations

import sys

import pytest

from forebay.errors import ConfigError
from forebay.telemetry import ignore
from forebay.transports.kafka import TRANSPORT as KAFKA
from forebay.transports.kind import TransportConfig, TransportKind
from forebay.transports.nats import TRANSPORT as NATS


@pytest.mark.parametrize(("kind", "driver"), [(KAFKA, "confluent_kafka"), (NATS, "nats")])
def test_a_driver_that_is_missing_is_named_with_what_installs_it(
    kind: TransportKind, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [*sys.modules]:
        if name.startswith(f"forebay.transports.{kind.name}."):
            monkeypatch.delitem(sys.modules, name)
        elif name.partition(".")[0] == driver:
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, driver, None)
    for ask in (lambda each: kind.open(each, ignore), kind.probe):
        with pytest.raises(ConfigError, match=rf"{driver} is not.*pip install .\.\[{kind.name}\]"):
            ask(TransportConfig(kind=kind.name))
