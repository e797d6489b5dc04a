"""What holds for every event that telemetry knows."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from forebay import telemetry
from forebay.telemetry import TelemetryEvent, ignore

KINDS = [
    kind
    for _, kind in inspect.getmembers(telemetry, inspect.isclass)
    if issubclass(kind, TelemetryEvent) and kind is not TelemetryEvent
]


def test_there_are_events() -> None:
    assert len(KINDS) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_a_frozen_fact_with_a_level_and_a_meaning(kind: type[TelemetryEvent]) -> None:
    assert kind.level in {"info", "warning", "error"}
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__), "the docstring is dataclass's own"
    names = [field.name for field in dataclasses.fields(kind)]
    assert "level" not in names
    event = kind(*range(len(names)))
    assert [getattr(event, name) for name in names] == list(range(len(names)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(event, names[0], 1)
    ignore(event)
